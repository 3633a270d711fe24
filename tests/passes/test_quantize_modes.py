"""Dynamic int8 and weights alone: near fp32, of the right layers, with sizes that say what is stored."""

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from compress.core.errors import PassError
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import constant_sizes, graph_macs, serialise
from compress.graph.onnx_layers import inspect
from compress.passes.base import GraphContext
from compress.passes.quantization.block_weights import gptq, hqq, packed, rtn
from compress.passes.quantization.noise import decibel, noise_of, outputs_of
from compress.passes.quantization.quantize import NumpySplit
from compress.passes.quantization.quantize_graph import preview_graph, quantize_graph
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import Quantizer
from compress.tasks import TensorSplit
from evaluate.metrics.samples import predict
from evaluate.runtime.session import open_session


class Reader(nn.Module):
    """Embeddings, an LSTM, products on three dimensions and on two, one of them called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.lstm = nn.Embedding(50, 48), nn.LSTM(48, 40, batch_first=True, bidirectional=True)
        self.mixed, self.body = nn.Linear(80, 80), nn.Linear(80, 72)
        self.norm, self.head = nn.LayerNorm(72), nn.Linear(72, 5)

    def forward(self, ids: Tensor) -> Tensor:
        found, _ = self.lstm(self.table(ids))
        found = torch.tanh(self.mixed(torch.relu(self.mixed(found))))
        return self.head(self.norm(torch.relu(self.body(found.mean(1)))))


class Seer(nn.Module):
    """Convolutions and a head, and a table that is looked up and multiplied by."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.deep = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, groups=4)
        self.head = nn.Linear(32, 7)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(torch.relu(self.deep(torch.relu(self.conv(image)))).mean((2, 3)))


class Tied(nn.Module):
    """The table is the head's weight too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(40, 32), nn.Linear(32, 32), nn.Linear(32, 40, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.table(ids))))


NETS = {
    "reader": (Reader, {"ids": torch.randint(0, 50, (32, 6), generator=torch.Generator().manual_seed(0))}),
    "seer": (Seer, {"image": torch.rand(32, 3, 12, 12, generator=torch.Generator().manual_seed(0))}),
    "tied": (Tied, {"ids": torch.randint(0, 40, (32, 6), generator=torch.Generator().manual_seed(0))}),
}
MODES = {
    "dynamic": ({"mode": "dynamic"}, 8, 24),
    "dynamic in 7 bits": ({"mode": "dynamic", "target": "avx2"}, 7, 20),
    "dynamic by layer": ({"mode": "dynamic", "per_channel": False}, 8, 20),
    "weights in 8 bits": ({"mode": "weight-only"}, 8, 28),
    "weights in 16 bits": ({"mode": "weight-only", "bits": 16}, 16, 60),
    "weights in 4 bits": ({"mode": "weight-only", "bits": 4}, 4, 12),
    "symmetric": ({"mode": "weight-only", "bits": 4, "blocks": {"symmetric": True, "size": 16}}, 4, 12),
    "hqq": ({"mode": "weight-only", "bits": 4, "blocks": {"method": "hqq"}}, 4, 12),
    "gptq": ({"mode": "weight-only", "bits": 4, "blocks": {"method": "gptq"}}, 4, 12),
    "gptq in fp32": ({"mode": "weight-only", "bits": 4, "blocks": {"method": "gptq", "compute": "fp32"}}, 4, 12),
}
TAKEN = {
    ("reader", "dynamic"): {"table", "lstm", "mixed", "body", "head"},
    ("reader", "weight-only"): {"table", "mixed", "body", "head"},
    ("seer", "dynamic"): {"head"},
    ("seer", "weight-only"): {"conv", "deep", "head"},
    ("tied", "dynamic"): {"table", "body", "head"},
    ("tied", "weight-only"): {"table", "body", "head"},
}


def rows_of(inputs: dict[str, Tensor]) -> NumpySplit:
    """Samples for calibration."""
    return NumpySplit(TensorSplit(inputs, torch.zeros(len(next(iter(inputs.values()))))))


def made(name: str, **settings):
    """A network's graph in fp32, what became of it, and one call."""
    torch.manual_seed(0)
    build, inputs = NETS[name]
    graph = export_onnx(build().eval(), inputs)
    config = QuantizeConfig(choose="fixed", **settings)
    result = quantize_graph(graph, config, GraphContext(lambda count: rows_of(inputs)))
    return graph, result, {key: values.numpy() for key, values in inputs.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETS)
