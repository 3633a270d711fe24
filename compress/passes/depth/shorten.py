"""Whole blocks leave the network: residual ones, layers of a transformer, whatever else keeps the shape it is given.

Which can be missed is told by validation, as in layer pruning of language models (Men et al. 2024, "ShortGPT", who rank
by how little a block changes), and asked anew after each block that went.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from compress.core.errors import PassError
from compress.core.forward import call, copy_model
from compress.graph.export import export_onnx
from compress.graph.model_state import ModelState
from compress.graph.onnx_graph import serialise
from compress.graph.shortcuts import put_in_place
from compress.graph.skipped import Skip, Skipped
from compress.passes.base import Change, Choice, Context, PassResult, Preview, fits_layer
from compress.passes.batch_statistics import BATCH, reestimate_batch_norm
from compress.passes.depth.shorten_settings import ShortenConfig
from compress.passes.in_parts import restore
from compress.passes.pruning.channel_groups import TRACE_ERRORS
from compress.passes.pruning.prune_settings import LATENCY
from compress.passes.pruning.widths import achieved, measure
from compress.passes.timed_files import seconds_each, time_together, trials_for
from compress.training.evaluation import evaluate_split

AGAIN = 6  # blocks that are tried anew after each that went: the most promising of the time before
_WEIGHTED = (_ConvNd, nn.Linear)


def preview_shorten(model: nn.Module, config: ShortenConfig, context: Context) -> Preview:
    """The network without the blocks that would reach the target soonest; which really go, validation decides."""
    network, blocks = copy_model(model), droppable(model, config, context)
    unit, amount = config.keep.target()
    counted = "macs" if unit == LATENCY else unit
    notes = ["which blocks go is decided by validation, in the run itself; this is how many at least"]
    if unit == LATENCY and not amount.relative:
        return Preview(model, tuple(blocks), notes=(f"what {amount} needs is measured, in the run itself",))
    example, gone = context.task.example(1), list[str]()
    asked = amount.resolve(measure(context.original, example, counted))
    while measure(network, example, counted) > asked:
        left = _left(blocks, gone)
        costs = {name: measure(_without(network, name, blocks), example, counted) for name in left}
        if not costs:
            raise PassError(_unreachable(config, measure(network, example, counted)))
        gone.append(min(costs, key=costs.__getitem__))
        put_in_place(network, gone[-1], Skip(blocks[gone[-1]]))
    return Preview(network, tuple(gone), notes=tuple(notes))


def shorten(model: ModelState, config: ShortenConfig, context: Context) -> PassResult:
    """Leave out blocks until the target is met: each time the one that costs least loss for what it saves."""
    network, example = copy_model(model.module).cpu().eval(), context.task.example(1)
    blocks = droppable(network, config, context)
    cost = _Cost(config, context)
    now, asked = cost.of(network), cost.asked
    if now <= asked:
        raise PassError(
            f"shorten would change nothing: keep {cost.written} is {asked:.4g}, and the model has {now:.4g} already. "
            "Ask for less; a ratio is of the uncompressed model."
        )
    part = context.task.validation.take(config.samples, context.seed)
    loss, gone, ranking, steps = _loss(network, part, config, context), list[str](), list[str](), list[dict[str, Any]]()
    while now > asked:
        names = _left(blocks, gone)
        if not names:
            raise PassError(_unreachable(config, now))
        names = [name for name in ranking if name in names][:AGAIN] or names
        found = {}
        for number, name in enumerate(names):
            context.status(f"shorten: without {name}", number, len(names))
            trial = _without(network, name, blocks)
            found[name] = _loss(trial, part, config, context), cost.counted(trial)
        whole = cost.counted(network)
        prices = {n: (lost - loss) / max(whole - size, 1e-9) for n, (lost, size) in found.items()}
        ranking = sorted(prices, key=prices.__getitem__)
        # Of those that reach the target the one that loses least; before that, what loses least for what it saves.
        enough = [n for n, (_, size) in found.items() if size <= whole * asked / now and not cost.timed]
        name = min(enough, key=lambda n: found[n][0]) if enough else ranking[0]
        put_in_place(network, name, Skip(blocks[name]))
        loss, now = found[name][0], cost.of(network)
        gone.append(name)
        steps.append({"block": name, "loss": loss, cost.unit: now})
    made = tuple(Skipped(layer=name, as_tuple=blocks[name]) for name in gone)
    state = replace(model, module=network, rewrites=(*model.rewrites, *made))
    history = restore(state, config.recover, context, part=0, parts=1, recalibrate=config.recalibrate)
    details: dict[str, Any] = {
        "asked": {"unit": cost.unit, "amount": cost.written, "value": asked},
        "achieved": achieved(network, context.original, example),
        "blocks": steps,
        "could_go": list(blocks),
        "metric": {"name": context.task.metric_name, **history["metric"]},
        "history": [history],
    }
    if cost.timed:
        details["latency"] = {"asked": asked, "measured": now}
    changes = [Change(name, "block", _kind(model.module, name), "left out") for name in gone]
    return PassResult(state, tuple(changes), (), details, cost.choice(network, gone, blocks))


class _Cost:
    """What is to be reached, and how it is counted; of a latency, by files timed beside the uncompressed one."""

    def __init__(self, config: ShortenConfig, context: Context) -> None:
        self.config, self.context = config, context
        self.unit, amount = config.keep.target()
        self.written, self.timed = f"{amount} {self.unit}", self.unit == LATENCY
        if not self.timed:
            self.asked = amount.resolve(measure(context.original, context.task.example(1), self.unit))
            return
        self.trials = trials_for("shorten", context)
        self.file = serialise(export_onnx(context.original, context.task.example(1)))
        seconds = self._together({}).seconds["uncompressed"]
        self.asked = amount.value if amount.relative else amount.value / seconds

    def counted(self, network: nn.Module) -> float:
        """What tells candidates apart without timing each: MACs where latency is asked."""
        return measure(network, self.context.task.example(1), "macs" if self.timed else self.unit)

    def of(self, network: nn.Module) -> float:
        """The amount that is compared with `asked`; of a latency the ratio to the uncompressed file's."""
        if not self.timed:
            return self.counted(network)
        data = serialise(export_onnx(network, self.context.task.example(1)))
        return 1 / float(self._together({"shortened": data}).speedups["shortened"]["value"])

    def choice(self, network: nn.Module, gone: list[str], blocks: Iterable[str]) -> Choice | None:
        """Settings that leave out the same blocks with nothing measured; None where nothing was."""
        if not self.timed:
            return None
        macs = -(-measure(network, self.context.task.example(1), "macs") * 10**6 // self._whole()) / 10**6
        keep = type(self.config.keep).model_validate({"macs": macs})
        around = [name for name in blocks if not any(f"{one}.".startswith(f"{name}.") for one in gone)]
        own = {"keep": keep, "layers": tuple(map(glob.escape, gone)), "exclude": tuple(map(glob.escape, around))}
        return Choice(self.config.model_copy(update=own))

    def _whole(self) -> int:
        return measure(self.context.original, self.context.task.example(1), "macs")

    def _together(self, files: Mapping[str, bytes]) -> Any:
        def status(message: str, done: float, total: float) -> None:
            self.context.status("shorten: timing", done, total)

        return time_together({"uncompressed": self.file, **files}, self.trials, status, 2 * seconds_each(self.trials))


def droppable(model: nn.Module, config: ShortenConfig, context: Context) -> dict[str, bool]:
    """The blocks that may go -> whether they answer with a tuple of one: modules of layers, called once, that answer in
    the shape of their first input; of nested ones the outermost. Raises PassError where there are none.
    """
    names = {
        m: n for n, m in model.named_modules()
        if n and any(True for _ in m.children()) and any(isinstance(part, _WEIGHTED) for part in m.modules())
        and fits_layer(n, config.layers) and not fits_layer(n, config.exclude)
    }  # fmt: skip
    calls: dict[str, int] = {}
    found: dict[str, bool] = {}

    def hook(module: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        name = names[module]
        calls[name] = calls.get(name, 0) + 1
        one = answer[0] if isinstance(answer, tuple) and len(answer) == 1 else answer
        first = given[0] if given else None
        if (
            isinstance(first, Tensor)
            and isinstance(one, Tensor)
            and one.shape == first.shape
            and one.dtype == first.dtype
        ):
            found[name] = isinstance(answer, tuple)

    handles = [module.register_forward_hook(hook) for module in names]
    try:
        with torch.no_grad():
            call(model.eval(), context.task.example(1))
    finally:
        for handle in handles:
            handle.remove()
    once = _outermost(model, {name: as_tuple for name, as_tuple in found.items() if calls[name] == 1})
    blocks = {name: as_tuple for name, as_tuple in once.items() if _runs(model, name, as_tuple, context)}
    if not blocks:
        raise PassError(
            f"shorten: no block of {type(model).__name__} that may go answers in the shape it is given"
            f"{'' if config.layers == ('*',) else f' (layers: {list(config.layers)})'}; use prune."
        )
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    return dict(sorted(blocks.items(), key=lambda one: order[one[0]]))


def _outermost(model: nn.Module, found: Mapping[str, bool]) -> dict[str, bool]:
    """Blocks, and neither their parts (an attention is a branch, in whose place nothing belongs) nor rows of them."""
    rows = {
        name for name in found
        if isinstance(model.get_submodule(name), nn.Sequential) and any(n.rpartition(".")[0] == name for n in found)
    }  # fmt: skip
    blocks = [name for name in found if name not in rows]
    return {n: found[n] for n in blocks if not any(n.startswith(f"{other}.") for other in blocks)}


def _runs(model: nn.Module, name: str, as_tuple: bool, context: Context) -> bool:
    try:
        with torch.no_grad():
            call(_without(model, name, {name: as_tuple}), context.task.example(1))
    except TRACE_ERRORS:
        return False
    return True


def _without(network: nn.Module, name: str, blocks: Mapping[str, bool]) -> nn.Module:
    trial = copy_model(network)
    put_in_place(trial, name, Skip(blocks[name]))
    return trial


def _left(blocks: Mapping[str, bool], gone: list[str]) -> list[str]:
    """Those that are still there: neither left out, nor inside of one, nor around one, of which less is left."""
    return [
        name for name in blocks
        if not any(f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}.") for other in gone)
    ]  # fmt: skip


def _batches(config: ShortenConfig) -> int:
    return max(1, config.samples // BATCH)


def _loss(network: nn.Module, part: Any, config: ShortenConfig, context: Context) -> float:
    trial, task = copy_model(network), context.task
    batches = min(config.recalibrate, _batches(config))
    reestimate_batch_norm(trial, task, batches, seed=context.seed, device=context.device)
    return evaluate_split(trial, part, task.loss, task.metric, device=context.device)["loss"]


def _kind(model: nn.Module, name: str) -> str:
    return type(model.get_submodule(name)).__name__


def _unreachable(config: ShortenConfig, now: float) -> str:
    unit, amount = config.keep.target()
    return (
        f"shorten: cannot keep {amount} {unit}: with every block gone that may go, {now:.4g} are left. Ask for more, "
        "or prune what is left."
    )
