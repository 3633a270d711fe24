"""The exported file: what torch computes, for any batch, in few bytes, the same each time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compress.graph import export
from compress.graph.export import check_parity, export_onnx
from compress.graph.onnx_graph import graph_bits, load_graph, serialise
from compress.graph.sizes import count_macs, count_nonzero, count_params, measure_sizes
from compress.models import build_model
from compress.tasks import Task
from evaluate.core.errors import ModelError
from evaluate.runtime.session import open_session

FAMILIES = {
    "mlp": {"inputs": 64, "width": 16, "depth": 2},
    "resnet": {"depth": 8, "width": 8, "in_channels": 1},
    "mobilenet": {"width": 0.5, "in_channels": 1},
    "vit": {"image": 8, "patch": 4, "in_channels": 1, "width": 32, "depth": 2},
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, **FAMILIES[name]).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_exports_with_a_free_batch(name: str, digits: Task):
    model = build(name)
    data = serialise(export_onnx(model, digits.example(3)))
    for batch in (1, 5):
        parity = check_parity(model, data, digits.example(batch), tolerance=1e-4)
        assert parity.samples == batch
    onnx.checker.check_model(load_graph(data), full_check=True)


def test_the_same_model_gives_the_same_bytes(trained: nn.Module, digits: Task):
    assert serialise(export_onnx(trained, digits.example(2))) == serialise(export_onnx(trained, digits.example(7)))


def test_nothing_of_this_machine_is_in_the_file(trained: nn.Module, digits: Task):
    data = serialise(export_onnx(trained, digits.example()))
    assert b".py" not in data and b"site-packages" not in data
    weights = 4 * count_params(trained)
    assert len(data) < weights + 12_000, "the graph takes more than 12 kB beside the weights"


def test_node_names_are_layer_names(trained: nn.Module, digits: Task):
    names = {node.name for node in export_onnx(trained, digits.example()).graph.node}
    assert {"conv1", "layer1.0.conv1", "layer3.0.conv2", "linear"} <= names


def test_linear_layers_of_a_transformer_keep_their_names(digits: Task):
    model = build("vit")
    names = {node.name for node in export_onnx(model, digits.example()).graph.node}
    assert {name for name, module in model.named_modules() if isinstance(module, nn.Linear)} <= names


def test_the_exported_model_is_left_alone(digits: Task):
    model = build("resnet").train()
    export_onnx(model, digits.example())
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_a_difference_is_an_error(trained: nn.Module, digits: Task):
    graph = export_onnx(trained, digits.example())
    bias = next(t for t in graph.graph.initializer if t.name == "linear.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, "linear.bias"))
    with pytest.raises(ModelError, match="differs from torch"):
        check_parity(trained, serialise(graph), digits.example(4), tolerance=1e-3)


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "message"),
    [(TwoOutputs(), "has several outputs"), (Branches(), "cannot be exported to ONNX")],
    ids=["two outputs", "control flow on values"],
)
def test_what_cannot_be_exported_is_said(model: nn.Module, message: str, digits: Task):
    with pytest.raises(ModelError, match=message):
        export_onnx(model, digits.example())


def test_garbage_is_no_model():
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        load_graph(b"\x00garbage")


def test_macs_of_a_convolution_are_the_textbook_number():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert count_macs(conv, {"x": torch.zeros(4, 3, 10, 10)}) == 10 * 10 * 8 * 3 * 9
    linear = nn.Linear(7, 5)
    assert count_macs(linear, {"x": torch.zeros(2, 7)}) == 35


def test_macs_of_attention_are_counted():
    attention = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    n, d, hidden = 5, 16, 32
    projections, products, mlp = 4 * n * d * d, 2 * n * n * d, 2 * n * d * hidden
    assert count_macs(attention, {"x": torch.zeros(1, n, d)}) == projections + products + mlp


def test_tied_weights_count_once_and_zeros_do_not_count():
    first = nn.Linear(4, 4, bias=False)
    second = nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    with torch.no_grad():
        first.weight[0] = 0
    tied = nn.Sequential(first, second)
    assert count_params(tied) == 16
    assert count_nonzero(tied) == 12


def test_sizes_are_those_of_the_file(trained: nn.Module, digits: Task):
    graph = export_onnx(trained, digits.example())
    data = serialise(graph)
    sizes = measure_sizes(trained, digits.example(), graph, data)
    assert sizes["bytes"] == len(data) > sizes["packed_bytes"]
    assert sizes["bits"] == 32
    held = open_session(data).run({k: v.numpy() for k, v in digits.example().items()})
    assert np.isfinite(held[0]).all()


def graph_of(weights: list[onnx.TensorProto], nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "model", [], [], weights))


def raw(name: str, kind: str, *dims: int) -> onnx.TensorProto:
    return onnx.TensorProto(name=name, data_type=onnx.TensorProto.DataType.Value(kind), dims=dims)


@pytest.mark.parametrize(
    ("kind", "bits"),
    {
        "DOUBLE": 64, "FLOAT": 32, "FLOAT16": 16, "BFLOAT16": 16, "INT8": 8, "UINT8": 8, "BOOL": 8, "INT4": 4,
        "UINT4": 4, "INT2": 2, "UINT2": 2, "FLOAT4E2M1": 4, "FLOAT6E2M3": 6, "FLOAT8E4M3FN": 8, "FLOAT8E5M2": 8,
    }.items(),
)  # fmt: skip
def test_every_type_has_its_bits(kind: str, bits: int):
    assert graph_bits(graph_of([raw("w", kind, 6, 4)], [])) == bits
    assert graph_bits(graph_of([raw("w", kind, 6, 4), raw("v", "FLOAT", 3, 8)], [])) == (bits + 32) / 2


@pytest.mark.parametrize(("bits", "block"), [(4, 32), (2, 16), (8, 64)])
def test_packed_weights_are_counted_with_their_scales(bits: int, block: int):
    k, n = 2 * block, 6
    nodes = [onnx.helper.make_node("MatMulNBits", ["x", "w", "s", "z"], ["y"], K=k, N=n, bits=bits, block_size=block)]
    stored = [raw("w", "UINT8", n, 2, block * bits // 8), raw("s", "FLOAT16", n * 2), raw("z", "UINT8", n)]
    assert graph_bits(graph_of(stored, nodes)) == bits + 16 / block + 8 / (2 * block)
    nodes = [onnx.helper.make_node("GatherBlockQuantized", ["w", "i", "s"], ["y"], bits=bits, block_size=block)]
    stored = [raw("w", "UINT8", n, 2 * block * bits // 8), raw("s", "FLOAT", n, 2)]
    assert graph_bits(graph_of(stored, nodes)) == bits + 32 / block


def test_scales_of_blocks_are_no_weights_and_those_of_channels_are_not_counted():
    node = onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["y"], block_size=16)
    assert graph_bits(graph_of([raw("w", "INT4", 8, 32), raw("s", "FLOAT", 8, 2)], [node])) == 4 + 32 / 16
    assert graph_bits(graph_of([raw("w", "INT8", 8, 32), raw("s", "FLOAT", 8)], [node])) == 8
    assert graph_bits(graph_of([raw("b", "FLOAT", 8)], [])) == 32


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_macs_of_recurrent_layers_are_each_weight_once_a_step(kind: type[nn.Module], bidirectional: bool):
    rnn = kind(12, 32, num_layers=2, batch_first=True, bidirectional=bidirectional)
    weights = sum(p.numel() for p in rnn.parameters() if p.ndim == 2)
    assert count_macs(rnn, {"x": torch.zeros(3, 10, 12)}) == 10 * weights


class Token(nn.Module):
    """Hands a view of a parameter to a layer, as class tokens are: torch's own tracker of modules fails on it."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.zeros(1, 1, 8)), nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(self.token.expand(1, -1, -1)).flatten(1) + x


