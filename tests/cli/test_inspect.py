"""`leanfit inspect`: what it says of files, and that it imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array
from torch import nn

from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.graph.onnx_layers import inspect
from compress.graph.sizes import count_macs
from compress.models import build_model
from compress.pipeline.onnx_run import compress_onnx

FLOAT = TensorProto.FLOAT


def told(*arguments):
    code = (
        "import sys; from compress.cli.commands import app\n"
        f"try: app({['inspect', *map(str, arguments)]!r}, prog_name='leanfit')\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "False", done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def network(tmp_path):
    model, example = build_model("resnet", depth=8, width=8).eval(), {"input": torch.zeros(2, 3, 32, 32)}
    (tmp_path / "net.onnx").write_bytes(serialise(export_onnx(model, example)))
    return tmp_path / "net.onnx", model, example


def test_layers_add_up_to_the_network(network):
    file, model, example = network
    found = inspect(file, {"input": np.zeros((1, 3, 32, 32), np.float32)})
    assert found.macs == sum(layer.macs for layer in found.layers) == count_macs(model, example)
    assert {layer.name for layer in found.layers} >= {"conv1", "fc"} or len(found.layers) >= 8
    assert (
        not any(layer.why for layer in found.layers)
        and sum(layer.bytes for layer in found.layers) < found.sizes["bytes"]
    )


def test_the_command_prints_them_and_counts_what_is_bound(network):
    code, out, _ = told(network[0])
    assert code == 0 and "MACs a sample" in out and "int8 takes 100 %" in out and "netron" in out
    code, out, _ = told(network[0], "--json")
    found = json.loads(out)
    assert found["macs"] > 0 and found["inputs"][0]["dtype"] == "float32" and found["layers"][0]["params"] > 0
    code, _, err = told(network[0], "--dim", "sequence=3")
    assert code == 2 and "no input and no free dimension 'sequence'" in err


def test_what_int8_cannot_take_is_said(tmp_path):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.layer(x)[0][:, -1])

    (tmp_path / "lstm.onnx").write_bytes(serialise(export_onnx(Net().eval(), {"x": torch.zeros(2, 5, 6)})))
    found = inspect(tmp_path / "lstm.onnx", None)
    why = {layer.op: layer.why for layer in found.layers}
    assert why["LSTM"] == "static int8 knows no LSTM" and "" in why.values() and found.macs is None
    weight = from_array(np.ones((4, 2), np.float32), "w")
    port = helper.make_tensor_value_info("x", FLOAT, ["batch", "length", 4])
    out = helper.make_tensor_value_info("y", FLOAT, None)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [port], [out], [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8), tmp_path / "old.onnx"
    )
    code, out, _ = told(tmp_path / "old.onnx")
    assert code == 0 and "operator set 12 is brought up to 13" in out and "MACs were not counted" in out
    assert "--dim length=128" in out
    code, out, _ = told(tmp_path / "old.onnx", "--dim", "length=7")
    assert "MACs were not counted" not in out and " 56 MACs" in out
    code, _, err = told(tmp_path / "gone.onnx")
    assert code == 7 and "there is no file" in err


def test_integers_are_recognised(tmp_path, network):
    recipe = {"version": 1, "passes": [{"kind": "quantize", "choose": "fixed"}], "benchmark": {"seconds": 0.5}}
    data = {"input": np.random.default_rng(0).normal(size=(20, 3, 32, 32)).astype("f")}
    made = compress_onnx(network[0], recipe, data=data, out=tmp_path / "run", progress=False)
    found = inspect(made.onnx_path, None)
    assert all(layer.dtype == "int8" and "int8 already" in layer.why for layer in found.layers)
    assert any("holds integers already" in remark for remark in found.remarks)
