"""The scenarios of MLPerf Inference, without LoadGen (docs/decisions/0007): single-stream, offline and server.

(Reddi et al. 2020, MLPerf Inference Benchmark, doi 10.1109/ISCA45697.2020.00045.) Single-stream: one query after the
other; the figure is a percentile of the latency. Offline: all samples are there, in batches; the figure is samples a
second at the best batch. Server: queries arrive at random; the figure is the highest rate that keeps a percentile of
the latency within a bound. A query is one call; clock and sleep are injected; all results are dicts that JSON can hold.

Samples a second at several batches: the offline scenario of MLPerf Inference, in interleaved rounds.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core import stats
from evaluate.core.errors import UsageError, quoted
from evaluate.core.units import SECONDS, parse_number, split_amount
from evaluate.load_test import arrivals
from evaluate.load_test.arrivals import POLL_SECONDS, Call, Timekeeper, collector_off

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


Clock = Callable[[], float]
Floats = NDArray[np.float64]

BLOCKS = 20  # of neighbouring queries, for the interval of their median
MAX_QUERIES = 2_000_000  # of a single stream: 16 MB of samples
MAX_SERVED = 2_000_000  # of a server: some 150 MB while it runs


def parse_bound(text: str) -> float:
    """Seconds of a latency bound such as `50ms`, `800us` or `0.2 s`. Raises UsageError for anything else."""
    seconds = parse_number(text, SECONDS)
    if seconds is None:
        unit = " without a unit" if (split_amount(text) or ("", "?"))[1] == "" else ""
        raise UsageError(f"a latency bound is a number with us, ms or s, as 50ms; got {quoted(text)}{unit}")
    if not seconds > 0:
        raise UsageError(f"a latency bound must be above 0 and finite, got {quoted(text, 40)}")
    return seconds


def single_stream(
    call: Call, *, seconds: float = 20.0, seed: int = 0, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Queries one after the other for `seconds`, warm-up included; at least two.

    Gives scenario, queries, qps (queries a second), median_ms with its 95 % interval low and high (blocks of
    neighbouring queries are resampled), p90_ms (MLPerf's figure) and p99_ms, None where the queries do not carry them,
    needs {"p99": queries missing}, seconds. Raises UsageError for a budget that is none.
    """
    positive(seconds=seconds)
    begun = clock()
    arrivals.warm_up(call, Timekeeper(clock), WARM_UP_SHARE * seconds)
    taken, deadline = array("d"), begun + seconds
    with collector_off():
        first = now = clock()
        while len(taken) < 2 or (now < deadline and len(taken) < MAX_QUERIES):
            start = clock()
            call()
            now = clock()
            taken.append(now - start)
    return {
        "scenario": "single-stream",
        "queries": len(taken),
        "qps": len(taken) / max(now - first, arrivals.SHORTEST),
        **_latency(np.array(taken), seed),
        "seconds": clock() - begun,
    }


def _latency(latencies: Floats, seed: int) -> dict[str, Any]:
    """Median with interval, and the percentiles these queries carry, in milliseconds."""
    blocks = min(BLOCKS, latencies.size)
    table = latencies[: latencies.size // blocks * blocks].reshape(blocks, -1)
    interval = stats.median_interval(table, seed=seed)
    tails = {f"p{q}": stats.percentile(latencies, q) for q in (90, 99)}
    return {
        "median_ms": 1e3 * interval.value,
        "low": 1e3 * interval.low,
        "high": 1e3 * interval.high,
        **{f"{name}_ms": None if tail is None else 1e3 * tail for name, tail in tails.items()},
        "needs": {f"p{q}": stats.needed(q) - latencies.size for q in (90, 99) if tails[f"p{q}"] is None},
    }


def server(
    call: Call,
    *,
    rate: float,
    seconds: float | None = None,
    queries: int | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    poll: float = POLL_SECONDS,
) -> dict[str, Any]:
    """Poisson arrivals at `rate` queries a second, answered by one server in order of arrival (`arrivals.serve`).

    seconds : length of the schedule, that is rate x seconds queries; or `queries`, their number. One of the two.
    poll    : seconds before an arrival from which the clock is polled instead of slept.

    `call` is not warmed up here. Gives scenario, rate, seed, queries, issued, completed, lost, counted_twice, qps
    (completed, over the time to the last answer), p50_ms, p90_ms, p99_ms (None where the queries do not carry them),
    max_ms (latencies from the SCHEDULED arrival), utilisation (share of that time the server was busy), seconds.
    Raises UsageError for a wrong argument.
    """
    number = _number(rate, seconds, queries)
    schedule = arrivals.poisson_arrivals(rate, number, (seed, 0))
    begun = clock()
    served = arrivals.serve(call, schedule, Timekeeper(clock, sleep, poll))
    length = float(served.finished[-1]) - begun
    tails = {q: stats.percentile(served.latencies, q) for q in (90, 99)}
    return {
        "scenario": "server",
        "rate": rate,
        "seed": seed,
        "queries": number,
        "issued": served.arrivals.size,
        "completed": served.finished.size,
        "lost": max(0, number - served.finished.size),
        "counted_twice": max(0, served.finished.size - number),
        "qps": served.finished.size / length,
        "p50_ms": 1e3 * float(np.median(served.latencies)),
        **{f"p{q}_ms": None if tail is None else 1e3 * tail for q, tail in tails.items()},
        "max_ms": 1e3 * float(np.max(served.latencies)),
        "utilisation": float(np.sum(served.busy)) / length,
        "seconds": length,
    }


def _number(rate: float, seconds: float | None, queries: int | None) -> int:
    """How many queries a schedule has."""
    if seconds is not None and queries is None:
        wanted = rate * seconds
    elif queries is not None and seconds is None:
        wanted = queries
    else:
        both = "neither" if seconds is None else "both"
        raise UsageError(f"the server scenario takes either seconds or queries, got {both}")
    positive(rate=rate, queries=wanted)
    number = max(1, round(wanted))
    if number > MAX_SERVED:
        raise UsageError(f"the server scenario keeps at most {MAX_SERVED:,} queries in memory, got {number:,}")
    return number
