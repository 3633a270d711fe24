"""What pruning is asked for, and the plan that meets it: which groups may shrink, how far, and which channels go."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from compress.core.errors import PassError
from compress.core.forward import copy_model
from compress.graph.surgery import remove_channels, tensor_dims
from compress.passes.base import Context, fits_layer
from compress.passes.pruning.channel_groups import Group, SkippedLayer, find_groups, removal
from compress.passes.pruning.importance import DATA_FREE, IMPORTANCES, Evidence, Scores, gather, score_units
from compress.passes.pruning.layer_times import LayerTable
from compress.passes.pruning.preflight import check_same, preflight
from compress.passes.pruning.probe import probe_inputs
from compress.passes.pruning.prune_settings import LATENCY, ImportanceKind, PruneConfig, Scope
from compress.passes.pruning.widths import (
    TOLERANCE,
    Allocation,
    Choices,
    Costs,
    achieved,
    allocate,
    even_losses,
    even_share,
    importance_losses,
    measure,
    measure_costs,
    widths_allowed,
)
from evaluate.core.text import a_few
from evaluate.hardware.environment import channel_block

Way = tuple[tuple[ImportanceKind, ...], Scope]
"""One way to choose what goes: by which importances, divided over the layers how."""


@dataclass(frozen=True)
class Budget:
    """What was asked: `value` in `unit`, of a model that has `baseline`; `written` as the user wrote it."""

    unit: str
    value: float
    baseline: float
    relative: bool
    written: str


class PrunePlan:
    """The state of one pruning: what may shrink, how wide it was, and what to tell the user."""

    def __init__(
        self, model: nn.Module, config: PruneConfig, context: Context, budget: Budget, rewritten: frozenset[str]
    ) -> None:
        self.config, self.context, self.budget, self.rewritten = config, context, budget, rewritten
        self.example = context.task.example(1)
        self.block = channel_block() if config.round_to == "auto" else config.round_to
        self.warnings: list[str] = []
        groups, left = find_groups(model, self.example)
        self.probes = probe_inputs(context.task, context.seed)
        good, bad = preflight(model, self.probes, groups, measure_costs(model, self.example, groups), context.status)
        chosen, unchosen = _chosen(good, config, rewritten)
        self.left = _by_reason([*left, *bad, *unchosen])
        self.warnings += [f"left alone: {item}" for item in self.left if not item.expected]
        if not chosen:
            said = f"prune: no layer of {type(model).__name__} can be pruned. {_reasons(self.left)}"
            raise PassError(f"{said}{_strangers(model)}")
        self.start = {group.name: group.width for group in chosen}
        self.now = dict(self.start)
        self.tables: Sequence[LayerTable] = ()
        self.reached: float | None = None  # the cost, as predicted, after the last step
        self.progress = 1.0  # of the way to the target, after this step
        self.start_size: float = 0 if budget.unit == LATENCY else measure(model, self.example, budget.unit)
        self.way: Way = ((DATA_FREE,), "global")
        self.sensitivity: Mapping[str, float] = {}
        self.groups, self._evidence = chosen, list[Evidence]()  # of the network before its first step

    def with_choice(self, way: Way) -> PrunePlan:
        """The same before its first step, with one way to choose what goes."""
        other = copy.copy(self)
        other.way, other.warnings, other.now = way, list(self.warnings), dict(self.now)
        return other

    def ranked_units(self, model: nn.Module) -> Iterator[tuple[Group, list[int]]]:
        """Each group of the network before its first step with its units, the least important first."""
        scores, _ = score_units(model, self.groups, (DATA_FREE,), seed=self.context.seed, skip=self.rewritten)
        for group, of_group in zip(self.groups, scores, strict=True):
            yield group, np.argsort(of_group, kind="stable").tolist()

    def targets(self) -> list[float]:
        """The cost to reach after each part: equal ratios from the present size to the target."""
        ratio = self.budget.value / self.start_size
        parts = range(1, self.config.steps)
        return [*(self.start_size * ratio ** (part / self.config.steps) for part in parts), self.budget.value]

    def step(self, model: nn.Module, target: float) -> None:
        """Remove channels of `model`, in place, down to `target`. Raises PassError where it cannot be reached."""
        whole, last = math.log(self.start_size / self.budget.value), math.log(self.start_size / target)
        self.progress = last / whole if whole > 0 else 1.0
        groups = self.groups
        if self.now != self.start:
            groups = [group for group in find_groups(model, self.example)[0] if group.name in self.start]
        costs = measure_costs(model, self.example, groups, self.tables)
        scores = self._scores(model, groups)
        allocation = self._allocate(costs, groups, scores, target)
        self.reached = allocation.cost
        gone = [np.argsort(s, kind="stable")[: len(s) - kept] for s, kept in zip(scores, allocation.kept, strict=True)]
        before, chosen = copy_model(model), [units.tolist() for units in gone]
        remove_channels(model, removal(groups, chosen))
        check_same(before, model, groups, chosen, self.probes)
        self.now |= {g.name: int(k) * len(g.units[0]) for g, k in zip(groups, allocation.kept, strict=True)}

    def changed_layers(self) -> Iterator[str]:
        """The root layers of the groups that have shrunk."""
        return (name for name, width in self.now.items() if width < self.start[name])

    def details(self, model: nn.Module, example: Mapping[str, Tensor]) -> dict[str, Any]:
        """What was asked and what was achieved, in all units, group by group; JSON-able."""
        return {
            "asked": {"unit": self.budget.unit, "amount": self.budget.written, "value": round(self.budget.value)},
            "achieved": achieved(model, self.context.original, example),
            "importance": " + ".join(self.way[0]),
            "scope": self.way[1],
            "block": self.block,
            "groups": [{"layer": n, "before": self.start[n], "after": self.now[n]} for n in self.start],
            "left_alone": [{"layers": list(item.layers), "reason": item.reason} for item in self.left],
        }

    def _scores(self, model: nn.Module, groups: Sequence[Group]) -> list[Scores]:
        seed, kinds = self.context.seed, self.way[0]
        evidence = None
        if any(IMPORTANCES[kind].reads_data for kind in kinds):
            first = self.now == self.start
            evidence = self._evidence[0] if first and self._evidence else None
            if evidence is None:
                evidence = gather(model, self.context.task, batches=self.config.batches, seed=seed)
            if first:
                self._evidence[:] = [evidence]
        scores, notes = score_units(model, groups, kinds, seed=seed, skip=self.rewritten, evidence=evidence)
        self.warnings += [note for note in notes if note not in self.warnings]
        return scores

    def _allocate(self, costs: Costs, groups: Sequence[Group], scores: Sequence[Scores], target: float) -> Allocation:
        """Whole blocks first, up to 2 % above a ratio where that helps, then also parts of a block."""
        unit, low, high = self.budget.unit, target * (1 - TOLERANCE), target * (1 + TOLERANCE)
        for below in (False, True):
            choices = [self._choices(g, s, below) for g, s in zip(groups, scores, strict=True)]
            choices = self._even(costs, choices, target) if self.way[1] == "per_layer" else choices
            allocation = allocate(costs, choices, unit, target)
            # What is given for every layer is given also where a part on the way there is not met.
            given = target != self.targets()[-1] and all(len(c.kept) == 1 for c in choices)
            if low <= allocation.cost <= target or given:
                return allocation
            over = allocate(costs, choices, unit, target, TOLERANCE) if self.budget.relative else allocation
            if low <= over.cost <= high and (over.kept < costs.units).any():
                return over
        if allocation.cost > target:
            raise PassError(self._unreachable(allocation.cost))
        if target == self.targets()[-1] and unit != LATENCY:
            self.warnings.append(self._rounded(allocation.cost))
        return allocation

    def _choices(self, group: Group, scores: Scores, below: bool) -> Choices:
        split, start = len(group.units[0]), self.start[group.name]
        widths = self.widths_of(group, below)
        fixed = _fixed_share(group, self.config)
        if fixed is not None:
            fixed **= self.progress
            all_widths = widths_allowed(group.width, self.block, 1, split)
            widths = [min(all_widths, key=lambda w: (abs(w - fixed * start), w))]
        kept = np.array(widths) // split
        if self.way[1] != "sensitivity":
            return Choices(kept, importance_losses(scores, kept, _layer_sides(group, self.rewritten)))
        half = float(importance_losses(scores, np.array([len(scores) - len(scores) // 2]), 1)[0])
        grown = max(self.sensitivity[group.name], 1e-3 * max(self.sensitivity.values()), 1e-6)
        return Choices(kept, importance_losses(scores, kept, 1) * grown / max(half, 1e-12))

    def widths_of(self, group: Group, below: bool) -> list[int]:
        """The channel counts that a group may have; `below`: also parts of a block."""
        least = math.ceil(round(self.start[group.name] * (1 - self.config.max_ratio), 6))
        return widths_allowed(group.width, self.block, least, len(group.units[0]), below=below)

    def _even(self, costs: Costs, choices: Sequence[Choices], target: float) -> list[Choices]:
        share = even_share(costs, choices, self.budget.unit, target)
        return [
            Choices(c.kept, even_losses(c.kept, int(units), share))
            for c, units in zip(choices, costs.units, strict=True)
        ]

    def _unreachable(self, smallest: float) -> str:
        budget, unit = self.budget, self.budget.unit
        asked = f"{budget.value:,.3g} ms" if unit == LATENCY else f"{budget.value:,.0f}"
        reached = f"{smallest:,.3g} ms of all layers" if unit == LATENCY else f"{smallest:,.0f} {unit}"
        return (
            f"prune: cannot keep {budget.written} {unit} ({asked}): the smallest reachable is "
            f"{reached} ({smallest / budget.baseline:.3f} of the uncompressed model), with max_ratio "
            f"{self.config.max_ratio} and channels in blocks of {self.block}. Ask for more, raise max_ratio, give "
            f"round_to: 1, or let more layers be pruned. {_reasons(self.left)}"
        )

    def _rounded(self, cost: float) -> str:
        unit = self.budget.unit
        return (
            f"asked to keep {self.budget.written} {unit} ({self.budget.value:,.0f}); with channels in blocks of "
            f"{self.block} the nearest reachable below it is {cost:,.0f} ({cost / self.budget.baseline:.3f} of the "
            "uncompressed model)"
        )


def _layer_sides(group: Group, rewritten: frozenset[str]) -> int:
    """How many sides of weighted layers shrink with a group, rewritten shortcuts apart.

    Counted twice where a layer norm or group norm reads the channels: what is left is then normalised otherwise, which
    no re-estimation repairs as it does for a batch norm.
    """
    sides = sum(target.weighted and target.layer not in rewritten for target in group.targets)
    return sides * (2 if group.normalised else 1)


def _chosen(
    groups: Iterable[Group], config: PruneConfig, rewritten: frozenset[str]
) -> tuple[list[Group], list[SkippedLayer]]:
    """The groups that the user's patterns allow: none of its layers excluded, and all of them included."""
    chosen, left = [], []
    for group in groups:
        names = [name for name in group.layers if name not in rewritten]
        excluded = [name for name in names if fits_layer(name, config.exclude)]
        included = [name for name in names if fits_layer(name, config.layers)]
        if excluded:
            left.append(SkippedLayer(group.layers, f"coupled to {excluded[0]}, which is excluded", names == excluded))
        elif len(included) == len(names):
            chosen.append(group)
        else:
            other = next(name for name in names if name not in included)
            reason = f"coupled to {other}, which the patterns in `layers` leave out"
            left.append(SkippedLayer(group.layers, reason, expected=not included))
    return chosen, left


