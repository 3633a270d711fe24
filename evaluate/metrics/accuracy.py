"""Accuracy in per cent, with precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluate.core import stats
from evaluate.core.errors import DataError
from evaluate.core.stats import Drop, Interval
from evaluate.metrics.base import Array, ClassDrop, ClassScore, Macro, Metric, register_metric
from evaluate.metrics.resampling import Floats


@register_metric("accuracy", unit="%", higher_is_better=True, labels=True)
class Accuracy(Metric):
    """The share of samples whose largest output is the target's, in per cent."""

    test = "McNemar"

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """100 for a sample that is right, 0 for one that is wrong, of outputs (n, classes) and class ids (n,)."""
        ids = _ids(outputs, targets)
        return np.asarray(100.0 * (outputs.argmax(axis=1) == ids), dtype=np.float64)

    def interval(self, values: Floats) -> Interval:
        """Wilson's interval."""
        value, low, high = stats.wilson(int(np.sum(values > 0)), len(values))
        return Interval(100 * value, 100 * low, 100 * high)

    def drop(self, before: Floats, after: Floats) -> Drop:
        """In points, positive is worse; `stats.paired_drop` names the methods."""
        return stats.paired_drop(before > 0, after > 0)

    def by_class(self, outputs: Floats, targets: Array, classes: Sequence[str]) -> tuple[list[ClassScore], Macro]:
        """Of every class, in the order of the ids. Raises DataError for another number of names than of classes."""
        names, count = _names(classes, outputs), outputs.shape[1]
        ids, guesses = _ids(outputs, targets), outputs.argmax(axis=1)
        hits = np.bincount(ids[guesses == ids], minlength=count)
        actual, guessed = np.bincount(ids, minlength=count), np.bincount(guesses, minlength=count)
        precision, recall, f1 = _share(hits, guessed), _share(hits, actual), _share(2 * hits, actual + guessed)
        per_class: list[ClassScore] = [
            {"class": name, "n": int(n), "precision": float(p), "recall": float(r), "f1": float(f)}
            for name, n, p, r, f in zip(names, actual, precision, recall, f1)
        ]
        seen = (actual + guessed) > 0
        means = (float(values[seen].mean()) for values in (precision, recall, f1))
        return per_class, Macro(precision=next(means), recall=next(means), f1=next(means))

    def drop_by_class(self, base: Floats, outputs: Floats, targets: Array, classes: Sequence[str]) -> list[ClassDrop]:
        """By class, how many points of its samples are right no longer; classes without samples are left out."""
        lost = (self.per_sample(base, targets) - self.per_sample(outputs, targets)) / 100
        return [
            {"class": name, "n": int(np.sum(targets == i)), "drop": 100 * float(lost[targets == i].mean())}
            for i, name in enumerate(_names(classes, outputs))
            if np.any(targets == i)
        ]


def _names(classes: Sequence[str], outputs: Floats) -> list[str]:
    count = outputs.shape[1]
    if classes and len(classes) != count:
        raise DataError(f"the task names {len(classes)} classes, but the model's output has {count}")
    return [str(c) for c in classes or range(count)]


def _share(part: Array, whole: Array) -> Floats:
    """part / whole, and 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _ids(outputs: Floats, targets: Array) -> NDArray[np.int64]:
    """The class ids; DataError where outputs and targets are no classification of the same samples."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise DataError(
            f"accuracy needs outputs of shape (n, classes) with 2 classes or more, got {list(outputs.shape)}"
        )
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
        raise DataError(
            f"accuracy needs targets of shape (n,) with class ids, got {list(targets.shape)} of {targets.dtype}"
        )
    if len(targets) != len(outputs) or len(targets) == 0:
        raise DataError(
            f"there are {len(outputs)} outputs for {len(targets)} targets; equal numbers, at least 1, are needed"
        )
    if targets.min() < 0 or targets.max() >= outputs.shape[1]:
        raise DataError(
            f"class ids go from {targets.min()} to {targets.max()}, but the model's output has {outputs.shape[1]} "
            f"classes (0 to {outputs.shape[1] - 1})"
        )
    return targets.astype(np.int64)
