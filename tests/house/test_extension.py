"""One of each from outside the package: a recipe made of nothing but a user's own components, in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prune_nets import FIXED

ROOT = Path(__file__).parents[2]
FILES = {
    "own_net.py": """
from typing import Annotated
from pydantic import Field
from torch import nn
from compress import register_model

@register_model("two_layers")
def two_layers(width: Annotated[int, Field(ge=1, le=4096)] = 32) -> nn.Module:
    "64 inputs, a hidden layer, 10 classes."
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
""",
    "own_data.py": """
from dataclasses import replace
from compress import get_task, register_task

@register_task("few_digits")
def few_digits(limit: int = 200):
    "Some digits, judged by a metric and trained by a loss of one's own."
    return replace(get_task("digits", train_limit=limit), metric="own_metric:top2", loss="own_loss:sharp")
""",
    "own_metric.py": """
import numpy as np
from evaluate.metrics import register_metric

@register_metric("top2", unit="%", higher_is_better=True, labels=True)
def top2(outputs, targets):
    "Share of samples whose class is among the two most likely."
    return 100.0 * (np.argsort(outputs)[:, -2:] == targets[:, None]).any(axis=1)
""",
    "own_loss.py": """
import torch.nn.functional as F
from compress.tasks.losses import register_loss

@register_loss("sharp", labels=True)
def sharp(outputs, targets):
    "Cross entropy of sharpened logits."
    return F.cross_entropy(2 * outputs, targets)
""",
    "own_training.py": """
import torch
from compress.training.optimizers import register_optimizer
from compress.training.schedules import register_schedule

@register_optimizer("rms", learning_rate=0.003, weight_decay=0.0)
def rms(groups, learning_rate):
    "RMSprop."
    return torch.optim.RMSprop(groups, lr=learning_rate)

@register_schedule("halving", uses=("gamma",))
def halving(config, at):
    "The rate times gamma after each epoch."
    return config.gamma ** (at.step // at.epoch_steps)
""",
    "own_pass.py": """
import copy
from dataclasses import replace
import torch
from pydantic import Field
from compress import register_pass
from compress.core.config import Config
from compress.core.traits import Traits
from compress.graph.model_state import ZerosStay
from compress.passes.base import Change, PassResult

class MaskConfig(Config):
    "Masks the smallest weights."
    keep: float = Field(default=0.5, gt=0, le=1, description="Share of the weights that stays.")

@register_pass("mask", MaskConfig, traits=Traits())
def mask(model, config, context):
    "Set the smallest weights of every layer to zero, for good."
    masked = copy.deepcopy(model.module)
    names = [n for n, p in masked.named_parameters() if p.ndim > 1]
    with torch.no_grad():
        for name in names:
            weight = masked.get_parameter(name)
            limit = weight.abs().flatten().kthvalue(max(1, round((1 - config.keep) * weight.numel()))).values
            weight[weight.abs() <= limit] = 0
    changes = tuple(Change(name, "density", 1, config.keep) for name in names)
    state = replace(model, module=masked, constraints=(*model.constraints, ZerosStay(parameters=tuple(names))))
    return PassResult(state, changes=changes)
""",
    "own_unit.py": """
from evaluate.core.text import size
from evaluate.core.units import BYTES, register_unit

@register_unit("flash", factors=BYTES, example='"256kB"', goal="Flash that it fills.", show=size)
def flash(deployed):
    "Bytes of flash, in blocks of 4 kB."
    return -(-len(deployed.data) // 4096) * 4096
""",
    "own_provider.py": """
from pathlib import Path
from evaluate.core.execution_providers import register_provider

@register_provider("arena", native="CPUExecutionProvider")
def arena(runtime, source, graphs):
    "The processor, with memory that grows by no more than is asked for."
    with Path(__file__).with_name("asked.txt").open("a") as file:
        file.write("asked ")
    return [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})]
""",
    "own_law.py": """
import numpy as np
from evaluate.scaling import columns, register_law

@register_law(
    "hyperbola", formula="y = e + b / (x + d)", floor="e", starts=[[0.01, 50.0, 10.0]],
    parameters={"e": (0, np.inf), "b": (0, np.inf), "d": (0, np.inf)},
)
def hyperbola(x, theta):
    "y = e + b / (x + d)."
    e, b, d = columns(theta)
    return np.log(e + b / (x[:, 0] + d))
