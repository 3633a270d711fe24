"""Dynamic int8: activations are rounded in the range they have in each call, so that nothing needs calibration.

Standard operators (DynamicQuantizeLinear, MatMulInteger), which ONNX Runtime fuses into one kernel; an LSTM becomes the
runtime's own DynamicQuantizeLSTM, embeddings are looked up in int8. Convolutions stay in fp32: their integer operator
is slower than fp32 by every measurement here.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray

from compress.passes.quantization.products import MICROSOFT, Writer

KINDS = frozenset(("MatMul", "Gemm", "LSTM", "Gather"))


def write_dynamic(graph: onnx.ModelProto, left: Collection[str], most: int, per_channel: bool) -> onnx.ModelProto:
    """The graph with its products, LSTMs and embeddings in int8, but for those that are left.

    most : the largest step of a weight: 127, or 63 where pairs of products would saturate.
    """
    writer = Writer(graph)
    rounded: dict[str, tuple[str, str, str]] = {}
    for node, weight in writer.layers("MatMul", "LSTM", "Gather"):
        if node.name in left:
            continue
        if node.op_type == "LSTM":
            _lstm(writer, node, most, per_channel)
        elif node.op_type == "Gather":
            _embedding(writer, node, weight)
        else:
            _product(writer, node, weight, most, per_channel, rounded)
    return writer.written()


def _product(
    writer: Writer,
    node: onnx.NodeProto,
    weight: str,
    most: int,
    per_channel: bool,
    rounded: dict[str, tuple[str, str, str]],
) -> None:
    """x W = scale of x * scale of W * (their integers' product); the same x is rounded once for all that read it."""
    values, scales = in_steps(writer.array(weight), 0 if per_channel else None, most)
    stored, scale = writer.add(values, f"{weight}.int8"), writer.add(scales.reshape(-1), f"{weight}.scale")
    zero = writer.add(np.zeros(scales.size, np.int8), f"{weight}.zero")
    source, given = node.input[0], node.output[0]
    make, nodes = onnx.helper.make_node, []
    if source not in rounded:
        rounded[source] = (f"{source}.uint8", f"{source}.scale", f"{source}.zero")
        nodes.append(make("DynamicQuantizeLinear", [source], list(rounded[source])))
    steps, step, offset = rounded[source]
    nodes += [
        make("MatMulInteger", [steps, stored, offset, zero], [f"{given}.int32"], node.name),
        make("Cast", [f"{given}.int32"], [f"{given}.sum"], to=onnx.TensorProto.FLOAT),
        make("Mul", [step, scale], [f"{given}.step"]),
        make("Mul", [f"{given}.sum", f"{given}.step"], [given]),
    ]
    writer.replace(node, *nodes)


def _embedding(writer: Writer, node: onnx.NodeProto, weight: str) -> None:
    """Rows are looked up in a table in int8, and widened."""
    values, scales = in_steps(writer.array(weight), None, 127)
    table, step = writer.add(values, f"{weight}.rows.int8"), writer.add(scales.reshape(()), f"{weight}.rows.scale")
    zero, given = writer.add(np.array(0, np.int8), f"{weight}.rows.zero"), node.output[0]
    writer.replace(
        node,
        onnx.helper.make_node("Gather", [table, node.input[1]], [f"{given}.int8"], node.name),
        onnx.helper.make_node("DequantizeLinear", [f"{given}.int8", step, zero], [given]),
    )


def _lstm(writer: Writer, node: onnx.NodeProto, most: int, per_channel: bool) -> None:
    """Both weights (directions, 4 hidden, inputs) in int8, turned as the operator wants them."""
    added = []
    for name in node.input[1:3]:
        values, scales = in_steps(writer.array(name), 2 if per_channel else (1, 2), most)
        kept = scales[:, :, 0] if per_channel else scales.reshape(-1)
        added.append(
            (
                writer.add(values.transpose(0, 2, 1), f"{name}.int8"),
                writer.add(kept, f"{name}.scale"),
                writer.add(np.zeros(kept.shape, np.int8), f"{name}.zero"),
            )
        )
    (inputs, *of_inputs), (hidden, *of_hidden) = added
    others = [*node.input[3:8], *[""] * (8 - max(3, len(node.input)))]
    quantized = onnx.helper.make_node(
        "DynamicQuantizeLSTM", [node.input[0], inputs, hidden, *others, *of_inputs, *of_hidden], node.output, node.name,
        domain=MICROSOFT,
    )  # fmt: skip
    quantized.attribute.extend(attribute for attribute in node.attribute if attribute.name != "layout")
    writer.replace(node, quantized)


def in_steps(
    values: NDArray[np.float32], over: int | tuple[int, ...] | None, most: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole steps from -most to most, and their size: one over these axes, or one for all."""
    largest = np.abs(values).max(axis=over, keepdims=True)
    scales = np.where(largest > 0, largest / most, 1.0).astype(np.float32)
    return np.clip(np.round(values / scales), -most, most).astype(np.int8), scales
