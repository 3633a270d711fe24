"""A whole run of a task with a label for every token: trained, distilled, quantized, judged by a metric of the set."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from compress import Task, compress
from compress.core.errors import RecipeError
from compress.pipeline.run import check_model
from compress.tasks.losses import Loss
from evaluate.core.errors import ModelError
from evaluate.core.records import CompressRecord
from evaluate.report.text.run_table import rows

RECIPE = {
    "version": 1,
    "train": {"epochs": 2, "batch_size": 20},
    "passes": [{"kind": "distill", "epochs": 1}, {"kind": "quantize", "calibrate": {"samples": 32}}],
    "benchmark": {"seconds": 0.3},
}


def tokens(loss: Loss = "cross_entropy") -> Task:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(120, 2, 12, generator=draw)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    y[:, 9:] = -100
    return Task.from_tensors((x, y), None, (x, y), name="tokens", loss=loss, metric="miou")


def net(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 16, 1), nn.ReLU(), nn.Conv1d(16, classes, 1))


def test_a_run_over_tokens_is_judged_by_a_metric_of_the_set(tmp_path):
    compress(net(), RECIPE, task=tokens(), out=tmp_path)
    raw = json.loads((tmp_path / "records.jsonl").read_text().splitlines()[-1])
    for side in (raw["baseline"], raw["compressed"]):
        assert side["accuracy"]["metric"] == "miou"
        assert side["accuracy"]["low"] < side["accuracy"]["value"] < side["accuracy"]["high"]
    drop = raw["drop"]
    assert drop["gained"] is drop["lost"] is None and 0 < drop["p"] <= 1
    assert (drop["p"] < 0.05) == (drop["low"] > 0 or drop["high"] < 0)
    shown = {row.label: row for row in rows(CompressRecord.of(raw))}
    assert shown["paired bootstrap"].verdict.startswith("p ")


def test_outputs_need_the_classes_and_the_axes_of_the_labels():
    check_model(net(), tokens())
    with pytest.raises(ModelError, match=r"gives outputs \(2, 4, 12\).*expected \(batch, 3, 12\)"):
        check_model(net(4), tokens())
    with pytest.raises(ModelError, match=r"expected \(batch, 3, 12\)"):
        check_model(nn.Sequential(nn.Flatten(), nn.Linear(24, 3)), tokens())


def test_a_loss_that_does_not_say_its_kind_is_refused_by_the_training_that_distils(tmp_path):
    def own(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)

    with pytest.raises(RecipeError, match=r"register_loss\(\"name\", kind="):
        compress(net(), RECIPE, task=tokens(own), out=tmp_path)
