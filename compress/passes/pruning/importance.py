"""How much each channel matters: one score per removable unit of a group, from weights, gradients or activations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from compress.core.errors import PassError
from compress.core.forward import run_model
from compress.graph.surgery import Side, is_depthwise, tensor_dims
from compress.passes.pruning.channel_groups import Group, PruneTarget, tracing
from compress.passes.pruning.prune_settings import ImportanceKind
from compress.tasks.losses import task_loss
from compress.tasks.task import Task

Scores = NDArray[np.float64]
Layer = nn.Module
_BATCH = 64
_WEIGHTED = (_ConvNd, nn.Linear)
_SCORED = (*_WEIGHTED, _BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass
class Evidence:
    """What training samples say of a network, by the names of its parameters and layers.

    gradients : mean gradient of the loss; squares: mean over batches of its square, both in the parameter's shape.
    inputs    : per convolution and linear layer the mean square (channels,) of what it reads.
    """

    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    squares: Mapping[str, Tensor] = field(default_factory=dict)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)


Criterion = Callable[[Layer, str, Side, Evidence], Tensor | None]


@dataclass(frozen=True)
class Importance:
    """A criterion: (layer, its name, the side that shrinks, evidence) -> scores (channels,); None: it has none there.

    Without a criterion scores are drawn.
    own_filters : it looks only at the filters that make a channel, not at what reads it.
    reads_data  : it needs the evidence of training samples.
    """

    criterion: Criterion | None
    own_filters: bool = False
    reads_data: bool = False


def _rows(layer: Layer, side: Side, values: Tensor) -> Tensor:
    """Values in the shape of the weight as (channels of the side, rest), those of a grouped convolution all apart."""
    dim = tensor_dims(layer, side)["weight"]
    groups = layer.groups if isinstance(layer, _ConvNd) and dim == 1 else 1
    flat = values if values.ndim > 1 else values[:, None]
    if dim == 0:
        return flat.flatten(1)
    apart = flat.reshape(groups, flat.shape[0] // groups, flat.shape[1], -1)
    return apart.transpose(1, 2).flatten(0, 1).flatten(1)


def _summed(of: Callable[[Tensor, str, Evidence], Tensor]) -> Callable[[Layer, str, Side, Evidence], Tensor | None]:
    """The sum over all weights of a channel of what each of them scores."""

    def criterion(layer: Layer, name: str, side: Side, evidence: Evidence) -> Tensor | None:
        return _rows(layer, side, of(layer.get_parameter("weight"), f"{name}.weight", evidence)).sum(1)

    return criterion


def _gain(layer: Layer, name: str, side: Side, evidence: Evidence) -> Tensor | None:
    return layer.get_parameter("weight").abs() if isinstance(layer, _BatchNorm) else None


def _distance(layer: Layer, name: str, side: Side, evidence: Evidence) -> Tensor | None:
    rows = _rows(layer, side, layer.get_parameter("weight"))
    return torch.cdist(rows, rows).sum(1)


def _read(layer: Layer, name: str, side: Side, evidence: Evidence) -> Tensor | None:
    energy = evidence.inputs.get(name)
    if side == "out" or energy is None:
        return None
    return _rows(layer, side, layer.get_parameter("weight").square()).sum(1) * energy


_square = _summed(lambda weight, name, evidence: weight.square())
DATA_FREE: ImportanceKind = "group_norm"
"""Stands in where another criterion has nothing to score, or may not read data."""
IMPORTANCES: dict[ImportanceKind, Importance] = {
    "group_norm": Importance(_square),
    "l1": Importance(_summed(lambda weight, name, evidence: weight.abs()), own_filters=True),
    "l2": Importance(_square, own_filters=True),
    "fpgm": Importance(_distance, own_filters=True),
    "bn_scale": Importance(_gain),
    "taylor": Importance(
        _summed(lambda weight, name, evidence: (weight * evidence.gradients[name]).abs()), reads_data=True
    ),
    "hessian": Importance(
        _summed(lambda weight, name, evidence: weight.square() * evidence.squares[name]), reads_data=True
    ),
    "activation": Importance(_read, reads_data=True),
    "random": Importance(None),
}


def score_units(
    model: nn.Module,
    groups: Sequence[Group],
    kinds: Sequence[ImportanceKind],
    *,
    seed: int,
    skip: frozenset[str] = frozenset(),
    evidence: Evidence | None = None,
) -> tuple[list[Scores], list[str]]:
    """Per group, the importance (units,) of each unit with mean 1, and notes on groups that fell back.

    l1, l2     : norms of the filters that make the channel (Li et al. 2017).
    group_norm : squared norm over all that makes or reads the channel (Fang et al. 2023).
    fpgm       : distance to the other filters of the layer (He et al. 2019): what others can stand in for goes.
    bn_scale   : |gamma| of its batch norms (Liu et al. 2017); groups without one fall back to group_norm.
    taylor     : |weight x gradient| over the group (Molchanov et al. 2019).
    hessian    : weight^2 x mean squared gradient, the diagonal of optimal brain damage (LeCun et al. 1990) by the
                 empirical Fisher matrix.
    activation : energy that the channel brings into what reads it, |weight|^2 x mean square of the input (Sun et al.
                 2024, "Wanda", summed over a channel).
    random     : uniform, drawn under `seed`.
    Of several, the mean of the ranks counts. `evidence` is that of `gather`, where one of them reads data. `skip` names
    layers that do not count: rewritten shortcuts, whose weights say nothing of their channels.
    Raises PassError where the weights are not finite, or where bn_scale finds no batch norm at all.
    """
    found, notes = [], []
    for kind in kinds:
        scores, lacking = _scores_of(kind, model, groups, seed, skip, evidence or Evidence())
        if lacking and len(lacking) == len(groups):
            raise PassError(f"prune: importance {kind!r} finds nothing to score in any group; use {DATA_FREE}.")
        notes += [f"importance {kind!r} has nothing to score in {n}: {DATA_FREE} is used there" for n in lacking]
        found.append(scores)
    if len(found) == 1:
        return found[0], notes
    ranks = [np.mean([rankdata(scores) for scores in of_group], axis=0) for of_group in zip(*found, strict=True)]
    return [rank / rank.mean() for rank in ranks], notes


def gather(model: nn.Module, task: Task, *, batches: int, seed: int) -> Evidence:
    """The evidence of so many seeded batches of 64 training samples, in eval mode; no `.grad` is left behind."""
    data = task.calibration(_BATCH * batches, seed)
    names = dict(model.named_parameters())
    gradients = {name: torch.zeros_like(p) for name, p in names.items()}
    squares = {name: torch.zeros_like(p) for name, p in names.items()}
    with tracing(model), _watched(model) as energy:
        for inputs, targets in data.batches(_BATCH):
            model.zero_grad(set_to_none=True)
            loss = task_loss(task.loss, run_model(model, inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            share = len(targets) / len(data)
            for name, parameter in names.items():
                if parameter.grad is not None:
                    gradients[name] += share * parameter.grad
                    squares[name] += share * parameter.grad.square()
    model.zero_grad(set_to_none=True)
    return Evidence(gradients, squares, {name: total / places for name, (total, places) in energy.items()})


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """Inside, adds up what every convolution and linear layer reads: name -> (sum of squares (channels,), places)."""
    found: dict[str, tuple[Tensor, int]] = {}

    def watch(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, read: Any) -> None:
            x = read[0].detach()
            channels = x.movedim(-1, 0) if isinstance(module, nn.Linear) else x.transpose(0, 1)
            total, places = found.get(name, (0.0, 0))
            found[name] = (total + channels.flatten(1).square().sum(1), places + channels[0].numel())

        return hook

    handles = [m.register_forward_pre_hook(watch(n)) for n, m in model.named_modules() if isinstance(m, _WEIGHTED)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _scores_of(
    kind: ImportanceKind,
    model: nn.Module,
    groups: Sequence[Group],
    seed: int,
    skip: frozenset[str],
    evidence: Evidence,
) -> tuple[list[Scores], list[str]]:
    """The scores by one kind, and the names of the groups in which another had to stand in."""
    modules, scores, lacking = dict(model.named_modules()), [], []
    draw = np.random.default_rng(seed)
    for group in groups:
        layers = [t for t in group.targets if t.layer not in skip and isinstance(modules.get(t.layer), _SCORED)]
        importance = IMPORTANCES[kind]
        if importance.criterion is None:
            units: Scores | None = draw.random(len(group.units))
        else:
            units = _mean(importance, modules, layers, evidence)
        if units is None:
            lacking.append(group.name)
            units = _mean(IMPORTANCES[DATA_FREE], modules, layers, evidence)
        scores.append(_evened(group, np.ones(len(group.units)) if units is None else units))
    return scores, lacking


def _mean(
    importance: Importance, modules: Mapping[str, nn.Module], targets: Sequence[PruneTarget], evidence: Evidence
) -> Scores | None:
    """(units,) the mean over the layers that score; None where none does."""
    found, criterion = [], importance.criterion
    for target in targets if criterion is not None else ():
        layer = modules[target.layer]
        makes = target.weighted and (target.side == "out" or is_depthwise(layer))
        if layer._parameters.get("weight") is None or (importance.own_filters and not makes):
            continue
        channels = criterion(layer, target.layer, target.side, evidence) if criterion is not None else None
        if channels is not None:
            found.append(channels.double()[torch.tensor(target.indices)].sum(1).cpu().numpy())
    return np.asarray(np.mean(found, axis=0)) if found else None


def _evened(group: Group, units: Scores) -> Scores:
    if not np.isfinite(units).all():
        raise PassError(f"prune: the importance of {group.name} is not finite; check the weights for NaN and infinity.")
    mean = units.mean()
    return units / mean if mean > 0 else np.ones_like(units)
