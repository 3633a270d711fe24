"""A graph in static int8: pairs of QuantizeLinear and DequantizeLinear, which ONNX Runtime fuses into integer kernels.

They are placed by onnxruntime's quantizer, by ranges of our own.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray

from compress.core.errors import PassError
from compress.graph.onnx_graph import WEIGHTED, attributes_of, opset_of
from compress.passes.quantization.integer_types import Scheme

ENDLESS = 1e30  # no activation's value: a mask
INT4_OPSET = 21  # from here on stored integers may have 4 bits
_VIEWS = frozenset(("Squeeze", "Unsqueeze", "Flatten", "Reshape", "Transpose", "Identity", "Slice", "Expand", "Resize"))
_TAIL = _VIEWS | {
    "Add", "Sub", "Mul", "Div", "Pow", "Neg", "Abs", "Exp", "Log", "Sqrt", "Clip", "Cast", "Sigmoid", "Tanh",
    "Softplus", "Softmax", "LogSoftmax", "Erf", "HardSigmoid", "Sin", "Cos",
}  # fmt: skip


def with_pairs(
    graph: onnx.ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    excluded: Sequence[str],
    tail: Sequence[str],
    scheme: Scheme,
    per_channel: bool,
    narrow: Collection[str] = (),
) -> onnx.ModelProto:
    """The graph with pairs around all that becomes integers, its values named as they were.

    excluded : operators that stay in fp32. tail : those behind the last layers, of `tail_of`, whose values do too.
    narrow   : operators whose weights get 4 bits; biases stay in fp32 then, and the runtime rounds them on loading.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    model = onnx.shape_inference.infer_shapes(graph)
    _pool(model.graph)
    model.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")  # the quantizer's mark of inferred shapes
    limits = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
        if max(abs(low), abs(high)) < ENDLESS
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=per_channel,
        reduce_range=scheme.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if scheme.unsigned_activations else QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=[*excluded, *tail],
        op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry}),
        extra_options={
            "QuantizeBias": not narrow,
            "TensorQuantOverrides": {name: [{"quant_type": QuantType.QInt8}] for name in taken_whole(graph)},
        },
    )
    try:
        with _quiet_quantizer():
            quantizer.quantize_model()
    except Exception as error:
        raise PassError(
            f"quantize: onnxruntime's quantizer failed on this graph ({type(error).__name__}: {str(error)[:200]}). "
            f"Next: exclude layers, set per_channel: false, or take mode: dynamic or weight-only."
        ) from error
    written = _finish(quantizer.model.model, tail)
    _pad_in_integers(written.graph)
    return _in_four_bits(written, graph, narrow) if narrow else written


def _pool(graph: onnx.GraphProto) -> None:
    """Means over the two axes of images become global average pooling, which integer kernels know; in place."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.input, *graph.output)}
    for node in (node for node in graph.node if node.op_type == "ReduceMean"):
        settings = attributes_of(node)
        axes = settings.get("axes", ())
        if len(node.input) > 1 and node.input[1] in constants:
            axes = onnx.numpy_helper.to_array(constants[node.input[1]]).reshape(-1).tolist()
        images = shapes.get(node.input[0]) == 4 and sorted(axis % 4 for axis in axes) == [2, 3]
        if images and settings.get("keepdims", 1):
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Silence what onnxruntime's quantizer tells the root logger of weights that it takes as a whole."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def tail_of(graph: onnx.ModelProto) -> list[str]:
    """The operators behind the last layers: views, resizing, and what is done element by element to one value.

    256 steps of a score tie, whatever is done to it afterwards; so such an output stays in fp32 from its layer on.
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    producers = {name: node for node in graph.graph.node for name in node.output}
    waiting, found = [output.name for output in graph.graph.output], dict[str, None]()
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.op_type not in _TAIL or node.name in found:
            continue
        values = [name for name in node.input if name and name not in constants]
        if node.op_type in _VIEWS or len(values) == 1:
            found[node.name] = None
            waiting.append(node.input[0] if node.op_type in _VIEWS else values[0])
    return list(found)


def _finish(model: onnx.ModelProto, tail: Sequence[str]) -> onnx.ModelProto:
    """Leave outputs in fp32 from their last layers on, and drop what the quantizer noted for itself."""
    producers = {name: node for node in model.graph.node for name in node.output}
    behind, outputs = set(tail), {output.name for output in model.graph.output}
    for last in [node for node in model.graph.node if node.op_type == "DequantizeLinear"]:
        value, before = last.output[0], producers.get(last.input[0])
        readers = [node for node in model.graph.node if value in node.input]
        if before is None or before.op_type != "QuantizeLinear" or not all(node.name in behind for node in readers):
            continue
        if value not in outputs and not readers:
            continue
        source, others = producers.get(before.input[0]), [n for n in model.graph.node if before.input[0] in n.input]
        if source is None or len(others) != 1:
            continue
        source.output[:] = [value if name == before.input[0] else name for name in source.output]
        model.graph.node.remove(last)
        model.graph.node.remove(before)
    model.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.producer_name, model.producer_version = "leanfit", ""
    return model


