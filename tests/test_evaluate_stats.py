"""Intervals cover what they claim to cover, and the exact tests agree with scipy's."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from evaluate import stats


def rounds(rng, count=30, n=8, median=1e-3):
    """Latency samples as machines give them: skewed, and with a part that all samples of a round share."""
    return median * np.exp(rng.normal(0, 0.1, (count, 1)) + rng.normal(0, 0.05, (count, n)))


def test_the_interval_of_a_median_covers_it():
    rng = np.random.default_rng(1)
    intervals = [stats.median_interval(rounds(rng)) for _ in range(150)]
    covered = np.mean([low <= 1e-3 <= high for _, low, high in intervals])
    assert 0.88 <= covered <= 0.995


def test_resampling_samples_instead_of_rounds_would_claim_too_much():
    samples = rounds(np.random.default_rng(2), count=30, n=50)
    _, low, high = stats.median_interval(samples)
    _, flat_low, flat_high = stats.median_interval(samples.reshape(-1, 1))
    assert high - low > 2 * (flat_high - flat_low)


def test_a_median_is_that_of_all_samples_and_lies_in_its_interval():
    samples = rounds(np.random.default_rng(3), count=7, n=4)
    value, low, high = stats.median_interval(samples)
    assert value == np.median(samples)
    assert low <= value <= high
    assert samples.min() <= low and high <= samples.max()


@pytest.mark.parametrize(("count", "n"), [(9, 5), (8, 4)])
def test_the_fast_bootstrap_is_the_plain_one(count, n):
    samples = rounds(np.random.default_rng(4), count, n)
    counts = np.concatenate(stats._round_counts(count, cells=count * n, seed=0))
    plain = [np.median(np.repeat(samples, row, axis=0)) for row in counts]
    _, low, high = stats.median_interval(samples, seed=0)
    assert (low, high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), rel=1e-12)


def test_the_ratio_is_paired_by_round():
    rng = np.random.default_rng(5)
    slowdown = np.exp(rng.normal(0, 1.0, (30, 1)))  # a machine that others use: both models suffer alike
    base, other = 2e-3 * slowdown * np.ones((30, 4)), 1e-3 * slowdown * np.ones((30, 9))
    assert stats.ratio_interval(base, other) == pytest.approx((2, 2, 2))


def test_the_interval_of_a_ratio_covers_it():
    rng = np.random.default_rng(6)
    found = [stats.ratio_interval(rounds(rng, median=1.5e-3), rounds(rng)) for _ in range(150)]
    assert 0.88 <= np.mean([low <= 1.5 <= high for _, low, high in found]) <= 0.995


def test_the_same_seed_gives_the_same_interval():
    samples = rounds(np.random.default_rng(7))
    assert stats.median_interval(samples, seed=3) == stats.median_interval(samples, seed=3)
    assert stats.median_interval(samples, seed=3) != stats.median_interval(samples, seed=4)


def test_intervals_are_fast():
    base, other = rounds(np.random.default_rng(8), 40, 100), rounds(np.random.default_rng(9), 40, 100)
    start = time.process_time()
    stats.median_interval(base)
    stats.ratio_interval(base, other)
    assert time.process_time() - start < 0.6


@pytest.mark.parametrize("bad", [[], [1.0], [[1.0, 2.0]], [[1.0], [float("nan")]], np.ones((2, 2, 2))])
def test_samples_that_carry_no_interval_are_refused(bad):
    with pytest.raises(ValueError, match=r"rounds|finite"):
        stats.median_interval(bad)


def test_a_ratio_needs_equal_rounds_and_positive_times():
    with pytest.raises(ValueError, match=r"3, the other 4"):
        stats.ratio_interval(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"above zero"):
        stats.ratio_interval(np.ones((3, 2)), np.zeros((3, 2)))


def test_the_noise_floor_rises_with_the_noise():
    rng = np.random.default_rng(10)
    quiet = stats.noise_floor(1e-3 * np.exp(rng.normal(0, 0.002, (30, 5))))
    loud = stats.noise_floor(1e-3 * np.exp(rng.normal(0, 0.2, (30, 5))))
    assert 0 < quiet < 0.01 < loud


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(1.2, 1.3, "faster"), (0.7, 0.9, "slower"), (0.9, 1.1, "not resolved"), (1.001, 1.004, "not resolved")],
)
def test_a_verdict_needs_the_whole_interval_beyond_what_placement_does(low, high, words):
    assert stats.verdict(low, high) == words


def test_a_verdict_is_the_same_seen_from_the_other_side():
    mirror = {"faster": "slower", "slower": "faster", "not resolved": "not resolved"}
    for low, high in [(1.011, 1.02), (1.0099, 1.02), (0.98, 0.9902), (0.98, 0.99)]:
        assert stats.verdict(1 / high, 1 / low) == mirror[stats.verdict(low, high)]


@pytest.mark.parametrize(("q", "least"), [(90, 64), (99, 662)])
def test_a_percentile_is_told_only_where_the_samples_carry_it(q, least):
    samples = np.linspace(1, 2, least)
    assert stats.percentile(samples[1:], q) is None
    assert stats.percentile(samples, q) == pytest.approx(1 + q / 100)


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
