"""The search for the highest rate, on queues whose highest rate is known from theory or from a long run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from queues import MS, Machine, exponential, md1_rate, mm1_rate, search, slow_after_a_pause, stalled

from evaluate.core import stats
from evaluate.core.errors import UsageError
from evaluate.load_test.arrivals import poisson_arrivals, serve
from evaluate.load_test.rate_search import highest_rate


@pytest.mark.parametrize("bound", [2.5, 4.0, 16.0])
def test_it_finds_the_rate_of_an_md1_queue(bound):
    rates = [search(Machine(MS), bound, seed=seed)["rate"] for seed in range(2)]
    assert np.array(rates) * MS == pytest.approx(md1_rate(bound), rel=0.03)


@pytest.mark.parametrize("bound", [16.0, 40.0])
def test_it_finds_the_rate_of_an_mm1_queue(bound):
    rates = [search(Machine(exponential(MS, seed)), bound, seed=seed)["rate"] for seed in range(3)]
    assert np.median(rates) * MS == pytest.approx(mm1_rate(bound), rel=0.04)
    assert max(rates) / min(rates) < 1.1


def test_the_rate_is_confirmed_on_both_sides():
    found = search(Machine(MS), 10.0)
    assert found["confirmed"] and found["below"]["met"] and not found["above"]["met"]
    assert found["low"] <= found["rate"] <= found["high"]
    assert found["below"]["rate"] < found["low"] and found["above"]["rate"] > found["high"]
    assert found["below"]["tail_ms"] < 10.0 and found["below"]["queries"] >= 662
    assert found["utilisation"] == pytest.approx(found["rate"] * MS)
    assert not found["warnings"]


def test_the_same_seed_gives_the_same_result_and_another_seed_other_arrivals():
    first, again, other = (search(Machine(MS), 8.0, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["rate"] != other["rate"] and first["rate"] == pytest.approx(other["rate"], rel=0.05)


def test_no_query_is_lost_or_counted_twice():
    machine = Machine(MS)
    found = search(machine, 6.0)
    assert found["calls"] == machine.calls
    assert found["issued"] == found["completed"] == sum(probe["queries"] for probe in found["probes"])
    assert found["lost"] == found["counted_twice"] == 0
    assert machine.calls >= found["completed"] + found["alone"]["queries"]


@pytest.mark.parametrize("seconds", [20.0, 60.0])
@pytest.mark.parametrize("bound", [3.0, 10.0])
def test_the_budget_is_kept(seconds, bound):
    machine = Machine(MS)
    found = search(machine, bound, seconds=seconds)
    assert found["rate"] and machine.now == pytest.approx(seconds, rel=0.1) and machine.now < 1.05 * seconds
    assert found["seconds"] == pytest.approx(machine.now)


def test_each_probe_carries_the_percentile():
    for percentile in (90.0, 99.0, 99.9):
        found = search(Machine(MS), 10.0, percentile=percentile, seconds=120.0)
        needed = stats.needed(percentile)
        assert all(probe["queries"] >= needed for probe in found["probes"] if not probe["cut"])
    assert search(Machine(MS), 10.0, percentile=90.0)["rate"] > found["rate"]


def test_what_counts_is_the_time_of_calls_under_load():
    """Calls take 1 ms back to back, and 1.5 ms once arrivals come: measuring single calls alone would miss it."""
    alone = 4.0

    def service(number, now):
        return MS if now < alone else 1.5 * MS

    found = search(Machine(service), 15.0)
    assert found["rate"] * 1.5 * MS == pytest.approx(md1_rate(10.0), rel=0.03)


@pytest.mark.parametrize(
    ("made", "bound"), [(lambda: slow_after_a_pause(2.0), 6.0), (lambda: stalled(0.5, 0.02), 25.0)]
)
def test_calls_that_depend_on_what_came_before_do_not_mislead_it(made, bound):
    found = search(Machine(made()), bound)["rate"]

    def share_late(rate):
        machine = Machine(made())
        served = serve(machine.call, poisson_arrivals(rate, 100_000, 9), machine.timekeeper)
        return np.mean(served.latencies > bound * MS)

    assert share_late(0.95 * found) < 0.01 < share_late(1.05 * found)


def test_a_neighbour_who_disturbs_some_probes_moves_the_rate_little():
    def disturbed(number, now):
        return 3 * MS if 15.0 < now < 18.0 or 25.0 < now < 27.0 else MS

    quiet, busy = search(Machine(MS), 10.0), search(Machine(disturbed), 10.0)
    assert busy["rate"] == pytest.approx(quiet["rate"], rel=0.05)


def test_a_first_guess_far_off_is_left_behind():
    """Single calls look ten times faster than what arrivals meet, then twice as slow."""
    for factor in (0.1, 2.0):
        found = search(Machine(lambda n, now, f=factor: f * MS if now < 5.0 else MS), 10.0, seconds=100.0)
        assert found["rate"] * MS == pytest.approx(md1_rate(10.0), rel=0.04)


def test_a_bound_below_one_call_is_out_of_reach():
    machine = Machine(61 * MS)
    found = search(machine, 50.0, seconds=60.0)
    assert found["rate"] is None and found["probes"] == []
    assert found["why"] == "out of reach: even one query alone takes 61.0 ms against the bound of 50.0 ms"
    assert machine.now < 6.0  # a tenth of the budget


def test_a_bound_below_the_slowest_of_a_hundred_calls_is_out_of_reach():
    found = search(Machine(lambda number, now: 30 * MS if number % 40 == 0 else MS), 20.0)
    assert found["rate"] is None
    assert found["why"].startswith("out of reach: 1 % of queries take more than 30.0 ms alone")


def test_a_bound_that_only_arrivals_break_is_out_of_reach():
    machine = Machine(lambda number, now: MS + 30 * MS * (machine.slept and number % 40 == 0))
    found = search(machine, 20.0)
    assert found["rate"] is None and found["probes"]
    assert found["why"].startswith("out of reach: even at ")


def test_a_bound_that_does_not_limit_is_said():
    found = search(Machine(MS), 30_000.0)
    assert found["rate"] == pytest.approx(1000.0, rel=0.01)
    assert any(text.startswith("arrivals are not what limits: up to ") for text in found["warnings"])


def test_calls_that_take_no_time_have_a_rate():
    found = search(Machine(0.0), 1.0, seconds=1.0)
    assert found["rate"] > 1e6 and json.dumps(found, allow_nan=False)


def test_a_budget_that_does_not_carry_the_percentile_says_what_would():
    machine = Machine(50 * MS)
    found = search(machine, 500.0, seconds=60.0)
    assert found["rate"] is None and machine.now < 6.0
    assert "needs 5 probes of 662 queries" in found["why"]
    enough = float(found["why"].split("at least ")[1].split(" s")[0])
    assert search(Machine(50 * MS), 500.0, seconds=1.4 * enough)["rate"] == pytest.approx(20 * md1_rate(10.0), rel=0.04)


def test_a_machine_that_changes_is_warned_of():
    found = search(Machine(lambda number, now: MS * (1 + 2 * (int(now) % 10 >= 5))), 10.0, seconds=60.0)
    assert any("differ" in text or "not confirmed" in text for text in found["warnings"])


@pytest.mark.parametrize(
    "options",
    [
        {"bound_ms": 0.0}, {"bound_ms": -1.0}, {"bound_ms": math.nan}, {"bound_ms": math.inf},
        {"percentile": 100.0}, {"percentile": 50.0}, {"seconds": 0.0}, {"seconds": math.inf},
    ],
)  # fmt: skip
def test_senseless_arguments_are_refused(options):
    with pytest.raises(UsageError, match="the server scenario needs"):
        highest_rate(lambda: None, **{"bound_ms": 10.0, **options})
