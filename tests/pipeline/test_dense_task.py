"""A whole run of a task with a label for every token: trained, distilled, quantized, judged by a metric of the set."""

from __future__ import annotations

import json

import pytest
import torch
from prune_nets import FIXED
from torch import nn

from compress import Task, compress
from compress.core.errors import RecipeError
from compress.pipeline.run import check_model
from compress.tasks.losses import Loss
from evaluate.core.errors import ModelError
from evaluate.core.records import CompressRecord
from evaluate.report.text.run_table import rows
from evaluate.runtime.session import open_session

RECIPE = {
    "version": 1,
    "train": {"epochs": 2, "batch_size": 20},
    "passes": [{"kind": "distill", "epochs": 1}, {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 32}}],
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


class ClassesLast(nn.Module):
    """Gives (n, length, classes), as networks of Transformers do."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.inner = net(classes)

    def forward(self, x):
        return {"logits": self.inner(x).transpose(1, 2)}


def test_classes_may_be_the_last_axis(tmp_path):
    task = tokens()
    found = [
        compress(model, RECIPE, task=task, out=tmp_path / name, progress=False).record()
        for name, model in (("first", net()), ("last", ClassesLast()))
    ]
    for key in ("baseline", "compressed"):
        first, last = (record[key]["accuracy"] for record in found)
        assert last["value"] == pytest.approx(first["value"], abs=0.5) and first["n"] == last["n"]
    session = open_session((tmp_path / "last" / "model.onnx").read_bytes())
    assert session.run({"input": task.example(4)["input"].numpy()})[0].shape == (4, 12, 3), "the file keeps its layout"
    with pytest.raises(ModelError, match=r"which axis is that of the classes cannot be told"):
        square = Task.from_tensors(*[(torch.randn(40, 2, 3), torch.arange(120).view(40, 3) % 3)] * 3, metric="miou")
        compress(net(), RECIPE, task=square, out=tmp_path / "square")


class NextToken(nn.Module):
    """A causal network over 12 tokens: each place sees the two before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix = nn.Embedding(12, 16), nn.Conv1d(16, 32, 3)
        self.head = nn.Linear(32, 12)

    def forward(self, input_ids):
        x = nn.functional.pad(self.embed(input_ids).transpose(1, 2), (2, 0))
        return self.head(self.mix(x).relu().transpose(1, 2))


def test_the_next_token_is_predicted_pruned_distilled_and_quantized(tmp_path):
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 12, (200, 20), generator=draw)
    for place in range(2, 20):  # each token follows from the two before it
        ids[:, place] = (ids[:, place - 1] + 2 * ids[:, place - 2] + 1) % 12
    after = torch.cat([ids[:, 1:], torch.full((200, 1), -100)], 1)  # no label after the last
    task = Task.from_tensors(
        *[({"input_ids": ids[a:b]}, after[a:b]) for a, b in ((0, 140), (140, 170), (170, 200))],
        classes=12,
        metric="perplexity",
    )
    recipe = {
        "version": 1,
        "train": {"epochs": 40, "batch_size": 20, "optimizer": "adamw", "learning_rate": 0.01},
        "passes": [
            {"kind": "prune", "keep": {"params": 0.8}, **FIXED, "round_to": 1, "recover": {"epochs": 5, "distill": {}}},
            {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}},
        ],
        "benchmark": {"seconds": 0.3},
    }
    record = compress(NextToken(), recipe, task=task, out=tmp_path, progress=False).record()
    assert record["baseline"]["accuracy"]["metric"] == "perplexity"
    assert record["baseline"]["accuracy"]["value"] < 6 < 12, "a guess among twelve has a perplexity of 12"
    assert record["compressed"]["accuracy"]["value"] < 8 and record["drop"]["low"] <= record["drop"]["high"]


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
