"""A clock of our own and servers on it, and queues whose highest rates are known from theory."""

from __future__ import annotations

import math

import numpy as np

from evaluate.load_test.arrivals import Timekeeper
from evaluate.load_test.rate_search import highest_rate

MS = 1e-3


class Machine:
    """A clock that only calls and sleeps move; `service` gives the seconds of a call from (its number, the time)."""

    def __init__(self, service, late=0.0, tick=0.0):
        self.now, self.calls, self.late, self.tick = 0.0, 0, late, tick
        self.service, self.starts, self.ends, self.slept = service, [], [], False

    def clock(self):
        self.now += self.tick
        return self.now

    def sleep(self, seconds):
        self.slept = True
        self.now += seconds + self.late

    def call(self):
        self.starts.append(self.now)
        self.now += self.service(self.calls, self.now) if callable(self.service) else self.service
        self.ends.append(self.now)
        self.calls += 1

    @property
    def timekeeper(self):
        return Timekeeper(self.clock, self.sleep, 0.0)

    @property
    def injected(self):
        return {"clock": self.clock, "sleep": self.sleep, "poll": 0.0}


def exponential(mean, seed=0):
    drawn = np.random.default_rng(seed).exponential(mean, 100_000).tolist()
    return lambda number, now: drawn[number]


def md1_rate(bound):
    """Utilisation at which the 99th percentile of an M/D/1 queue is `bound` service times (Erlang 1909, Crommelin)."""

    def waits_at_most(load, time):
        terms = (
            (load * (k - time)) ** k / math.factorial(k) * math.exp(load * (time - k)) for k in range(int(time) + 1)
        )
        return (1 - load) * sum(terms)

    low, high = 1e-6, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if waits_at_most(middle, bound - 1) >= 0.99 else (low, middle)
    return low


def mm1_rate(bound):
    """The same for an M/M/1 queue, whose latency is exponential with the rate 1 - utilisation."""
    return 1 - math.log(100) / bound


def slow_after_a_pause(factor):
    """Calls of 1 ms, `factor` times that where the server was idle before."""
    ends = [-1.0]

    def service(number, now):
        ends[0] = now + (factor * MS if now > ends[0] + 1e-9 else MS)
        return ends[0] - now

    return service


def stalled(every, length):
    """Calls of 1 ms on a machine that stands still for `length` seconds at regular times, whatever is called."""
    seen = [0]

    def service(number, now):
        if int(now / every) == seen[0]:
            return MS
        seen[0] = int(now / every)
        return MS + max(0.0, seen[0] * every + length - now)

    return service


def search(machine, bound_ms, **options):
    return highest_rate(machine.call, bound_ms=bound_ms, **{"seconds": 30.0, **machine.injected, **options})
