"""Arrivals, the server and the replay: waits and latencies are exact, and rates are those of queueing theory."""

from __future__ import annotations

import gc
import math
from collections import deque

import numpy as np
import pytest
from queues import MS, Machine, md1_rate, mm1_rate

from evaluate.load_test import arrivals
from evaluate.load_test.arrivals import Served, Timekeeper, latencies_of, poisson_arrivals, serve
from evaluate.load_test.rate_search import highest_rate, highest_rate_of
from evaluate.load_test.scenarios import offline, server, single_stream


def fifo_queue(times, services):
    """When each query is finished, by simulating events: an issuer, a queue and one server, each on its own."""
    waiting, finished, free = deque(), [0.0] * len(times), 0.0
    events = [*times, math.inf]
    for number, arrival in enumerate(events):
        while waiting and free < arrival:
            first = waiting.popleft()
            free = max(free, times[first]) + services[first]
            finished[first] = free
        waiting.append(number)
    return finished


def replayed(busy, bound, percentile, seed):
    """The replay of calls that were made back to back and took these times."""
    return highest_rate_of(Served(np.zeros(len(busy)), np.cumsum(busy), cut=False), bound, percentile, seed)


def test_arrivals_have_exponential_gaps_at_the_rate():
    gaps = np.diff(poisson_arrivals(50.0, 40_000, 1))
    assert gaps.min() > 0 and gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)
    assert np.mean(gaps > 0.04) == pytest.approx(math.exp(-2), rel=0.05)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.03


def test_one_seed_gives_the_same_arrivals_scaled_to_the_rate():
    assert np.allclose(poisson_arrivals(50.0, 100, 1) * 5, poisson_arrivals(10.0, 100, 1))
    assert not np.allclose(poisson_arrivals(50.0, 100, 1), poisson_arrivals(50.0, 100, 2))


@pytest.mark.parametrize(("rate", "queries"), [(0.0, 5), (-1.0, 5), (math.inf, 5), (math.nan, 5), (5.0, 0)])
def test_arrivals_need_a_rate_and_queries(rate, queries):
    with pytest.raises(ValueError, match="above 0"):
        poisson_arrivals(rate, queries, 0)


@pytest.mark.parametrize("seed", range(8))
def test_one_thread_is_an_open_loop_issuer_a_queue_and_a_server(seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1.0, 300))
    services = rng.exponential([0.2, 0.7, 0.95, 1.4][seed % 4], 300)
    machine = Machine(lambda number, now: services[number])
    served = serve(machine.call, times, machine.timekeeper)
    assert np.allclose(served.finished, fifo_queue(list(times), services), rtol=0, atol=1e-9)
    assert np.allclose(served.latencies, latencies_of(times, services), rtol=0, atol=1e-9)
    assert np.allclose(served.busy, services, rtol=0, atol=1e-9)


def test_every_query_is_answered_once_when_calls_outlast_all_gaps():
    machine = Machine(10.0)
    times = poisson_arrivals(100.0, 50, 3)
    served = serve(machine.call, times, machine.timekeeper)
    assert machine.calls == served.finished.size == served.arrivals.size == 50
    assert np.allclose(served.finished, times[0] + 10.0 * np.arange(1, 51))
    assert np.allclose(served.latencies, served.finished - times)


def test_latency_counts_from_the_scheduled_arrival_also_during_a_stall():
    machine = Machine(lambda number, now: 1.0 if number == 100 else MS)
    times = np.arange(1, 301) / 100.0
    latencies = serve(machine.call, times, machine.timekeeper).latencies
    assert latencies[99] == pytest.approx(MS) and latencies[100] == pytest.approx(1.0)
    # The queries that came during the stall waited for its end, and for those before them.
    assert latencies[101:111] == pytest.approx([1.0 - 0.01 * i + MS * i for i in range(1, 11)])
    assert np.sum(latencies > 0.5) > 50


def test_no_query_starts_before_it_arrives_and_waiting_costs_one_look_at_the_clock():
    machine = Machine(MS, late=1.5e-3, tick=1e-7)
    times = np.cumsum(np.full(50, 0.02))
    served = serve(machine.call, times, Timekeeper(machine.clock, machine.sleep, 2e-3))
    late = np.array(machine.starts) - served.arrivals
    assert np.all(late >= 0) and np.all(late < 1e-6)


