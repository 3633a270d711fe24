"""Trying a group of channels on a copy before anything depends on it: one bad group never breaks a whole run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from compress.core.errors import PassError
from compress.core.forward import copy_model
from compress.graph.sizes import count_macs, count_params
from compress.graph.surgery import is_depthwise, remove_channels
from compress.passes.pruning.channel_groups import TRACE_ERRORS, Group, SkippedLayer, coupled, has_channels, removal
from compress.passes.pruning.probe import SAME, Inputs, Probe, all_outputs, lively
from compress.passes.pruning.widths import Costs

_OUTPUT = "gives the task's outputs"
_ALONE = SAME / 10  # of one group, since many together may be no further apart than SAME; rounding stays below 1e-6


def preflight(
    model: nn.Module,
    probes: Sequence[Inputs],
    groups: Sequence[Group],
    costs: Costs,
    status: Callable[[str, float, float], None] = lambda message, done, total: None,
) -> tuple[list[Group], list[SkippedLayer]]:
    """The groups that can be pruned, and those that cannot with the reason, each tried alone on a copy of `model`.

    Tried: forward, the shape of the output, backward, the predicted MACs and params, and that the smaller network
    computes what the whole one computes without those channels, on every one of `probes` (see `probe_inputs`).
    """
    trial = _Trial(model, probes, costs)
    good, left = [], []
    for index, group in enumerate(groups):
        status(f"prune: trying {group.name}", index, len(groups))
        reason = trial.problem(index, group)
        if reason:
            left.append(SkippedLayer(group.layers, reason, expected=reason == _OUTPUT))
        else:
            good.append(group)
    return good, left


def check_runs(model: nn.Module, example: Inputs) -> None:
    """Forward and backward in eval mode on one sample. Raises PassError where the pruned network does not run."""
    try:
        all_outputs(copy_model(model).eval().requires_grad_(True), example).sum().backward()  # type: ignore[no-untyped-call]
    except TRACE_ERRORS as error:
        raise PassError(
            f"prune: the pruned network does not run: {type(error).__name__}: {error}. Exclude the layer that the "
            "message names, and please report the network."
        ) from error


def check_same(
    before: nn.Module,
    after: nn.Module,
    groups: Sequence[Group],
    gone: Sequence[Sequence[int]],
    probes: Sequence[Inputs],
) -> None:
    """That the pruned network computes what the one before computes without the same channels.

    Also with the weights of `lively`. Raises PassError where it does not: then the result would be wrong, silently.
    """
    moved = lively(before, 0)
    small = copy_model(moved)
    remove_channels(small, removal(groups, gone))
    for whole, narrow in ((before, after), (moved, small)):
        apart, _ = Probe(whole, probes).compare(narrow, mask_channels(whole, groups, gone))
        if apart > SAME:
            raise PassError(
                "prune: the pruned network is not the whole one without the same channels: their outputs are "
                f"{apart:.1g} of the largest output apart (at most {SAME:g}). Nothing was kept. Exclude layers until "
                "it passes, the ones before unusual operations first, and please report the network."
            )


def mask_channels(model: nn.Module, groups: Sequence[Group], chosen: Sequence[Sequence[int]]) -> nn.Module:
    """A copy of full width that ignores the chosen units: the weights that read them are zero."""
    masked = copy_model(model)
    modules = dict(masked.named_modules())
    for (name, side), indices in removal(groups, chosen).items():
        layer = modules.get(name)
        reads = isinstance(layer, nn.modules.conv._ConvNd | nn.Linear) and not is_depthwise(layer)
        if layer is not None and reads and side == "in" and indices:
            _zero_inputs(layer, indices)
    return masked


@torch.no_grad()
def _zero_inputs(layer: nn.Module, indices: Sequence[int]) -> None:
    weight = layer.get_parameter("weight")
    dim = 0 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 1
    # All groups of a grouped convolution lose the same channels, so an index within a group is enough.
    weight.index_fill_(dim, torch.tensor(sorted({i % weight.shape[dim] for i in indices})), 0.0)


class _Trial:
    """One network on which groups are tried alone."""

    def __init__(self, model: nn.Module, probes: Sequence[Inputs], costs: Costs) -> None:
        self.model, self.probes, self.costs = model, probes, costs
        self.example = probes[0]
        self.shape = all_outputs(model.eval(), self.example).shape

    def problem(self, index: int, group: Group) -> str:
        """Why this group, the `index`-th of the costs, cannot be pruned; empty where it can."""
        if len(group.units) < 2:
            return "has a single channel"
        units = _trial_units(len(group.units))
        if not _same_indices(group, units):
            return "removing a channel takes others of the same layer with it"
        small = copy_model(self.model).eval().requires_grad_(True)
        try:
            remove_channels(small, removal([group], [units]))
            got = all_outputs(small, self.example)
            if got.shape != self.shape:
                return _OUTPUT
            got.sum().backward()  # type: ignore[no-untyped-call]
            kept = self.costs.units.copy()
            kept[index] -= len(units)
            predicted = [int(self.costs.of(unit, kept)) for unit in ("macs", "params")]
            if predicted != [count_macs(small, self.example), count_params(small)]:
                return "its channels reach an operation outside of a layer, whose cost would change"
            return self._mixed(group, units)
        except TRACE_ERRORS as error:
            reason = str(error).split("\n")[0][:160]
            return f"the network does not run with fewer channels here ({type(error).__name__}: {reason})"

    def _mixed(self, group: Group, units: Sequence[int]) -> str:
        """Whether other channels would be lost than those that go, as far as some probe shows what these do."""
        for redraw in (False, True):
            whole = self._probe(redraw)
            small = copy_model(whole.model)
            remove_channels(small, removal([group], [units]))
            apart, seen = whole.compare(small, mask_channels(whole.model, [group], [units]))
            if apart > _ALONE:
                return "its channels are mixed or moved before they are read, so that others would be lost"
            if seen:
                return ""
        return "no input that was tried shows what its channels do"

    @functools.lru_cache(maxsize=2)  # noqa: B019 - as long-lived as the trial
    def _probe(self, redraw: bool) -> Probe:
        return Probe(lively(self.model, 0, redraw=redraw), self.probes)


def _trial_units(count: int) -> list[int]:
    """A quarter of the units, at irregular places: a regular pattern could pass through heads or shuffles unseen."""
    generator = np.random.default_rng(0)
    return sorted(int(u) for u in generator.choice(count, max(1, count // 4), replace=False))


def _same_indices(group: Group, units: Sequence[int]) -> bool:
    """Whether the graph, asked for these units alone, names the indices that the whole group promised."""
    roots = [channel for u in units for channel in group.units[u]]
    root = group.raw[0].dep
    alone = coupled(group.raw._DG, root.layer, root.handler, roots)
    wanted = sorted(len({i for u in units for i in target.indices[u]}) for target in group.targets)
    got = sorted(len(set(item.idxs)) for item in alone if _shrinks(item.dep.layer))
    return wanted == got


def _shrinks(layer: nn.Module | nn.Parameter) -> bool:
    return isinstance(layer, nn.Parameter) or has_channels(layer)
