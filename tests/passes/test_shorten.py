"""Fewer blocks: only those go that keep the shape they are given, and those that validation misses least."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from prune_nets import CLASSES, build, colour_task, context, size
from torch import nn

from compress.core.errors import PassError
from compress.graph.model_state import ModelState, rebuild
from compress.graph.skipped import Skip, Skipped
from compress.models import build_model
from compress.passes.base import Loss, Trials
from compress.passes.depth import shorten as module
from compress.passes.depth.shorten_settings import ShortenConfig
from compress.tasks import Task


@pytest.fixture(scope="module")
def task():
    return colour_task()


def run(model, task, **settings):
    config = ShortenConfig(**{"recalibrate": 0, "samples": 64} | settings)
    return module.shorten(ModelState(model), config, context(task, model))


class Layers(nn.Module):
    """Residual blocks of one width; the one of `idle` does nothing, the one of `tuples` answers with a tuple of one."""

    def __init__(self, count=5, idle=3, tuples=-1):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, CLASSES)
        self.blocks = nn.ModuleList(Block(n == tuples) for n in range(count))
        with torch.no_grad():
            if idle >= 0:
                self.blocks[idle].conv.weight.zero_()
                self.blocks[idle].conv.bias.zero_()

    def forward(self, x):
        x = self.stem(x).relu()
        for block in self.blocks:
            x = block(x, scale=1.0)
            x = x[0] if isinstance(x, tuple) else x
        return self.head(x.mean((2, 3)))


def told_by(model):
    """A task whose labels are the network's own answers, which are sure: whatever changes them costs loss."""
    with torch.no_grad():
        model.head.weight.mul_(50)
        x = torch.randn(240, 3, 8, 8)
        y = model(x).argmax(1)
    return Task.from_tensors((x[:120], y[:120]), (x[120:180], y[120:180]), (x[180:], y[180:]), classes=CLASSES)


class Block(nn.Module):
    def __init__(self, as_tuple):
        super().__init__()
        self.conv, self.as_tuple = nn.Conv2d(16, 16, 3, padding=1), as_tuple

    def forward(self, x, scale):
        x = x + scale * self.conv(x.relu())
        return (x,) if self.as_tuple else x


def test_the_block_that_does_nothing_goes_first_and_nothing_changes():
    torch.manual_seed(0)
    model = Layers(idle=3).eval()
    task = told_by(model)
    result = run(model, task, keep={"macs": 0.85})
    assert [change.layer for change in result.changes] == ["blocks.3"]
    x = task.example(5)["input"]
    assert torch.equal(result.model.module(x), model(x)) and isinstance(result.model.module.blocks[3], Skip)
    assert result.details["achieved"]["macs"]["value"] == size(result.model.module, task, "macs")


@pytest.mark.parametrize("unit", ["params", "macs", "bytes"])
@pytest.mark.parametrize("keep", [0.8, 0.5])
def test_a_target_is_kept_with_no_more_blocks_gone_than_it_needs(unit, keep, task):
    model = build_model("resnet", depth=20, classes=CLASSES).eval()
    result = run(model, task, keep={unit: keep})
    whole, left = size(model, task, unit), size(result.model.module, task, unit)
    gone = [change.layer for change in result.changes]
    assert left <= keep * whole and gone == [step["block"] for step in result.details["blocks"]]
    last = copy.deepcopy(model)
    for name in gone[:-1]:
        Skipped(layer=name).rebuild(last)
    assert size(last, task, unit) > keep * whole
    # The stages change shape in their first block, which therefore stays; they are blocks, not single layers.
    assert not {"layer2.0", "layer3.0", "conv1"} & set(result.details["could_go"])

    fresh = copy.deepcopy(model)
    rebuild(fresh, result.model.rewrites)
    fresh.load_state_dict(result.model.module.state_dict())
    x = task.example(3)["input"]
    assert torch.equal(fresh.eval()(x), result.model.module(x))


def test_a_block_that_answers_with_a_tuple_is_left_out_as_one():
    torch.manual_seed(0)
    model = Layers(idle=2, tuples=2).eval()
    task = told_by(model)
    result = run(model, task, keep={"macs": 0.85})
    (made,) = result.model.rewrites
    assert made == Skipped(layer="blocks.2", as_tuple=True)
    x = task.example(5)["input"]
    assert torch.equal(result.model.module(x), model(x))


def test_layers_of_a_transformer_go(task):
    model = build("vit")
    result = run(model, task, keep={"params": 0.7})
    assert [change.layer for change in result.changes] in (["blocks.0"], ["blocks.1"])


def test_only_the_blocks_that_are_asked_for_go(task):
    model = Layers().eval()
    gone = run(model, task, keep={"macs": 0.7}, layers=("blocks.0", "blocks.1")).changes
    assert {change.layer for change in gone} == {"blocks.0", "blocks.1"}
    gone = run(model, task, keep={"macs": 0.5}, exclude=("blocks.3",)).changes
    assert "blocks.3" not in {change.layer for change in gone}


def test_a_target_in_time_is_measured_and_kept_as_the_blocks_that_went(task, monkeypatch):
    """Each block takes a tenth of the time of the whole file on the machine of this test."""

    def together(files, trials, status, seconds):
        took = {name: 1.0 if name == "uncompressed" else 0.5 + 0.1 * float(data) for name, data in files.items()}
        speedups = {name: {"value": 1 / t, "low": 1 / t, "high": 1 / t} for name, t in took.items()}
        return SimpleNamespace(speedups=speedups, seconds=took)

    monkeypatch.setattr(module, "time_together", together)
    monkeypatch.setattr(module, "export_onnx", lambda network, example: network)
    monkeypatch.setattr(module, "serialise", lambda n: str(sum(isinstance(b, Block) for b in n.blocks)).encode())
    torch.manual_seed(0)
    model = Layers(idle=3).eval()
    feeds = {name: t.numpy() for name, t in task.example(1).items()}
    trials = Trials("cpu", 1, feeds, lambda data: Loss(0, 0, 0), None, lambda data: True, 20.0)
    config = ShortenConfig(keep={"latency": 0.75}, recalibrate=0, samples=64)
    result = module.shorten(ModelState(model), config, context(task, model, trials=trials))
    assert len(result.changes) == 3 and result.details["latency"]["measured"] == pytest.approx(0.7)
    again = module.shorten(ModelState(model), result.choice.settings, context(task, model))
    assert {c.layer for c in again.changes} == {c.layer for c in result.changes} and again.choice is None
    with pytest.raises(PassError, match="trials of a study share the machine"):
        module.shorten(ModelState(model), config, context(task, model))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("residual", {"keep": {"macs": 0.5}}, "no block of Residual that may go .* use prune"),
        ("vit", {"keep": {"macs": 0.01}}, "with every block gone that may go, .* are left"),
        ("vit", {"keep": {"macs": 0.5}, "layers": ("head",)}, "may go answers in the shape it is given .*head"),
        ("vit", {"keep": {"params": "900M"}}, "would change nothing"),
    ],
)
def test_what_cannot_be_done_is_said(name, settings, message, task):
    with pytest.raises(PassError, match=message):
        run(build(name), task, **settings)
