"""The passes that train: `finetune` and `distill` work on a copy, repeat under the seed, and say what happened."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compress.graph.model_state import ModelState
from compress.models import build_model
from compress.passes.base import Context, get_pass
from compress.recipe.load import load_recipe
from compress.tasks import Task
from evaluate.core.errors import ModelError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def task():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 8, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    return Task.from_tensors(train=(x[:160], y[:160]), test=(x[160:], y[160:]), classes=("low", "high"))


@pytest.fixture
def model():
    torch.manual_seed(3)
    return build_model("mlp", inputs=8, classes=2, width=8, depth=1)


def run(kind: str, model, task, seed: int = 0, **config):
    step = load_recipe({"version": 1, "passes": [{"kind": kind, **config}]}).passes[0]
    torch.manual_seed(99)
    original = build_model("mlp", inputs=8, classes=2, width=32, depth=1).eval()
    context = Context(task=task, seed=seed, original=original)
    return get_pass(kind).apply(ModelState(model), step.config, context)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("kind", ["finetune", "distill"])
def test_it_trains_a_copy_and_repeats(kind, model, task):
    before = copy.deepcopy(model.state_dict())
    first, second = (run(kind, model, task, epochs=2, batch_size=32) for _ in range(2))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert first.model.module is not model
    assert not torch.equal(weights(first.model.module), weights(model))
    assert torch.equal(weights(first.model.module), weights(second.model.module))
    assert not torch.equal(
        weights(first.model.module), weights(run(kind, model, task, seed=1, epochs=2, batch_size=32).model.module)
    )
    assert [entry["epoch"] for entry in first.details["history"]] == [1, 2]
    assert first.model.graph is None


def test_finetuning_learns(model, task):
    result = run("finetune", model, task, epochs=8, batch_size=16, learning_rate=0.1)
    assert result.details["history"][-1]["validation_metric"] > 85
    assert result.details["teacher_outputs"] == "none"


def test_the_teacher_decides_what_is_distilled(model, task):
    plain = run("distill", model, task, epochs=1, weight=0.0)
    taught = run("distill", model, task, epochs=1, weight=1.0)
    assert taught.details["teacher_outputs"] != "none"
    assert not torch.equal(weights(plain.model.module), weights(taught.model.module))


def test_a_named_teacher_is_built_with_its_weights(model, task, tmp_path):
    torch.manual_seed(5)
    teacher = build_model("mlp", inputs=8, classes=2, width=16, depth=2)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    named = {"name": "mlp", "inputs": 8, "classes": 2, "width": 16, "depth": 2, "weights": str(tmp_path / "teacher.pt")}
    by_name = run("distill", model, task, epochs=1, weight=1.0, teacher=named)
    by_default = run("distill", model, task, epochs=1, weight=1.0)
    assert not torch.equal(weights(by_name.model.module), weights(by_default.model.module))
    with pytest.raises(ModelError, match="not found"):
        run("distill", model, task, epochs=1, teacher=named | {"weights": "nowhere.pt"})


@pytest.mark.parametrize("kind", ["finetune", "distill"])
def test_the_preview_keeps_every_size(kind, model, task):
    step = load_recipe({"version": 1, "passes": [{"kind": kind}]}).passes[0]
    preview = get_pass(kind).preview(model, step.config, Context(task=task, seed=0, original=nn.Identity()))
    assert preview.module is model
    assert preview.bits == 32
    assert "layers.0" in preview.layers
