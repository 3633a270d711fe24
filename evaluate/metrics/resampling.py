"""The bootstrap of a metric that is no mean over samples: its replicates, their interval, a paired p (Efron 1979)."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from evaluate.core.stats import REPLICATES, Interval

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Measure = Callable[[Floats, Counts], Floats]

FEWEST = 500
# Of larger tables, in cells, there are fewer replicates, down to FEWEST, so that the work does not grow with them.
_WHOLE = 400_000
# Memory bound of one table of counts, in cells.
_CELLS = 2_000_000


def replicates(measure: Measure, *tables: Floats, seed: int = 0) -> tuple[Floats, ...]:
    """What `measure` gives on resamples of the n samples, for each table (n, ...) on the same ones: (r,) each.

    measure : (table, counts (r, n), how often each sample is drawn) -> (r,); nan where a resample has no value.
    r is 2000 for tables of up to 400,000 cells and falls to 500 beyond. Seeded: equal tables give equal replicates.
    """
    n, cells = len(tables[0]), tables[0].size
    asked = max(FEWEST, min(REPLICATES, REPLICATES * _WHOLE // cells))
    rows, rng = max(1, min(asked, _CELLS // n)), np.random.default_rng(seed)
    found = []
    for start in range(0, asked, rows):
        counts = _counts(rng, n, min(rows, asked - start))
        found.append([measure(table, counts) for table in tables])
    return tuple(np.concatenate(parts) for parts in zip(*found))


def _counts(rng: np.random.Generator, n: int, rows: int) -> Counts:
    """(rows, n) how often each of n samples is among n that are drawn with replacement."""
    return np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(rows)])


def percentile_interval(value: float, found: Floats) -> Interval:
    """A value with the middle 95 % of its replicates; resamples without a value are left out.

    Repeated samples bias what is no mean, a set with rare classes most: a bound is moved to the value where it would
    leave the value outside.
    """
    kept = found[np.isfinite(found)]
    low, high = np.quantile(kept, [0.025, 0.975]) if kept.size else (value, value)
    return Interval(value, min(value, float(low)), max(value, float(high)))


def two_sided(differences: Floats) -> float:
    """Twice the smaller share of paired replicates on one side of 0, and 1 where none differs.

    (Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 15.4, by inverting the percentile interval;
    one is added to both counts, so that it is never 0: Davison and Hinkley 1997, section 4.2.)
    """
    kept = differences[np.isfinite(differences)]
    fewer = min(int(np.sum(kept <= 0)), int(np.sum(kept >= 0)))
    return min(1.0, 2 * (fewer + 1) / (kept.size + 1))


def weighted_rows(counts: Counts, values: NDArray[Any]) -> Floats:
    """(r, k) sums of (n, k) values over each resample."""
    return np.asarray(counts.astype(np.float64) @ np.asarray(values, dtype=np.float64), dtype=np.float64)