def _fixed_share(group: Group, config: PruneConfig) -> float | None:
    """The share that `per_layer` gives a group. Raises PassError where coupled layers are given different ones."""
    shares = {s for pattern, s in config.per_layer.items() for name in group.layers if fits_layer(name, (pattern,))}
    if len(shares) > 1:
        raise PassError(
            f"prune: per_layer asks for {' and '.join(f'{s:g}' for s in sorted(shares))} of the channels of coupled "
            f"layers: {', '.join(group.layers)}. They can only shrink together; give one share."
        )
    return next(iter(shares), None)


def _by_reason(left: Iterable[SkippedLayer]) -> list[SkippedLayer]:
    """One entry for all layers that are left alone for the same reason."""
    layers: dict[tuple[str, bool], list[str]] = {}
    for item in left:
        layers.setdefault((item.reason, item.expected), []).extend(item.layers)
    return [SkippedLayer(tuple(dict.fromkeys(names)), *key) for key, names in layers.items()]


def _strangers(model: nn.Module) -> str:
    """The weights of modules that pruning does not know, with their share, where they are most of the network."""
    own = {name: sum(p.numel() for p in m._parameters.values() if p is not None) for name, m in model.named_modules()}
    kinds = dict(model.named_modules())
    strange = {n: count for n, count in own.items() if count and not tensor_dims(kinds[n], "out")}
    share = sum(strange.values()) / max(1, sum(own.values()))
    if share < 0.1:
        return ""
    shown = a_few([f"{name or 'the network itself'} ({type(kinds[name]).__name__})" for name in strange])
    return (
        f" {share:.0%} of the weights are in modules that are no convolution or linear layer of torch's: {shown}. "
        "Those keep their shapes; quantize works on them all the same."
    )


def _reasons(left: Sequence[SkippedLayer]) -> str:
    shown = "; ".join(str(item) for item in left[:4])
    more = f"; and {len(left) - 4} more" if len(left) > 4 else ""
    return f"Left alone: {shown}{more}." if left else ""
