"""How much each channel matters: scores from torch-pruning's criteria, one per removable unit of a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.core.errors import PassError
from compress.core.forward import run_model
from compress.passes.pruning.channel_groups import Group, tracing
from compress.passes.pruning.prune_settings import ImportanceKind
from compress.tasks.task import Task

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """A criterion of torch-pruning: a group of it -> scores (channels,), or None where it has nothing to score.

    own_filters : it looks only at the filters that make a channel, not at what reads it.
    reads_data  : it needs the gradients of `taylor_gradients`.
    """

    criterion: Callable[[], Callable[[Any], Tensor | None]]
    own_filters: bool = False
    reads_data: bool = False


def _norm(p: int) -> Callable[[], Callable[[Any], Tensor | None]]:
    return lambda: tp.importance.GroupMagnitudeImportance(p=p, normalizer=None)


DATA_FREE: ImportanceKind = "group_norm"
"""Stands in where another criterion has nothing to score, or may not read data."""
IMPORTANCES: dict[ImportanceKind, Importance] = {
    "l1": Importance(_norm(1), own_filters=True),
    "l2": Importance(_norm(2), own_filters=True),
    "group_norm": Importance(_norm(2)),
    "bn_scale": Importance(lambda: tp.importance.BNScaleImportance(normalizer=None)),
    "taylor": Importance(lambda: tp.importance.GroupTaylorImportance(normalizer=None), reads_data=True),
    "random": Importance(tp.importance.RandomImportance),
}


def score_units(
    model: nn.Module, groups: Sequence[Group], kind: ImportanceKind, *, seed: int, skip: frozenset[str] = frozenset()
) -> tuple[list[Scores], list[str]]:
    """Per group, the importance (units,) of each unit with mean 1, and notes on groups that fell back.

    l1, l2     : norms of the filters that make the channel (Li et al. 2017).
    group_norm : squared norm over all that makes or reads the channel (Fang et al. 2023).
    bn_scale   : |gamma| of its batch norms (Liu et al. 2017); groups without one fall back to group_norm.
    taylor     : |weight x gradient| over the group (Molchanov et al. 2019); needs `taylor_gradients` first.
    random     : uniform, drawn under `seed`.
    `skip` names layers that do not count: rewritten shortcuts, whose weights say nothing of their channels.
    Raises PassError where the weights are not finite, or where bn_scale finds no batch norm at all.
    """
    importance, fallback = IMPORTANCES[kind], IMPORTANCES[DATA_FREE]
    criterion, stand_in = importance.criterion(), fallback.criterion()
    names = {module: name for name, module in model.named_modules()}
    scores, lacking = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for group in groups:
            raw = _filtered(group, importance, names, skip)
            channels = criterion(raw) if len(raw) else None
            if channels is None:
                lacking.append(group.name)
                channels = stand_in(_filtered(group, fallback, names, skip))
            scores.append(_per_unit(group, channels))
    if lacking and len(lacking) == len(groups):
        raise PassError(f"prune: importance {kind!r} finds nothing to score in any group; use group_norm or taylor.")
    notes = [f"importance {kind!r} has nothing to score in {n}: {DATA_FREE} is used there" for n in lacking]
    return scores, notes


def _filtered(group: Group, importance: Importance, names: dict[nn.Module, str], skip: frozenset[str]) -> Any:
    """The raw group without the layers that do not count for this criterion; its root indices stay whole."""
    raw = tp.dependency.Group()
    raw._DG = group.raw._DG
    makes = (tp.prune_conv_out_channels, tp.prune_linear_out_channels)
    for item in group.raw:
        own = not isinstance(item.dep.layer, nn.Parameter) and names.get(item.dep.layer) in skip
        if not own and (not importance.own_filters or item.dep.handler in makes):
            raw._group.append(item)
    return raw


def _per_unit(group: Group, channels: Tensor | None) -> Scores:
    if channels is None:
        channels = torch.ones(group.width)
    values = channels.detach().double().cpu().numpy()
    if not np.isfinite(values).all():
        raise PassError(f"prune: the importance of {group.name} is not finite; check the weights for NaN and infinity.")
    units = np.array([values[list(unit)].sum() for unit in group.units])
    mean = units.mean()
    return units / mean if mean > 0 else np.ones_like(units)


def taylor_gradients(
    model: nn.Module, task: Task, loss: Callable[[Tensor, Tensor], Tensor], *, batches: int, seed: int
) -> None:
    """Leave in every parameter's `.grad` the mean gradient over `batches` seeded batches of 64 training samples."""
    model.zero_grad(set_to_none=True)
    data = task.calibration(64 * batches, seed)
    with tracing(model):
        for inputs, targets in data.batches(64):
            (loss(run_model(model, inputs), targets) * len(targets) / len(data)).backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
