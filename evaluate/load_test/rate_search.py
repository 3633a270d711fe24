"""The highest rate of Poisson arrivals at which a percentile of the latency stays within a bound.

What makes such a search unstable is not the bisection. (1) Near saturation the 99th percentile of a few thousand
queries varies by a third between two sequences of arrivals, and a bisection that asks one run at each rate follows that
luck. (2) A queue that starts empty takes many calls to fill, so that short runs look too good. (3) Another process on
the machine is felt for seconds at a time.
Hence: every probe serves real arrivals, and gives the time each query kept the server busy under that load. These times
are replayed under many long sequences of arrivals (`highest_rate_of`), which takes out (1) and (2): each probe
says for itself which rate it would have borne. The result is the median over probes, which takes out most of (3). The
rate is then confirmed by measurement alone: by probes at 10 % below it and at 10 % above it, in turn. How calls are
disturbed depends on how densely they come, so only probes at rates near the result count for it.

Which rate a server would have borne, from the times that queries kept it busy at another rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core import stats
from evaluate.core.errors import UsageError
from evaluate.load_test import arrivals
from evaluate.load_test.arrivals import SHORTEST, Call, Served, Timekeeper, latencies_of
from evaluate.load_test.rate_result import Alone, Goal, Probe, found_rate, judged, out_of_reach, rate_result, too_short

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


Status = Callable[[str, float, float], None]

SEARCH = 3  # probes at the rate itself, to find it; those after them are pairs below and above
LEAST, MOST = 5, 25  # probes
SHARES, FIRST = 13, 0.25  # into as many probes the budget is cut, if long enough then; length of the first one
MAX_QUERIES = 200_000  # of one probe
SIDES = (0.9, 1.1)
ALONE_SHARE, ALONE_ROOM, ALONE_PARTS = 0.08, 0.2, 3  # of the budget, for calls back to back: wanted, at most, parts
MAX_ALONE, FEW = 20_000, 10  # calls of each part; where the first calls show that there is no rate to find


def highest_rate(
    call: Call,
    *,
    bound_ms: float,
    percentile: float = 99.0,
    seconds: float = 60.0,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    poll: float = arrivals.POLL_SECONDS,
    status: Status | None = None,
) -> dict[str, Any]:
    """Find the highest rate (queries a second) at which `percentile` of the latency stays within `bound_ms`.

    call    : answers one query and returns when the answer is complete; one instance, first in first out.
    seconds : budget for everything. At the rate found it has to carry 5 probes of as many queries as the percentile
              needs (662 for a 99th, MLPerf's early stopping); where it does not, `rate` is None and `why` says what
              it takes.

    Gives a dict that JSON can hold; times in milliseconds, rates in queries a second:
    scenario ("server"), bound_ms, percentile, seed, seconds (spent);
    rate (None with `why`), its 95 % interval low and high, utilisation (of the server at that rate);
    capacity (calls back to back), alone {queries, p50_ms, tail_ms};
    probes [{rate, queries, p50_ms, p99_ms, tail_ms, met, cut, highest}] in the order made: tail is `percentile`, cut
    that so many were late that the rest was not sent, highest the rate these queries would have borne;
    below and above {rate, probes, queries, tail_ms, met}: the probes some 10 % either side of the rate; confirmed: the
    bound is met below, and missed above or the server saturated; mlperf_valid: LoadGen's early stopping would
    accept the probes below;
    issued, completed, lost, counted_twice (queries of all probes), calls (all that were made), warnings.
    Raises UsageError for a bound, percentile or budget that is none; what `call` raises is passed on.
    """
    _check(bound_ms, percentile, seconds)
    goal = Goal(bound_ms / 1e3, percentile, seed, stats.needed(percentile))
    server = _Server(call, goal, seconds, Timekeeper(clock, sleep, poll), status or _silent)
    alone = server.alone()
    why, probes = server.refusal(alone), list[Probe]()
    if why is None:
        probes = server.probes(alone.highest or 0.5 / alone.busy)
        why = server.failure(alone, probes)
    return rate_result(goal, alone, probes, why, calls=server.calls, seconds=server.spent)


def _check(bound_ms: float, percentile: float, seconds: float) -> None:
    for what, value, low, high in (
        ("a latency bound in milliseconds", bound_ms, 0.0, math.inf),
        ("a percentile", percentile, 75.0, 100.0),
        ("seconds", seconds, 0.0, math.inf),
    ):
        if not low < value < high:
            limit = f"between {low:g} and {high:g}" if high < math.inf else f"above {low:g} and finite"
            raise UsageError(f"the server scenario needs {what} {limit}, got {value:g}")


class _Server:
    """The server under load, and the budget."""

    def __init__(self, call: Call, goal: Goal, seconds: float, timekeeper: Timekeeper, tell: Status) -> None:
        self.goal, self.seconds, self.timekeeper, self.tell = goal, seconds, timekeeper, tell
        self.begun, self.calls = timekeeper.clock(), 0

        def counted() -> None:
            self.calls += 1
            call()

        self.call = counted

    @property
    def spent(self) -> float:
        return self.timekeeper.clock() - self.begun

    def alone(self) -> Alone:
        """Single calls with nothing between them, in three parts: the capacity, and where to start.

        Each part carries the percentile where a fifth of the budget allows that.
        """
        self.tell("warming up", 0, self.seconds)
        one_call, _ = arrivals.warm_up(self.call, self.timekeeper, 0.05 * self.seconds)
        wanted = max(self.goal.needed, int(ALONE_SHARE * self.seconds / ALONE_PARTS / one_call))
        room = max(1, int(ALONE_ROOM * self.seconds / ALONE_PARTS / one_call))
        self.tell("timing single calls", self.spent, self.seconds)
        hopeless = one_call > self.goal.bound or LEAST * self.goal.needed * one_call > self.seconds
        queries = min(wanted, room, FEW if hopeless else MAX_ALONE)
        parts = [arrivals.back_to_back(self.call, queries, self.timekeeper) for _ in range(ALONE_PARTS)]
        taken = np.concatenate([part.busy for part in parts])
        highest = float(np.median([self._borne(part, index) for index, part in enumerate(parts)]))
        median, tail = np.percentile(taken, [50, self.goal.percentile])
        return Alone(taken.size, float(median), float(tail), max(float(np.mean(taken)), arrivals.SHORTEST), highest)

    def refusal(self, alone: Alone) -> str | None:
        """Why no search is begun: the bound is out of reach, or the budget too small; None where it can be."""
        carried = alone.queries >= self.goal.needed
        if alone.median > self.goal.bound or (carried and alone.highest == 0):
            return out_of_reach(alone, self.goal, [])
        rate = alone.highest if carried else 1 / alone.busy
        return None if self._least(rate) <= self.seconds - self.spent else self._too_short(rate)

    def failure(self, alone: Alone, probes: Sequence[Probe]) -> str | None:
        """Why the probes give no rate; None where they do."""
        rate = found_rate(probes, self.goal)
        if rate == 0:
            return out_of_reach(alone, self.goal, probes)
        return None if len(probes) >= LEAST else self._too_short(rate, self.spent)

    def _least(self, rate: float) -> float:
        return LEAST * self.goal.needed / rate

    def _too_short(self, rate: float, spent: float = 0.0) -> str:
        return too_short(self.goal, rate, self.seconds, LEAST, spent + self._least(rate) / (1 - ALONE_ROOM))

    def probes(self, start: float) -> list[Probe]:
        """Probes at the rate that those before them would have borne; from the fourth on pairs, below and above it."""
        done: list[Probe] = []
        rate, share = start, (self.seconds - self.spent) / SHARES
        while len(done) < MOST:
            factors = (1.0,) if len(done) < SEARCH else SIDES
            # The first one is short: single calls may have promised too much.
            queries = self._queries(rate, share if done else FIRST * share, len(factors))
            if not queries:
                break
            number = len(done)
            done += [self._probe(factor * rate, queries, number) for factor in factors]
            found = found_rate(done, self.goal)
            if found == 0 and len(done) >= SEARCH:
                break
            rate = found or rate / 2
        return done

    def _queries(self, rate: float, share: float, probes: int) -> int:
        """Queries of each of the next probes, so that those to come fill the budget; 0 where it is spent."""
        left, least = self.seconds - self.spent, self.goal.needed / rate
        length = max(share, least)
        # Probes that cannot be made shorter are begun only where they fit.
        times = int(left / (probes * length) + (0.4 if share > least else 0.05))
        seconds = left / (probes * times) if times and probes > 1 else length
        return int(min(max(self.goal.needed, seconds * rate), MAX_QUERIES)) if times else 0

    def _probe(self, rate: float, queries: int, number: int) -> Probe:
        """Serve real arrivals; the two probes of a pair have one number, hence the same arrivals, scaled."""
        self.tell(f"serving {rate:.4g} queries a second", self.spent, self.seconds)
        schedule = arrivals.poisson_arrivals(rate, queries, (self.goal.seed, 0, number))
        served = arrivals.serve(self.call, schedule, self.timekeeper, bound=self.goal.bound)
        return judged(rate, served, self.goal, self._borne(served, number, round(100 * rate)))

    def _borne(self, served: Served, *place: int) -> float:
        return highest_rate_of(served, self.goal.bound, self.goal.percentile, (self.goal.seed, 1, *place))


def _silent(message: str, done: float, total: float) -> None:
    """The status callback of whoever gave none."""
