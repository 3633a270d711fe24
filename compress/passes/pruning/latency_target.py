"""A target in time: widths that the device's own staircase says meet it, corrected by the time of the real file.

The additive model (as in NetAdapt, Yang et al. 2018): a network takes as long as its layers, and what has no weights.
The layers' times are measured one by one; what is left, and how far they add up, is told by files of the whole network,
each of which is timed beside the uncompressed one.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.core.errors import PassError
from compress.core.forward import copy_model
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.graph.sizes import count_params
from compress.passes.base import Choice, Context, Trials
from compress.passes.pruning.layer_times import layer_tables
from compress.passes.pruning.prune_choice import best_choice, way_text
from compress.passes.pruning.prune_plan import PrunePlan
from compress.passes.pruning.prune_settings import LATENCY, KeepConfig, PruneConfig
from compress.passes.pruning.widths import COUNTED, measure, measure_costs
from compress.passes.timed_files import Together, seconds_each, time_together, trials_for
from evaluate.benchmark.bench_record import Speedup

NEAR = 0.03  # of the target: no further correction
_ATTEMPTS = 6


@dataclass(frozen=True)
class _Attempt:
    """Widths that were tried: the share of the layers' times that they take, and the speed-up that was measured.

    size : bytes of the file; kept: by unit the share of the uncompressed model's that is left, rounded up.
    """

    widths: Mapping[str, int]
    share: float
    speedup: Speedup
    size: int
    kept: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Of the uncompressed file's time."""
        return 1 / float(self.speedup["value"])


