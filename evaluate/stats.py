"""Intervals and paired tests: medians and ratios of latency, proportions, and the paired drop of two models.

All intervals are at the 95 % level. Everything random is seeded, so that the same samples give the same interval.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Drop",
    "Interval",
    "mcnemar",
    "mean_interval",
    "median_interval",
    "newcombe",
    "noise_floor",
    "paired_drop",
    "percentile",
    "ratio_interval",
    "round_medians",
    "verdict",
    "wilson",
]

REPLICATES = 2000
Z95 = 1.959963984540054
# Two sessions of one file, 60 pairs each of a 0.3 ms and a 3 us model: ratios 0.993 to 1.009, stable within a pair.
PLACEMENT = 0.01
# Memory bound of the bootstrap: cells of one table of replicates.
_CELLS = 4_000_000
# Above this many samples the bootstrap of a mean resamples groups of them, which leaves its interval as it is.
_GROUPS = 4096

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


class Drop(TypedDict):
    """How much worse the second model is than the first, on the same samples; `p` is exact and two-sided."""

    value: float
    low: float
    high: float
    gained: int
    lost: int
    p: float


def median_interval(samples: ArrayLike, *, seed: int = 0) -> Interval:
    """Median of all samples, with a bootstrap interval that resamples whole rounds.

    (The cluster bootstrap: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.)
    samples : (rounds, n) or (rounds,) floats, any unit. Samples inside a round are correlated, rounds much less.
    Raises ValueError for fewer than two rounds and for values that are not finite.
    """
    table = _rounds(samples)
    rounds, n = table.shape
    order = np.argsort(table, axis=None, kind="stable")
    ordered, owner = table.ravel()[order], order // n
    half = rounds * n / 2
    medians: list[Floats] = []
    for counts in _round_counts(rounds, cells=table.size, seed=seed):
        # How often each sample, in rising order, was drawn so far: the median is where half of all draws are passed.
        passed = np.cumsum(counts[:, owner], axis=1, dtype=np.int32)
        lower, upper = np.argmax(passed >= half, axis=1), np.argmax(passed > half, axis=1)
        medians.append((ordered[lower] + ordered[upper]) / 2)
    low, high = np.quantile(np.concatenate(medians), [0.025, 0.975])
    return Interval(float(np.median(table)), float(low), float(high))


def ratio_interval(base: ArrayLike, other: ArrayLike, *, seed: int = 0) -> Interval:
    """How many times faster `other` is than `base`: the median over rounds of (base median / other median).

    base, other : (rounds, n) seconds, measured in the same interleaved rounds; n may differ. Pairing by round takes out
    what slows both models down for a while. The interval is that of `median_interval`, rounds being resampled.
    """
    ours, theirs = round_medians(base), round_medians(other)
    if len(ours) != len(theirs):
        raise ValueError(f"a ratio pairs rounds: the baseline has {len(ours)}, the other {len(theirs)}")
    if not (np.all(ours > 0) and np.all(theirs > 0)):
        raise ValueError("latency samples must be above zero")
    return median_interval(ours / theirs, seed=seed)


def round_medians(samples: ArrayLike) -> Floats:
    """The median of each round: (rounds, n) -> (rounds,)."""
    return np.asarray(np.median(_rounds(samples), axis=1), dtype=np.float64)


def noise_floor(samples: ArrayLike, *, seed: int = 0) -> float:
    """The smallest relative difference these rounds could tell from none: 0.02 means 2 %.

    The model is compared with itself, every round with the next one; the half-width of that interval is the floor.
    """
    medians = round_medians(samples)
    pairs = len(medians) // 2
    _, low, high = ratio_interval(medians[: 2 * pairs : 2], medians[1 : 2 * pairs : 2], seed=seed)
    return (high - low) / 2


def percentile(samples: ArrayLike, q: float = 90.0) -> float | None:
    """The q-th percentile (0 < q < 100) of all samples; None where they are too few for it: below 64 for the 90th.

    Enough is when, at 99 % confidence, two samples or more lie beyond the true percentile: the rule behind the minimum
    counts of MLPerf Inference's early stopping (64 for a 90th, 662 for a 99th).
    """
    flat = np.asarray(samples, dtype=np.float64).ravel()
    n, below = flat.size, q / 100
    at_most_one_beyond = below**n + n * (1 - below) * below ** max(0, n - 1)
    return float(np.percentile(flat, q)) if n > 1 and at_most_one_beyond <= 0.01 else None


def verdict(low: float, high: float, margin: float = PLACEMENT) -> str:
    """`faster`, `slower` or `not resolved`, from the interval of a speed-up (baseline over compressed).

    The interval must lie beyond `margin`: two sessions of one and the same file differ by up to that, and keep doing so
    in every round, because their weights lie elsewhere in memory (Mytkowicz et al. 2009, doi 10.1145/1508244.1508275).
    """
    if low > 1 + margin:
        return "faster"
    return "slower" if high < 1 / (1 + margin) else "not resolved"


def wilson(k: int, n: int) -> Interval:
    """A proportion k / n (0 to 1) with its score interval (Wilson 1927, JASA 22:209).

    Raises ValueError unless n > 0 and 0 <= k <= n.
    """
    if n <= 0 or not 0 <= k <= n:
        raise ValueError(f"a proportion needs 0 <= k <= n and n > 0, got k={k}, n={n}")
    p = k / n
    denominator = 1 + Z95**2 / n
    centre = (p + Z95**2 / (2 * n)) / denominator
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / denominator
    # At 0 and n the bound is exact, and rounding must not push it past.
    return Interval(p, 0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test (1947): are the changed samples split evenly between gained and lost?

    The binomial tail is summed in log space, so that large counts neither overflow nor vanish. 1.0 where none changed.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts cannot be negative, got gained={gained}, lost={lost}")
    n, k = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    steps = np.arange(1, k + 1, dtype=np.float64)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((n - steps + 1) / steps))])
    log_tail = np.logaddexp.reduce(log_choose) - n * math.log(2)
    return min(1.0, 2 * math.exp(log_tail))


def paired_drop(base_correct: ArrayLike, correct: ArrayLike) -> Drop:
    """Accuracy lost from the first model to the second on the same samples, in per cent points; positive is worse.

    base_correct, correct : (n,) bool. The interval is the paired score interval with continuity-corrected correlation
    (Newcombe 1998, Statistics in Medicine 17:2635, method 10); p is `mcnemar`'s.
    """
    before, after = _booleans(base_correct), _booleans(correct)
    if before.shape != after.shape or before.size == 0:
        raise ValueError(f"a paired drop needs two equal, non-empty lists, got {before.shape} and {after.shape}")
    both, neither = int(np.sum(before & after)), int(np.sum(~before & ~after))
    lost, gained = int(np.sum(before & ~after)), int(np.sum(~before & after))
    value, low, high = newcombe(both, lost, gained, neither)
    return Drop(value=100 * value, low=100 * low, high=100 * high, gained=gained, lost=lost, p=mcnemar(gained, lost))


def newcombe(both: int, lost: int, gained: int, neither: int) -> Interval:
    """The difference of two paired proportions (first minus second, -1 to 1), by Newcombe 1998's method 10."""
    n = both + lost + gained + neither
    p1, low1, high1 = wilson(both + lost, n)
    p2, low2, high2 = wilson(both + gained, n)
    phi = _correlation(both, lost, gained, neither)
    down, up = _joined(p1 - low1, high2 - p2, phi), _joined(high1 - p1, p2 - low2, phi)
    return Interval(p1 - p2, p1 - p2 - down, p1 - p2 + up)


