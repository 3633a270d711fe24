"""Queries that arrive at random, and one server that takes them in order.

A server with one instance and a queue in order of arrival is a sum: a query is finished `busy` seconds after the later
of its arrival and the end of the query before (Lindley 1952, doi 10.1017/S0305004100027638). Arrivals do not wait for
answers (an open loop), so their times are known beforehand, and who is in the queue at any moment follows from them.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], object]
Floats = NDArray[np.float64]

# A wait is slept up to this long before its end, then the clock is polled: a sleeping thread wakes late
# (on Windows by up to 16 ms), which would count as latency. Polled for longer, the core looks busy, and where another
# process wants it too the scheduler takes it away just when a query comes.
POLL_SECONDS = 0.02 if os.name == "nt" else 0.0002
# A schedule is closed once this share of its queries is late: no percentile from the 75th up can be met any more.
HOPELESS = 0.25
SHORTEST = 1e-9  # seconds of a call, where the clock saw none pass
WARM_UP_WINDOW = 5
WARM_UP_CALLS = 50
WARM_UP_CHANGE = 0.05


class Timekeeper(NamedTuple):
    """The clock and the sleep to use, both in seconds; `poll` is how long before its end a sleep is broken off."""

    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    poll: float = POLL_SECONDS


class Served(NamedTuple):
    """Queries that arrived, and when each was finished: (issued,) and (completed,) seconds on the schedule's clock."""

    arrivals: Floats
    finished: Floats
    cut: bool

    @property
    def latencies(self) -> Floats:
        """(completed,) seconds from the scheduled arrival to the end of the answer."""
        return np.asarray(self.finished - self.arrivals[: self.finished.size], dtype=np.float64)

    @property
    def busy(self) -> Floats:
        """(completed,) seconds each query kept the server from taking the next one, a late start included."""
        return np.asarray(self.finished - np.maximum(*self._both()), dtype=np.float64)

    @property
    def fresh(self) -> NDArray[np.bool_]:
        """(completed,) whether the server was idle when the query arrived."""
        arrived, free = self._both()
        return np.asarray(arrived >= free, dtype=np.bool_)

    def _both(self) -> tuple[Floats, Floats]:
        """(completed,) when each query arrived, and when the query before it was finished."""
        free = np.concatenate([[-math.inf], self.finished[:-1]])
        return self.arrivals[: self.finished.size], free


def poisson_arrivals(rate: float, queries: int, seed: int | tuple[int, ...]) -> Floats:
    """(queries,) seconds: arrivals at `rate` a second, the gaps exponential and independent; the same for one seed.

    One seed gives the same gaps at every rate, scaled. Raises ValueError unless rate and queries are above zero.
    """
    if not (0 < rate < math.inf and queries > 0):
        raise ValueError(f"arrivals need a rate and a number of queries above 0, got {rate} and {queries}")
    gaps = np.random.default_rng(seed).exponential(size=queries)
    return np.asarray(np.cumsum(gaps) / rate, dtype=np.float64)


def serve(call: Call, arrivals: Floats, timekeeper: Timekeeper, *, bound: float = math.inf) -> Served:
    """Answer queries that arrive at these times (seconds from now, rising), one after the other, each exactly once.

    One thread is issuer and server. That equals an open-loop issuer beside a server with one instance and a first-in
    first-out queue: the schedule is fixed before the first call, so a long call moves no arrival; a query whose arrival
    has passed meanwhile is in the queue, and is taken as soon as those before it are done; otherwise the server waits
    for the arrival. Latency counts from the SCHEDULED arrival, so waiting is part of it (no coordinated omission).
    A GPU or a thread pool that overlaps calls is not such a server: `call` has to return when the answer is complete.

    bound : seconds. Once a quarter of all queries took longer, the schedule is closed: those that have arrived are
            answered, the rest never arrives (`cut`).
    What `call` raises is passed on, and the run is void.
    """
    finished: list[float] = []
    late, allowed, closed = 0, HOPELESS * arrivals.size, math.inf
    clock, keep = timekeeper.clock, finished.append
    with collector_off():
        begun = done = clock()
        schedule: list[float] = (arrivals + begun).tolist()
        for due in schedule:
            if due > closed:
                break
            if done < due:
                _wait_until(due, timekeeper)
            call()
            done = clock()
            keep(done)
            if done - due > bound:
                late += 1
                if late > allowed and closed == math.inf:
                    closed = done
    issued = bisect.bisect_right(schedule, closed)
    return Served(np.array(schedule[:issued]), np.array(finished), closed < math.inf)


def _wait_until(due: float, timekeeper: Timekeeper) -> None:
    """Sleeps most of the wait, then reads the clock until it is over."""
    clock, poll = timekeeper.clock, timekeeper.poll
    now = clock()
    while now < due:
        if due - now > poll:
            timekeeper.sleep(due - now - poll)
        now = clock()


def back_to_back(call: Call, queries: int, timekeeper: Timekeeper) -> Served:
    """Answer queries that are all there from the start: `busy` is then the time of each call with nothing between."""
    return serve(call, np.zeros(queries), timekeeper)


def warm_up(call: Call, timekeeper: Timekeeper, longest: float) -> tuple[float, int]:
    """Call until the median of five calls is within 5 % of the five before; seconds of one call, and calls made."""
    begun, taken, before = timekeeper.clock(), list[float](), math.inf
    while len(taken) < WARM_UP_CALLS:
        start = timekeeper.clock()
        call()
        taken.append(timekeeper.clock() - start)
        if len(taken) % WARM_UP_WINDOW == 0:
            now = float(np.median(taken[-WARM_UP_WINDOW:]))
            if abs(now - before) <= WARM_UP_CHANGE * now:
                break
            before = now
        if timekeeper.clock() - begun >= longest:
            break
    return max(float(np.median(taken[-WARM_UP_WINDOW:])), SHORTEST), len(taken)


def latencies_of(arrivals: Floats, busy: Floats) -> Floats:
    """Latencies, in seconds, of queries with these arrivals that keep the server busy so long; shapes (..., n)."""
    done = np.cumsum(busy, axis=-1)
    ahead = arrivals - (done - busy)
    return np.asarray(busy + np.maximum.accumulate(ahead, axis=-1) - ahead, dtype=np.float64)


def early_stopping(late: int, queries: int, percentile: float) -> bool:
    """Whether MLPerf Inference would accept a run of `queries`, `late` of them over the bound (its early stopping).

    Accepted when, were the percentile just at the bound, so few late ones would come with a probability of 1 % at most
    (binomial: queries are taken as independent, as LoadGen takes them; near saturation they are not).
    """
    if queries <= 0 or late >= queries:
        return False
    steps = np.arange(1, late + 1, dtype=np.float64)
    choose = np.concatenate([[0.0], np.cumsum(np.log((queries - steps + 1) / steps))])
    over = 1 - percentile / 100
    counts = np.arange(late + 1)
    logs = choose + counts * math.log(over) + (queries - counts) * math.log1p(-over)
    return bool(np.logaddexp.reduce(logs) <= math.log(0.01))


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection while queries are served."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
