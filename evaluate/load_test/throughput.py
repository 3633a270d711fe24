"""Samples a second at several batches: the offline scenario of MLPerf Inference, in interleaved rounds."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evaluate.core import stats
from evaluate.core.errors import UsageError
from evaluate.load_test import arrivals
from evaluate.load_test.arrivals import Call, Timekeeper, collector_off

Clock = Callable[[], float]

ROUNDS, MIN_ROUNDS = 40, 6
WARM_UP_SHARE = 0.05  # of the budget, at most


def offline(
    calls_by_batch: Mapping[int, Call],
    *,
    seconds: float = 20.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """Samples a second at each batch, from rounds that call every batch in shuffled order; and the best batch.

    calls_by_batch : batch -> a call that works through that many samples.
    seconds        : budget, warm-up included; 6 rounds are measured whatever they take.

    The best batch is the smallest one that is not resolved to be worse than the fastest: its ratio to it, paired by
    round, has an interval (joint over all batches) that reaches 1.
    Gives scenario, batch (the best), samples_per_s with its interval low and high, fastest (the batch with the highest
    figure), rounds, seconds, warnings, and batches: [{batch, samples_per_s, low, high, call_ms, of_best {value, low,
    high} or None for the fastest, samples (samples a second, one a round)}].
    Raises UsageError where there is no batch, one below 1, or no budget.
    """
    positive(seconds=seconds)
    if not calls_by_batch or min(calls_by_batch) < 1:
        raise UsageError(f"the offline scenario needs batches of at least 1, got {sorted(calls_by_batch)}")
    begun = clock()
    longest = WARM_UP_SHARE * seconds / len(calls_by_batch)
    one = {b: arrivals.warm_up(call, Timekeeper(clock), longest)[0] for b, call in sorted(calls_by_batch.items())}
    left = max(0.0, begun + seconds - clock())
    rounds = _rounds(calls_by_batch, one, left, clock, random.Random(seed))
    return {**_throughput(rounds, seed), "seconds": clock() - begun}


def _rounds(
    calls: Mapping[int, Call], one: Mapping[int, float], seconds: float, clock: Clock, rng: random.Random
) -> dict[int, list[float]]:
    """Batch -> samples a second, one figure a round; every batch has the same share of a round."""
    share = seconds / ROUNDS / len(calls)
    loops = {batch: max(1, int(share / one[batch])) for batch in one}
    found: dict[int, list[float]] = {batch: [] for batch in one}
    begun, done = clock(), 0
    with collector_off():
        while done < MIN_ROUNDS or clock() + (clock() - begun) / done / 2 <= begun + seconds:
            for batch in rng.sample(list(one), len(one)):
                taken = _block(calls[batch], loops[batch], clock)
                found[batch].append(batch * loops[batch] / max(taken, arrivals.SHORTEST))
            done += 1
    return found


def _block(call: Call, loops: int, clock: Clock) -> float:
    start = clock()
    for _ in range(loops):
        call()
    return clock() - start


def _throughput(rounds: Mapping[int, Sequence[float]], seed: int) -> dict[str, Any]:
    """The entry of the offline scenario from samples a second of each batch in each round."""
    intervals = {batch: stats.median_interval(taken, seed=seed) for batch, taken in rounds.items()}
    fastest = max(intervals, key=lambda batch: (intervals[batch].value, -batch))
    ratios = _ratios(rounds, fastest, seed)
    best = min(batch for batch in rounds if batch == fastest or ratios[batch].high >= 1)
    return {
        "scenario": "offline",
        "batch": best,
        "samples_per_s": intervals[best].value,
        "low": intervals[best].low,
        "high": intervals[best].high,
        "fastest": fastest,
        "rounds": len(rounds[best]),
        "warnings": _batch_warnings(sorted(rounds), best, fastest),
        "batches": [
            {
                "batch": batch,
                "samples_per_s": intervals[batch].value,
                "low": intervals[batch].low,
                "high": intervals[batch].high,
                "call_ms": 1e3 * batch / intervals[batch].value,
                "of_best": None if batch == fastest else ratios[batch]._asdict(),
                "samples": list(rounds[batch]),
            }
            for batch in sorted(rounds)
        ],
    }


def _ratios(rounds: Mapping[int, Sequence[float]], fastest: int, seed: int) -> dict[int, stats.Interval]:
    """Throughput of each other batch over that of the fastest, paired by round; the intervals hold jointly."""
    others = [batch for batch in rounds if batch != fastest]
    if not others:
        return {}
    logs = np.log(np.array([rounds[batch] for batch in others])) - np.log(np.array(rounds[fastest]))
    return dict(zip(others, stats.joint_intervals(logs.T, seed=seed)))


def _batch_warnings(batches: Sequence[int], best: int, fastest: int) -> list[str]:
    said = []
    if best != fastest:
        said.append(f"batch {fastest} is not resolved from the smaller batch {best}, which is taken")
    if best == batches[-1] and len(batches) > 1:
        said.append(f"the largest batch tried, {best}, is the best: a larger one may be better still; try {2 * best}")
    return said


def positive(**values: float) -> None:
    """Raises UsageError for an argument that is not above zero and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise UsageError(f"a scenario needs {name} above 0 and finite, got {value:g}")
