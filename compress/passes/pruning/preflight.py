"""Trying a group of channels on a copy before anything depends on it: one bad group never breaks a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from compress.core.errors import PassError
from compress.core.forward import call, copy_model
from compress.graph.sizes import count_macs, count_params
from compress.graph.surgery import is_depthwise, remove_channels
from compress.passes.pruning.channel_groups import TRACE_ERRORS, Group, SkippedLayer, coupled, has_channels, removal
from compress.passes.pruning.widths import Costs

_OUTPUT = "gives the task's outputs"


def preflight(
    model: nn.Module, example: Mapping[str, Tensor], groups: Sequence[Group], costs: Costs
) -> tuple[list[Group], list[SkippedLayer]]:
    """The groups that can be pruned, and those that cannot with the reason, each tried alone on a copy of `model`.

    Tried: forward, the shape of the output, backward, the predicted MACs and params, and that the smaller network
    computes what the whole one computes without those channels (not where a norm mixes channels, which changes it).
    """
    good, left = [], []
    want = _outputs(model, example)
    for index, group in enumerate(groups):
        reason = _problem(model, example, group, costs, index, want)
        if reason:
            left.append(SkippedLayer(group.layers, reason, expected=reason == _OUTPUT))
        else:
            good.append(group)
    return good, left


def check_runs(model: nn.Module, example: Mapping[str, Tensor]) -> None:
    """Forward and backward in eval mode on one sample. Raises PassError where the pruned network does not run."""
    try:
        _outputs(copy_model(model).requires_grad_(True), example).sum().backward()  # type: ignore[no-untyped-call]
    except TRACE_ERRORS as error:
        raise PassError(
            f"prune: the pruned network does not run: {type(error).__name__}: {error}. Exclude the layer that the "
            "message names, and please report the network."
        ) from error


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


def _problem(
    model: nn.Module, example: Mapping[str, Tensor], group: Group, costs: Costs, index: int, want: Tensor
) -> str:
    """Why this group cannot be pruned, empty where it can. `want` is the output of the whole model."""
    if len(group.units) < 2:
        return "has a single channel"
    units = _trial_units(len(group.units))
    if not _same_indices(group, units):
        return "removing a channel takes others of the same layer with it"
    small = copy_model(model).requires_grad_(True)
    try:
        remove_channels(small, removal([group], [units]))
        got = _outputs(small, example)
        if got.shape != want.shape:
            return _OUTPUT
        got.sum().backward()  # type: ignore[no-untyped-call]
    except TRACE_ERRORS as error:
        reason = str(error).split("\n")[0][:160]
        return f"the network does not run with fewer channels here ({type(error).__name__}: {reason})"
    kept = costs.units.copy()
    kept[index] -= len(units)
    predicted = [int(costs.of(unit, kept)) for unit in ("macs", "params")]
    if predicted != [count_macs(small, example), count_params(small)]:
        return "its channels reach an operation outside of a layer, whose cost would change"
    if not group.normalised and not _close(got, _outputs(mask_channels(model, [group], [units]), example)):
        return "its channels are mixed or moved before they are read, so that others would be lost"
    return ""


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


def _outputs(model: nn.Module, example: Mapping[str, Tensor]) -> Tensor:
    """(1, values) of every output of one sample."""
    found = call(model.eval(), {name: t[:1] for name, t in example.items()})
    return torch.cat([output.flatten(1).float() for output in found.values()], dim=1)


def _close(one: Tensor, other: Tensor) -> bool:
    scale = float(other.detach().abs().max())
    return bool(torch.allclose(one, other, rtol=1e-3, atol=1e-4 * scale))
