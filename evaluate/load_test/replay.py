"""Which rate a server would have borne, from the times that queries kept it busy at another rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evaluate.load_test.arrivals import SHORTEST, Served, latencies_of

Floats = NDArray[np.float64]

SEQUENCES = 4  # of arrivals, in a replay
LENGTH = 20_000  # queries of each
SETTLED = 0.2  # share of each until the queue, which starts empty, is in its steady state
STEPS = 12
PASSES = 2
FEW, SHIFT = 100, 0.01  # queries of a kind, and difference of their medians, from which on a replay tells kinds apart
SPAN = 1000.0  # lowest rate of a replay: the rate of calls back to back over this


def highest_rate_of(served: Served, bound: float, percentile: float, seed: int | tuple[int, ...]) -> float:
    """The rate at which this server would have kept a percentile of its latency at `bound` seconds, by replay.

    The times that queries kept it busy are replayed in their order, from seeded places, over and over, under SEQUENCES
    long sequences of Poisson arrivals of LENGTH queries each. After a pause calls are slower (cold caches): by how much
    the median of those that found the server idle differs from the others' is added or taken away where it applies.

    The same gaps are scaled to every rate (common random numbers), so that latencies rise with the rate, and a
    bisection of the rate's logarithm finds the crossing. It averages out the luck of one sequence of arrivals, which is
    most of what a measured 99th percentile near saturation varies by.
    Gives 0.0 where even single queries are too slow, and at most the rate of calls back to back.
    """
    rng = np.random.default_rng(seed)
    size, allowed = served.finished.size, 1 - percentile / 100
    fresh, waited = _by_state(served)
    places = (np.arange(LENGTH) + rng.integers(0, size, (SEQUENCES, 1))) % size
    sequences = [_Replay(np.cumsum(rng.exponential(size=LENGTH)), fresh[place], waited[place]) for place in places]

    def kept(rate: float) -> bool:
        return sum(replay.late(rate, bound) for replay in sequences) <= allowed * SEQUENCES

    high = 1 / max(float(np.mean(waited)), SHORTEST)
    low = high / SPAN
    if not kept(low):
        return 0.0
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if kept(middle) else (low, middle)
    return math.sqrt(low * high)


def _by_state(served: Served) -> tuple[Floats, Floats]:
    """(n,) busy times had each query found the server idle, and had each waited: moved by the difference of medians."""
    busy, fresh = served.busy, served.fresh
    if min(int(np.sum(fresh)), int(np.sum(~fresh))) < FEW:
        return busy, busy
    shift = float(np.median(busy[fresh]) - np.median(busy[~fresh]))
    if abs(shift) < SHIFT * float(np.median(busy)):
        return busy, busy
    return np.where(fresh, busy, np.maximum(busy + shift, 0.0)), np.where(fresh, np.maximum(busy - shift, 0.0), busy)


class _Replay:
    """One long sequence of arrivals at rate 1, and the time each query takes if it is fresh, and if it waited."""

    def __init__(self, times: Floats, fresh: Floats, waited: Floats) -> None:
        self.times, self.fresh, self.waited = times, fresh, waited
        self.work, self.passes = waited, 1 if np.array_equal(fresh, waited) else PASSES

    def late(self, rate: float, bound: float) -> float:
        """Share of the queries over the bound, once the queue is in its steady state.

        Who waits depends on how long calls take, and the reverse: settled by repetition, from the rate asked before.
        """
        times = self.times / rate
        for _ in range(self.passes):
            latency = latencies_of(times, self.work)
            self.work = np.where(latency <= self.work, self.fresh, self.waited)
        return float(np.mean(latency[int(SETTLED * LENGTH) :] > bound))
