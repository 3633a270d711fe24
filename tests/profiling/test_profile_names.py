"""Whose layer a kernel is: graphs read without onnx, and the runtime's names led back to those of the file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from profile_cases import residual_onnx
from tiny_onnx import cast_onnx, linear_onnx, model_bytes

from evaluate.profiling.graph import chain_model, read_graph
from evaluate.profiling.node_names import Names, is_integer, kind
from evaluate.profiling.profile import profile
from evaluate.runtime.session import open_session


@pytest.mark.parametrize("data", [linear_onnx(depth=3), residual_onnx(), cast_onnx(TensorProto.INT64, [2])])
def test_a_graph_is_read_as_onnx_itself_reads_it(data, tmp_path):
    graph, truth = read_graph(data), onnx.load_from_string(data).graph
    assert [
        (n.name or f"{n.op_type}_{i}", n.op_type, tuple(n.input), tuple(n.output)) for i, n in enumerate(truth.node)
    ] == [tuple(node) for node in graph.nodes]
    assert graph.weights == {t.name: tuple(t.dims) for t in truth.initializer}
    assert graph.outputs == tuple(o.name for o in truth.output)
    (tmp_path / "m.onnx").write_bytes(data)
    assert read_graph(tmp_path / "m.onnx").nodes == graph.nodes


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_damaged_bytes_are_no_graph_and_no_crash(noise, at):
    data = residual_onnx()
    read_graph(noise)
    read_graph(data[:at] + noise + data[at + len(noise) :])
    read_graph(data[:at])


def test_nodes_written_out_of_order_are_put_in_order():
    model = onnx.load_from_string(residual_onnx())
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert [n.name for n in read_graph(model.SerializeToString()).nodes] == [n.name for n in nodes]


@pytest.mark.parametrize("length", [1, 32])
def test_the_chain_is_a_model_that_runs(length):
    data = chain_model(length)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    (got,) = open_session(data).run({"x": np.full(1, 3, np.float32)})
    assert got.tolist() == [3.0 if length % 2 == 0 else -3.0]
    assert len(read_graph(data).nodes) == length


# ---- names


@pytest.mark.parametrize(
    ("op", "plain"),
    [
        ("Conv", "Conv"), ("QLinearConv", "Conv"), ("FusedConv", "Conv"), ("NhwcFusedConv", "Conv"),
        ("ConvInteger", "Conv"), ("QGemm", "Gemm"), ("FusedGemm", "Gemm"), ("FusedMatMul", "MatMul"),
        ("MatMulIntegerToFloat", "MatMul"), ("DynamicQuantizeMatMul", "MatMul"), ("MatMulNBits", "MatMul"),
        ("QLinearAdd", "Add"), ("NhwcMaxPool", "MaxPool"), ("QAttention", "Attention"),
        ("QuantizeLinear", "QuantizeLinear"), ("DynamicQuantizeLinear", "DynamicQuantizeLinear"),
    ],
)  # fmt: skip
def test_the_kind_of_an_operator(op, plain):
    assert kind(op) == plain


def test_what_runs_on_integers():
    assert is_integer("QLinearConv", "uint8") and is_integer("Slice", "uint8") and is_integer("MatMulInteger", "")
    assert not is_integer("Conv", "float") and not is_integer("QuantizeLinear", "float")


def runtime_graph(*nodes, weights=()):
    """A graph as the runtime writes it after optimisation."""
    made = [helper.make_node(op, list(i), list(o), name=name) for name, op, i, o in nodes]
    stored = [numpy_helper.from_array(np.zeros((2, 2), np.float32), w) for w in weights]
    return read_graph(model_bytes(made, [("x", 1, [1])], [("y", 1, [1])], stored))


def test_fused_blocked_kernels_lead_back_to_their_layers():
    ran = runtime_graph(
        ("v1_nchwc", "Conv", ["x", "w0"], ["r0"]),
        ("v2_nchwc", "Conv", ["r0", "w1", "", "r0"], ["r1"]),
        ("ReorderOutput_token_7", "ReorderOutput", ["r1"], ["y"]),
        weights=["w0", "w1"],
    )
    names = Names(read_graph(residual_onnx()), ran)
    first, second = names.place("v1_nchwc", "Conv"), names.place("v2_nchwc", "Conv")
    assert (first.layer, first.parts, first.weights) == ("conv1", ("conv1", "Relu after conv1"), (16, 3, 3, 3))
    assert second.layer == "conv2"
    assert set(second.parts) == {"conv2", "Add after conv2", "Relu after conv2"}
    reorder = names.place("ReorderOutput_token_7", "ReorderOutput")
    assert reorder.helper and reorder.parts == () and reorder.layer == "conv2"


@pytest.mark.parametrize("name", ["conv1", "fused conv1", "conv1_token_12", "conv1_quant", "fused conv1_nchwc_token_3"])
def test_the_runtimes_additions_to_a_name_are_taken_off(name):
    assert Names(read_graph(residual_onnx()), None).place(name, "FusedConv").layer == "conv1"


def test_weights_tell_whose_a_kernel_is_where_its_name_does_not():
    ran = runtime_graph(("anything", "FusedConv", ["x", "w", "conv1.bias"], ["r"]), weights=["w", "conv1.bias"])
    assert Names(read_graph(residual_onnx()), ran).place("anything", "FusedConv").layer == "conv1"


def test_a_kernel_that_nothing_leads_back_keeps_the_runtimes_name():
    place = Names(read_graph(residual_onnx()), None).place("mystery_token_4", "Gelu")
    assert place == ("mystery", (), None, False)
    assert Names(None, None).place("conv1", "Conv").layer == "conv1"


def test_a_helper_stands_for_the_operator_that_made_it_necessary():
    ran = runtime_graph(
        ("conv1", "QLinearConv", ["x", "w0"], ["a"]),
        ("dq", "DequantizeLinear", ["a"], ["b"]),
        ("Relu1", "Relu", ["b"], ["c"]),
        ("q", "QuantizeLinear", ["c"], ["d"]),
        ("Transpose_token_1", "Transpose", ["d"], ["e"]),
        ("conv2", "QLinearConv", ["e", "w1"], ["y"]),
        weights=["w0", "w1"],
    )
    names = Names(read_graph(residual_onnx()), ran)
    served = {name: names.place(name, op).layer for name, op in (("dq", "DequantizeLinear"), ("q", "QuantizeLinear"))}
    assert served == {"dq": "Relu1", "q": "Relu1"}
    assert names.place("Transpose_token_1", "Transpose").layer == "conv2"


def test_the_same_place_has_the_same_key_when_other_nodes_shift_the_numbers():
    renamed = onnx.load_from_string(residual_onnx())
    for node in renamed.graph.node:
        node.name = node.name.replace("Relu1", "Relu9").replace("Add3", "Add30").replace("Relu4", "Relu31")
    one, two = Names(read_graph(residual_onnx()), None), Names(read_graph(renamed.SerializeToString()), None)
    assert one.place("Add3", "Add").parts == two.place("Add30", "Add").parts == ("Add after conv2",)
    assert one.place("Relu1", "Relu").parts != one.place("Relu4", "Relu").parts


def test_a_kernel_over_constants_belongs_somewhere():
    """Rows of a table by constant ids: with integers in the table the runtime folds none of it, and runs the Gather."""
    constants = [
        numpy_helper.from_array(np.arange(12, dtype=np.int8).reshape(4, 3), "table"),
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.array([[1, 2]]), "ids"),
        numpy_helper.from_array(np.ones((3, 3), "f"), "w"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["table", "scale"], ["rows"], name="table.dq"),
        helper.make_node("Gather", ["rows", "ids"], ["placed"], name="positions"),
        helper.make_node("Add", ["x", "placed"], ["sum"], name="add"),
        helper.make_node("MatMul", ["sum", "w"], ["y"], name="layer"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    names = Names(read_graph(data), read_graph(data))
    placed = {node.name: names.place(node.name, node.op).layer for node in read_graph(data).nodes}
    assert placed["layer"] == "layer" and placed["positions"] in ("positions", "table.dq")
    assert profile(data, {"x": np.zeros((1, 2, 3), "f")}, seconds=0.2)["layers"]
