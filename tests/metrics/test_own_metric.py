"""A metric registered from outside the package is scored, compared, judged and shown as leanfit's own are."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from tiny_onnx import linear_onnx

from evaluate.benchmark.compare import compare
from evaluate.core.components import only_allowed
from evaluate.core.errors import DataError, UsageError
from evaluate.metrics import Metric, drop, get_metric, per_class_drop, register_metric, score
from evaluate.metrics.base import metric_of
from evaluate.metrics.samples import Samples


@register_metric("own_mae", higher_is_better=False, labels=False)
def own_mae(outputs, targets):
    """The mean absolute error."""
    return np.abs(outputs - targets).reshape(len(targets), -1).mean(axis=1)


@register_metric("own_top2", unit="%", higher_is_better=True, labels=True)
def own_top2(outputs, targets):
    """The share of samples whose target is among the two largest outputs."""
    return 100.0 * (np.argsort(outputs)[:, -2:] == targets[:, None]).any(axis=1)


@register_metric("own_worst", higher_is_better=False, labels=False)
class OwnWorst(Metric):
    """The largest error of all samples, without an interval."""

    test = "sign test on the largest"

    def per_sample(self, outputs, targets):
        return np.abs(outputs - targets)

    def interval(self, values):
        return (values.max(),) * 3


@pytest.fixture
def regression(rng):
    targets = rng.normal(size=200)
    return targets + rng.normal(size=200), targets + 0.1 * rng.normal(size=200), targets


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_function_is_a_metric_with_an_interval_a_paired_drop_and_a_direction(regression):
    worse, better, targets = regression
    found = score(better, targets, "own_mae")
    assert found["value"] == pytest.approx(np.abs(better - targets).mean())
    assert found["low"] < found["value"] < found["high"]
    gap = drop(worse, better, targets, "own_mae")
    assert gap["low"] > 0
    assert gap["gained"] > gap["lost"]  # the error fell: a positive drop is a gain
    assert get_metric("own_mae").as_loss(gap["value"], gap["low"], gap["high"])[0] == -gap["value"]


def test_gained_and_lost_follow_the_direction(rng):
    logits, targets = rng.normal(size=(300, 5)), rng.integers(0, 5, 300)
    logits[np.arange(300), targets] += 2
    hurt = np.where((np.arange(300) < 100)[:, None], 0.0, logits)
    assert drop(logits, hurt, targets, "own_top2")["lost"] > 0
    assert drop(hurt, logits, targets, "own_top2")["gained"] == drop(logits, hurt, targets, "own_top2")["lost"]
    assert drop(logits, hurt, targets, "own_top2")["value"] > 0
    assert per_class_drop(logits, hurt, targets, metric="own_top2") == []


def test_a_class_decides_its_own_interval(regression):
    _, better, targets = regression
    found = score(better, targets, f"{__name__}:own_worst")
    assert found["low"] == found["high"] == np.abs(better - targets).max()


def test_a_record_says_how_a_metric_that_is_not_leanfits_own_is_shown(regression):
    _, better, targets = regression
    own = score(better, targets, "own_mae")
    assert own["metric"] == f"{__name__}:own_mae"
    assert (own["unit"], own["higher_is_better"]) == ("", False)
    assert "unit" not in score(better, targets, "mse")


@pytest.mark.parametrize(
    ("known", "heading", "points"),
    [
        ({"metric": "away:top5", "unit": "%", "higher_is_better": True}, "top5, %", " points"),
        ({"metric": "away:pinball", "unit": "", "higher_is_better": False}, "pinball, lower is better", ""),
        ({"metric": "bleu"}, "bleu, higher is better", ""),
        ({"metric": "rmse"}, "rmse, lower is better", ""),
        ({"metric": ["no", "name"], "unit": 3, "higher_is_better": "yes"}, None, ""),
        ({}, "accuracy, %", " points"),
        (None, "accuracy, %", " points"),
    ],
)
def test_a_record_of_a_metric_that_is_not_at_hand_is_shown_as_it_says(known, heading, points):
    shown = metric_of(known)
    assert shown.points == points
    assert heading is None or shown.heading == heading


def test_showing_a_record_imports_nothing_that_it_names(tmp_path):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    code = "import sys; from evaluate.metrics.base import metric_of; m = metric_of({'metric': 'stranger:x'}); \
print(m.label, 'stranger' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60
    )
    assert found.stdout.split() == ["x", "False"]


def test_values_of_another_shape_are_refused_by_name():
    @register_metric("own_scalar", higher_is_better=True)
    def own_scalar(outputs, targets):
        return 1.0

    with pytest.raises(DataError, match=r"own_scalar gave values of shape \[\] for 3 samples"):
        score(np.zeros((3, 2)), np.zeros(3), "own_scalar")


def test_an_unknown_metric_names_its_neighbour():
    with pytest.raises(UsageError, match=r"unknown metric 'acuracy'.*accuracy"):
        score(np.zeros((2, 2)), np.zeros(2, int), "acuracy")
    with only_allowed(), pytest.raises(UsageError, match="--allow"):
        get_metric("stranger.metrics:x")


def test_a_score_is_json():
    json.dumps(score(np.eye(3), np.arange(3), "own_top2"))


def test_samples_of_a_metric_whose_code_is_not_here_are_measured_without_it():
    inputs = {"x": np.zeros((3, 2), np.float32)}
    samples = Samples(inputs, np.zeros(3), "stranger.metrics:x", expected={"m": np.ones(3)})
    bare, said = samples.judged()
    assert bare.targets is None
    assert bare.expected is samples.expected
    assert "stranger.metrics:x is taken on this machine" in said[0]
    assert "--allow" in said[0]
    known = Samples(inputs, np.zeros(3), f"{__name__}:own_mae")
    assert known.judged() == (known, [])


def test_a_comparison_goes_on_without_a_metric_that_is_not_here(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(linear_onnx(2, 3))
    samples = Samples({"x": np.ones((4, 2), np.float32)}, np.zeros(4), "stranger.metrics:x")
    record = compare(path, samples=samples, seconds=0.2).record
    assert record["results"][0]["accuracy"] is None
    assert any("stranger.metrics:x" in warning for warning in record["warnings"])
