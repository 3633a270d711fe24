"""The policy of timing, on a clock of our own: who is opened and called when, how often, and what is kept."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from evaluate.benchmark import bench_record, latency
from evaluate.benchmark.latency import measure_conditions, measure_latency
from evaluate.core import stats
from evaluate.load_test import arrivals


class Machine:
    """A clock that only opening and calling move, and a log of both."""

    def __init__(self, opening=0.0):
        self.now, self.opening, self.log = 0.0, opening, []
        self.opened = 0

    def clock(self):
        return self.now

    def opener(self, name, seconds):
        """Opens a candidate whose call takes `seconds`: a number, or a function of (calls since, opening, time)."""

        def open_candidate():
            self.now += self.opening
            self.log.append(("open", name))
            self.opened += 1
            opening, count = self.opened, 0

            def call():
                nonlocal count
                count += 1
                self.log.append(("call", name))
                self.now += seconds(count, opening, self.now) if callable(seconds) else seconds

            return call

        return open_candidate


def measure(machine, candidates, **options):
    openers = {name: machine.opener(name, seconds) for name, seconds in candidates.items()}
    return measure_latency(openers, clock=machine.clock, **options)


def test_a_sample_is_the_seconds_of_one_call():
    samples = measure(Machine(), {"a": 2e-3, "b": 7e-6}, seconds=5).samples
    assert samples["a"] == pytest.approx(2e-3) and samples["b"] == pytest.approx(7e-6)


def test_samples_are_session_runs_of_rounds():
    timing = measure(Machine(), {"a": 2e-3, "b": 1e-3}, seconds=10)
    a, b = timing.samples["a"], timing.samples["b"]
    assert a.shape[:2] == b.shape[:2] == (len(timing.session_runs), latency.ROUNDS)
    # 10 s are 20 session runs of half a second; each candidate has the same time, so the faster one more samples.
    assert 18 <= len(a) <= 21 and b.shape[2] > a.shape[2] > 1


def test_every_session_run_opens_every_candidate_anew_in_shuffled_order():
    machine = Machine()
    timing = measure(machine, {"a": 1e-3, "b": 1e-3, "c": 1e-3}, seconds=20)
    opened = [name for what, name in machine.log if what == "open"]
    session_runs = [tuple(opened[i : i + 3]) for i in range(0, len(opened), 3)]
    assert len(session_runs) == len(timing.session_runs) + 1  # and the pilot
    assert all(sorted(order) == ["a", "b", "c"] for order in session_runs)
    assert len(set(session_runs)) > 3


def test_each_round_times_every_candidate_in_shuffled_order():
    machine = Machine()
    timing = measure(machine, {"a": 1e-2, "b": 1e-2, "c": 1e-2}, seconds=30)
    last = max(i for i, (what, _) in enumerate(machine.log) if what == "open")
    warm = sum(timing.session_runs[-1].warm_up.values())
    calls = [name for what, name in machine.log[last:] if what == "call"]
    # The third candidate is opened last; its warm-up comes first in what is left.
    calls = calls[calls.count(calls[0]) and timing.session_runs[-1].warm_up[calls[0]] :]
    turn = timing.candidates["a"].calls
    blocks = [calls[i] for i in range(0, len(calls), turn)]
    rounds = [tuple(blocks[i : i + 3]) for i in range(0, len(blocks), 3)]
    assert warm >= 3 and len(rounds) == timing.samples["a"].shape[1]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds) and len(set(rounds)) > 2


def test_the_order_follows_the_seed():
    logs = []
    for seed in (0, 0, 1):
        machine = Machine()
        measure(machine, {"a": 1e-2, "b": 1e-2}, seed=seed, seconds=3)
        logs.append(machine.log)
    assert logs[0] == logs[1] != logs[2]


def test_a_machine_that_slows_down_does_not_change_the_ratio():
    machine = Machine()

    def slowing(factor):
        return lambda count, opening, now: factor * 1e-3 * (1 + now / 10)

    timing = measure(machine, {"base": slowing(2.0), "again": slowing(2.0), "b": slowing(1.0)}, seconds=10)
    (judged,) = bench_record.judge([timing.samples], "base", "again")
    found = judged.speedups["b"]
    assert found["value"] == pytest.approx(2, abs=0.005) and found["high"] - found["low"] < 0.02
    assert bench_record.drift(timing.samples["base"])["drifts"]


def test_what_a_place_in_memory_costs_widens_the_interval_instead_of_deciding():
    """Every opened session is 2 % faster or slower than the next: what no number of rounds in one session run shows."""
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.02, 10_000)
    timing = measure(
        Machine(), dict.fromkeys(("base", "again", "b"), lambda c, o, n: 1e-3 * np.exp(luck[o])), seconds=10
    )
    (judged,) = bench_record.judge([timing.samples], "base", "again")
    found = judged.speedups["b"]
    assert found["verdict"] == "not resolved" and found["high"] - found["low"] > 0.01
    assert judged.floor > 0.005


def test_creation_and_first_call_are_told_apart_and_are_not_samples():
    machine = Machine(opening=0.05)
    timing = measure(machine, {"a": lambda count, opening, now: 0.03 if count == 1 else 1e-3}, seconds=10)
    session_run = timing.session_runs[0]
    assert session_run.create["a"] == pytest.approx(0.05) and session_run.first["a"] == pytest.approx(0.03)
    assert timing.samples["a"] == pytest.approx(1e-3)


def test_warming_up_lasts_until_the_median_is_stable():
    timing = measure(Machine(), {"a": lambda count, opening, now: 1e-3 * (1 + max(0, 20 - count))}, seconds=20)
    assert timing.session_runs[0].warm_up["a"] >= 20
    assert timing.samples["a"] == pytest.approx(1e-3)


def test_warming_up_ends_though_the_time_never_settles():
    timing = measure(Machine(), {"a": lambda count, opening, now: 1e-4 * (1 + count // 5)}, seconds=20)
    assert timing.session_runs[0].warm_up["a"] <= arrivals.WARM_UP_CALLS + 1


def test_the_first_call_of_a_turn_is_not_in_the_samples():
    machine = Machine()

    def cold(count, opening, now):
        return 5e-3 if machine.log[-2:-1] != machine.log[-1:] else 1e-3

    samples = measure(machine, {"a": cold, "b": cold}, seconds=10).samples
    assert samples["a"] == pytest.approx(1e-3) and samples["b"] == pytest.approx(1e-3)


def test_the_clock_is_lost_in_a_sample():
    class Coarse(Machine):
        def clock(self):
            self.now += 1e-6  # reading it costs a microsecond
            return self.now

    timing = measure(Coarse(), {"a": 4e-6, "b": 1e-3}, seconds=5)
    loops = {candidate.loops for candidate in timing.candidates.values()}
    assert len(loops) == 1 and loops.pop() >= 40  # the same for all candidates, so that the clock weighs alike on them
    assert timing.samples["a"] == pytest.approx(4e-6, rel=0.01)


def test_a_clock_that_counts_in_steps_is_no_free_clock():
    class Stepped(Machine):
        def clock(self):
            self.now += 2e-8  # cheap to read, and it moves every 100 ns
            return int(self.now * 1e7) / 1e7

    (candidate,) = measure(Stepped(), {"a": 4e-6}, seconds=5).candidates.values()
    assert candidate.loops * 4e-6 >= 0.9 * latency.TIMER_SHARE * 1e-7


def test_single_calls_are_timed_wherever_the_clock_allows_it():
    candidates = measure(Machine(), {"a": 5e-6}, seconds=5).candidates
    assert candidates["a"].loops == 1 and candidates["a"].between > 0  # kept samples are spread over the block


@pytest.mark.parametrize("each", [1e-5, 1e-3, 0.02, 0.1])
@pytest.mark.parametrize("seconds", [3.0, 10.0, 60.0])
@pytest.mark.parametrize("opening", [0.0, 0.02])
def test_the_budget_is_kept_within_five_per_cent(each, seconds, opening):
    machine = Machine(opening)
    timing = measure(machine, {"a": each, "b": 3 * each}, seconds=seconds)
    one_round = 2 * 4 * each * (2 + arrivals.WARM_UP_WINDOW * 2)  # what a session run cannot do without
    assert machine.now <= max(1.05 * seconds, latency.MIN_SESSION_RUNS * (one_round + 2 * opening) + seconds)
    if 20 * each < seconds / 50:
        assert machine.now >= 0.95 * seconds
    assert len(timing.session_runs) >= latency.MIN_SESSION_RUNS


def test_turns_stay_short_however_long_the_run():
    candidates = measure(Machine(), {"a": 0.01, "b": 0.01}, seconds=40_000).candidates
    assert candidates["a"].calls * 0.01 < 5  # far below the patience with a worker that gives no sign of life


def test_slow_opening_makes_session_runs_fewer_and_not_the_rest_of_them_nothing():
    timing = measure(Machine(opening=0.3), {"a": 1e-3, "b": 1e-3}, seconds=20)
    calls = sum(candidate.calls * timing.samples["a"].shape[1] for candidate in timing.candidates.values())
    assert latency.MIN_SESSION_RUNS <= len(timing.session_runs) <= 12 and calls > 500


def test_a_budget_far_too_small_still_gives_an_interval():
    samples = measure(Machine(), {"a": 10.0, "b": 5.0}, seconds=1.0).samples
    assert samples["a"].shape == samples["b"].shape == (latency.MIN_SESSION_RUNS, 1, 1)
    assert stats.median_interval(samples["a"]) == (10, 10, 10)


def test_conditions_alternate():
    machine = Machine()
    conditions = [{"a": machine.opener(f"{i}", 1e-3)} for i in range(3)]
    timings = measure_conditions(conditions, seconds=30, clock=machine.clock)
    opened = [name for what, name in machine.log if what == "open"]
    turns = [tuple(opened[i : i + 3]) for i in range(0, len(opened), 3)]
    assert all(sorted(turn) == ["0", "1", "2"] for turn in turns) and len(set(turns)) > 3
    assert len({len(timing.session_runs) for timing in timings}) == 1


def test_energy_is_what_the_counter_moved_in_a_candidates_own_turns():
    machine = Machine()

    def meter():
        return 100.0 + 3.0 * machine.now  # 3 watts

    conditions = [{"a": machine.opener("a", 2e-3), "b": machine.opener("b", 1e-3)}]
    (timing,) = measure_conditions(conditions, seconds=5, clock=machine.clock, meter=meter)
    session_run, turns = timing.session_runs[0], timing.samples["a"].shape[1]
    for candidate, seconds in (("a", 2e-3), ("b", 1e-3)):
        assert session_run.joules[candidate] / (turns * timing.candidates[candidate].calls) == pytest.approx(
            3 * seconds
        )


def test_whoever_watches_is_told_before_each_step():
    machine, seen = Machine(), []
    conditions = [{"a": machine.opener("a", 1e-2)}]
    measure_conditions(conditions, seconds=2, clock=machine.clock, notice=lambda candidate, doing: seen.append(doing))
    assert seen[:2] == ["opening", "first call"] and set(seen) == {"opening", "first call", "timing"}


def test_progress_reaches_its_end():
    seen = []
    measure(Machine(), {"a": 1e-3}, seconds=4, status=lambda *step: seen.append(step))
    done = [step[1] for step in seen if step[0] == "timing"]
    assert done == sorted(done) and done[-1] == 4


def test_session_runs_are_told_as_they_come():
    machine, told = Machine(), []
    measure_conditions(
        [{"a": machine.opener("a", 1e-2)}], seconds=5, clock=machine.clock, each=lambda *s: told.append(s)
    )
    assert [index for index, _ in told] == [0] * len(told) and len(told) >= latency.MIN_SESSION_RUNS


def test_garbage_collection_is_back_on_when_a_call_fails():
    states = []

    def fails():
        states.append(gc.isenabled())
        raise RuntimeError("broken model")

    with pytest.raises(RuntimeError, match=r"broken model"):
        measure_latency({"a": lambda: fails})
    assert states == [False] and gc.isenabled()


@pytest.mark.parametrize(("conditions", "seconds"), [([], 1.0), ([{}], 1.0), ([{"a": lambda: print}], 0.0)])
def test_wrong_arguments_are_refused(conditions, seconds):
    with pytest.raises(ValueError, match=r"at least one condition"):
        measure_conditions(conditions, seconds=seconds)


def test_a_summary_is_in_milliseconds_and_says_what_is_missing():
    samples = np.linspace(1e-3, 2e-3, 120).reshape(10, 3, 4)
    found = bench_record.summarise(samples, provider="cpu", threads=1, batch=8)
    assert found["median_ms"] == pytest.approx(1.5) and found["p90"] == pytest.approx(1.9)
    assert found["low"] < 1.5 < found["high"] and found["mad_ms"] == pytest.approx(0.25, rel=0.02)
    assert (found["provider"], found["threads"], found["batch"], found["n"]) == ("cpu", 1, 8, 120)
    assert found["p99"] is None and found["needs"] == {"p95": 130 - 120, "p99": 662 - 120}


def test_means_of_several_calls_carry_no_tails():
    found = bench_record.summarise(np.full((10, 10, 10), 1e-6), provider="cpu", threads=1, batch=1, loops=20)
    assert (found["p90"], found["p99"], found["needs"]) == (None, None, {})


def test_a_speedup_carries_its_verdict():
    rng = np.random.default_rng(0)
    candidates = {name: 2e-3 * np.exp(rng.normal(0, 0.05, (20, 5, 4))) for name in ("base", "again", "same")}
    candidates |= {"quick": candidates["same"] / 1.6, "slow": candidates["same"] * 1.6}
    (judged,) = bench_record.judge([candidates], "base", "again")
    assert judged.speedups["quick"]["value"] == pytest.approx(1.6, rel=0.03)
    verdicts = {name: found["verdict"] for name, found in judged.speedups.items()}
    assert verdicts == {"same": "not resolved", "quick": "faster", "slow": "slower"}
