"""The policy of timing, on a clock of our own: who is called when, how often, and what is kept."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from evaluate import latency, stats
from evaluate.latency import measure_latency


class Machine:
    """A clock that only calls move, and a log of the calls."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def clock(self):
        return self.now

    def call(self, name, seconds):
        """A call that takes `seconds`: a number, or a function of (how often it was called, the time)."""

        def run():
            self.log.append(name)
            self.now += seconds(self.log.count(name), self.now) if callable(seconds) else seconds

        return run


def measure(machine, calls, **options):
    return measure_latency({n: machine.call(n, s) for n, s in calls.items()}, clock=machine.clock, **options)


def test_a_sample_is_the_seconds_of_one_call():
    found = measure(Machine(), {"a": 2e-3, "b": 7e-6})
    assert found["a"] == pytest.approx(2e-3) and found["b"] == pytest.approx(7e-6)


def test_a_slow_call_is_timed_one_by_one():
    machine = Machine()
    found = measure(machine, {"a": 2e-3})
    # 10 calls to warm up (two equal windows of 5); then, in each of 30 rounds, one untimed call and 3 samples.
    assert found["a"].shape == (30, 3)
    assert len(machine.log) == 10 + 30 * (1 + 3)


def test_a_fast_call_is_repeated_until_the_clock_does_not_matter():
    machine = Machine()
    found = measure(machine, {"a": 3e-5})
    # 4 calls make a sample of 0.12 ms, 42 samples a block of 5 ms.
    assert found["a"].shape == (30, 42)
    assert len(machine.log) == 10 + 30 * (1 + 42 * 4)


def test_blocks_last_as_long_as_asked_and_have_a_bound():
    assert measure(Machine(), {"a": 1e-3}, min_seconds_per_block=0.02)["a"].shape == (30, 20)
    assert measure(Machine(), {"a": 1e-3}, min_seconds_per_block=9.0)["a"].shape == (30, latency.MAX_BLOCK)


@pytest.mark.parametrize("rounds", [5, 12, 64, 100])
def test_there_are_always_enough_samples_for_a_90th_percentile(rounds):
    found = measure(Machine(), {"a": 0.1}, rounds=rounds)["a"]
    assert found.shape[0] == rounds and stats.percentile(found) is not None


def test_each_round_times_every_call_in_shuffled_order():
    machine = Machine()
    measure(machine, {"a": 1e-2, "b": 1e-2, "c": 1e-2})
    blocks = [machine.log[i] for i in range(30, len(machine.log), 4)]  # 3 warm-ups of 10 calls, then blocks of 4
    rounds = [tuple(blocks[i : i + 3]) for i in range(0, len(blocks), 3)]
    assert len(rounds) == 30
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) == 6


def test_the_order_follows_the_seed():
    logs = []
    for seed in (0, 0, 1):
        machine = Machine()
        measure(machine, {"a": 1e-2, "b": 1e-2}, seed=seed)
        logs.append(machine.log)
    assert logs[0] == logs[1] != logs[2]


def test_a_machine_that_slows_down_does_not_change_the_ratio():
    machine = Machine()

    def slowing(factor):
        return lambda count, now: factor * 1e-3 * (1 + now)

    found = measure(machine, {"a": slowing(2.0), "b": slowing(1.0)}, rounds=40)
    drift = np.median(found["a"][-1]) / np.median(found["a"][0])
    value, low, high = stats.ratio_interval(found["a"], found["b"])
    assert drift > 1.3
    assert low <= 2 <= high and high - low < 0.1 and value == pytest.approx(2, rel=0.02)


def test_what_the_first_calls_cost_is_not_in_the_samples():
    found = measure(Machine(), {"a": lambda count, now: 0.3 if count <= 4 else 1e-3})
    assert found["a"] == pytest.approx(1e-3)


