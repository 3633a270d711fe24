"""The share of labels that are right, in per cent: within the five most likely classes, or token by token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluate.core import stats
from evaluate.core.errors import DataError
from evaluate.core.stats import Drop, Interval
from evaluate.metrics.base import Array, Metric, register_metric
from evaluate.metrics.class_ids import Ids, class_ids, labelled
from evaluate.metrics.resampling import Counts, Floats, weighted_rows


class RightShare(Metric):
    """Right labels over all labels, of outputs (n, classes, ...) and ids (n, ...); -100 has no label.

    Where a sample has one label its value is 100 or 0, and interval and drop are accuracy's; else statistics are (n, 2)
    right labels and labels. A subclass gives `right`.
    """

    test = "McNemar"

    def right(self, outputs: Floats, ids: Ids) -> NDArray[np.bool_]:
        """(n, ...) whether each label is right; what it says of one to leave out does not matter."""
        raise NotImplementedError

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n,) or (n, 2)."""
        ids = class_ids(outputs, targets, self.label)
        kept = labelled(ids)
        right = self.right(outputs, np.where(kept, ids, 0)) & kept
        if ids.ndim == 1:
            return np.asarray(100.0 * right, dtype=np.float64)
        return np.stack([part.reshape(len(ids), -1).sum(axis=1) for part in (right, kept)], axis=1).astype(np.float64)

    def value(self, values: Floats) -> float:
        """Raises DataError where no sample has a label."""
        if values.ndim == 1:
            return float(values.mean())
        right, labels = values.sum(axis=0)
        if labels == 0:
            raise DataError(f"{self.label} has nothing to judge: no target has a label")
        return float(100 * right / labels)

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) shares, nan where nothing is left."""
        if values.ndim == 1:
            return super().resampled(values, counts)
        right, labels = weighted_rows(counts, values).T
        shares = np.divide(right, labels, out=np.full(len(counts), np.nan), where=labels > 0)
        return np.asarray(100 * shares, dtype=np.float64)

    def interval(self, values: Floats) -> Interval:
        """Wilson's where a sample has one label, else the bootstrap over samples."""
        if values.ndim != 1:
            return super().interval(values)
        return Interval(*(100 * bound for bound in stats.wilson(int(np.sum(values > 0)), len(values))))

    def drop(self, before: Floats, after: Floats) -> Drop:
        """In points, positive is worse: `stats.paired_drop` where a sample has one label, else the paired bootstrap."""
        return super().drop(before, after) if before.ndim != 1 else stats.paired_drop(before > 0, after > 0)


@register_metric("top5", unit="%", higher_is_better=True, labels=True, dense=True)
class Top5(RightShare):
    """The share of labels among the five classes with the largest outputs; of equal ones the lower id comes first."""

    k = 5

    def right(self, outputs: Floats, ids: Ids) -> NDArray[np.bool_]:
        """Raises DataError for so few classes that every label is right."""
        if outputs.shape[1] <= self.k:
            raise DataError(
                f"{self.label} needs more than {self.k} classes, got {outputs.shape[1]}: every answer would be right"
            )
        own = np.take_along_axis(outputs, np.expand_dims(ids, 1), axis=1)
        classes = np.arange(outputs.shape[1]).reshape(1, -1, *[1] * (ids.ndim - 1))
        ahead = (outputs > own) | ((outputs == own) & (classes < np.expand_dims(ids, 1)))
        return np.asarray(ahead.sum(axis=1) < self.k, dtype=bool)


@register_metric("token_accuracy", unit="%", higher_is_better=True, labels=True, dense=True)
class TokenAccuracy(RightShare):
    """The share of labels whose class has the largest output, over all tokens or pixels of all samples."""

    def right(self, outputs: Floats, ids: Ids) -> NDArray[np.bool_]:
        """The first of equal outputs counts as the largest."""
        return np.asarray(outputs.argmax(axis=1) == ids, dtype=bool)
