"""Latency by interleaved rounds: every model is timed in every round, in shuffled order, and raw samples are kept.

One after the other, a model timed against itself differs by up to 25 % on a shared machine; interleaved, by 2 %.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate import stats

__all__ = ["Latency", "Speedup", "measure_latency", "speedup", "summarise"]

Call = Callable[[], None]
Clock = Callable[[], float]
Status = Callable[[str, float, float], None]

MIN_ROUNDS = 5  # the interval of a median needs as many
MIN_SAMPLES = 64  # in all rounds together: carries a 90th percentile
MAX_BLOCK = 100  # samples of one model in one round
# One sample lasts at least this long, so that reading the clock (about 0.1 us) is lost in it.
SAMPLE_SECONDS = 1e-4
WARM_UP_WINDOW = 5
WARM_UP_CALLS = 50
WARM_UP_SECONDS = 2.0
WARM_UP_CHANGE = 0.05


class Latency(TypedDict):
    """Median of one call with its 95 % interval, in milliseconds; `p90` is None below 64 samples; n counts samples."""

    median_ms: float
    low: float
    high: float
    p90: float | None
    provider: str
    threads: int
    batch: int
    n: int


class Speedup(TypedDict):
    """Baseline latency over this model's, paired by round; verdict: faster, slower or not resolved."""

    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class _Plan:
    """How one model is timed in a round: `samples` samples, each the mean of `loops` calls."""

    samples: int
    loops: int
    seconds: float  # expected length of the block


def measure_latency(
    calls: Mapping[str, Call],
    *,
    rounds: int = 30,
    min_seconds_per_block: float = 0.005,
    seconds: float | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    status: Status | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Time some calls against each other; gives name -> (rounds, samples) floats: SECONDS of one call.

    calls                 : name -> a call without arguments (`Session.bind` makes them).
    rounds                : how often each is timed, at least 5; their order is shuffled in every round.
    min_seconds_per_block : a call is repeated in its turn until about this long has passed (and at least as often as a
                            90th percentile needs), after one untimed call that brings its weights back into the caches.
    seconds               : budget for everything, warm-up included. Blocks are made shorter, then rounds fewer, down to
                            5 rounds of 1 sample, which are measured whatever they take.
    A sample is a single call, or the mean of as many calls as make 0.1 ms. Raises ValueError for a wrong argument.
    """
    if not calls or rounds < MIN_ROUNDS:
        raise ValueError(
            f"latency needs something to call and at least {MIN_ROUNDS} rounds, got {len(calls)} and {rounds}"
        )
    start = clock()
    tell = status or _silent
    with _collector_off():
        plans = {}
        for name, call in calls.items():
            tell(f"warming up {name}", 0, rounds)
            longest = WARM_UP_SECONDS if seconds is None else min(WARM_UP_SECONDS, 0.2 * seconds / len(calls))
            plans[name] = _plan(_warm_up(call, clock, longest), rounds, min_seconds_per_block)
        if seconds is not None:
            plans = _fitted(plans, rounds, seconds - (clock() - start))
        taken = _rounds(calls, plans, rounds, seed, clock, None if seconds is None else start + seconds, tell)
    return {name: np.array([each[name] for each in taken], dtype=np.float64) for name in calls}


def summarise(samples: ArrayLike, *, provider: str, threads: int, batch: int) -> Latency:
    """The `latency` entry of a Record from samples (rounds, n) in seconds."""
    median, low, high = (1e3 * x for x in stats.median_interval(samples))
    p90 = stats.percentile(samples, 90)
    return Latency(
        median_ms=median,
        low=low,
        high=high,
        p90=None if p90 is None else 1e3 * p90,
        provider=provider,
        threads=threads,
        batch=batch,
        n=int(np.size(samples)),
    )


def speedup(base: ArrayLike, other: ArrayLike) -> Speedup:
    """The `speedup` entry of a Record from two sets of samples (rounds, n) of one `measure_latency`."""
    value, low, high = stats.ratio_interval(base, other)
    return Speedup(value=value, low=low, high=high, verdict=stats.verdict(low, high))


def _warm_up(call: Call, clock: Clock, longest: float) -> float:
    """Calls until the median of one window is within 5 % of the window before; gives the seconds of one call then."""
    start, taken, before = clock(), list[float](), math.inf
    while len(taken) < WARM_UP_CALLS:
        taken.append(_timed(call, 1, clock))
        if len(taken) % WARM_UP_WINDOW == 0:
            now = float(np.median(taken[-WARM_UP_WINDOW:]))
            if abs(now - before) <= WARM_UP_CHANGE * now:
                break
            before = now
        if len(taken) >= 2 and clock() - start >= longest:
            break
    return float(np.median(taken[-WARM_UP_WINDOW:]))


def _plan(one_call: float, rounds: int, min_seconds: float) -> _Plan:
    """Samples and loops for a block of at least `min_seconds`, from the time of one call."""
    one_call = max(one_call, 1e-7)
    loops = math.ceil(SAMPLE_SECONDS / one_call) if one_call < SAMPLE_SECONDS else 1
    wanted = max(math.ceil(min_seconds / (loops * one_call)), math.ceil(MIN_SAMPLES / rounds))
    return _block(min(wanted, MAX_BLOCK), loops, one_call)


def _block(samples: int, loops: int, one_call: float) -> _Plan:
    return _Plan(samples, loops, (samples * loops + 1) * one_call)


def _fitted(plans: Mapping[str, _Plan], rounds: int, seconds: float) -> dict[str, _Plan]:
    """The plans with their samples cut in proportion, where all rounds would not fit into `seconds`."""
    asked = rounds * sum(plan.seconds for plan in plans.values())
    if asked <= seconds:
        return dict(plans)
    share = max(0.0, seconds) / asked
    return {
        name: _block(max(1, int(plan.samples * share)), plan.loops, plan.seconds / (plan.samples * plan.loops + 1))
        for name, plan in plans.items()
    }


def _rounds(
    calls: Mapping[str, Call],
    plans: Mapping[str, _Plan],
    rounds: int,
    seed: int,
    clock: Clock,
    deadline: float | None,
    tell: Status,
) -> list[dict[str, list[float]]]:
    """All rounds, or those that end before the deadline; never fewer than MIN_ROUNDS."""
    shuffle, order = random.Random(seed).shuffle, list(calls)
    taken: list[dict[str, list[float]]] = []
    slowest = 0.0
    for done in range(rounds):
        begun = clock()
        if deadline is not None and done >= MIN_ROUNDS and begun + slowest > deadline:
            break
        shuffle(order)
        taken.append({name: _measure_block(calls[name], plans[name], clock) for name in order})
        slowest = max(slowest, clock() - begun)
        tell("timing", done + 1, rounds)
    return taken


def _measure_block(call: Call, plan: _Plan, clock: Clock) -> list[float]:
    call()
    return [_timed(call, plan.loops, clock) for _ in range(plan.samples)]


def _timed(call: Call, loops: int, clock: Clock) -> float:
    if loops == 1:
        start = clock()
        call()
        return clock() - start
    start = clock()
    for _ in range(loops):
        call()
    return (clock() - start) / loops


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection inside a timed block."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _silent(message: str, done: float, total: float) -> None:
    """The status callback of whoever gave none."""
