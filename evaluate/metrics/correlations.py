"""How outputs go with float targets: R squared and the correlations of Pearson and Spearman, 1 at best.

Of outputs and targets (n,) or (n, ...), where it is the mean over the values of a sample.
"""

from __future__ import annotations

import numpy as np

from evaluate.core.errors import DataError
from evaluate.metrics.base import Array, Metric, register_metric
from evaluate.metrics.resampling import Counts, Floats, weighted_rows
from evaluate.metrics.squared_error import values_of


class Together(Metric):
    """A mean over columns of something of two columns. Statistics are (n, 2 d): outputs, then targets.

    A subclass gives `of_column`.
    """

    def of_column(self, outputs: Floats, targets: Floats, counts: Counts) -> Floats:
        """(r,) values of (n,) outputs and targets on resamples (r, n); nan where the targets do not vary."""
        raise NotImplementedError

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n, 2 d)."""
        return np.concatenate([x.reshape(len(x), -1) for x in values_of(outputs, targets, self.label)], axis=1)

    def value(self, values: Floats) -> float:
        """Raises DataError where a column of the targets does not vary."""
        found = float(self.resampled(values, np.ones((1, len(values)), dtype=np.int64))[0])
        targets = np.split(values, 2, axis=1)[1]
        if (targets == targets[0]).all(axis=0).any():
            raise DataError(f"{self.label} needs targets that vary over the {len(values)} samples: mse does without")
        return found

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) means over columns."""
        outputs, targets = np.split(values, 2, axis=1)
        columns = [self.of_column(x, y, counts) for x, y in zip(outputs.T, targets.T)]
        return np.asarray(np.mean(columns, axis=0), dtype=np.float64)


@register_metric("r2", higher_is_better=True, labels=False)
class RSquared(Together):
    """1 minus squared error over squared distance of the targets from their mean; 0 is as good as their mean."""

    def of_column(self, outputs: Floats, targets: Floats, counts: Counts) -> Floats:
        """Below 0 is worse than the mean."""
        moved = targets - targets.mean()
        missed, squares, sums = weighted_rows(counts, np.stack([(outputs - targets) ** 2, moved**2, moved], axis=1)).T
        spread = squares - sums**2 / len(targets)
        share = np.divide(missed, spread, out=np.full(len(counts), np.nan), where=spread > 1e-12 * squares)
        return np.asarray(1 - share, dtype=np.float64)


@register_metric("pearson", higher_is_better=True, labels=False)
class Pearson(Together):
    """The correlation of outputs and targets, -1 to 1; 0 for outputs that do not vary."""

    def of_column(self, outputs: Floats, targets: Floats, counts: Counts) -> Floats:
        """Pearson 1895."""
        return _correlation(outputs[None], targets[None], counts)


@register_metric("spearman", higher_is_better=True, labels=False)
class Spearman(Together):
    """The correlation of the ranks of outputs and targets, -1 to 1; equal values share their mean rank."""

    def of_column(self, outputs: Floats, targets: Floats, counts: Counts) -> Floats:
        """Spearman 1904, the ranks taken anew in every resample."""
        return _correlation(_ranks(outputs, counts), _ranks(targets, counts), counts)


def _correlation(x: Floats, y: Floats, counts: Counts) -> Floats:
    """(r,) correlations of (r, n) or (1, n) values, weighted; nan where y does not vary, 0 where x does not."""
    n = counts.shape[1]
    x, y = _centred(x, counts), _centred(y, counts)
    xx, yy, xy = ((counts * a * b).sum(axis=1) / n for a, b in ((x, x), (y, y), (x, y)))
    found = np.divide(xy, np.sqrt(xx * yy), out=np.zeros(len(counts)), where=(xx > 0) & (yy > 0))
    return np.where(yy > 0, np.clip(found, -1.0, 1.0), np.nan)


def _centred(x: Floats, counts: Counts) -> Floats:
    """(r, n) values less the mean of each resample, 1 the largest; all 0 where they are one value but for rounding."""
    moved = x - x.mean(axis=1, keepdims=True)
    moved = moved - (counts * moved).sum(axis=1, keepdims=True) / counts.shape[1]
    drawn = np.where(counts > 0, moved, 0.0)
    size = np.abs(drawn).max(axis=1, keepdims=True)
    still = size <= 1e-13 * np.abs(x).max()
    return np.where(still, 0.0, drawn / np.where(size > 0, size, 1.0))


def _ranks(x: Floats, counts: Counts) -> Floats:
    """(r, n) ranks of (n,) values within each resample, from 1; equal values, a sample's copies too, share the mean."""
    order = np.argsort(x, kind="stable")
    fresh = np.append(True, np.diff(x[order]) != 0)
    drawn = np.add.reduceat(counts[:, order], np.flatnonzero(fresh), axis=1)
    middle = drawn.cumsum(axis=1) - (drawn - 1) / 2
    back = np.empty(len(x), dtype=np.int64)
    back[order] = fresh.cumsum() - 1
    return np.asarray(middle[:, back], dtype=np.float64)
