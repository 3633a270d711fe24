"""ONNX models small enough to build in a test, made with `onnx` alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def linear_onnx(
    features: int = 12,
    classes: int = 10,
    *,
    batch: int | str = "batch",
    depth: int = 1,
    seed: int = 0,
    bias: float = 0.0,
    unused: bool = False,
) -> bytes:
    """`depth` square layers with ReLU and a linear head: x [batch, features] float32 -> y [batch, classes]."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for i in range(depth):
        wide = classes if i == depth - 1 else features
        weights.append(numpy_helper.from_array(rng.normal(size=(features, wide)).astype(np.float32) + bias, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], ["y" if i == depth - 1 else f"m{i}"]))
        if i < depth - 1:
            nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"]))
        last = f"r{i}"
    if unused:
        weights.append(numpy_helper.from_array(np.zeros(3, np.float32), "unused"))
    return model_bytes(nodes, [("x", TensorProto.FLOAT, [batch, features])], [("y", TensorProto.FLOAT, None)], weights)


def dividing_onnx() -> bytes:
    """Divides integers by zero, which the runtime refuses when it is called, not when it is opened."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Sub", ["whole", "whole"], ["zero"]),
        helper.make_node("Div", ["whole", "zero"], ["parts"]),
        helper.make_node("Cast", ["parts"], ["y"], to=TensorProto.FLOAT),
    ]
    return model_bytes(nodes, [("x", TensorProto.FLOAT, ["batch", 12])], [("y", TensorProto.FLOAT, None)])


def hanging_onnx() -> bytes:
    """Loops for longer than anyone waits."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Sin", ["last"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("last", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    weights = [
        numpy_helper.from_array(np.array(2**60, np.int64), "many"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    nodes = [helper.make_node("Loop", ["many", "yes", "x"], ["y"], body=body)]
    return model_bytes(nodes, [("x", TensorProto.FLOAT, ["batch", 12])], [("y", TensorProto.FLOAT, None)], weights)


def nan_onnx() -> bytes:
    """The logarithm of numbers that are negative as often as not."""
    node = helper.make_node("Log", ["x"], ["y"])
    return model_bytes([node], [("x", TensorProto.FLOAT, ["batch", 12])], [("y", TensorProto.FLOAT, None)])


def cast_onnx(dtype: int, shape: Sequence[int | str | None]) -> bytes:
    """A cast of one input of any type and shape to float32."""
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    return model_bytes([node], [("x", dtype, shape)], [("y", TensorProto.FLOAT, None)])


def model_bytes(nodes, inputs, outputs, weights=(), *, opset: int = 20, ir: int = 10) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        list(weights),
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir
    return model.SerializeToString()
