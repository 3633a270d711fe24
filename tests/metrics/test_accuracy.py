"""Metrics agree with scikit-learn's, and outputs that cannot be scored are named."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, precision_recall_fscore_support
from tiny_onnx import linear_onnx

from evaluate.core import stats
from evaluate.core.errors import DataError, ModelError, UsageError
from evaluate.metrics.base import drop, per_class_drop, score
from evaluate.metrics.samples import predict
from evaluate.runtime.session import open_session


def classified(n=500, classes=6, seed=0, skill=2.0, drawn=None):
    """Logits that are often right, for targets from the first `drawn` classes."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, drawn or classes, n)
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), targets] += skill
    return logits, targets


@pytest.mark.parametrize("drawn", [6, 4])
@pytest.mark.parametrize("seed", range(4))
def test_per_class_and_macro_agree_with_sklearn(seed, drawn):
    logits, targets = classified(n=60, seed=seed, drawn=drawn)
    logits[:, 5] -= 9  # never predicted: with drawn=4 a class that does not occur at all
    found, guesses = score(logits, targets), logits.argmax(1)
    expected = precision_recall_fscore_support(targets, guesses, labels=range(6), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "n"), expected, strict=True):
        assert [entry[key] for entry in found["per_class"]] == pytest.approx(list(values))
    macro = precision_recall_fscore_support(targets, guesses, average="macro", zero_division=0)
    assert [found["macro"][key] for key in ("precision", "recall", "f1")] == pytest.approx(list(macro[:3]))


def test_accuracy_is_in_per_cent_with_wilsons_interval():
    logits, targets = classified()
    found = score(logits, targets, classes=tuple("abcdef"))
    assert found["value"] == pytest.approx(100 * np.mean(logits.argmax(1) == targets))
    k = int(np.sum(logits.argmax(1) == targets))
    assert (found["low"], found["high"]) == pytest.approx(tuple(100 * x for x in stats.wilson(k, 500)[1:]))
    assert found["n"] == 500 and [entry["class"] for entry in found["per_class"]] == list("abcdef")


def test_mse_agrees_with_sklearn_and_its_interval_covers():
    rng = np.random.default_rng(1)
    targets = rng.normal(size=(300, 2))
    outputs = targets + rng.normal(0, 0.5, size=(300, 2))
    found = score(outputs, targets, metric="mse")
    assert found["value"] == pytest.approx(mean_squared_error(targets, outputs))
    assert found["low"] < 0.25 < found["high"]
    assert found["per_class"] == [] and found["macro"] is None and found["n"] == 300


def test_mse_takes_a_last_axis_of_one_for_none():
    targets = np.arange(5.0)
    assert score(targets[:, None] + 1, targets, metric="mse")["value"] == pytest.approx(1)


def test_the_drop_counts_what_changed():
    logits, targets = classified()
    worse = logits.copy()
    flipped = np.flatnonzero(logits.argmax(1) == targets)[:7]
    worse[flipped] = -worse[flipped] + 100 * (np.arange(6) == (targets[flipped, None] + 1) % 6)
    found = drop(logits, worse, targets)
    assert (found["gained"], found["lost"]) == (0, 7)
    assert found["value"] == pytest.approx(score(logits, targets)["value"] - score(worse, targets)["value"])
    assert found["low"] > 0


def test_the_drop_of_mse_is_baseline_minus_this_one():
    rng = np.random.default_rng(2)
    targets = rng.normal(size=400)
    near, far = targets + rng.normal(0, 0.1, 400), targets + rng.normal(0, 0.3, 400)
    found = drop(near, far, targets, metric="mse")
    assert found["high"] < 0 and found["lost"] > found["gained"] and found["p"] < 1e-6
    assert found["value"] == pytest.approx(np.mean((near - targets) ** 2) - np.mean((far - targets) ** 2))


def test_the_class_that_suffers_is_seen():
    logits, targets = classified(drawn=5)
    hurt = logits.copy()
    hurt[targets == 3, 3] = -50
    found = {entry["class"]: entry for entry in per_class_drop(logits, hurt, targets, tuple("abcdef"))}
    assert set(found) == set("abcde")  # the sixth has no samples
    assert found["d"]["n"] == np.sum(targets == 3)
    assert found["d"]["drop"] == pytest.approx(100 * np.mean((logits.argmax(1) == targets)[targets == 3]))
    assert found["a"]["drop"] <= 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", ["accuracy", "mse"])
def test_outputs_that_are_not_finite_are_named(value, metric):
    logits, targets = classified(n=20)
    logits[[7, 11], 2] = value
    wanted = targets if metric == "accuracy" else np.zeros_like(logits)
    with pytest.raises(ModelError, match=r"2 of 20 samples .the first is sample 7.*NaN in its weights") as caught:
        score(logits, wanted, metric=metric)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        (np.ones((4, 3)), np.zeros(3, int), "4 outputs for 3 targets"),
        (np.ones((0, 3)), np.zeros(0, int), "0 outputs for 0 targets"),
        (np.ones((4, 3)), np.array([0, 1, 2, 3]), "from 0 to 3.*3 classes"),
        (np.ones((4, 3)), np.array([0, 1, -1, 2]), "from -1 to 2"),
        (np.ones((4, 1)), np.zeros(4, int), "2 classes or more"),
        (np.ones((4, 3, 2)), np.zeros(4, int), "2 classes or more"),
        (np.ones((4, 3)), np.zeros(4), "class ids, got .4. of float64"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs, targets, words):
    with pytest.raises(DataError, match=words) as caught:
        score(outputs, targets)
    assert caught.value.exit_code == 5


def test_mse_refuses_other_shapes_and_targets_that_are_not_finite():
    with pytest.raises(DataError, match=r"one shape"):
        score(np.ones((4, 2)), np.ones((4, 3)), metric="mse")
    with pytest.raises(DataError, match=r"targets are not finite"):
        score(np.ones(2), np.array([1.0, np.nan]), metric="mse")


def test_a_wrong_metric_or_number_of_names_is_refused():
    logits, targets = classified()
    with pytest.raises(UsageError, match=r"did you mean 'accuracy'"):
        score(logits, targets, metric="acuracy")
    with pytest.raises(DataError, match=r"names 2 classes.* has 6"):
        score(logits, targets, classes=("a", "b"))


def test_predictions_are_joined_in_order():
    session = open_session(linear_onnx())
    x = np.random.default_rng(0).normal(size=(23, 12)).astype(np.float32)
    found = predict(session, ({"x": x[i : i + 5]} for i in range(0, 23, 5)))
    assert found.shape == (23, 10)
    np.testing.assert_allclose(found, session.run({"x": x})[0], rtol=1e-5, atol=1e-6)


def test_an_empty_split_is_a_problem_of_the_data():
    with pytest.raises(DataError, match=r"empty"):
        predict(open_session(linear_onnx()), [])


def test_a_model_with_nan_weights_is_found_out():
    session = open_session(linear_onnx(bias=float("nan")))
    outputs = predict(session, [{"x": np.ones((4, 12), np.float32)}])
    with pytest.raises(ModelError, match=r"4 of 4"):
        score(outputs, np.zeros(4, int))
