"""The scenarios of MLPerf Inference, without LoadGen (docs/decisions/0007): single-stream, offline and server.

(Reddi et al. 2020, MLPerf Inference Benchmark, doi 10.1109/ISCA45697.2020.00045.) Single-stream: one query after the
other; the figure is a percentile of the latency. Offline: all samples are there, in batches; the figure is samples a
second at the best batch. Server: queries arrive at random; the figure is the highest rate that keeps a percentile of
the latency within a bound. A query is one call; clock and sleep are injected; all results are dicts that JSON can hold.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core import stats
from evaluate.core.errors import UsageError, quoted
from evaluate.core.units import SECONDS, parse_number, split_amount
from evaluate.load_test import arrivals
from evaluate.load_test.arrivals import POLL_SECONDS, Call, Timekeeper, collector_off
from evaluate.load_test.throughput import WARM_UP_SHARE, positive

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
