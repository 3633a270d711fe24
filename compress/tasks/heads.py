"""Several heads: a model with several outputs that are trained together, and each judged by itself.

Their targets lie side by side in one tensor (n, columns), by the heads' names in alphabetical order, and so do their
outputs in the heads' own order; a head knows which columns are its own. The first head is what goals and laws read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.tasks.checks import as_targets, check_axes
from compress.tasks.foreign_metric import whole_metric
from compress.tasks.losses import Loss, task_loss
from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.core.stats import Drop, Interval
from evaluate.metrics.base import ClassDrop, ClassScore, Macro, Metric, get_metric
from evaluate.metrics.resampling import Counts, Floats


@dataclass(frozen=True)
class Head:
    """How the output of one name is judged; what is not given follows from its targets, as in a Task.

    weight  : of its loss in the sum that is trained on.
    classes : class names, or their number, for targets that are class ids.
    """

    loss: Loss | None = None
    metric: str | Metric | None = None
    weight: float = 1.0
    classes: Sequence[str] | int | None = None


@dataclass(frozen=True)
class Columns:
    """Where the targets of one head lie, (start, stop) of their columns, and what shape they had."""

    start: int
    stop: int
    shape: tuple[int, ...]
    labelled: bool

    def of(self, packed: Any) -> Any:
        """(n, ...) targets of this head, class ids as integers, from a packed tensor or array."""
        own = packed[:, self.start : self.stop].reshape(len(packed), *self.shape)
        if not self.labelled:
            return own
        return own.long() if isinstance(own, Tensor) else own.astype(np.int64)


@dataclass(frozen=True)
class JudgedHead:
    """A head with everything filled in. `first` and `width` are its columns among the outputs."""

    name: str
    loss: Loss
    metric: Metric
    weight: float
    classes: tuple[str, ...]
    targets: Columns
    first: int
    width: int

    def outputs(self, packed: Any) -> Any:
        """(n, classes), or (n, ...) as the targets are, from the packed outputs of all heads."""
        own = packed[:, self.first : self.first + self.width]
        return own if self.targets.labelled else own.reshape(len(own), *self.targets.shape)


@dataclass(frozen=True, repr=False)
class HeadsLoss:
    """The weighted sum of the heads' losses, of packed outputs and targets."""

    heads: tuple[JudgedHead, ...]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A scalar tensor. Raises ModelError as the losses do."""
        parts = [h.weight * task_loss(h.loss, h.outputs(outputs), h.targets.of(targets)) for h in self.heads]
        return torch.stack(parts).sum()

    def __repr__(self) -> str:
        return f"the losses of {', '.join(head.name for head in self.heads)}"


@dataclass(frozen=True)
class HeadMetric(Metric):
    """The metric of one head, of packed outputs and targets."""

    head: JudgedHead = field(kw_only=True)

    @classmethod
    def of(cls, head: JudgedHead) -> HeadMetric:
        """The head's metric, under its own name."""
        own = head.metric
        return cls(own.name, own.unit, own.higher_is_better, built_in=own.built_in, head=head)

    @property
    def is_mean(self) -> bool:
        return self.head.metric.is_mean

    def per_sample(self, outputs: Floats, targets: Any) -> Floats:
        return self.head.metric.per_sample(self.head.outputs(outputs), self.head.targets.of(targets))

    def value(self, values: Floats) -> float:
        return self.head.metric.value(values)

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        return self.head.metric.resampled(values, counts)

    def interval(self, values: Floats) -> Interval:
        return self.head.metric.interval(values)

    def drop(self, before: Floats, after: Floats) -> Drop:
        return self.head.metric.drop(before, after)

    def by_class(self, outputs: Floats, targets: Any, classes: Sequence[str]) -> tuple[list[ClassScore], Macro | None]:
        own = self.head
        return own.metric.by_class(own.outputs(outputs), own.targets.of(targets), classes)

    def drop_by_class(self, base: Floats, outputs: Floats, targets: Any, classes: Sequence[str]) -> list[ClassDrop]:
        own = self.head
        return own.metric.drop_by_class(own.outputs(base), own.outputs(outputs), own.targets.of(targets), classes)


def packed(targets: Mapping[str, Any], where: str) -> Tensor:
    """The targets (n, ...) of all heads side by side, (n, columns) float32. Raises DataError."""
    if not targets:
        raise DataError(f"{where} targets: a dict without entries; give one for each head.")
    parts = []
    for name in sorted(targets):
        own = as_targets(targets[name], f"{where}, head {name!r},")
        if not own.is_floating_point():
            check_axes(own, False, f"{where}, head {name!r},")
        parts.append(own.flatten(1).float() if own.ndim > 1 else own[:, None].float())
    if len({len(part) for part in parts}) > 1:
        counts = ", ".join(f"{name} {len(part)}" for name, part in zip(sorted(targets), parts, strict=True))
        raise DataError(f"{where} targets: the heads have different numbers of samples: {counts}.")
    return torch.cat(parts, 1)


def columns_of(targets: Mapping[str, Any], where: str) -> dict[str, Columns]:
    """Where each head's targets lie in `packed`, in the order in which they were given."""
    found, start = dict[str, Columns](), 0
    for name in sorted(targets):
        own = as_targets(targets[name], f"{where}, head {name!r},")
        shape, size = tuple(own.shape[1:]), math.prod(own.shape[1:])
        found[name] = Columns(start, start + size, shape, not own.is_floating_point())
        start += size
    return {name: found[name] for name in targets}


def judged_heads(
    columns: Mapping[str, Columns], given: Mapping[str, Head] | None, targets: Sequence[Tensor], where: str
) -> tuple[JudgedHead, ...]:
    """Every head with what was not given filled in; `targets` are the packed ones of all splits. Raises DataError."""
    asked = dict(given or {})
    for name in asked:
        if name not in columns:
            near = did_you_mean(name, columns) or f"; they have {', '.join(columns)}."
            raise DataError(f"{where}: the targets have no head {name!r}{near}")
    heads, first = list[JudgedHead](), 0
    for name in [*asked, *(name for name in columns if name not in asked)]:
        head, own = asked.get(name, Head()), columns[name]
        if not head.weight > 0:
            raise DataError(f"{where}, head {name!r}: the weight of its loss is above 0, got {head.weight}.")
        classes = _classes(head, own, targets)
        width = len(classes) if own.labelled else own.stop - own.start
        asked_metric = head.metric or ("accuracy" if own.labelled else "mse")
        try:
            metric = get_metric(asked_metric) if isinstance(asked_metric, str) else whole_metric(asked_metric)
        except UsageError as error:
            raise DataError(f"{where}, head {name!r}: {error}") from None
        loss = head.loss or ("cross_entropy" if own.labelled else "mse")
        heads.append(JudgedHead(name, loss, metric, head.weight, classes, own, first, width))
        first += width
    return tuple(heads)


def _classes(head: Head, columns: Columns, targets: Sequence[Tensor]) -> tuple[str, ...]:
    names = head.classes
    if names is None:
        names = 1 + max(int(columns.of(t).max()) for t in targets) if columns.labelled else ()
    return tuple(str(name) for name in (range(names) if isinstance(names, int) else names))