def _pad_in_integers(graph: onnx.GraphProto) -> None:
    """Zeros around an integer tensor are its zero point; the runtime would widen it, pad it and round it. In place."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    by_input = {name: node for node in graph.node for name in node.input}
    readers = Counter([*(name for node in graph.node for name in node.input), *(value.name for value in graph.output)])
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        before, after = producers.get(pad.input[0]), by_input.get(pad.output[0])
        if before is None or after is None or readers[pad.output[0]] != 1 or not _of_zeros(pad, constants):
            continue
        steps = [[constants.get(name) for name in node.input[1:]] for node in (before, after)]
        alike = len(steps[0]) == len(steps[1]) == 2 and all(
            one is not None and other is not None and one.size == 1 and np.array_equal(one, other)
            for one, other in zip(*steps, strict=True)
        )
        if (before.op_type, after.op_type) != ("DequantizeLinear", "QuantizeLinear") or not alike:
            continue
        pad.input[:] = [before.input[0], pad.input[1], _scalar(graph, constants, before.input[2]), *pad.input[3:]]
        pad.output[:] = after.output
        graph.node.remove(after)
        readers[before.output[0]] -= 1
        if not readers[before.output[0]]:
            graph.node.remove(before)


def _of_zeros(pad: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> bool:
    filled = constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
    return attributes_of(pad).get("mode", b"constant") == b"constant" and filled is not None and not filled.any()


def _scalar(graph: onnx.GraphProto, constants: Mapping[str, NDArray[Any]], name: str) -> str:
    """A constant of one value, without dimensions."""
    if constants[name].ndim:
        graph.initializer.append(onnx.numpy_helper.from_array(constants[name].reshape(()), f"{name}.scalar"))
        return f"{name}.scalar"
    return name


def _in_four_bits(model: onnx.ModelProto, graph: onnx.ModelProto, narrow: Collection[str]) -> onnx.ModelProto:
    """The weights of 8 bits in 4, each channel with the step of least squared error among some that clip ever more."""
    if (opset := opset_of(model)) < INT4_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, INT4_OPSET)
        except Exception as reason:  # the converter raises what its C++ raises
            raise PassError(
                f"quantize: weights of 4 bits need operator set {INT4_OPSET}, and this graph of {opset} cannot be "
                f"converted: {str(reason)[:200]}. Next: export.opset: {INT4_OPSET}, or bits: 8."
            ) from reason
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    asked = {name for node in graph.graph.node if node.name in narrow for name in node.input}
    floats = {tensor.name: tensor for tensor in graph.graph.initializer if tensor.name in asked}
    for node in [node for node in model.graph.node if node.op_type == "DequantizeLinear"]:
        stored, original = constants.get(node.input[0]), floats.get(node.input[0].removesuffix("_quantized"))
        if stored is None or original is None or stored.data_type != onnx.TensorProto.INT8 or len(stored.dims) < 2:
            continue
        weights, scales = onnx.numpy_helper.to_array(original), constants[node.input[1]]
        axis = attributes_of(node).get("axis", 1) % weights.ndim if scales.dims else None
        over = tuple(place for place in range(weights.ndim) if place != axis)
        whole = np.maximum(np.abs(weights).max(over, keepdims=True), np.finfo(np.float32).tiny) / 7
        best, least = whole, np.full(whole.shape, np.inf)
        for share in np.linspace(1.0, 0.3, 36, dtype=np.float32):
            rounded = np.clip(np.rint(weights / (whole * share)), -7, 7) * (whole * share)
            error = np.square(rounded - weights).sum(over, keepdims=True)
            best, least = np.where(error < least, whole * share, best), np.minimum(error, least)
        steps = np.clip(np.rint(weights / best), -7, 7)
        int4 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.INT4)
        zeros = np.zeros(tuple(constants[node.input[2]].dims), int4)
        for name, values in zip(node.input, (steps.astype(int4), best.reshape(tuple(scales.dims)), zeros), strict=True):
            constants[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    return model


def widened_on_loading(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of 4 bits pass a Cast to int8, which the runtime computes once, so that integer kernels take them.

    By themselves they are widened to floats in each call: ResNet-8 took 4 times as long. Works on the model itself.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        stored = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if stored is not None and stored.data_type == onnx.TensorProto.INT4:
            wide = f"{stored.name}.int8"
            model.graph.node.append(onnx.helper.make_node("Cast", [stored.name], [wide], to=onnx.TensorProto.INT8))
            zero = constants[node.input[2]]
            zero.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(zero.dims), np.int8), zero.name))
            node.input[0] = wide
        model.graph.node.append(node)
    return model


def quantized_activations(model: onnx.ModelProto) -> list[str]:
    """The values that are rounded, by the names they have in fp32."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]


def taken_whole(graph: onnx.ModelProto) -> dict[str, str]:
    """Weights that get one scale, not one for each channel -> the operator whose they are.

    Those that an embedding looks up rows of and a layer multiplies by, as the rows take their scale along; and what
    onnxruntime's quantizer knows no channels of: transposed convolutions in groups, norms over more than one axis.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    looked_up = {node.input[0] for node in graph.graph.node if node.op_type == "Gather"}
    found = dict[str, str]()
    for node in graph.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if name not in constants:
            continue
        grouped = node.op_type == "ConvTranspose" and attributes_of(node).get("group", 1) > 1
        normed = node.op_type.endswith("Normalization") and len(constants[name].dims) > 1
        if grouped or normed or (node.op_type in WEIGHTED and name in looked_up):
            found[name] = node.name
    return dict(sorted(found.items()))
