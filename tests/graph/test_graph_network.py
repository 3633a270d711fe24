"""A graph in torch: every operator as ONNX's own cases have it, rounding as the runtime does it, and what is learnt."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compress.core.forward import call
from compress.graph.compact import compacted, sorted_graph
from compress.graph.export import export_onnx
from compress.graph.graph_network import GraphNetwork
from compress.graph.model_state import ZerosStay
from compress.graph.onnx_graph import opset_of, serialise
from compress.graph.torch_operators import OPERATORS
from compress.passes.base import GraphContext
from compress.passes.quantization.integer_types import scheme_for
from compress.passes.quantization.quantize import NumpySplit
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import Quantizer
from compress.tasks.splits import TensorSplit
from evaluate.core.errors import ModelError
from evaluate.runtime.session import open_session

KINDS = ("float32", "int64", "int32", "bool", "uint8", "int8")


class Net(nn.Module):
    """Convolutions in groups, a shortcut, an image pooled, joined to another branch, and linear layers at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.deep, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.hidden, self.head = nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(image)))
        x = torch.relu(self.point(torch.relu(self.deep(nn.functional.pad(x, (0, 1, 0, 1)))))[:, :, :-1, :-1] + x)
        x = torch.cat([nn.functional.max_pool2d(x, 8).flatten(1), x.mean((2, 3))], 1)
        return self.head(torch.relu(self.hidden(x)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def pairs(images):
    """A network in static integers: the graph with pairs, and the weights it was rounded from."""
    return paired(images, target="vnni")


def paired(images, **settings):
    torch.manual_seed(0)
    graph = export_onnx(Net().eval(), {"image": images[:2]})
    split = TensorSplit({"image": images}, torch.zeros(len(images), dtype=torch.int64))
    config = QuantizeConfig(choose="fixed", **settings)
    quantizer = Quantizer.calibrated(graph, config, GraphContext(lambda count: NumpySplit(split)))
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantizer.graph.graph.initializer}
    return sorted_graph(quantizer.with_pairs(config)), floats


def standard_cases():
    """ONNX's own cases of the operators that are known, in types that networks compute in."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        if opset_of(case.model) < 13 or not {node.op_type for node in case.model.graph.node} <= OPERATORS.keys():
            continue
        for inputs, outputs in case.data_sets:
            arrays = [*inputs, *outputs]
            if all(isinstance(a, np.ndarray | np.generic) and str(a.dtype) in KINDS for a in arrays) and all(
                np.size(a) for a in arrays
            ):
                yield case, inputs, outputs


def test_each_operator_gives_what_onnx_says_or_is_told_to_be_unknown(recwarn):
    right, told, counted = set(), 0, 0
    for case, inputs, outputs in standard_cases():
        counted += 1
        try:
            found = GraphNetwork(case.model)(*(torch.from_numpy(np.array(one)) for one in inputs))
        except ModelError as error:
            assert "cannot be trained as a graph" in str(error)
            told += 1
            continue
        for got, wanted in zip(found.values(), outputs, strict=True):
            assert tuple(got.shape) == np.shape(wanted), case.name
            np.testing.assert_allclose(
                got.double().numpy(), np.asarray(wanted, np.float64), rtol=1e-3, atol=1e-5, err_msg=case.name
            )
        right.update(node.op_type for node in case.model.graph.node)
    assert right >= OPERATORS.keys() - {"LayerNormalization", "Cast", "And", "Not"}, OPERATORS.keys() - right
    assert told < 0.25 * counted


@pytest.mark.parametrize("opset", [18, 21])
def test_norms_and_attention_are_what_torch_computes(opset):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.LayerNorm(8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu"), nn.Linear(8, 3)
    ).eval()
    x = torch.randn(4, 5, 8)
    graph = export_onnx(network, {"input": x}, opset=opset)
    assert "LayerNormalization" in {node.op_type for node in graph.graph.node}
    torch.testing.assert_close(GraphNetwork(graph)(x)["output"], network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [
    {"target": "vnni"}, {"target": "avx2"}, {"target": "arm"}, {"target": "vnni", "per_channel": False},
    {"target": "vnni", "bits": 4},
])  # fmt: skip
def test_what_is_written_unchanged_is_what_was_read(images, settings):
    graph, floats = paired(images, **settings)
    for known in (floats, None):
        written = GraphNetwork(graph, known, scheme_for(settings["target"]).largest).written()
        for before, after in zip(graph.graph.initializer, written.graph.initializer, strict=True):
            assert before.name == after.name
            np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))


def test_every_rounded_value_is_within_one_step_of_the_runtimes(pairs, images):
    graph, floats = pairs
    shown = onnx.ModelProto()
    shown.CopyFrom(graph)
    steps = [node.output[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in steps)
    network = GraphNetwork(shown, floats)
    with torch.no_grad():
        ours = network(images)
    theirs = open_session(serialise(shown), threads=1, optimize=False).run({"image": images.numpy()})
    for (name, mine), other in zip(ours.items(), theirs, strict=True):
        apart = np.abs(mine.numpy() - np.asarray(other, np.float32))
        if name in steps:
            assert apart.max() <= 1 and (apart > 0).mean() < 0.01, name
    assert len(steps) >= 8


def test_gradients_reach_every_weight_and_every_step(pairs, images):
    network = GraphNetwork(*pairs)
    call(network, {"image": images})["output"].square().mean().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert idle <= {"output_scale"}  # the output stays in fp32
    assert {"stem.weight", "head.bias", "image_scale"} <= dict(network.named_parameters()).keys()


def test_what_was_learnt_is_what_the_file_computes(pairs, images):
    graph, floats = pairs
    network = GraphNetwork(graph, floats)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(20):
        loss = (network(images)["output"] - images.mean((1, 2, 3))[:, None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        ours = network(images)["output"].numpy()
    written = network.written()
    assert not np.allclose(ours, GraphNetwork(graph, floats)(images)["output"].detach().numpy(), atol=1e-2)
    data = serialise(compacted(written))
    for optimize, tolerance in ((False, 0.02), (True, 0.05)):
        found = open_session(data, threads=1, optimize=optimize).run({"image": images.numpy()})[0]
        assert np.abs(found - ours).max() < tolerance * np.ptp(ours)


def test_a_constraint_holds_by_the_name_that_the_layer_had(pairs, images):
    graph, floats = pairs
    floats = {**floats, "point.weight": floats["point.weight"] * np.float32(np.arange(64).reshape(8, 8, 1, 1) % 2)}
    network = GraphNetwork(graph, floats)
    kept = ZerosStay(parameters=("point.weight",)).bind(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(images)["output"].square().mean().backward()
    optimizer.step()
    kept.apply(network)
    (stored,) = (t for t in network.written().graph.initializer if t.name == "point.weight_quantized")
    assert not numpy_helper.to_array(stored).reshape(-1)[::2].any()
    assert numpy_helper.to_array(stored).reshape(-1)[1::2].all()


def test_an_operator_that_torch_is_not_told_of_is_named():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0][:, -1]

    with pytest.raises(ModelError, match=r"LSTM.*leave `train` out"):
        GraphNetwork(export_onnx(Recurrent().eval(), {"x": torch.zeros(2, 3, 4)}))


def test_odd_names_of_constants_are_no_trouble():
    weights = {"a.b": (4, 4), "a": (4, 4), "a.b.c": (4, 4), "train": (4, 4), "..": (4, 4)}
    nodes, value = [], "x"
    for number, name in enumerate(weights):
        nodes.append(helper.make_node("MatMul", [value, name], [f"v{number}"]))
        value = f"v{number}"
    tensors = [numpy_helper.from_array(np.eye(4, dtype=np.float32) * 2, name) for name in weights]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", value)]
    model = helper.make_model(helper.make_graph(nodes, "odd", ends[:1], ends[1:], tensors))
    network = GraphNetwork(model)
    assert len(list(network.parameters())) == len(weights)
    assert torch.equal(network(torch.ones(1, 4))[value], torch.full((1, 4), 32.0))
