"""Class ids of any rank against outputs (n, classes, ...), and what is counted of them, class by class.

Ids that are -100 have no label and are left out, as torch's cross entropy leaves them out; of (n,) ids none may be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError
from evaluate.metrics.base import Array, Metric
from evaluate.metrics.resampling import Counts, Floats, weighted_rows

IGNORED = -100
Ids = NDArray[np.int64]


def class_ids(outputs: Floats, targets: Array, label: str) -> Ids:
    """The ids (n, ...) as int64. Raises DataError where outputs (n, classes, ...) and they do not fit; `label` asks."""
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise DataError(
            f"{label} needs outputs of shape (n, classes, ...) with 2 classes or more, got {list(outputs.shape)}"
        )
    wanted = (len(outputs), *outputs.shape[2:])
    if targets.shape != wanted or not np.issubdtype(targets.dtype, np.integer) or not len(targets):
        raise DataError(
            f"{label} needs class ids of shape {list(wanted)} for outputs {list(outputs.shape)}, at least 1, got "
            f"{list(targets.shape)} of {targets.dtype}; for one-hot rows give y.argmax(1)"
        )
    ids = targets.astype(np.int64)
    _check_range(ids[labelled(ids)], outputs.shape[1])
    return ids


def _check_range(ids: Ids, classes: int) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= classes):
        raise DataError(
            f"class ids go from {ids.min()} to {ids.max()}, but the model's output has {classes} classes (0 to "
            f"{classes - 1}); where a sample has many labels, those to leave out are {IGNORED}"
        )


def labelled(ids: Ids) -> NDArray[np.bool_]:
    """Where there is a label: everywhere of (n,) ids, else where the id is not -100."""
    return np.ones(ids.shape, dtype=bool) if ids.ndim == 1 else ids != IGNORED


class ClassCounts(Metric):
    """A metric of three counts by class: of labels that were found, of guesses and of labels.

    Statistics are (n, 2) guesses and ids where a sample has one label, else (n, 3 classes) counts: found, guessed,
    actual. A subclass gives `of_counts`.
    """

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """Of outputs (n, classes, ...) and ids (n, ...)."""
        ids = class_ids(outputs, targets, self.label)
        guesses, kept, classes = outputs.argmax(axis=1), labelled(ids), outputs.shape[1]
        if ids.ndim == 1:
            return np.stack([guesses, ids], axis=1).astype(np.float64)
        hits = np.where(guesses == ids, kept, False)
        counted = [tally(ids, hits, classes), tally(guesses, kept, classes), tally(ids, kept, classes)]
        return np.concatenate(counted, axis=1)

    def value(self, values: Floats) -> float:
        """Raises DataError where no sample has a label."""
        found = float(self.resampled(values, np.ones((1, len(values)), dtype=np.int64))[0])
        if np.isnan(found):
            raise DataError(f"{self.label} has nothing to judge: no target has a label")
        return found

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) values, nan where nothing is left."""
        pairs = values.shape[1] == 2
        found, guessed, actual = _of_pairs(values, counts) if pairs else _of_counts(values, counts)
        return self.of_counts(found, guessed, actual)

    def of_counts(self, found: Floats, guessed: Floats, actual: Floats) -> Floats:
        """(r,) values in the metric's unit, of (r, classes) counts each."""
        raise NotImplementedError


def tally(ids: Ids, kept: NDArray[np.bool_], classes: int) -> Floats:
    """(n, classes) how often each id is among the kept ones of a sample, of (n, ...) ids."""
    rows = np.broadcast_to(np.arange(len(ids)).reshape(-1, *[1] * (ids.ndim - 1)), ids.shape)
    flat = np.bincount(rows[kept] * classes + ids[kept], minlength=len(ids) * classes)
    return np.asarray(flat.reshape(len(ids), classes), dtype=np.float64)


def _of_pairs(values: Floats, counts: Counts) -> Floats:
    """(3, r, classes) weighted counts of (n, 2) guesses and ids."""
    guesses, ids = values.astype(np.int64).T
    classes, hit = int(values.max()) + 1, guesses == ids
    parts = ((ids[hit], counts[:, hit]), (guesses, counts), (ids, counts))
    return np.array([[np.bincount(of, row, minlength=classes) for row in rows] for of, rows in parts])


def _of_counts(values: Floats, counts: Counts) -> Floats:
    """(3, r, classes) weighted counts of (n, 3 classes)."""
    sums = weighted_rows(counts, values)
    return np.moveaxis(sums.reshape(len(counts), 3, -1), 1, 0)


def share_of(part: Floats, whole: Floats) -> Floats:
    """part / whole, and 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def mean_where(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    """(r,) means of (r, k) values over those that are seen; nan where none is."""
    seen_of = seen.sum(axis=1)
    sums = np.where(seen, values, 0.0).sum(axis=1)
    means = np.divide(sums, seen_of, out=np.full(len(values), np.nan), where=seen_of > 0)
    return np.asarray(means, dtype=np.float64)