def test_the_first_call_of_a_block_is_not_in_the_samples():
    machine = Machine()

    def cold(count, now):
        return 5e-3 if machine.log[-2:-1] != machine.log[-1:] else 1e-3

    found = measure(machine, {"a": cold, "b": cold})
    assert found["a"] == pytest.approx(1e-3) and found["b"] == pytest.approx(1e-3)


def test_warming_up_ends_though_the_time_never_settles():
    machine = Machine()
    measure(machine, {"a": lambda count, now: 1e-3 * (1 + count // 5)}, rounds=5, min_seconds_per_block=0)
    assert len(machine.log) == latency.WARM_UP_CALLS + 5 * (1 + 13)


def test_warming_up_a_slow_call_takes_two_calls():
    machine = Machine()
    measure(machine, {"a": 5.0}, rounds=5)
    assert len(machine.log) == 2 + 5 * (1 + 13)


@pytest.mark.parametrize("each", [1e-5, 1e-3, 0.02, 0.1])
@pytest.mark.parametrize("seconds", [3.0, 10.0])
def test_the_budget_is_kept(each, seconds):
    machine = Machine()
    found = measure(machine, {"a": each, "b": 3 * each}, rounds=100, seconds=seconds)
    least = 2 * 4 * each * (latency.MIN_ROUNDS + 2)
    assert machine.now <= max(seconds, least) + 1e-9
    assert len(found["a"]) == len(found["b"]) >= latency.MIN_ROUNDS


def test_a_budget_far_too_small_still_gives_an_interval():
    machine = Machine()
    found = measure(machine, {"a": 10.0, "b": 5.0}, seconds=1.0)
    assert found["a"].shape == found["b"].shape == (latency.MIN_ROUNDS, 1)
    assert stats.median_interval(found["a"]) == (10, 10, 10)


def test_a_generous_budget_changes_nothing():
    assert measure(Machine(), {"a": 1e-3}, seconds=1e6)["a"].shape == measure(Machine(), {"a": 1e-3})["a"].shape


def test_a_call_that_becomes_slow_cannot_break_the_budget():
    machine = Machine()
    found = measure(machine, {"a": lambda count, now: 1e-3 if now < 1 else 0.1}, rounds=1000, seconds=4.0)
    assert len(found["a"]) < 1000 and machine.now < 4.0 + 0.7


def test_progress_is_told():
    seen = []
    measure(Machine(), {"a": 1e-3}, rounds=7, status=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "timing"] == [("timing", i, 7) for i in range(1, 8)]


def test_garbage_collection_is_back_on_when_a_call_fails():
    states = []

    def fails():
        states.append(gc.isenabled())
        raise RuntimeError("broken model")

    with pytest.raises(RuntimeError, match=r"broken model"):
        measure_latency({"a": fails})
    assert states == [False] and gc.isenabled()


@pytest.mark.parametrize(("calls", "rounds"), [({}, 30), ({"a": print}, 4)])
def test_wrong_arguments_are_refused(calls, rounds):
    with pytest.raises(ValueError, match=r"at least 5 rounds"):
        measure_latency(calls, rounds=rounds)


def test_a_summary_is_in_milliseconds():
    samples = np.linspace(1e-3, 2e-3, 120).reshape(30, 4)
    found = latency.summarise(samples, provider="cpu", threads=1, batch=8)
    assert found["median_ms"] == pytest.approx(1.5) and found["p90"] == pytest.approx(1.9)
    assert found["low"] < 1.5 < found["high"]
    assert (found["provider"], found["threads"], found["batch"], found["n"]) == ("cpu", 1, 8, 120)
    assert latency.summarise(samples[:10], provider="cpu", threads=1, batch=8)["p90"] is None


def test_a_speedup_carries_its_verdict():
    rng = np.random.default_rng(0)
    base = 2e-3 * np.exp(rng.normal(0, 0.05, (30, 4)))
    found = latency.speedup(base, base / 1.6)
    assert found["value"] == pytest.approx(1.6) and found["verdict"] == "faster"
    assert latency.speedup(base / 1.6, base)["verdict"] == "slower"
    assert latency.speedup(base, base)["verdict"] == "not resolved"
