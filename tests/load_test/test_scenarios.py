"""Single-stream, offline and server on a clock of our own, the bound that is read, and the table."""

from __future__ import annotations

import json

import numpy as np
import pytest
from queues import MS, Machine, search

from evaluate.core.bench_parts import Scenario
from evaluate.core.blocks import as_block
from evaluate.core.errors import UsageError
from evaluate.load_test.arrivals import latencies_of, poisson_arrivals
from evaluate.load_test.scenarios import offline, parse_bound, server, single_stream
from evaluate.report.messages.bench_messages import proof_text
from evaluate.report.text.bench_table import scenario_table


def test_single_stream_takes_one_query_after_the_other():
    machine = Machine(lambda number, now: 10 * MS if number % 20 == 0 else 2 * MS)
    found = single_stream(machine.call, seconds=10.0, clock=machine.clock)
    assert machine.now == pytest.approx(10.0, abs=0.02)
    assert machine.starts[1:] == machine.ends[:-1]
    assert found["median_ms"] == pytest.approx(2.0) and found["p90_ms"] == pytest.approx(2.0)
    assert found["p99_ms"] == pytest.approx(10.0) and found["needs"] == {}
    assert found["qps"] == pytest.approx(1 / 2.4e-3, rel=0.01)
    assert found["low"] <= found["median_ms"] <= found["high"]


def test_single_stream_gives_only_percentiles_that_are_carried():
    machine = Machine(0.1)
    found = single_stream(machine.call, seconds=10.0, clock=machine.clock)
    assert found["p90_ms"] == pytest.approx(100.0) and found["p99_ms"] is None
    assert found["needs"] == {"p99": 662 - found["queries"]}


def test_single_stream_measures_two_queries_whatever_they_take():
    machine = Machine(9.0)
    found = single_stream(machine.call, seconds=1.0, clock=machine.clock)
    assert found["queries"] == 2 and found["median_ms"] == pytest.approx(9000.0)


def batches(machine, seconds_of, noise=1e-3):
    """Calls that log their batch and take so many seconds, give or take `noise`."""
    rng = np.random.default_rng(0)

    def made(batch):
        def call():
            machine.starts.append(batch)
            machine.now += seconds_of[batch] * rng.lognormal(0.0, noise)

        return call

    return {batch: made(batch) for batch in seconds_of}


def test_offline_finds_the_batch_with_the_most_samples_a_second():
    machine = Machine(0.0)
    found = offline(batches(machine, {1: 1.0 * MS, 4: 2.0 * MS, 16: 16 * MS}), seconds=10.0, clock=machine.clock)
    assert found["batch"] == found["fastest"] == 4 and found["warnings"] == []
    assert [entry["samples_per_s"] for entry in found["batches"]] == pytest.approx([1000, 2000, 1000], rel=1e-3)
    assert found["samples_per_s"] == found["batches"][1]["samples_per_s"]
    assert found["batches"][0]["of_best"]["high"] < 1 and found["batches"][1]["of_best"] is None
    assert machine.now == pytest.approx(10.0, rel=0.05)


def test_offline_prefers_a_smaller_batch_that_is_not_resolved_to_be_worse():
    machine = Machine(0.0)
    calls = batches(machine, {2: 2.01 * MS, 8: 8 * MS, 16: 32 * MS}, noise=0.3)
    found = offline(calls, seconds=20.0, clock=machine.clock)
    assert found["batch"] == 2
    assert found["fastest"] == 2 or "not resolved from the smaller batch 2" in found["warnings"][0]


def test_offline_says_when_a_larger_batch_may_be_better():
    machine = Machine(0.0)
    found = offline(batches(machine, {1: 1.0 * MS, 2: 1.5 * MS, 4: 2.0 * MS}), seconds=5.0, clock=machine.clock)
    assert found["batch"] == 4 and found["warnings"] == [
        "the largest batch tried, 4, is the best: a larger one may be better still; try 8"
    ]
    assert offline(batches(machine, {3: MS}), seconds=1.0, clock=machine.clock)["warnings"] == []


def test_offline_interleaves_batches_in_shuffled_order():
    machine = Machine(0.0)
    found = offline(batches(machine, {1: 0.1, 2: 0.1, 4: 0.1}), seconds=12.0, clock=machine.clock)
    order = machine.starts[-3 * found["rounds"] :]
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(each) == [1, 2, 4] for each in rounds) and len(set(rounds)) > 2


