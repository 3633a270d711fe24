"""What every metric promises, over one table of cases; a metric without a row fails."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from metric_cases import METRIC_CASES, classified, labels, pixels, tokens, values

from evaluate.core.errors import DataError
from evaluate.metrics import Metric, drop, get_metric, register_metric, score
from evaluate.metrics.base import METRICS
from evaluate.metrics.resampling import replicates, two_sided

every = pytest.mark.parametrize("case", METRIC_CASES, ids=str)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_every_metric_has_a_row():
    ours = {name for name, found in METRICS.all(installed=False).items() if found.built_in}
    assert ours == {case.metric for case in METRIC_CASES}


@every
@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_that_of_other_libraries(case, seed):
    outputs, targets = case.data(np.random.default_rng(seed), 1.5)
    found = score(outputs, targets, case.metric)
    assert found["value"] == pytest.approx(case.reference(outputs, targets), rel=1e-9)
    assert found["n"] == len(targets)


@every
def test_classes_may_be_the_last_axis(case, rng):
    outputs, targets = case.data(rng, 1.5)
    turned = np.moveaxis(outputs, 1, -1) if outputs.ndim > 2 and targets.dtype.kind == "i" else outputs
    assert score(turned, targets, case.metric) == score(outputs, targets, case.metric)
    assert drop(turned, outputs, targets, case.metric)["value"] == 0


@every
def test_the_interval_holds_the_value_and_is_seeded(case, rng):
    outputs, targets = case.data(rng, 1.5)
    found = score(outputs, targets, case.metric)
    assert found["low"] < found["value"] < found["high"]
    assert score(outputs, targets, case.metric) == found
    json.dumps(found, allow_nan=False)


@every
def test_a_model_has_not_dropped_against_itself(case, rng):
    outputs, targets = case.data(rng, 1.5)
    gap = drop(outputs, outputs, targets, case.metric)
    assert (gap["value"], gap["p"]) == (0, 1)
    assert gap["low"] <= 0 <= gap["high"]
    assert not gap["gained"] and not gap["lost"]


@every
def test_samples_that_are_all_alike_make_no_share_certain(case, rng):
    outputs, targets = case.data(rng, 200.0)
    found, gap = score(outputs, targets, case.metric), drop(outputs, outputs, targets, case.metric)
    if get_metric(case.metric).share:
        assert found["value"] - found["low"] > 1 or found["high"] - found["value"] > 1
        assert gap["low"] < 0 < gap["high"] and (gap["value"], gap["p"]) == (0, 1)
        more = score(
            np.tile(outputs, (8, *[1] * (outputs.ndim - 1))),
            np.tile(targets, (8, *[1] * (targets.ndim - 1))),
            case.metric,
        )
        assert more["high"] - more["low"] < found["high"] - found["low"], "more samples tell more"


@every
def test_a_worse_model_has_lost_whichever_way_the_metric_points(case):
    good, targets = case.data(np.random.default_rng(3), 6.0)
    worse, same = case.data(np.random.default_rng(3), 0.7)
    np.testing.assert_array_equal(targets, same)
    metric, gap = get_metric(case.metric), drop(good, worse, targets, case.metric)
    assert gap["value"] == pytest.approx(
        score(good, targets, case.metric)["value"] - score(worse, targets, case.metric)["value"]
    )
    lost, low, high = metric.as_loss(gap["value"], gap["low"], gap["high"])
    assert 0 < low < lost < high
    assert gap["p"] < 0.05
    assert gap["lost"] is None or gap["lost"] > gap["gained"]
    back = drop(worse, good, targets, case.metric)
    assert back["value"] == -gap["value"] and back["p"] == gap["p"]


@every
def test_statistics_of_batches_are_those_of_all_samples(case, rng):
    outputs, targets = case.data(rng, 1.5)
    metric = get_metric(case.metric)
    whole = metric.per_sample(outputs, targets)
    parts = [metric.per_sample(outputs[at : at + 11], targets[at : at + 11]) for at in range(0, len(targets), 11)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12)
    assert metric.value(whole) == pytest.approx(score(outputs, targets, case.metric)["value"], rel=1e-12)


@every
def test_a_resample_has_the_value_of_its_samples(case, rng):
    """The fast ways of the built-in metrics give what the slow one gives: the metric of the drawn samples."""
    outputs, targets = case.data(rng, 1.5)
    metric = get_metric(case.metric)
    statistics = metric.per_sample(outputs, targets)
    counts = np.stack([np.bincount(rng.integers(0, len(targets), len(targets)), minlength=len(targets))] * 2)
    drawn = np.repeat(np.arange(len(targets)), counts[0])
    wanted = metric.value(metric.per_sample(outputs[drawn], targets[drawn]))
    assert metric.resampled(statistics, counts) == pytest.approx(wanted, rel=1e-9)


@every
def test_shapes_that_do_not_fit_are_said_with_the_name_of_the_metric(case, rng):
    outputs, targets = case.data(rng, 1.5)
    for wrong in (targets[:-1], np.stack([targets, targets], axis=-1)):
        with pytest.raises(DataError, match=r"needs|outputs for"):
            score(outputs, wrong, case.metric)


CLASSES = sorted({case.metric for case in METRIC_CASES if case.data is classified})


@pytest.mark.parametrize("metric", CLASSES)
@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.array([0, 1, 2, 8]), r"from 0 to 8.*8 classes"),
        (np.array([0, 1, -100, 2]), r"from -100 to 2"),
        (np.array([0.0, 1.0, 2.0, 3.0]), r"class ids.*float64"),
        (np.eye(4, 8, dtype=int), r"class ids of shape|class ids, got"),
    ],
)
def test_ids_that_cannot_be_are_refused(metric, targets, words):
    with pytest.raises(DataError, match=words):
        score(np.random.default_rng(0).normal(size=(4, 8)), targets, metric)


@pytest.mark.parametrize("metric", sorted({c.metric for c in METRIC_CASES if c.data is tokens}))
def test_labels_that_are_left_out_change_nothing(metric, rng):
    outputs, targets = tokens(rng, 1.5)
    moved = outputs + 50 * rng.normal(size=outputs.shape) * (targets == -100)[:, None]
    assert score(moved, targets, metric)["value"] == pytest.approx(score(outputs, targets, metric)["value"])
    with pytest.raises(DataError, match="no target has a label"):
        score(outputs, np.full_like(targets, -100), metric)


def test_a_sample_without_any_label_is_no_trouble(rng):
    outputs, targets = pixels(rng, 1.5)
    targets[1:] = -100
    found = score(outputs, targets, "miou")
    assert found["low"] <= found["value"] <= found["high"]  # most resamples hold the one sample, the others nothing
    assert found["value"] == score(outputs[:1], targets[:1], "miou")["value"]


def test_of_equal_outputs_the_lower_ids_are_among_the_five():
    outputs = np.zeros((8, 8))
    assert score(outputs, np.arange(8), "top5")["value"] == pytest.approx(100 * 5 / 8)
    assert score(outputs[:, :, None], np.arange(8)[:, None], "top5")["value"] == pytest.approx(100 * 5 / 8)
    with pytest.raises(DataError, match="more than 5 classes, got 5"):
        score(outputs[:5, :5], np.arange(5), "top5")


def test_one_label_a_sample_is_judged_as_accuracy_is(rng):
    outputs, targets = classified(rng, 1.0)
    worse = outputs + rng.normal(size=outputs.shape)
    assert drop(outputs, worse, targets, "token_accuracy") == drop(outputs, worse, targets, "accuracy")
    ours, known = score(outputs, targets, "token_accuracy"), score(outputs, targets, "accuracy")
    assert [ours[key] for key in ("value", "low", "high")] == [known[key] for key in ("value", "low", "high")]


def test_targets_of_labels_are_zero_or_one(rng):
    outputs, targets = labels(rng, 1.0)
    with pytest.raises(DataError, match="0 or 1, got 0 to 2"):
        score(outputs, 2 * targets, "label_f1")
    with pytest.raises(DataError, match="no label is 1"):
        score(outputs, 0 * targets, "average_precision")


@pytest.mark.parametrize("metric", ["r2", "pearson", "spearman"])
def test_what_does_not_vary(metric, rng):
    outputs, targets = values(rng, 1.0)
    with pytest.raises(DataError, match=f"{metric} needs targets that vary over the 150 samples"):
        score(outputs, np.full(150, 0.1), metric)
    still = score(np.full(150, targets.mean()), targets, metric)
    assert still["value"] == pytest.approx(0, abs=1e-12)
    assert np.isfinite([still["low"], still["high"]]).all()
    assert score(targets, targets, metric)["value"] == pytest.approx(1)


@pytest.mark.parametrize(("metric", "theory"), [("pearson", 0.75), ("rmse", 1 / np.sqrt(2))])
def test_the_width_of_an_interval_is_what_theory_gives(metric, theory):
    """Of normal errors: (1 - rho^2) / sqrt(n) for a correlation of 0.5, sigma / sqrt(2 n) for a root mean square."""
    rng, n = np.random.default_rng(1), 4000
    x = rng.normal(size=n)
    outputs = 0.5 * x + np.sqrt(0.75) * rng.normal(size=n) if metric == "pearson" else x + rng.normal(size=n)
    found = score(outputs, x, metric)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * theory / np.sqrt(n), rel=0.1)


def test_the_interval_covers_as_often_as_it_says():
    """Macro F1 of fresh samples of one population, whose own value a large sample tells."""

    def drawn(seed, n):
        return classified(np.random.default_rng(seed), 1.5, n=n, classes=4, drawn=4)

    truth = score(*drawn(10_000, 400_000), "macro_f1")["value"]
    found = [score(*drawn(seed, 200), "macro_f1") for seed in range(120)]
    assert 0.89 <= np.mean([one["low"] <= truth <= one["high"] for one in found]) <= 0.99


def test_p_is_even_where_two_models_differ_by_chance_alone():
    """A share of 5 % of comparisons of equally good models falls below 0.05, but for what 200 comparisons can tell."""

    def chance(seed):
        rng = np.random.default_rng(seed)
        outputs, targets = classified(rng, 0.0, n=150, classes=4, drawn=4)
        twins = [outputs + 1.5 * np.eye(4)[targets] + 0.7 * rng.normal(size=outputs.shape) for _ in range(2)]
        return drop(*twins, targets, "macro_f1")["p"]

    assert np.mean([chance(seed) < 0.05 for seed in range(200)]) < 0.1


def test_p_and_the_interval_of_a_drop_say_the_same(rng):
    disagreed = 0
    for skill in np.linspace(1.0, 2.0, 30):
        targets = rng.integers(0, 4, 100)
        one, two = (rng.normal(size=(100, 4)) + s * np.eye(4)[targets] for s in (skill, 1.5))
        gap = drop(one, two, targets, "macro_f1")
        disagreed += (gap["p"] < 0.05) != (gap["low"] > 0 or gap["high"] < 0)
    assert disagreed <= 1  # a tie at the bound


def test_two_sided_counts_both_tails_and_is_never_zero():
    assert two_sided(np.ones(1999)) == pytest.approx(2 / 2000)
    assert two_sided(np.zeros(50)) == 1
    assert two_sided(np.array([1.0, -1.0, np.nan])) == 1


def test_work_is_bounded():
    rng = np.random.default_rng(0)
    small, large = np.zeros((1000, 2)), np.zeros((1_000_000, 2))
    rows = [
        len(replicates(lambda t, c: np.zeros(len(c)), table)[0]) for table in (small, large[:200_000], large[:400_000])
    ]
    assert rows == [2000, 2000, 1000]
    x = rng.normal(size=20_000)
    began = time.perf_counter()
    score(x + rng.normal(size=20_000), x, "spearman")
    assert time.perf_counter() - began < 60


@register_metric("own_ratio", higher_is_better=True, labels=False)
class OwnRatio(Metric):
    """A ratio of sums, of a user's: two statistics a sample and what they come to."""

    def per_sample(self, outputs, targets):
        return np.stack([outputs, targets], axis=1)

    def value(self, values):
        top, bottom = values.sum(axis=0)
        return float(top / bottom)


def test_a_metric_of_ones_own_needs_no_more_than_statistics_and_a_value(rng):
    outputs, targets = rng.uniform(1, 2, 300), rng.uniform(1, 2, 300)
    found = score(outputs, targets, "own_ratio")
    assert found["value"] == pytest.approx(outputs.sum() / targets.sum())
    assert found["low"] < found["value"] < found["high"]
    gap = drop(outputs + 0.1, outputs, targets, "own_ratio")
    assert gap["low"] > 0 and gap["p"] < 0.01 and gap["gained"] is gap["lost"] is None


def test_statistics_without_a_value_are_refused():
    @register_metric("own_pair", higher_is_better=True)
    class OwnPair(Metric):
        def per_sample(self, outputs, targets):
            return np.stack([outputs, targets], axis=1)

    with pytest.raises(DataError, match=r"own_pair gave statistics of shape \[3, 2\].*define value"):
        score(np.zeros(3), np.zeros(3), "own_pair")
