"""Intervals and paired tests: medians and ratios of latency, proportions, and the paired drop of two models.

All intervals are at the 95 % level. Everything random is seeded, so that the same samples give the same interval.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

REPLICATES = 2000
Z95 = 1.959963984540054
MIN_BLOCKS = 8
FARTHEST = 1000.0
# Of more samples than this the bootstrap of a median looks at evenly spaced ones.
GRID = 512
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
    """How much worse the second model is than the first, on the same samples; `p` is two-sided.

    gained and lost are None of a metric by which no sample is better or worse by itself.
    """

    value: float
    low: float
    high: float
    gained: int | None
    lost: int | None
    p: float


def median_interval(samples: ArrayLike, *, seed: int = 0) -> Interval:
    """Median of all samples, with a bootstrap interval that resamples whole session runs.

    (The block bootstrap: Davison and Hinkley 1997, Bootstrap Methods and their Application, chapter 8; widened for few
    blocks as Student's t is against the normal: Hesterberg 2015, doi 10.1080/00031305.2015.1089789.)
    samples : (session runs, rounds, n), (session runs, n) or (session runs,) floats, any unit. Samples inside a session
    run are correlated, session runs much less. Raises ValueError for fewer than two session runs and for values that
    are not finite.
    """
    table = _rounds(samples)
    rounds, n = table.shape
    order = np.argsort(table, axis=None, kind="stable")
    ordered, owner = table.ravel()[order], order // n
    half = rounds * n / 2
    # How many of each session run's samples lie at or below each of the ordered values (or of GRID of them).
    grid = np.unique(np.linspace(0, ordered.size - 1, min(ordered.size, GRID)).astype(int))
    below = np.stack([np.cumsum(owner == session_run)[grid] for session_run in range(rounds)]).astype(np.float64)
    medians: list[Floats] = []
    for counts in _draws(rounds, cells=len(grid), seed=seed):
        passed = counts @ below
        lower, upper = np.argmax(passed >= half, axis=1), np.argmax(passed > half, axis=1)
        medians.append((ordered[grid[lower]] + ordered[grid[upper]]) / 2)
    low, high = np.quantile(np.concatenate(medians), [0.025, 0.975])
    value = float(np.median(table))
    wider = student_t(rounds - 1) / Z95 * math.sqrt(rounds / (rounds - 1))
    return Interval(
        value,
        max(float(ordered[0]), value - wider * (value - float(low))),
        min(float(ordered[-1]), value + wider * (float(high) - value)),
    )


def session_run_ratios(base: ArrayLike, other: ArrayLike) -> Floats:
    """(session runs,) natural logs of how many times faster `other` is than `base`: one value a session run.

    base, other : (session runs, rounds, n) seconds from the same session runs and rounds; n may differ.
    In a session run it is the median over rounds of log(base median / other median): pairing by round takes out what
    slows both candidates down for a while. Raises ValueError where session runs and rounds do not pair, or a time is
    not above zero.
    """
    ours, theirs = _round_logs(base), _round_logs(other)
    if ours.shape != theirs.shape:
        raise ValueError(
            f"a ratio pairs session runs and rounds: the baseline has {ours.shape}, the other {theirs.shape}"
        )
    return np.asarray(np.median(ours - theirs, axis=1), dtype=np.float64)


def joint_intervals(logs: ArrayLike, *, seed: int = 0) -> list[Interval]:
    """Ratios with intervals that ALL hold at once at the 95 % level; the values of `sitting_ratios` are the columns.

    logs : (session runs, k) natural logs. The value of a column is exp of its mean without the fifth at either end: a
    machine that stalls for one candidate in one session run must not decide (trimming starts at 8 session runs).
    A studentised block bootstrap over session runs of the trimmed mean (Yuen 1974, doi 10.1093/biomet/61.1.165; Wilcox
    2012, Introduction to robust estimation, chapter 4), of the largest deviation over the columns (max-t: Romano and
    Wolf 2005, doi 10.1198/016214504000000539); never narrower than Student's interval. Neighbouring session runs are
    joined into longer blocks while they are correlated. No bound is told further from the value than a factor of 1000.
    Raises ValueError for fewer than 2 session runs.
    """
    table = _blocks(_log_table(logs))
    count, columns = table.shape
    cut = count // 5 if count >= MIN_BLOCKS else 0
    centre, error = _trimmed(table, cut)
    rng = np.random.default_rng(seed)
    largest = []
    for rows in _chunks(3 * count * columns):
        means, errors = _trimmed((table - centre)[rng.integers(0, count, (rows, count))], cut)
        # A replicate that drew one block only has no spread: it counts as far away, unless nothing varies at all.
        far = np.broadcast_to(np.where(error > 0, math.inf, 0.0), means.shape).copy()
        largest.append(np.max(np.divide(np.abs(means), errors, out=far, where=errors > 1e-9 * error), axis=1))
    wide = max(float(np.quantile(np.concatenate(largest), 0.95, method="higher")), student_t(count - 2 * cut - 1))
    # `wide` is infinite for few blocks, and a column that does not vary has no width even then.
    half = np.minimum(np.multiply(wide, error, out=np.zeros_like(error), where=error > 0), math.log(FARTHEST))
    return [Interval(math.exp(c), math.exp(c - h), math.exp(c + h)) for c, h in zip(centre, half)]


def _trimmed(table: Floats, cut: int) -> tuple[Floats, Floats]:
    """Means of (..., blocks, k) over blocks without the `cut` at either end, and Yuen's standard errors: (..., k)."""
    count = table.shape[-2]
    ordered = np.sort(table, axis=-2)
    mean = ordered[..., cut : count - cut, :].mean(axis=-2)
    ordered[..., :cut, :] = ordered[..., cut : cut + 1, :]
    ordered[..., count - cut :, :] = ordered[..., count - cut - 1 : count - cut, :]
    return mean, ordered.std(axis=-2, ddof=1) / ((1 - 2 * cut / count) * math.sqrt(count))


def student_t(df: int) -> float:
    """The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5); df >= 1.

    Below 3 degrees of freedom the expansion fails and the table is used; above, the error is below 0.3 %.
    """
    if df < 1:
        raise ValueError("an interval needs at least two blocks")
    if df <= 3:
        return (12.7062047, 4.3026527, 3.1824463)[df - 1]
    z = Z95
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(df) ** power for power, term in enumerate(terms, start=1))


