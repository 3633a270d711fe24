"""Training with the quantizers in: what is learnt is in the file, and nothing is worse for it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from pydantic import ValidationError
from torch import nn

from compress import compress
from compress.core.errors import PassError
from compress.graph.export import export_onnx
from compress.graph.model_state import ModelState, ZerosStay
from compress.graph.onnx_graph import serialise
from compress.passes.base import Context, GraphContext, PassResult
from compress.passes.quantization.quantize import NumpySplit, quantize
from compress.passes.quantization.quantize_graph import preview_graph, quantize_graph
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.tasks import Task
from evaluate.core.errors import ModelError

TRAIN: dict[str, Any] = {"epochs": 2, "batch_size": 32}


def made(model: nn.Module, task: Task, state: ModelState | None = None, **settings: Any) -> PassResult:
    config = QuantizeConfig(
        **{"choose": "fixed", "target": "vnni", "train": TRAIN, "calibrate": {"samples": 64}, **settings}
    )
    return quantize(state or ModelState(model), config, Context(task=task, seed=0, original=model))


def test_four_bits_that_lost_accuracy_win_it_back_by_training(trained: nn.Module, digits: Task):
    coarse = made(trained, digits, bits=4, train={"epochs": 1, "batch_size": 64, "learning_rate": 1e-9})
    learnt = made(trained, digits, bits=4)
    losses = [result.details["history"][-1]["validation_loss"] for result in (coarse, learnt)]
    assert losses[1] < losses[0]
    assert learnt.details["trained"] and learnt.details["weight_bits"] == 4
    assert learnt.details["best_epoch"] in (1, 2) and len(learnt.details["history"]) == 2
    assert learnt.details["torch_vs_file_db"] is None or learnt.details["torch_vs_file_db"] > 30
    sizes = [len(serialise(result.model.graph)) for result in (learnt, made(trained, digits, train=None))]
    assert sizes[0] < 0.75 * sizes[1]


def test_training_that_makes_it_worse_leaves_the_file_as_it_was_calibrated(trained: nn.Module, digits: Task):
    harmful = {"epochs": 1, "batch_size": 64, "optimizer": "sgd", "learning_rate": 1.0, "clip_norm": 5.0}
    spoilt, calibrated = made(trained, digits, train=harmful), made(trained, digits, train=None)
    assert not spoilt.details["trained"]
    assert any("Training made validation no better" in text for text in spoilt.warnings)
    assert serialise(spoilt.model.graph) == serialise(calibrated.model.graph)


def test_a_mask_of_an_earlier_pass_is_in_the_trained_file(trained: nn.Module, digits: Task):
    trained = copy.deepcopy(trained)
    name = next(n for n, p in trained.named_parameters() if p.ndim == 4 and p.numel() > 100)
    with torch.no_grad():
        weight = trained.get_parameter(name)
        weight.view(-1)[::3] = 0
    result = made(trained, digits, ModelState(trained, constraints=(ZerosStay(parameters=(name,)),)))
    assert result.details["trained"]
    stored = {t.name: t for t in result.model.graph.graph.initializer}
    whole = [
        w for w in map(numpy_helper.to_array, stored.values()) if w.dtype == np.int8 and w.shape == tuple(weight.shape)
    ]
    assert any(not w.reshape(-1)[::3].any() and w.any() for w in whole)


def test_a_file_without_a_network_cannot_be_trained_and_says_what_to_do(trained: nn.Module, digits: Task):
    graph, config = export_onnx(trained, digits.example(2)), QuantizeConfig(train=TRAIN)
    context = GraphContext(lambda count: NumpySplit(digits.calibration(count, 0)))
    for refused in (lambda: quantize_graph(graph, config, context), lambda: preview_graph(graph, config)):
        with pytest.raises(PassError, match=r"an ONNX file.*leave `train` out"):
            refused()


def test_a_network_that_torch_cannot_run_as_a_graph_says_so_before_it_trains(digits: Task):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(image.flatten(1).reshape(-1, 8, 8))[0][:, -1])

    with pytest.raises(ModelError, match="LSTM"):
        made(Recurrent().eval(), digits)


@pytest.mark.parametrize("mode", ["dynamic", "weight-only"])
def test_only_static_integers_are_trained(mode):
    with pytest.raises(ValidationError, match=f"train needs mode: static, got {mode}"):
        QuantizeConfig(mode=mode, train=TRAIN)


def test_a_run_trains_its_file_keeps_the_curve_and_gives_the_same_again(trained: nn.Module, digits: Task, tmp_path):
    recipe = {
        "version": 1,
        "passes": [{"kind": "quantize", "bits": 4, "calibrate": {"samples": 64}, "train": {**TRAIN, "distill": {}}}],
        "benchmark": {"seconds": 0.3, "threads": 1},
    }
    files = []
    for folder in ("one", "two"):
        artifact = compress(trained, recipe, task=digits, out=tmp_path / folder)
        files.append((artifact.path / "model.onnx").read_bytes())
    assert files[0] == files[1]
    (step,) = artifact.figures["passes"]
    assert [entry["epoch"] for entry in step["details"]["history"]] == [1, 2]
    assert artifact.figures["compressed"]["sizes"]["bits"] < 6


def test_single_layers_have_bits_of_their_own(trained: nn.Module, digits: Task):
    names = {change.layer for change in made(trained, digits, train=None).changes}
    last = sorted(names)[0]
    mixed = made(trained, digits, train=None, bits=4, layer_bits={"*": 4, last: 8})
    assert {change.layer: change.after for change in mixed.changes} == {
        name: 8 if name == last else 4 for name in names
    }
    stored = [t.data_type for t in mixed.model.graph.graph.initializer if len(t.dims) > 1]
    assert stored.count(onnx.TensorProto.INT8) == 1 and stored.count(onnx.TensorProto.INT4) == len(names) - 1
    sizes = {name: len(serialise(made(trained, digits, train=None, **how).model.graph)) for name, how in {
        "4": {"bits": 4}, "8": {}}.items()}  # fmt: skip
    assert sizes["4"] < len(serialise(mixed.model.graph)) < sizes["8"]
    with pytest.raises(PassError, match=r"layer_bits: pattern 'nowhere' means no layer"):
        made(trained, digits, train=None, layer_bits={"nowhere": 8})
    with pytest.raises(ValidationError, match="layer_bits needs mode: static, got dynamic"):
        QuantizeConfig(mode="dynamic", layer_bits={"*": 8})


def test_four_bits_compute_in_integers_once_the_file_is_loaded(trained: nn.Module, digits: Task, tmp_path):
    """Read as they are, they would be widened to floats in each call, and nothing would be faster than fp32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "loaded.onnx"), 3
    data = serialise(made(trained, digits, train=None, bits=4).model.graph)
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert "QLinearConv" in kinds and "Cast" not in kinds
    assert not {"Conv", "FusedConv"}.intersection(kinds)


def test_an_operator_set_that_cannot_be_raised_is_said(trained: nn.Module, digits: Task, monkeypatch):
    def refuse(*args: Any) -> Any:
        raise RuntimeError("no adapter")

    monkeypatch.setattr("onnx.version_converter.convert_version", refuse)
    with pytest.raises(PassError, match=r"need operator set 21.*no adapter.*export\.opset: 21"):
        made(trained, digits, train=None, bits=4)