def test_offline_measures_six_rounds_whatever_they_take():
    machine = Machine(0.0)
    found = offline(batches(machine, {1: 1.0, 64: 30.0}), seconds=5.0, clock=machine.clock)
    assert found["rounds"] == 6 and found["batch"] == 64


@pytest.mark.parametrize("calls", [{}, {0: lambda: None}, {-1: lambda: None, 2: lambda: None}])
def test_offline_needs_batches(calls):
    with pytest.raises(UsageError, match="batches of at least 1"):
        offline(calls)


def test_server_reports_latencies_from_the_schedule():
    machine = Machine(MS)
    found = server(machine.call, rate=500.0, queries=2000, seed=4, **machine.injected)
    expected = latencies_of(poisson_arrivals(500.0, 2000, (4, 0)), np.full(2000, MS))
    assert found["p99_ms"] == pytest.approx(1e3 * np.percentile(expected, 99))
    assert found["max_ms"] == pytest.approx(1e3 * expected.max())
    assert found["issued"] == found["completed"] == machine.calls == 2000
    assert found["lost"] == found["counted_twice"] == 0
    assert found["utilisation"] == pytest.approx(2000 * MS / found["seconds"])


def test_server_in_seconds_and_with_few_queries():
    machine = Machine(MS)
    found = server(machine.call, rate=50.0, seconds=4.0, **machine.injected)
    assert found["queries"] == 200 and found["p99_ms"] is None and found["p90_ms"] > 0
    assert found["qps"] == pytest.approx(50.0, rel=0.25)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "got neither"), ({"seconds": 1.0, "queries": 5}, "got both"), ({"queries": 0}, "above 0"),
        ({"seconds": -1.0}, "above 0"), ({"rate": 0.0, "queries": 5}, "above 0"), ({"seconds": 1e9}, "at most"),
    ],
)  # fmt: skip
def test_server_refuses_senseless_arguments(options, said):
    with pytest.raises(UsageError, match=said):
        server(lambda: None, **{"rate": 10.0, **options})


# Words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("800us", 8e-4), ("0.2 s", 0.2), (" 1.5ms ", 1.5e-3), (".5ms", 5e-4), ("2s", 2.0), ("3.ms", 3e-3)],
)
def test_bounds_are_read(text, seconds):
    assert parse_bound(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "ms", "50", "50 min", "0ms", "-5ms", "1e3ms", "50MS", "5,5ms", "nan ms", "\u0665ms", "5ms5"]
)
def test_other_bounds_are_refused_with_an_example(text):
    with pytest.raises(UsageError, match="a latency bound") as caught:
        parse_bound(text)
    assert repr(text) in str(caught.value)


def all_results():
    machine = Machine(MS)
    found = [
        single_stream(machine.call, seconds=5.0, clock=machine.clock),
        offline({1: machine.call, 2: machine.call}, seconds=2.0, clock=machine.clock),
        server(machine.call, rate=500.0, queries=100, **machine.injected),
        search(machine, 10.0),
        search(machine, 0.5),
    ]
    return [{**result, "name": "résumé"} for result in found]


def test_results_are_json_and_the_table_tells_all_of_them():
    results = all_results()
    text = scenario_table(json.loads(json.dumps(results, allow_nan=False)), width=100)
    for part in (
        "single-stream: median 1.00 ms", "2,000 samples/s", "at batch 2", "! the largest batch tried, 2",
        "server, P99 within 10.0 ms", f"{results[3]['rate']:,.0f} queries/s", "confirmed at 10 % below and above",
        "0 lost", "out of reach: even one query alone takes 1.00 ms",
    ):  # fmt: skip
        assert part in " ".join(text.split())
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize(
    ("confirmed", "above", "text"),
    [
        (True, {"met": False}, "confirmed at 10 % below and above"),
        (True, {"met": True}, "confirmed at 10 % below; above, the server is saturated"),
        (True, None, "confirmed at 10 % below; above, the server is saturated"),
        (False, {"met": False}, "not confirmed"),
    ],
)
def test_a_rate_is_said_to_be_confirmed_above_only_where_the_bound_was_broken(confirmed, above, text):
    assert proof_text(as_block(Scenario, {"confirmed": confirmed, "above": above})) == text
    result = {**all_results()[3], "confirmed": confirmed, "above": above}
    assert f"), {text}; server busy" in " ".join(scenario_table([result], 100).split())


def test_the_table_fits_a_narrow_terminal():
    text = scenario_table(all_results(), width=40)
    assert all(len(line) <= 40 for line in text.splitlines())
