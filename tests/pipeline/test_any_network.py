"""Networks as people have them, through compress() and back: named inputs, several outputs, in-place forwards."""

from __future__ import annotations

import pytest
import torch
from prune_nets import FIXED
from torch import nn

from compress import Artifact, Task, compress
from compress.pipeline.artifact import verify
from compress.training.settings import TrainConfig
from compress.training.train import train
from evaluate.core.errors import DataError, ModelError
from evaluate.runtime.session import open_session

DRAW = torch.Generator().manual_seed(0)
RECIPE = {
    "version": 1,
    "name": "any",
    "train": {"epochs": 1, "optimizer": "adamw"},
    "benchmark": {"seconds": 0.4},
}
QUANTIZE = {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 32}}
PRUNE = {"kind": "prune", "keep": {"params": 0.7}, **FIXED, "round_to": 1}


class Reader(nn.Module):
    """A classifier of token ids as Transformers gives them: named inputs, a dict of outputs, a causal mask of -inf."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(50, 24), nn.Embedding(2, 24)
        self.qkv, self.wide = nn.Linear(24, 72), nn.Linear(24, 64)
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, 4)
        self.register_buffer("mask", torch.full((6, 6), float("-inf")).triu(1))

    def forward(self, input_ids, attention_mask, token_type_ids):
        x = self.words(input_ids) + self.kinds(token_type_ids)
        q, k, v = self.qkv(x).chunk(3, -1)
        mixed = (q @ k.transpose(1, 2) / 24**0.5 + self.mask).softmax(-1) @ v
        hidden = self.body(torch.relu(self.wide((mixed * attention_mask[..., None]).mean(1))))
        return {"hidden": hidden, "logits": self.head(torch.relu(hidden))}


def reading() -> Task:
    inputs = {
        "token_type_ids": torch.zeros(120, 6, dtype=torch.long),
        "attention_mask": torch.ones(120, 6, dtype=torch.long),
        "input_ids": torch.randint(0, 50, (120, 6), generator=DRAW),
    }
    y = torch.arange(120) % 4

    def part(a: int, b: int):
        return {name: tensor[a:b] for name, tensor in inputs.items()}, y[a:b]

    return Task.from_tensors(part(0, 80), part(80, 100), part(100, 120))


def images() -> Task:
    x, y = torch.rand(120, 1, 8, 8, generator=DRAW), torch.arange(120) % 4
    return Task.from_tensors((x[:80], y[:80]), (x[80:100], y[80:100]), (x[100:], y[100:]))


class Scaling(nn.Module):
    """Normalises its input in place, and gives a tuple of which the second is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32)
        self.last, self.head = nn.Conv2d(32, 8, 3), nn.Linear(8, 4)

    def forward(self, x):
        x -= 0.5
        x /= 0.3
        features = torch.relu(self.last(torch.relu(self.norm(self.conv(x))))).mean((2, 3))
        return features, self.head(features)


def test_named_inputs_and_a_dict_of_outputs_go_all_the_way(tmp_path):
    task, model = reading(), Reader()
    compress(model, {**RECIPE, "passes": [PRUNE, QUANTIZE]}, task=task, out=tmp_path / "run")
    session = open_session((tmp_path / "run" / "model.onnx").read_bytes(), threads=1)
    assert [name for name, *_ in session.outputs] == ["logits", "hidden"]
    assert {name for name, *_ in session.inputs} == set(task.example())
    checks = verify(tmp_path / "run", base=Reader())
    assert [check.name for check in checks if not check.ok] == []
    rebuilt = Artifact.load(tmp_path / "run").module(base=Reader())
    assert rebuilt(**task.example(3))["logits"].shape == (3, 4)


def test_what_forward_does_in_place_reaches_no_data_and_a_named_output_is_judged(tmp_path):
    task = images()
    before = {name: split.inputs["input"].clone() for name, split in task.splits().items()}
    with pytest.raises(ModelError, match="several outputs"):
        compress(Scaling(), {**RECIPE, "passes": [QUANTIZE]}, task=task, out=tmp_path / "run")
    judged = Task(task.name, task.train, task.validation, task.test, task.classes, output="output1")
    assert judged.fingerprint() != task.fingerprint()
    compress(Scaling(), {**RECIPE, "passes": [PRUNE, QUANTIZE]}, task=judged, out=tmp_path / "run")
    for name, split in task.splits().items():
        assert torch.equal(split.inputs["input"], before[name]), name
    session = open_session((tmp_path / "run" / "model.onnx").read_bytes(), threads=1)
    assert [name for name, *_ in session.outputs] == ["output1", "output0"]


def test_batch_norm_of_a_frozen_part_keeps_its_statistics():
    task = images()
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    model[:2].requires_grad_(False)
    before = model[1].running_mean.clone()
    train(model, task, TrainConfig(epochs=2, optimizer="adamw"), seed=0)
    assert torch.equal(model[1].running_mean, before)
    model[:2].requires_grad_(True)
    train(model, task, TrainConfig(epochs=1, optimizer="adamw"), seed=0)
    assert not torch.equal(model[1].running_mean, before)


def test_loaders_of_images_of_two_sizes_are_refused_when_the_task_is_made():
    batches = [(torch.rand(4, 3, size, 16), torch.arange(4)) for size in (16, 16, 24)]
    with pytest.raises(DataError, match=r"train split.*\[3, 16, 16\] in the first batch and \[3, 24, 16\] in batch 2"):
        Task.from_loaders(batches, batches, batches)
