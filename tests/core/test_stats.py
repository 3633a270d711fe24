"""Intervals cover what they claim to cover, and the exact tests agree with scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from evaluate.core import stats


def session_runs(rng, count=20, rounds=8, n=4, median=1e-3, own=0.02, shared=0.0):
    """Latency samples as machines give them: skewed, with parts shared by a session run and by a round."""
    return median * np.exp(
        rng.normal(0, own, (count, 1, 1))
        + rng.normal(0, 0.05, (count, rounds, 1))
        + rng.normal(0, 0.05, (count, rounds, n))
        + shared
    )


def ratios(rng, factor=1.0, candidates=1, **how):
    """(session runs, candidates) log ratios of models that are `factor` times faster than their baseline."""
    base = session_runs(rng, median=1e-3 * factor, **how)
    return np.stack([stats.session_run_ratios(base, session_runs(rng, **how)) for _ in range(candidates)], axis=1)


@pytest.mark.parametrize("count", [6, 12, 40])
def test_the_interval_of_a_median_covers_it_however_few_the_session_runs(count):
    rng = np.random.default_rng(1)
    intervals = [stats.median_interval(session_runs(rng, count)) for _ in range(150)]
    covered = np.mean([low <= 1e-3 <= high for _, low, high in intervals])
    assert 0.9 <= covered <= 0.995


def test_resampling_samples_instead_of_session_runs_would_claim_too_much():
    samples = session_runs(np.random.default_rng(2), count=30, own=0.05)
    _, low, high = stats.median_interval(samples)
    _, flat_low, flat_high = stats.median_interval(samples.reshape(-1, 1))
    assert high - low > 2 * (flat_high - flat_low)


def test_a_median_is_that_of_all_samples_and_lies_in_its_interval():
    samples = session_runs(np.random.default_rng(3), count=7)
    value, low, high = stats.median_interval(samples)
    assert value == np.median(samples)
    assert low <= value <= high
    assert samples.min() <= low and high <= samples.max()


@pytest.mark.parametrize(("count", "n"), [(9, 5), (8, 4)])
def test_the_fast_bootstrap_is_the_plain_one(count, n):
    samples = session_runs(np.random.default_rng(4), count, 1, n).reshape(count, n)
    counts = np.concatenate(stats._draws(count, cells=count * n, seed=0))
    plain = [np.median(np.repeat(samples, row, axis=0)) for row in counts]
    value, low, high = stats.median_interval(samples, seed=0)
    wider = stats.student_t(count - 1) / stats.Z95 * math.sqrt(count / (count - 1))
    ends = value + wider * (np.quantile(plain, [0.025, 0.975]) - value)
    assert (low, high) == pytest.approx(tuple(np.clip(ends, samples.min(), samples.max())), rel=1e-12)


def test_many_samples_give_the_interval_of_all_of_them_nearly():
    samples = session_runs(np.random.default_rng(4), 12, 16, 40)
    assert samples.size > 4 * stats.GRID
    counts = np.concatenate(stats._draws(12, cells=12, seed=0))[:400]
    plain = [np.median(np.repeat(samples.reshape(12, -1), row, axis=0)) for row in counts]
    _, low, high = stats.median_interval(samples)
    wider = stats.student_t(11) / stats.Z95 * math.sqrt(12 / 11)
    assert high - low == pytest.approx(wider * float(np.diff(np.quantile(plain, [0.025, 0.975]))[0]), rel=0.15)


def test_the_ratio_is_paired_by_round():
    rng = np.random.default_rng(5)
    slowdown = np.exp(rng.normal(0, 1.0, (10, 6, 1)))  # a machine that others use: all candidates suffer alike
    base, other = 2e-3 * slowdown * np.ones((10, 6, 4)), 1e-3 * slowdown * np.ones((10, 6, 9))
    (found,) = stats.joint_intervals(stats.session_run_ratios(base, other)[:, None])
    assert found == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("candidates", [1, 5])
@pytest.mark.parametrize("count", [5, 8, 20])
def test_intervals_of_ratios_cover_all_of_them_at_once(candidates, count):
    rng = np.random.default_rng(6)
    covered = [
        all(low <= 1.5 <= high for _, low, high in stats.joint_intervals(ratios(rng, 1.5, candidates, count=count)))
        for _ in range(300)
    ]
    assert np.mean(covered) >= 0.92


def test_a_stall_in_a_few_session_runs_does_not_decide():
    rng = np.random.default_rng(12)
    logs = ratios(rng, 1.05)
    stalled = logs.copy()
    stalled[[3, 11, 12], 0] = [8.0, -9.0, 7.0]  # preempted for milliseconds in a block of microseconds
    calm, found = stats.joint_intervals(logs)[0], stats.joint_intervals(stalled)[0]
    assert found.value == pytest.approx(calm.value, rel=0.02)
    assert found.high - found.low < 3 * (calm.high - calm.low)


def test_however_wild_the_samples_no_bound_is_absurd():
    logs = np.random.default_rng(13).normal(0, 200, (8, 2))
    for value, low, high in stats.joint_intervals(logs):
        assert low >= value / 1001 and high <= value * 1001 and math.isfinite(high)


def test_a_family_pays_for_its_size():
    logs = ratios(np.random.default_rng(7), candidates=8)
    alone = stats.joint_intervals(logs[:, :1])[0]
    among = stats.joint_intervals(logs)[0]
    assert among.value == alone.value and among.high - among.low > 1.2 * (alone.high - alone.low)


def test_correlated_session_runs_are_joined_into_longer_blocks():
    """A machine that stays slow for one model over many session runs must not pass for many measurements."""
    rng = np.random.default_rng(8)
    covered = []
    for _ in range(200):
        walk, noise = np.zeros(48), rng.normal(0, 0.01, 48)
        for i in range(1, 48):
            walk[i] = 0.7 * walk[i - 1] + noise[i]
        (found,) = stats.joint_intervals(walk[:, None])
        covered.append(found.low <= 1 <= found.high)
    assert np.mean(covered) >= 0.8  # about 0.6 where every session run counts as its own block


def test_the_same_seed_gives_the_same_interval():
    samples = session_runs(np.random.default_rng(7))
    assert stats.median_interval(samples, seed=3) == stats.median_interval(samples, seed=3)
    assert stats.median_interval(samples, seed=3) != stats.median_interval(samples, seed=4)


@pytest.mark.parametrize("bad", [[], [1.0], [[1.0, 2.0]], [[1.0], [float("nan")]], np.ones((2, 2, 2, 2))])
def test_samples_that_carry_no_interval_are_refused(bad):
    with pytest.raises(ValueError, match=r"session runs|finite"):
        stats.median_interval(bad)


def test_a_ratio_needs_equal_rounds_and_positive_times():
    with pytest.raises(ValueError, match=r"pairs session runs"):
        stats.session_run_ratios(np.ones((3, 2, 1)), np.ones((4, 2, 1)))
    with pytest.raises(ValueError, match=r"shape \(session runs, rounds, n\)"):
        stats.session_run_ratios(np.ones((4, 2)), np.ones((4, 2, 1)))
    with pytest.raises(ValueError, match=r"above zero"):
        stats.session_run_ratios(np.ones((3, 2, 1)), np.zeros((3, 2, 1)))
    with pytest.raises(ValueError, match=r"2 session runs"):
        stats.joint_intervals(np.ones((1, 3)))


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 7, 10, 19, 59, 400])
def test_students_t_is_scipys(df):
    assert stats.student_t(df) == pytest.approx(student.ppf(0.975, df), rel=3e-3)


def test_the_noise_floor_is_how_far_the_baseline_reaches_from_itself():
    assert stats.noise_floor(stats.Interval(1.001, 0.99, 1.012)) == pytest.approx(0.012)
    assert stats.noise_floor(stats.Interval(0.99, 0.98, 1.0)) == pytest.approx(1 / 0.98 - 1)


@pytest.mark.parametrize(
    ("ratio", "floor", "words"),
    [
        ((1.25, 1.2, 1.3), 0.01, "faster"),
        ((0.8, 0.7, 0.9), 0.01, "slower"),
        ((1.0, 0.9, 1.1), 0.0, "not resolved"),
        ((1.02, 1.01, 1.03), 0.03, "not resolved"),  # resolved by its interval, and within what the run can claim
        ((1.02, 0.99, 1.05), 0.001, "not resolved"),
    ],
)
def test_a_verdict_needs_its_interval_and_the_noise_floor(ratio, floor, words):
    assert stats.verdict(stats.Interval(*ratio), floor) == words


@pytest.mark.parametrize("floor", [0.0, 0.01, 0.05])
def test_a_verdict_is_the_same_seen_from_the_other_side(floor):
    mirror = {"faster": "slower", "slower": "faster", "not resolved": "not resolved"}
    for value, low, high in [(1.015, 1.011, 1.02), (1.2, 0.9, 1.6), (0.985, 0.98, 0.99), (1.06, 1.05, 1.07)]:
        turned = stats.Interval(1 / value, 1 / high, 1 / low)
        assert stats.verdict(turned, floor) == mirror[stats.verdict(stats.Interval(value, low, high), floor)]


def test_drift_is_found_and_not_invented():
    rng = np.random.default_rng(11)
    still = [stats.drift(session_runs(rng)).drifts for _ in range(200)]
    rising = [stats.drift(session_runs(rng, shared=np.linspace(0, 0.2, 20)[:, None, None])).drifts for _ in range(50)]
    assert np.mean(still) <= 0.1 and np.mean(rising) >= 0.9
    with pytest.raises(ValueError, match=r"6 session runs"):
        stats.drift(session_runs(rng, count=5))


@pytest.mark.parametrize(("q", "least"), [(90, 64), (95, 130), (99, 662)])
def test_a_percentile_is_told_only_where_the_samples_carry_it(q, least):
    samples = np.linspace(1, 2, least)
    assert stats.percentile(samples[1:], q) is None
    assert stats.percentile(samples, q) == pytest.approx(1 + q / 100)
    assert stats.needed(q) == least


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=50, deadline=None)
def test_wilson_agrees_with_scipy(counts):
    k, n = counts
    value, low, high = stats.wilson(k, n)
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert (value, low, high) == pytest.approx((k / n, expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= value <= high <= 1


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(k, n):
    with pytest.raises(ValueError, match=r"k <= n"):
        stats.wilson(k, n)


@given(st.integers(0, 500), st.integers(0, 500))
@settings(max_examples=60, deadline=None)
def test_mcnemar_agrees_with_the_binomial_test(gained, lost):
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert stats.mcnemar(gained, lost) == pytest.approx(expected, rel=1e-8)
    assert stats.mcnemar(gained, lost) == stats.mcnemar(lost, gained)


def test_mcnemar_holds_for_large_counts():
    assert stats.mcnemar(500_000, 500_000) == 1.0
    assert 0 < stats.mcnemar(162, 446) < 1e-30
    z = 2000 / math.sqrt(200_000)
    assert stats.mcnemar(99_000, 101_000) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.02)


def test_the_paired_interval_is_newcombes():
    """Published examples: Newcombe 1998, table II; Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33)."""
    assert stats.newcombe(36, 12, 2, 0)[1:] == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert stats.newcombe(1, 1, 7, 12)[1:] == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_the_paired_interval_covers_the_true_drop():
    rng = np.random.default_rng(11)
    hits = 0
    for both, lost, gained, neither in rng.multinomial(400, [0.86, 0.04, 0.02, 0.08], size=400):
        _, low, high = stats.newcombe(both, lost, gained, neither)
        hits += low <= 0.02 <= high
    assert 0.92 <= hits / 400 <= 0.99


def test_a_paired_drop_is_in_points_and_turns_its_sign_with_its_arguments():
    rng = np.random.default_rng(12)
    base, other = rng.random(1000) < 0.9, rng.random(1000) < 0.8
    there, back = stats.paired_drop(base, other), stats.paired_drop(other, base)
    assert there["value"] == pytest.approx(100 * (base.mean() - other.mean()))
    assert there["low"] > 0 and there["p"] < 0.01
    assert (back["value"], back["low"], back["high"]) == pytest.approx((-there["value"], -there["high"], -there["low"]))
    assert (back["gained"], back["lost"]) == (there["lost"], there["gained"])


def test_pairing_resolves_what_two_separate_intervals_cannot():
    base = np.arange(10_000) < 9000
    other = np.arange(10_000) < 8950
    drop, unpaired = stats.paired_drop(base, other), stats.wilson(9000, 10_000)
    assert drop["low"] > 0
    assert drop["high"] - drop["low"] < 50 * (unpaired.high - unpaired.low)


def test_equal_models_have_no_drop_and_an_interval_around_it():
    same = np.arange(100) < 90
    drop = stats.paired_drop(same, same)
    assert drop["value"] == 0 and drop["p"] == 1.0
    assert drop["low"] < 0 < drop["high"]


def test_a_paired_drop_refuses_lists_that_do_not_pair():
    with pytest.raises(ValueError, match=r"equal"):
        stats.paired_drop(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match=r"true and false"):
        stats.paired_drop(np.ones(3), np.ones(3))


@pytest.mark.parametrize("n", [40, 30_000])
def test_the_interval_of_a_mean_has_the_width_theory_gives(n):
    values = np.random.default_rng(13).exponential(2.0, n)
    value, low, high = stats.mean_interval(values)
    assert value == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(n), rel=0.15)


def test_a_column_that_does_not_vary_has_no_width_beside_one_that_cannot_be_told():
    still, moving = stats.joint_intervals(np.array([[0.0, 0.1], [0.0, 0.3]]))
    assert still == (1, 1, 1)
    assert moving.low < moving.value / 100 < 100 * moving.value < moving.high