def test_a_mode_takes_its_layers_and_stays_near_fp32(name, mode):
    settings, bits, least = MODES[mode]
    graph, result, feeds = made(name, **settings)
    data, floats = serialise(result.graph), serialise(graph)
    onnx.checker.check_model(data)
    taken = TAKEN[name, settings["mode"]] - ({"conv", "deep"} if bits == 4 else set())
    taken |= {"lstm"} if (name, bits) == ("reader", 16) else set()
    assert {change.layer for change in result.changes} <= taken | {"table", "head"}
    assert {change.layer for change in result.changes} >= taken - {"table", "head"}  # tied ones have one of two names
    assert {change.after for change in result.changes} <= {bits}
    for optimize in (True, False):
        noise = noise_of(outputs_of(data, [feeds], optimize=optimize), outputs_of(floats, [feeds]))
        assert noise > 0 and decibel(noise) > least
    before, after = (constant_sizes(one, serialise(one)) for one in (graph, result.graph))
    assert after["params"] == before["params"] and graph_macs(result.graph, feeds) == graph_macs(graph, feeds)
    assert after["nonzero"] <= before["nonzero"] and after["bytes"] < before["bytes"]
    previewed = preview_graph(graph, QuantizeConfig(choose="fixed", **settings))
    assert set(previewed.layers) == {change.layer for change in result.changes}


@pytest.mark.parametrize("mode", ["dynamic", "weight-only"])
def test_what_is_excluded_keeps_its_weights(mode):
    _, result, _ = made("reader", mode=mode, exclude=["mixed", "table", *(["lstm"] if mode == "dynamic" else [])])
    assert {change.layer for change in result.changes} == {"body", "head"}
    kept = {tensor.name: tensor for tensor in result.graph.graph.initializer}
    products = [node for node in result.graph.graph.node if node.op_type == "MatMul"]
    assert len(products) == 2 and len({node.input[1] for node in products}) == 1  # it is called twice
    assert kept[products[0].input[1]].data_type == onnx.TensorProto.FLOAT


def test_nothing_to_take_is_an_error_that_names_what_a_mode_takes():
    with pytest.raises(PassError, match=r"mode: dynamic takes \(Gather, Gemm, LSTM, MatMul\).*head"):
        made("seer", mode="dynamic", exclude=["head"])


def test_what_float16_cannot_hold_stays_in_fp32_and_a_mode_that_multiplies_integers_has_no_16_bits():
    torch.manual_seed(0)
    network = Seer().eval()
    with torch.no_grad():
        network.deep.weight[0, 0, 0, 0] = 1e6
    graph = export_onnx(network, NETS["seer"][1])
    config = QuantizeConfig(mode="weight-only", bits=16)
    result = quantize_graph(graph, config, GraphContext(lambda count: rows_of(NETS["seer"][1])))
    assert {change.layer for change in result.changes} == {"conv", "head"}
    with pytest.raises(ValidationError, match="bits: 16 needs mode: weight-only, got static"):
        QuantizeConfig(bits=16)


def test_four_bits_are_for_weights_alone():
    with pytest.raises(ValidationError, match="bits: 4 needs mode: static or weight-only"):
        QuantizeConfig(bits=4, mode="dynamic")
    with pytest.raises(ValidationError, match="hqq needs bits: 4"):
        QuantizeConfig(bits=8, mode="weight-only", blocks={"method": "hqq"})
    with pytest.raises(ValidationError, match="hqq finds zero points"):
        QuantizeConfig(bits=4, mode="weight-only", blocks={"method": "hqq", "symmetric": True})
    assert any("Convolutions stay in fp32" in text for text in made("seer", mode="weight-only", bits=4)[1].warnings)


def test_an_answer_does_not_depend_on_what_else_is_asked():
    """In a batch all rows would share one range; judged is what a device gives that answers one at a time."""
    _, result, feeds = made("reader", mode="dynamic")
    session = open_session(serialise(result.graph))
    together = predict(session, [feeds])
    apart = [session.run({name: values[row : row + 1] for name, values in feeds.items()})[0] for row in range(32)]
    np.testing.assert_array_equal(together, np.concatenate(apart))
    assert np.abs(session.run(feeds)[0] - together).max() > 0
    plain = open_session(serialise(made("reader", mode="weight-only")[1].graph))
    assert not plain.ranges_by_call


def weights(rows: int = 24, inputs: int = 100) -> np.ndarray:
    return np.random.default_rng(0).standard_t(4, size=(rows, inputs)).astype(np.float32)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [16, 64])