def test_a_sleep_that_ends_late_is_part_of_the_latency():
    machine = Machine(MS, late=3e-3)
    served = serve(machine.call, np.array([1.0, 2.0]), Timekeeper(machine.clock, machine.sleep, 2e-3))
    assert served.latencies == pytest.approx([2 * MS, 2 * MS])
    assert served.busy == pytest.approx([2 * MS, 2 * MS])


def test_a_hopeless_schedule_is_closed_and_what_has_arrived_is_answered():
    machine = Machine(1.0)
    times = poisson_arrivals(2.0, 400, 0)
    served = serve(machine.call, times, machine.timekeeper, bound=5.0)
    assert served.cut and served.arrivals.size == served.finished.size == machine.calls < 400
    closed = served.finished[np.flatnonzero(served.latencies > 5.0)[100]]
    assert served.arrivals[-1] <= closed < times[served.arrivals.size]


def test_a_schedule_with_few_late_queries_is_not_closed():
    machine = Machine(lambda number, now: 0.9 if number % 10 == 0 else 0.01)
    served = serve(machine.call, np.arange(1.0, 201.0), machine.timekeeper, bound=0.5)
    assert not served.cut and served.finished.size == 200


def test_a_call_that_raises_voids_the_run():
    def call():
        raise RuntimeError("the model broke")

    assert gc.isenabled()
    for run in (
        lambda: server(call, rate=10.0, queries=5),
        lambda: single_stream(call, seconds=1.0),
        lambda: offline({1: call}, seconds=1.0),
        lambda: highest_rate(call, bound_ms=10.0, seconds=1.0),
    ):
        with pytest.raises(RuntimeError, match="the model broke"):
            run()
        assert gc.isenabled()


@pytest.mark.parametrize("bound", [2.5, 4.0, 8.0, 16.0])
def test_a_replay_of_constant_calls_finds_the_rate_of_an_md1_queue(bound):
    found = np.median([replayed(np.full(1000, 2.0), 2.0 * bound, 99, seed) for seed in range(5)])
    assert found * 2.0 == pytest.approx(md1_rate(bound), rel=0.02)


@pytest.mark.parametrize("bound", [8.0, 16.0, 40.0])
def test_a_replay_of_exponential_calls_finds_the_rate_of_an_mm1_queue(bound):
    busy = np.random.default_rng(5).exponential(size=100_000)
    found = np.median([replayed(busy, bound, 99, seed) for seed in range(5)])
    assert found == pytest.approx(mm1_rate(bound), rel=0.04)


def test_a_replay_stays_between_nothing_and_the_capacity():
    assert replayed(np.full(100, 2.0), 1.9, 99, 0) == 0.0
    assert replayed(np.full(100, 2.0), 1e9, 99, 0) == pytest.approx(0.5, rel=1e-3)
    mixed = np.where(np.arange(1000) % 50 == 0, 9.0, 1.0)  # 2 % of the calls are too slow by themselves
    assert replayed(mixed, 8.0, 99, 0) == 0.0 < replayed(mixed, 8.0, 97, 0)


def test_a_wider_bound_never_gives_a_lower_rate():
    busy = np.random.default_rng(1).gamma(4, 0.25, 3000)
    rates = [replayed(busy, bound, 99, 7) for bound in (2, 2.5, 3, 4, 6, 10, 20, 50)]
    assert sorted(rates) == rates and rates[0] < rates[-1]


@pytest.mark.parametrize(("late", "percentile", "least"), [(0, 99, 459), (1, 99, 662), (0, 90, 44), (1, 90, 64)])
def test_early_stopping_accepts_from_the_counts_of_mlperf(late, percentile, least):
    assert arrivals.early_stopping(late, least, percentile)
    assert not arrivals.early_stopping(late, least - 1, percentile)


def test_early_stopping_refuses_what_is_at_the_bound():
    assert not arrivals.early_stopping(1000, 100_000, 99)
    assert arrivals.early_stopping(900, 100_000, 99)
    assert not arrivals.early_stopping(5, 5, 99) and not arrivals.early_stopping(0, 0, 99)