def meet(
    module: nn.Module, network: nn.Module, plan: PrunePlan, config: PruneConfig, context: Context
) -> tuple[PruneConfig, Choice, dict[str, Any], list[str]]:
    """Settings that give widths within 3 % of the target, or the nearest that were found, with nothing left to measure.

    With the choice for the Record, details, and what to warn of.

    module  : the network as it was handed to the pass; network: the copy that may be pruned, which `plan` is of.
    Raises PassError where nothing may be timed, nothing is reached, or the model keeps within the target as it is.
    """
    trials = trials_for("prune", context)
    amount = config.keep.target()[1]
    files = {"uncompressed": serialise(export_onnx(context.original, plan.example))}
    now, seconds = 1.0, _timed(files, trials, context).seconds["uncompressed"]
    if count_params(context.original) != count_params(module):
        present = {"now": serialise(export_onnx(module, plan.example))}
        now = 1 / _timed(files | present, trials, context).speedups["now"]["value"]
    asked = amount.value if amount.relative else amount.value / seconds
    if asked >= now:
        raise PassError(
            f"prune would change nothing: keep {amount} latency is {1e3 * asked * seconds:.3g} ms, and the model takes "
            f"{1e3 * now * seconds:.3g} ms here. Ask for less; a ratio is of the uncompressed model."
        )
    options = [{w // len(g.units[0]) for below in (False, True) for w in plan.widths_of(g, below)} for g in plan.groups]
    call = {name: torch.as_tensor(np.asarray(value)) for name, value in trials.feeds.items()}
    plan.tables = layer_tables(network, call, plan.groups, options, trials, context.status)
    costs = measure_costs(network, plan.example, plan.groups, plan.tables)
    whole = float(costs.of(LATENCY, costs.units))
    plan.start_size = whole
    plan.budget = replace(plan.budget, value=whole * asked / now, baseline=whole / now)
    plan, tried = best_choice(network, plan, config, context)
    least = float(costs.of(LATENCY, np.array([min(kept) for kept in options]))) / whole
    attempts = _attempts(network, plan, asked, now, whole, least, files, trials, context)
    best = min(attempts, key=lambda one: (one.ratio > asked * (1 + NEAR), abs(one.ratio / asked - 1)))
    if best.ratio > asked * (1 + NEAR) and any(one.share <= least * (1 + NEAR) for one in attempts):
        raise PassError(
            f"prune: cannot keep {amount} latency ({asked:.3f} of the uncompressed model's): the fastest of "
            f"{len(attempts)} measured files keeps {best.ratio:.3f}, with as few channels as may stay. Much of a call "
            "may be no layer's. Ask for more, raise max_ratio, or give round_to: 1."
        )
    # Shortcuts become layers of their own when they are pruned, which in a tiny network can outweigh what goes.
    kept = {unit: share for unit, share in best.kept.items() if share < 1}
    if not kept:
        raise PassError(
            f"prune: the widths that keep {amount} latency make the network no smaller, in no unit: its shortcuts "
            "became layers of their own. Leave its narrow layers whole (exclude), or use shorten."
        )
    unit = next(iter(kept))
    own = config.model_copy(
        update={
            "keep": KeepConfig.model_validate({unit: kept[unit]}),
            "importance": plan.way[0] if len(plan.way[0]) > 1 else plan.way[0][0],
            "scope": "global",  # the widths are all given
            "round_to": plan.block,
            "per_layer": {glob.escape(name): width / plan.start[name] for name, width in sorted(best.widths.items())},
        }
    )
    rows = [
        {"name": f"attempt {n + 1}", "bytes": one.size, "speedup": dict(one.speedup), "chosen": one is best}
        for n, one in enumerate(attempts)
    ]
    shares = [{"layers_say": round(one.share, 4), "measured": round(one.ratio, 4)} for one in attempts]
    details = {
        "latency": {"asked": asked, "measured": best.ratio, "uncompressed_ms": 1e3 * seconds, "layers_ms": whole,
                    "attempts": shares},
        "way": way_text(plan.way),
        **tried,
    }  # fmt: skip
    missed = []
    if abs(best.ratio / asked - 1) > NEAR:
        missed.append(
            f"asked to keep {amount} latency ({asked:.3f} of the uncompressed model's), the nearest of {len(attempts)} "
            f"measured files keeps {best.ratio:.3f}: channels in blocks of {plan.block} leave nothing nearer, or the "
            "machine was busy"
        )
    return own, Choice(own, tuple(rows)), details, missed


def _timed(files: Mapping[str, bytes], trials: Trials, context: Context) -> Together:
    def status(message: str, done: float, total: float) -> None:
        context.status("prune: timing the pruned file", done, total)

    return time_together(files, trials, status, 2 * seconds_each(trials))


def _attempts(
    network: nn.Module,
    plan: PrunePlan,
    asked: float,
    now: float,
    whole: float,
    least: float,
    files: Mapping[str, bytes],
    trials: Trials,
    context: Context,
) -> list[_Attempt]:
    """Widths for the target, measured; those that follow are for what the line through the nearest two says.

    Ends within 3 % of the target, or where the next widths are ones that were tried; no less than `least` of the
    layers' times is possible. Raises PassError where not even the first are reached.
    """
    attempts: list[_Attempt] = []
    share = asked / now
    whole_sizes = {unit: measure(context.original, plan.example, unit) for unit in sorted(COUNTED)}
    for number in range(_ATTEMPTS):
        trial, own = copy_model(network), plan.with_choice(plan.way)
        own.budget = replace(plan.budget, value=share * whole)
        try:
            own.step(trial, share * whole)
        except PassError:
            if not attempts:
                raise
            break
        if any(own.now == one.widths for one in attempts):
            break
        context.status(f"prune: timing attempt {number + 1}", number, _ATTEMPTS)
        data = serialise(export_onnx(trial, plan.example))
        speedup = _timed({**files, "pruned": data}, trials, context).speedups["pruned"]
        reached = float(own.reached or share * whole) / whole
        kept = {u: -(-measure(trial, plan.example, u) * 10**6 // whole_sizes[u]) / 10**6 for u in whole_sizes}
        attempts.append(_Attempt(dict(own.now), reached, speedup, len(data), kept))
        if abs(attempts[-1].ratio / asked - 1) <= NEAR:
            break
        share = max(_next(attempts, asked, now), least)
    return attempts


def _next(attempts: list[_Attempt], asked: float, now: float) -> float:
    """The share of the layers' times at which the line through two measured points reaches what is asked."""
    points = sorted([(1.0, now), *((one.share, one.ratio) for one in attempts)], key=lambda p: abs(p[1] - asked))
    (x, y), (other, above) = points[:2]
    slope = (above - y) / (other - x) if other != x and above != y else now
    return float(np.clip(x + (asked - y) / (slope if slope > 0 else now), 1e-3, 1.0))