def test_the_runtime_reads_what_was_rounded(bits, size, symmetric):
    """A product with the identity gives the weights back, as `floats` says them; zero stays zero."""
    weight = weights()
    weight[3, 20:40] = 0
    every = [rtn(weight, bits, size, symmetric), *([] if symmetric or bits == 8 else [hqq(weight, bits, size)])]
    for blocks in every:
        told = blocks.floats(weight.shape[1])
        inputs = [packed(blocks.values, bits), blocks.scales]
        if not symmetric:
            inputs.append(blocks.zeros if blocks.zeros.dtype == np.float32 else packed(blocks.zeros, bits))
        node = onnx.helper.make_node(
            "MatMulNBits", ["x", *(f"w{i}" for i in range(len(inputs)))], ["y"], domain="com.microsoft",
            K=100, N=24, bits=bits, block_size=size,
        )  # fmt: skip
        ports = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "xy"]
        constants = [onnx.numpy_helper.from_array(values, f"w{i}") for i, values in enumerate(inputs)]
        graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], constants)
        sets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
        model = onnx.helper.make_model(graph, opset_imports=sets, ir_version=10)
        (found,) = open_session(model.SerializeToString()).run({"x": np.eye(100, dtype=np.float32)})
        np.testing.assert_allclose(found.T, told, atol=1e-4)
        step = np.repeat(blocks.scales, size, axis=1)[:, :100]
        limit = 1.01 if blocks.zeros.dtype != np.float32 else 8
        assert (np.abs(told - weight) <= limit * step).all()
        assert blocks.zeros.dtype == np.float32 or (told[weight == 0] == 0).all()


def test_each_method_is_better_by_what_it_minimises():
    weight, rng = weights(64, 128), np.random.default_rng(1)
    mixed = rng.normal(size=(2000, 16)) @ rng.normal(size=(16, 128)) + 0.1 * rng.normal(size=(2000, 128))
    moments = mixed.T @ mixed / len(mixed)
    plain, half, learnt = rtn(weight, 4, 32, False), hqq(weight, 4, 32), gptq(weight, moments, 4, 32, False)

    def of_weights(blocks) -> float:
        return float((np.abs(blocks.floats(128) - weight) ** 0.7).sum())

    def of_outputs(blocks) -> float:
        return float(np.square(mixed @ (blocks.floats(128) - weight).T).sum())

    assert of_weights(half) < 0.99 * of_weights(plain)
    assert of_outputs(learnt) < 0.25 * of_outputs(plain)


def test_inputs_that_are_never_seen_do_not_break_gptq():
    weight, seen = weights(8, 64), np.random.default_rng(0).normal(size=(500, 64))
    seen[:, 10:30] = 0
    blocks = gptq(weight, seen.T @ seen / 500, 4, 32, False)
    assert np.isfinite(blocks.scales).all()
    assert np.abs(blocks.floats(64) - weight)[:, 10:30].max() <= blocks.scales.max()


def test_moments_are_those_of_what_a_layer_reads():
    torch.manual_seed(0)
    graph = export_onnx(
        nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)).eval(), {"x": torch.randn(32, 12)}
    )
    inputs = {"x": torch.randn(50, 12, generator=torch.Generator().manual_seed(1))}
    config = QuantizeConfig(mode="weight-only", bits=4, blocks={"method": "gptq"}, calibrate={"batch_size": 7})
    quantizer = Quantizer.calibrated(graph, config, GraphContext(lambda count: rows_of(inputs)))
    x = inputs["x"].numpy()
    np.testing.assert_allclose(quantizer.moments["x"], x.T @ x / 50, rtol=1e-5)
    assert len(quantizer.moments) == 2


def test_new_constants_do_not_take_the_names_of_the_graphs_own():
    torch.manual_seed(0)
    graph = export_onnx(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), {"x": torch.randn(32, 12)})
    for tensor in graph.graph.initializer:
        if tensor.name == "2.bias":
            tensor.name = "0.matrix"
    graph.graph.node[2].input[2] = "0.matrix"
    config = QuantizeConfig(choose="fixed", mode="dynamic")
    inputs = {"x": torch.randn(32, 12)}
    result = quantize_graph(graph, config, GraphContext(lambda count: rows_of(inputs)))
    feeds = {"x": inputs["x"].numpy()}
    found, floats = (outputs_of(serialise(one), [feeds]) for one in (result.graph, graph))
    assert decibel(noise_of(found, floats)) > 30


@pytest.mark.parametrize("mode", [{"mode": "dynamic"}, {"mode": "weight-only", "bits": 4}])
def test_inspect_shows_the_layers_of_such_a_file(mode, tmp_path):
    graph, result, feeds = made("reader", **mode)
    found = []
    for number, one in enumerate((graph, result.graph)):
        (tmp_path / f"{number}.onnx").write_bytes(serialise(one))
        found.append(inspect(tmp_path / f"{number}.onnx", feeds, 32))
    before, after = ({layer.name: layer for layer in one.layers} for one in found)
    taken = {change.layer for change in result.changes} - {"table"}
    assert taken <= set(after) and all("already" in after[name].why for name in taken)
    assert all(after[name].macs == before[name].macs for name in taken)
    assert any("holds integers already" in text for text in found[1].remarks)