def _joined(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def _correlation(both: int, lost: int, gained: int, neither: int) -> float:
    """Newcombe's phi: the correlation of the two models' answers, pulled towards zero when positive."""
    n = both + lost + gained + neither
    scale = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if scale == 0:
        return 0.0
    cross = both * neither - lost * gained
    return (max(cross - n / 2, 0.0) if cross > 0 else cross) / math.sqrt(scale)


def mean_interval(values: ArrayLike, *, seed: int = 0) -> Interval:
    """The mean of per-sample values (n,), with a bootstrap interval over samples (Efron 1979); no width for n = 1."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    if flat.size == 0 or not np.all(np.isfinite(flat)):
        raise ValueError("a mean needs at least one value, and finite ones")
    rng = np.random.default_rng(seed)
    groups = np.array_split(rng.permutation(flat), min(flat.size, _GROUPS))
    sums, sizes = np.array([g.sum() for g in groups]), np.array([g.size for g in groups])
    means: list[Floats] = []
    for rows in _chunks(len(groups)):
        drawn = rng.integers(0, len(groups), size=(rows, len(groups)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(flat.mean()), float(low), float(high))


def _rounds(samples: ArrayLike) -> Floats:
    table = np.asarray(samples, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1:
        raise ValueError(f"an interval needs samples of shape (rounds, n) with at least 2 rounds, got {table.shape}")
    if not np.all(np.isfinite(table)):
        raise ValueError("samples must be finite")
    return table


def _round_counts(rounds: int, *, cells: int, seed: int) -> list[NDArray[np.int64]]:
    """How often each round is drawn in each replicate: REPLICATES rows of `rounds` counts, in chunks."""
    rng = np.random.default_rng(seed)
    even = np.full(rounds, 1 / rounds)
    return [rng.multinomial(rounds, even, size=rows) for rows in _chunks(cells)]


def _chunks(cells: int) -> list[int]:
    """REPLICATES cut into pieces whose tables of `cells` columns stay within the memory bound."""
    rows = max(1, min(REPLICATES, _CELLS // max(1, cells)))
    return [min(rows, REPLICATES - start) for start in range(0, REPLICATES, rows)]


def _booleans(values: ArrayLike) -> NDArray[np.bool_]:
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or array.dtype != np.bool_:
        raise ValueError(f"expected a list of true and false, got shape {array.shape} of {array.dtype}")
    return array