def noise_floor(control: Interval) -> float:
    """The smallest relative difference a run can claim (0.02 means 2 %), from its baseline timed against itself.

    control : that ratio with its interval. The floor is how far the interval reaches from 1.
    """
    return float(math.expm1(max(abs(math.log(control.low)), abs(math.log(control.high)))))


def verdict(ratio: Interval, floor: float = 0.0) -> str:
    """`faster`, `slower` or `not resolved`: a difference is claimed where the interval leaves 1 out and the ratio lies
    further from 1 than the baseline does from itself (`noise_floor`)."""
    if ratio.low <= 1 <= ratio.high or abs(math.log(ratio.value)) <= math.log1p(floor):
        return "not resolved"
    return "faster" if ratio.value > 1 else "slower"


class Drift(NamedTuple):
    """Median of the first and the last third of the session runs, their ratio (last over first) with its interval."""

    first: float
    last: float
    ratio: Interval
    drifts: bool


def drift(samples: ArrayLike) -> Drift:
    """Whether the last third of a run differs from its first third; samples (session runs, rounds, n), any unit.

    Welch's interval (1947) of the difference of the logs of the session runs' medians. A change below 1 % is not called
    a drift: it moves no decision. Raises ValueError for fewer than 6 session runs.
    """
    medians = np.log(np.median(_rounds(samples), axis=1))
    third = len(medians) // 3
    if third < 2:
        raise ValueError(f"drift needs at least 6 session runs, got {len(medians)}")
    first, last = medians[:third], medians[-third:]
    errors = [part.var(ddof=1) / third for part in (first, last)]
    total = sum(errors)
    df = total**2 / sum(e**2 / (third - 1) for e in errors) if total > 0 else 2 * third - 2
    change, half = float(last.mean() - first.mean()), student_t(max(1, int(df))) * math.sqrt(total)
    ratio = Interval(math.exp(change), math.exp(change - half), math.exp(change + half))
    drifts = abs(change) > math.log(1.01) and not ratio.low <= 1 <= ratio.high
    return Drift(math.exp(first.mean()), math.exp(last.mean()), ratio, drifts)


