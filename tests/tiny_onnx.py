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
