"""A baseline that is no good is stopped before anything is paid for; what is said of it is true."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compress import Task, compress
from compress.core.errors import RecipeError
from compress.pipeline.sanity import examine
from evaluate.core.errors import ModelError

RECIPE = {
    "version": 1,
    "name": "sane",
    "passes": [{"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}}],
    "benchmark": {"seconds": 0.3},
}


class Wrong(nn.Module):
    """A trained network that is fed inputs of another scale than it was trained on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(-5 * image)


def test_a_baseline_fed_wrongly_is_stopped_with_the_likely_reasons(trained, digits, tmp_path):
    with pytest.raises(ModelError, match=r"(?s)accuracy .* on \d+ validation samples, no better.*normalize.*--force"):
        compress(Wrong(trained), RECIPE, task=digits, out=tmp_path / "run", progress=False)
    forced = compress(Wrong(trained), RECIPE, task=digits, out=tmp_path / "run", progress=False, force=True)
    assert any("no better than one and the same answer" in text for text in forced.summary()["warnings"])


def test_what_was_expected_is_held_against_the_interval(trained, digits, tmp_path):
    found = examine(trained, digits, 0)
    assert found.low <= found.value <= found.high and not found.no_better()
    assert found.constant is not None and 5 < found.constant < 20
    for expected, good in ((found.value, True), (found.high + 0.9, True), (found.high + 1.1, False)):
        recipe = {**RECIPE, "expect": {"accuracy": expected}}
        if good:
            compress(trained, recipe, task=digits, out=tmp_path / str(expected), progress=False)
        else:
            with pytest.raises(ModelError, match=f"{expected:g} was expected"):
                compress(trained, recipe, task=digits, out=tmp_path / str(expected), progress=False)
    with pytest.raises(RecipeError, match="'mse' is not measured; task 'digits' has accuracy"):
        compress(trained, {**RECIPE, "expect": {"mse": 1}}, task=digits, out=tmp_path / "mse", progress=False)


def test_a_regression_is_held_against_the_mean():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1.0], [2.0], [3.0]])
    task = Task.from_tensors((x, y), None, (x[:50], y[:50]), validation_fraction=0.5)
    good, bad = nn.Linear(3, 1), nn.Linear(3, 1)
    with torch.no_grad():
        for net, weight in ((good, [[1.0, 2.0, 3.0]]), (bad, [[0.0, 0.0, 0.0]])):
            net.weight.copy_(torch.tensor(weight))
            net.bias.zero_()
    assert not examine(good, task, 0).no_better()
    assert examine(bad, task, 0).no_better()
    assert examine(good, task, 0).constant == pytest.approx(float(y.var()), rel=0.3)


def test_test_samples_that_are_trained_on_are_counted(trained, digits, tmp_path):
    images = {"image": torch.cat([digits.test.inputs["image"], digits.train.inputs["image"][:7]])}
    labels = torch.cat([digits.test.targets, digits.train.targets[:7]])
    task = Task.from_tensors(digits.train, digits.validation, (images, labels), classes=10)
    artifact = compress(trained, RECIPE, task=task, out=tmp_path / "run", progress=False)
    assert any("7 of the test samples are training samples too" in text for text in artifact.summary()["warnings"])


def test_few_samples_refuse_nothing(tmp_path):
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    task = Task.from_tensors((x[:40], y[:40]), (x[40:50], y[40:50]), (x[50:], y[50:]))
    compress(nn.Linear(4, 3), RECIPE, task=task, out=tmp_path / "run", progress=False)