def test_macs_are_counted_where_a_parameters_view_goes_into_a_layer():
    assert count_macs(Token(), {"x": torch.zeros(2, 8)}) == 64


def fresh(model: nn.Module, example: dict[str, torch.Tensor]) -> bytes:
    """The file of a network that is traced now."""
    export._traces.clear()
    return serialise(export_onnx(model, example))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trace_that_is_found_again_gives_the_file_of_a_new_one(name: str, digits: Task, monkeypatch):
    example, other = digits.example(2), build(name)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.copy_(torch.rand_like(tensor.float()) + 0.1)
    wanted = fresh(other, example)
    fresh(build(name), example)
    monkeypatch.setattr(export, "_traced", None)  # calling it would fail
    assert serialise(export_onnx(other, example)) == wanted


class Scaled(nn.Module):
    """What it computes depends on more than its weights."""

    def __init__(self, factor: float, hook: bool = False):
        super().__init__()
        self.layer, self.factor = nn.Linear(4, 2), factor
        if hook:
            self.layer.register_forward_hook(lambda module, inputs, output: output * factor)

    def forward(self, x):
        return self.layer(x) * self.factor


@pytest.mark.parametrize("hook", [False, True])
def test_a_network_that_computes_otherwise_is_traced_anew(hook: bool):
    first, second = Scaled(1.0, hook).eval(), Scaled(3.0, hook).eval()
    second.load_state_dict(first.state_dict())
    example = {"x": torch.randn(5, 4)}
    for model in (first, second, first):
        check_parity(model, serialise(export_onnx(model, example)), example, tolerance=1e-5)


def test_what_depends_on_the_batchs_size_is_said_before_anything_is_kept():
    class Fixed(nn.Module):
        def forward(self, x):
            return x * 2 if len(x) == 1 else x + 1

    example = {"x": torch.randn(4, 3)}
    data = serialise(export_onnx(Fixed(), example))
    with pytest.raises(ModelError, match="does not run on a batch of 4"):
        check_parity(Fixed(), data, example, tolerance=1e-5)


def test_every_output_is_compared():
    class Two(nn.Module):
        def __init__(self, factor: float):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return {"logits": x + 1, "aside": x * self.factor}

    example = {"x": torch.randn(4, 3)}
    data = serialise(export_onnx(Two(2.0), example))
    assert check_parity(Two(2.0), data, example, tolerance=1e-6).max_abs == 0
    with pytest.raises(ModelError, match="differs from torch"):
        check_parity(Two(2.1), data, example, tolerance=1e-3)


class Bags(nn.Module):
    """Exported as a loop, whose body reads what is around it."""

    def __init__(self):
        super().__init__()
        self.bags, self.head = nn.EmbeddingBag(20, 8, mode="mean"), nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.bags(ids))


def test_the_body_of_a_loop_finds_its_values():
    example = {"ids": torch.randint(0, 20, (6, 5))}
    model = Bags().eval()
    check_parity(model, serialise(export_onnx(model, example)), example, tolerance=1e-5)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids).mean(1))


def test_layers_with_tied_weights_keep_their_names_and_one_tensor():
    graph = export_onnx(Tied().eval(), {"ids": torch.randint(0, 20, (2, 5))}).graph
    assert {node.op_type: node.name for node in graph.node if node.op_type in ("Gather", "Gemm")} == {
        "Gather": "embed",
        "Gemm": "head",
    }
    assert sum(list(tensor.dims) == [20, 8] for tensor in graph.initializer) == 1
