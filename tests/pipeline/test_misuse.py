"""Forty slips of a newcomer: each gets one clear sentence of the right kind, and no traceback."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import leanfit
from compress.cli.commands import app
from evaluate.core.errors import LeanfitError

X, Y = torch.rand(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
DATA = TensorDataset(X, Y)
NET = nn.Linear(4, 3)
RECIPE = {"version": 1, "name": "slip", "passes": [{"kind": "quantize", "choose": "fixed"}]}
TASK = leanfit.Task.from_tensors((X[:40], Y[:40]), (X[40:50], Y[40:50]), (X[50:], Y[50:]))
Task = leanfit.Task
test = (X, Y)


class Unfinished(nn.Module):
    def forward(self, x, y):
        return x


def function(x):
    return x


# what was typed -> what must be said
MODELS = {
    "a class": (nn.Linear, "is the class Linear: make one"),
    "a state dict": (NET.state_dict(), "state dict.*load_state_dict"),
    "a checkpoint": ({"model": NET.state_dict(), "epoch": 3}, "dict of 'model, epoch'.*order is compress"),
    "a file of weights": ("model.pt", "weights says nothing of the network.*--weights model.pt"),
    "a path": (Path("best.safetensors"), "weights says nothing of the network"),
    "an ONNX file": ("net.onnx", "ONNX file.*leanfit bench"),
    "a misspelt name": ("resnett", "unknown model 'resnett'; did you mean 'resnet'"),
    "a module that is not there": ("nowhere.net:Net", "importing 'nowhere.net' failed.*PYTHONPATH"),
    "a name that is not there": ("torch.nn:Linaer", "has no 'Linaer'"),
    "a class that needs arguments": ("torch.nn:Linear", "torch.nn:Linear.. failed: TypeError"),
    "no network": ("math:pi", "is a float, expected a Module"),
    "the task": (TASK, "model is a Task: the order is"),
    "the recipe": (RECIPE, "dict of .*no network: the order is"),
    "a data set": (DATA, "data belongs into the task"),
    "a loader": (DataLoader(DATA), "data belongs into the task"),
    "a function": (function, "is the function function: call it"),
    "an array": (np.zeros(3), "is a ndarray, expected a torch.nn.Module"),
    "a number": (7, "is a int, expected a torch.nn.Module"),
    "a network of other inputs": (nn.Linear(5, 3), "cannot run on the task's inputs .input .2, 4. float32"),
    "a network of other classes": (nn.Linear(4, 7), "has 3 classes: expected .batch, 3."),
    "a network of two inputs": (Unfinished(), "cannot run.*missing 1 required positional argument"),
    "an untrained lazy network": (nn.LazyLinear(3), "no weights yet.*run one batch"),
}
TASKS = {
    "a loader": (DataLoader(DATA), "three of them.*from_loaders"),
    "a data set": (DATA, "wrap it, task=Task.from_dataset"),
    "a pair": ((X, Y), "Task.from_tensors"),
    "a misspelt name": ("digitss", "unknown task 'digitss'; did you mean 'digits'"),
    "the network": (NET, "task is a Linear: the order is"),
    "a class": (Task, "task is Task, no task yet"),
    "a folder that is not there": ("images:nowhere", "nowhere: not found"),
    "a number": (3, "expected a name such as digits"),
}
RECIPES = {
    "a misspelt name": ("half-int9", "half-int9.*did you mean"),
    "the task": (TASK, "expected a path, a recipe's name or a mapping, got Task"),
    "the network": (NET, "got Linear"),
    "a list of passes": ([{"kind": "quantize", "choose": "fixed"}], "got list"),
    "a file that is not there": ("mine.yaml", "mine.yaml"),
    "a misspelt pass": ({"version": 1, "passes": [{"kind": "quantise"}]}, "did you mean 'quantize'"),
}
MAKING = {
    "labels as text": (lambda: Task.from_tensors((X, np.array(["a"] * 60)), test=test), "hold no plain numbers"),
    "lists": (lambda: Task.from_tensors(([[1.0]], [0]), test=test), "expected a torch tensor or a numpy array"),
    "one-hot rows": (lambda: Task.from_tensors((X, torch.eye(3)[Y].long()), test=test), "one-hot|class ids"),
    "no test": (lambda: Task.from_tensors((X, Y)), "a test split is needed"),
    "x alone": (lambda: Task.from_tensors(X, test=test), "expected a pair"),
    "uint8 images": (lambda: Task.from_tensors((X.byte(), Y), test=test), "astype.*255"),
    "fewer labels": (lambda: Task.from_tensors((X, Y[:9]), test=test), "60 samples and the targets have 9"),
    "labels from 1": (lambda: Task.from_tensors((X, Y + 1), test=(X, Y + 1), classes=3), "Number the classes from 0"),
    "NaN": (lambda: Task.from_tensors((X * float("nan"), Y), test=test), "NaN or infinite"),
}


@pytest.mark.parametrize("slip", MODELS)
def test_a_wrong_model_is_said(slip, tmp_path):
    value, message = MODELS[slip]
    with pytest.raises(LeanfitError, match=f"(?s){message}"):
        leanfit.compress(value, RECIPE, task=TASK, out=tmp_path / "run")


@pytest.mark.parametrize("slip", TASKS)
def test_a_wrong_task_is_said(slip, tmp_path):
    value, message = TASKS[slip]
    with pytest.raises(LeanfitError, match=f"(?s){message}"):
        leanfit.compress(NET, RECIPE, task=value, out=tmp_path / "run")


@pytest.mark.parametrize("slip", RECIPES)
def test_a_wrong_recipe_is_said(slip, tmp_path):
    value, message = RECIPES[slip]
    with pytest.raises(LeanfitError, match=f"(?s){message}"):
        leanfit.compress(NET, value, task=TASK, out=tmp_path / "run")


@pytest.mark.parametrize("slip", MAKING)
def test_a_wrong_split_is_said(slip):
    make, message = MAKING[slip]
    with pytest.raises(LeanfitError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compress", "model.pt"], 3, "a file of weights, where a recipe was expected"),
        (["compress", "--model", "resnet", "--recipe", "int8"], 3, "names no task|nothing to keep accurate"),
        (["compress", "--weights", "a.pt", "--recipe", "int8"], 2, "--weights needs --model"),
        (["compress", "int8", "--recipe", "int8"], 2, "two recipes"),
        (["compress"], 2, "name a recipe"),
        (["compress", "--model", "nowhere:Net", "--task", "digits", "--recipe", "int8"], 3, "importing 'nowhere'"),
        (["compress", "--model", "mlp", "--task", "digitz", "--recipe", "int8"], 3, "did you mean 'digits'"),
    ],
)
def test_a_wrong_command_line_is_said(arguments, code, message):
    result = CliRunner().invoke(app, arguments)
    said = " ".join(part for part in (result.output, getattr(result, "stderr", "")) if part)
    assert result.exit_code == code, said
    assert re.search(message, re.sub(r"\s+", " ", said.replace("│", " "))), said


def test_a_network_and_a_task_of_ones_own_come_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "myown.py").write_text(
        "import torch\nfrom torch import nn\nfrom leanfit import Task\n\n"
        "x, y = torch.rand(60, 4), torch.arange(60) % 3\n\n\n"
        "class Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))\n\n\n"
        "def clouds():\n    return Task.from_tensors((x[:40], y[:40]), (x[40:50], y[40:50]), (x[50:], y[50:]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("myown", None)
    recipe = {**RECIPE, "benchmark": {"seconds": 0.3}}
    artifact = leanfit.compress("myown:Net", recipe, task="myown:clouds", out=tmp_path / "run")
    import myown

    assert leanfit.load(tmp_path / "run").module(base=myown.Net())(myown.x).shape == (60, 3)
    assert artifact.summary()["compressed"]["sizes"]["params"] == 131


def test_weights_go_into_a_copy_of_a_network_that_is_handed_in(tmp_path):
    given, trained = nn.Linear(4, 3), nn.Linear(4, 3)
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    before = given.weight.clone()
    recipe = {**RECIPE, "benchmark": {"seconds": 0.3}}
    artifact = leanfit.compress(given, recipe, task=TASK, weights=tmp_path / "w.pt", out=tmp_path / "run")
    assert torch.equal(given.weight, before)
    assert torch.equal(artifact.module(base=nn.Linear(4, 3)).weight, trained.weight)


def test_every_name_of_leanfit_is_there():
    assert set(leanfit.__all__) <= set(dir(leanfit))
    for name in leanfit.__all__:
        assert getattr(leanfit, name) is not None
    with pytest.raises(AttributeError, match="compress"):
        leanfit.comprss  # noqa: B018
