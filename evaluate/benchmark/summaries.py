"""From raw samples to what is said about them: latency, speed-up, noise floor and drift, under their stable names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.core import stats
from evaluate.core.stats import Interval

Floats = NDArray[np.float64]
TAILS = {"p90": 90.0, "p95": 95.0, "p99": 99.0}


class Latency(TypedDict):
    """One call, in milliseconds: median with its 95 % interval, median absolute deviation, tails.

    A percentile is None where `n` samples do not carry it; `needs` then says how many more do. Where a sample is the
    mean of several calls (`loops` above 1), tails of single calls are not known, and `needs` is empty.
    """

    median_ms: float
    low: float
    high: float
    mad_ms: float
    p90: float | None
    p95: float | None
    p99: float | None
    needs: dict[str, int]
    provider: str
    io: str
    threads: int
    batch: int
    n: int
    loops: int
    sittings: int


class Speedup(TypedDict):
    """Baseline latency over this model's; `verdict` is faster, slower or not resolved."""

    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Judged:
    """One condition: the baseline against itself, the smallest difference that can be claimed, and each speed-up."""

    control: Interval
    floor: float
    speedups: dict[str, Speedup]


def summarise(
    samples: ArrayLike, *, provider: str, threads: int, batch: int, io: str = "device", loops: int = 1
) -> Latency:
    """The `latency` entry of a Record from samples (session runs, rounds, n) in seconds."""
    table = np.asarray(samples, dtype=np.float64)
    median, low, high = (1e3 * x for x in stats.median_interval(table))
    tails = {name: stats.percentile(table, q) if loops == 1 else None for name, q in TAILS.items()}
    missing = {name: stats.needed(q) - table.size for name, q in TAILS.items() if tails[name] is None and loops == 1}
    return Latency(
        median_ms=median,
        low=low,
        high=high,
        mad_ms=1e3 * stats.median_deviation(table),
        p90=_milli(tails["p90"]),
        p95=_milli(tails["p95"]),
        p99=_milli(tails["p99"]),
        needs=missing,
        provider=provider,
        io=io,
        threads=threads,
        batch=batch,
        n=int(table.size),
        loops=loops,
        sittings=len(table),
    )


def judge(conditions: Sequence[Mapping[str, Floats]], baseline: str, control: str, *, seed: int = 0) -> list[Judged]:
    """All speed-ups over the baseline, with intervals that hold jointly over models and conditions.

    conditions : candidate -> (session runs, rounds, n) seconds; each holds the candidates `baseline` and `control`, the
    baseline again. What the two candidates of the baseline differ by is the noise floor. Only the first takes part in
    speed-ups: the mean of both would be less noisy, and bias a trimmed mean, because its noise and a single candidate's
    are not alike.
    """
    columns = [
        (index, name, stats.session_run_ratios(candidates[baseline], samples))
        for index, candidates in enumerate(conditions)
        for name, samples in candidates.items()
        if name not in (baseline, control)
    ]
    joint = stats.joint_intervals(np.stack([logs for _, _, logs in columns], axis=1), seed=seed) if columns else []
    judged = []
    for index, candidates in enumerate(conditions):
        (self_ratio,) = stats.joint_intervals(
            stats.session_run_ratios(candidates[baseline], candidates[control])[:, None], seed=seed
        )
        floor = stats.noise_floor(self_ratio)
        mine = {name: ratio for (at, name, _), ratio in zip(columns, joint) if at == index}
        judged.append(Judged(self_ratio, floor, {name: _speedup(ratio, floor) for name, ratio in mine.items()}))
    return judged


def drift(samples: ArrayLike) -> dict[str, Any] | None:
    """The `drift` entry of a Record, in milliseconds; None below 6 session runs."""
    table = np.asarray(samples, dtype=np.float64)
    if len(table) < 6:
        return None
    found = stats.drift(table)
    return {
        "first_ms": 1e3 * found.first,
        "last_ms": 1e3 * found.last,
        "ratio": found.ratio.value,
        "low": found.ratio.low,
        "high": found.ratio.high,
        "drifts": found.drifts,
    }


def _speedup(ratio: Interval, floor: float) -> Speedup:
    return Speedup(value=ratio.value, low=ratio.low, high=ratio.high, verdict=stats.verdict(ratio, floor))


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