""",
}
RECIPE = {
    "version": 1,
    "name": "own",
    "model": {"name": "own_net:two_layers", "width": 24},
    "task": {"name": "own_data:few_digits", "limit": 150},
    "train": {
        "epochs": 2,
        "optimizer": "own_training:rms",
        "schedule": {"kind": "own_training:halving", "gamma": 0.5},
    },
    "passes": [
        {"kind": "own_pass:mask", "keep": 0.4},
        {"kind": "finetune", "epochs": 1},
        {"kind": "prune", "keep": {"params": 0.7}, **FIXED},
        {"kind": "quantize", "calibrate": {"samples": 64}},
    ],
    "goals": {"own_unit:flash": 1.0},
    "benchmark": {"seconds": 0.5, "provider": "own_provider:arena"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the components, and the run that they made."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip())
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    return folder


def leanfit(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join([str(home), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": places}
    command = [sys.executable, "-P", "-m", "compress", *arguments]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def run(home: Path) -> dict:
    done = leanfit(home, "compress", "recipe.yaml", "--out", "run", "--json", "--quiet", "--force")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "importing own_pass" in done.stderr
    return json.loads(done.stdout)


def test_a_recipe_of_nothing_but_ones_own_runs(run: dict):
    assert run["compressed"]["accuracy"]["metric"] == "own_metric:top2"
    assert [entry["kind"] for entry in run["passes"]] == ["own_pass:mask", "finetune", "prune", "quantize"]
    assert run["goals"][0]["goal"] == "own_unit:flash"
    assert run["compressed"]["sizes"]["own_unit:flash"] % 4096 == 0


def test_what_was_masked_stays_zero_through_training_and_pruning(run: dict):
    masked, trained, pruned, _ = (entry["sizes_after"] for entry in run["passes"])
    assert masked["nonzero"] < 0.5 * run["baseline"]["sizes"]["nonzero"]
    assert trained["nonzero"] <= masked["nonzero"] and pruned["nonzero"] <= trained["nonzero"]


def test_the_artifact_is_rebuilt_where_its_modules_are_allowed_and_nowhere_else(home: Path, run: dict):
    refused = leanfit(home, "verify", "run")
    assert "importing own_" not in refused.stderr
    allowed = leanfit(home, "verify", "run", "--allow", "own_net")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert "parity" in allowed.stdout and "FAIL" not in allowed.stdout


def test_a_provider_of_ones_own_is_measured_in_the_worker_too(home: Path, run: dict):
    assert run["compressed"]["latency"]["provider"] == "own_provider:arena" and (home / "asked.txt").exists()
    (home / "asked.txt").unlink()
    done = leanfit(home, "bench", "run", "--provider", "own_provider:arena", "--seconds", "0.5", "--json", "--quiet")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "own_provider:arena" in done.stdout and (home / "asked.txt").exists()
    wrong = leanfit(home, "bench", "run", "--provider", "own_provider:arean", "--seconds", "0.5")
    assert wrong.returncode == 2 and "did you mean 'arena'" in wrong.stderr and "Traceback" not in wrong.stderr


def test_the_same_command_finds_the_run_and_changed_code_does_not(home: Path, run: dict):
    again = leanfit(home, "compress", "recipe.yaml", "--out", "run", "--json", "--quiet", "--force")
    assert json.loads(again.stdout)["artifact"] == run["artifact"]
    assert json.loads(again.stdout)["compressed"]["latency"] == run["compressed"]["latency"]
    before = (home / "run" / "weights.safetensors").read_bytes()
    text = (home / "own_pass.py").read_text()
    (home / "own_pass.py").write_text(text.replace("(1 - config.keep)", "(1 - 0.5 * config.keep)"))
    changed = leanfit(home, "compress", "recipe.yaml", "--out", "run", "--json", "--quiet", "--force")
    (home / "own_pass.py").write_text(text)
    assert changed.returncode == 0, changed.stderr[-2000:]
    assert (home / "run" / "weights.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("own_loss.py", "2 * outputs", "0.25 * outputs"),
        ("own_training.py", "RMSprop(groups, lr=learning_rate)", "SGD(groups, lr=learning_rate)"),
        ("own_data.py", "train_limit=limit", "train_limit=limit // 2"),
    ],
)
def test_changed_code_of_a_loss_an_optimizer_or_a_task_is_run_again(home: Path, run: dict, file, before, after):
    weights, text = (home / "run" / "weights.safetensors").read_bytes(), (home / file).read_text()
    assert before in text
    (home / file).write_text(text.replace(before, after))
    changed = leanfit(home, "compress", "recipe.yaml", "--out", "run", "--json", "--quiet", "--force")
    (home / file).write_text(text)
    assert changed.returncode == 0, changed.stderr[-2000:]
    assert (home / "run" / "weights.safetensors").read_bytes() != weights


def test_a_law_of_ones_own_fits_and_is_read_back(home: Path):
    sizes = [1000 * 2**n for n in range(9)]
    lines = [f"{x},{0.02 + 80 / (x + 500):.9f}" for x in sizes]
    (home / "points.csv").write_text("params,error\n" + "\n".join(lines) + "\n")
    arguments = ("--x", "params", "--y", "error", "--law", "own_law:hyperbola", "--bootstrap", "20", "--quiet")
    done = leanfit(home, "fit", "points.csv", *arguments, "--out", "law.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"]["e"] == pytest.approx(0.02, rel=0.02)
    refused = leanfit(home, "predict", "law.json", "--x", "params=4000")
    assert refused.returncode != 0 and "--allow own_law" in refused.stderr
    assert leanfit(home, "predict", "law.json", "--x", "params=4000", "--allow", "own_law").returncode == 0
