"""`leanfit sensitivity`: of files and of runs, without torch where there is no network."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from compress import compress
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.pipeline.onnx_run import compress_onnx


def told(*arguments):
    code = (
        "import sys; from compress.cli.commands import app\n"
        f"try: app({['sensitivity', *map(str, arguments)]!r}, prog_name='leanfit')\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def file(trained, digits, tmp_path):
    """A trained network whose stem drowns the signal by one loud channel of no use."""
    with torch.no_grad():
        model = torch.nn.Sequential(trained, torch.nn.Linear(10, 11), torch.nn.Linear(11, 10))
        for layer in (model[1], model[2]):
            layer.weight[:], layer.bias[:] = 0.0, 0.0
        model[1].weight[:10], model[2].weight[:, :10] = torch.eye(10), torch.eye(10)
        model[1].bias[10] = 5000.0
    (tmp_path / "net.onnx").write_bytes(serialise(export_onnx(model.eval(), digits.example(2))))
    inputs = digits.validation.materialize().inputs
    np.savez(tmp_path / "data.npz", **{name: tensor.numpy() for name, tensor in inputs.items()})
    return tmp_path / "net.onnx"


def test_the_noisiest_layer_comes_first(file):
    code, out, err = told(file, "--data", file.parent / "data.npz", "--json", "-q")
    found = json.loads(out)["layers"]
    assert code == 0 and err.splitlines()[-1] == "False"
    assert found[0]["layer"] in ("1", "2") and found[0]["snr_db"] < found[2]["snr_db"] - 20
    assert max(found, key=lambda one: one["others_snr_db"])["layer"] in ("1", "2")  # without one of them all is well
    assert sum(one["share"] for one in found) == pytest.approx(1)
    assert [one["noise"] for one in found] == sorted((one["noise"] for one in found), reverse=True)
    code, out, _ = told(file, "--data", file.parent / "data.npz", "--layers", "2", "-q")
    assert code == 0 and " dB" in out and "quieter ones" in out and "exclude: [LAYER]" in out


def test_runs_of_either_door(file, trained, tmp_path):
    recipe = {
        "version": 1,
        "model": {"onnx": str(file)},
        "task": {"data": str(file.parent / "data.npz")},
        "passes": [{"kind": "quantize", "choose": "fixed"}],
        "benchmark": {"seconds": 0.5},
    }
    compress_onnx(recipe=recipe, out=tmp_path / "a", progress=False)
    code, out, err = told(tmp_path / "a", "--json", "-q")
    assert code == 0 and json.loads(out)["layers"][0]["layer"] in ("1", "2"), err
    network = {key: value for key, value in recipe.items() if key != "model"} | {"task": {"name": "digits"}}
    compress(trained, network, out=tmp_path / "b", progress=False, force=True)
    code, out, err = told(tmp_path / "b", "--json", "-q")
    assert code == 0 and len(json.loads(out)["layers"]) == 8, err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["net.onnx"], "say what the model will see"),
        (["gone.onnx", "--data", "data.npz"], "gone.onnx"),
        ([".", "--data", "data.npz"], "are for an ONNX file"),
        (["."], "manifest"),
    ],
)
def test_what_is_missing_is_said(arguments, sentence, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    code, _, err = told(*arguments)
    assert code not in (0, 1) and sentence in " ".join(err.replace("│", " ").split()), err