def needed(q: float) -> int:
    """How many samples a q-th percentile needs (0 < q < 100): 64 for a 90th, 130 for a 95th, 662 for a 99th."""
    low, high = 1, 2
    while not _carries(high, q):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _carries(middle, q) else (middle, high)
    return high


def percentile(samples: ArrayLike, q: float = 90.0) -> float | None:
    """The q-th percentile (0 < q < 100) of all samples; None where they are too few for it: below 64 for the 90th.

    Enough is when, at 99 % confidence, two samples or more lie beyond the true percentile: the rule behind the minimum
    counts of MLPerf Inference's early stopping (64 for a 90th, 662 for a 99th).
    """
    flat = np.asarray(samples, dtype=np.float64).ravel()
    return float(np.percentile(flat, q)) if _carries(flat.size, q) else None


def _carries(n: int, q: float) -> bool:
    below = q / 100
    return n > 1 and below**n + n * (1 - below) * below ** (n - 1) <= 0.01


def median_deviation(samples: ArrayLike) -> float:
    """Median absolute deviation from the median, in the samples' unit (not scaled to a standard deviation)."""
    flat = np.asarray(samples, dtype=np.float64).ravel()
    return float(np.median(np.abs(flat - np.median(flat))))


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
    """(session runs, all samples of each) of samples with one to three dimensions."""
    table = np.asarray(samples, dtype=np.float64)
    if table.ndim in (1, 3) and table.size:
        table = table.reshape(len(table), -1)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1:
        raise ValueError(f"an interval needs samples of at least 2 session runs, got the shape {np.shape(samples)}")
    if not np.all(np.isfinite(table)):
        raise ValueError("samples must be finite")
    return table


def _round_logs(samples: ArrayLike) -> Floats:
    """(session runs, rounds) logs of the median of each block."""
    table = np.asarray(samples, dtype=np.float64)
    if table.ndim != 3 or table.size == 0:
        raise ValueError(f"a ratio needs samples of shape (session runs, rounds, n), got {table.shape}")
    medians = np.median(table, axis=2)
    if not (np.all(np.isfinite(medians)) and np.all(medians > 0)):
        raise ValueError("latency samples must be finite and above zero")
    return np.asarray(np.log(medians), dtype=np.float64)


def _log_table(logs: ArrayLike) -> Floats:
    table = np.asarray(logs, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1 or not np.all(np.isfinite(table)):
        raise ValueError(f"intervals need finite logs of shape (at least 2 session runs, k), got {table.shape}")
    return table


def _blocks(table: Floats) -> Floats:
    """Means of neighbouring rows, twice as many at a time, until they are uncorrelated or only MIN_BLOCKS are left.

    (Batch means: Law and Carson 1979, doi 10.1287/opre.27.5.1011.)
    """
    while len(table) >= 2 * MIN_BLOCKS and _lag_one(table) > 1.645 / math.sqrt(len(table)):
        even = len(table) - len(table) % 2
        table = table[:even].reshape(-1, 2, table.shape[1]).mean(axis=1)
    return table


def _lag_one(table: Floats) -> float:
    """Correlation of each row with the next, averaged over columns that vary."""
    centred = table - table.mean(axis=0)
    power = np.sum(centred**2, axis=0)
    shifted = np.sum(centred[1:] * centred[:-1], axis=0)
    return float(np.mean(shifted[power > 0] / power[power > 0])) if np.any(power > 0) else 0.0


def _draws(blocks: int, *, cells: int, seed: int) -> list[NDArray[np.int64]]:
    """How often each block is drawn in each replicate: REPLICATES rows of `blocks` counts, in chunks."""
    rng = np.random.default_rng(seed)
    even = np.full(blocks, 1 / blocks)
    return [rng.multinomial(blocks, even, size=rows) for rows in _chunks(cells)]


def _chunks(cells: int) -> list[int]:
    """REPLICATES cut into pieces whose tables of `cells` columns stay within the memory bound."""
    rows = max(1, min(REPLICATES, _CELLS // max(1, cells)))
    return [min(rows, REPLICATES - start) for start in range(0, REPLICATES, rows)]


def _booleans(values: ArrayLike) -> NDArray[np.bool_]:
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or array.dtype != np.bool_:
        raise ValueError(f"expected a list of true and false, got shape {array.shape} of {array.dtype}")
    return array
