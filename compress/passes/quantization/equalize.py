"""Equalization: channels with a few large values hand their scale on to the weights that read them, ahead of rounding.

In floating point nothing changes. One range holds all channels of an activation, and so a channel of small values keeps
few of its 256 steps beside one of large values; weights have a range for each filter. Between convolutions this is
cross-layer equalization (Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction"),
behind a layer normalization SmoothQuant (Xiao et al. 2023); the factors are SmoothQuant's for both, of the values seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.graph.onnx_graph import attributes_of, bodies_of
from compress.passes.quantization.calibrate import Calibration, collect_channels

ALPHA = 0.65  # how much of a channel's size moves on to the weights: SmoothQuant has 0.5, MiniLM did best with 0.65
_LAST_AXIS = frozenset(("LayerNormalization", "RMSNormalization"))
_PRODUCTS = frozenset(("Gemm", "MatMul"))
# Who reads, along the axis that the producer has its channels on: a product of three dimensions reads the last one.
_READ_BY = {"Conv": frozenset(("Conv",)), "Gemm": _PRODUCTS, **dict.fromkeys(_LAST_AXIS, _PRODUCTS)}
# Operators that give c times as much for c times the input, channel by channel.
_SCALED_THROUGH = frozenset(("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"))


@dataclass
class Joint:
    """Where scales can move: constants that give a value its size, and weights that read it, with the axis of channels.

    axis    : of the channels of `values`: the same layer's, where it is called more than once.
    made_by : constants to divide by the factors; read_by : constants to multiply.
    others  : readers that need the values as they were.
    """

    axis: int
    made_by: tuple[tuple[str, int], ...]
    values: list[str] = field(default_factory=list)
    read_by: list[tuple[str, int]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    whole: bool = True


def joints_of(graph: onnx.ModelProto) -> list[Joint]:
    """The places where scales can move; none in a graph with loops or conditions, whose bodies read values too."""
    if any(True for node in graph.graph.node for _ in bodies_of(node)):
        return []
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    uses = Counter(name for node in graph.graph.node for name in node.input)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    outputs, found = {value.name for value in graph.graph.output}, dict[tuple[tuple[str, int], ...], Joint]()
    for node in graph.graph.node:
        if not (made_by := _producer(node, constants)):
            continue
        joint = found.setdefault(made_by, Joint(-1 if node.op_type in _LAST_AXIS else 1, made_by))
        waiting = [node.output[0]]
        joint.values.append(node.output[0])
        while waiting:
            value = waiting.pop()
            joint.whole = joint.whole and value not in outputs
            for reader in readers.get(value, ()):
                weight = _reader(reader, value, constants) if reader.op_type in _READ_BY[node.op_type] else None
                if weight is not None:
                    joint.read_by.append(weight)
                elif reader.op_type in _SCALED_THROUGH and joint.axis == 1:
                    waiting.append(reader.output[0])
                else:
                    joint.others.append(reader.name)
    return [joint for joint in found.values() if _fits(joint, uses)]


def _fits(joint: Joint, uses: Counter[str]) -> bool:
    """Whether all who read its constants are of the joint; only behind a norm are others given the value back."""
    read = Counter(name for name, _ in joint.read_by)
    alone = all(uses[name] == len(joint.values) for name, _ in joint.made_by) and all(
        uses[name] == count for name, count in read.items()
    )
    return joint.whole and alone and bool(read) and (joint.axis == -1 or not joint.others)


def equalized(
    graph: onnx.ModelProto, samples: Calibration, batch_size: int, status: Callable[[float], None]
) -> onnx.ModelProto | None:
    """The same function with channels of more equal size; None where there is no place for it."""
    joints = joints_of(graph)
    if not joints:
        return None
    axes = {value: joint.axis for joint in joints for value in joint.values}
    seen = collect_channels(graph, axes, samples, batch_size, status)
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for joint in joints:
        largest = np.maximum.reduce([seen[value] for value in joint.values])
        factors = _factors(joint, largest, constants)
        for names, by in ((joint.made_by, 1 / factors), (joint.read_by, factors)):
            for name, axis in dict.fromkeys(names):
                values = numpy_helper.to_array(constants[name])
                shape = [-1 if place == axis % values.ndim else 1 for place in range(values.ndim)]
                scaled = (values * by.reshape(shape)).astype(np.float32)
                constants[name].CopyFrom(numpy_helper.from_array(scaled, name))
        if joint.others:
            _give_back(model, joint, factors)
    return model


def _factors(
    joint: Joint, largest: NDArray[np.float32], constants: Mapping[str, onnx.TensorProto]
) -> NDArray[np.float32]:
    """(channels,) by which the value shrinks: the root of its own size over that of what weighs it."""
    weights = np.zeros(len(largest), np.float32)
    for name, axis in joint.read_by:
        values = np.abs(numpy_helper.to_array(constants[name]))
        weights = np.maximum(weights, values.max(tuple(a for a in range(values.ndim) if a != axis % values.ndim)))
    used = (largest > 0) & (weights > 0)
    factors = np.ones(len(largest), np.float32)
    factors[used] = largest[used] ** ALPHA / weights[used] ** (1 - ALPHA)
    middle = np.exp(np.mean(np.log(factors[used]))) if used.any() else 1.0
    return np.where(used, factors / middle, 1.0).astype(np.float32)


def _producer(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> tuple[tuple[str, int], ...]:
    """The constants that give an operator's output its size, with the axis of its channels."""
    if node.op_type not in _READ_BY:
        return ()
    names = [name for name in node.input[1:3] if name]
    if not names or not all(
        name in constants and constants[name].data_type == onnx.TensorProto.FLOAT for name in names
    ):
        return ()
    dims = [constants[name].dims for name in names]
    axis = 1 if node.op_type == "Gemm" and not attributes_of(node).get("transB", 0) else 0
    plain = len(dims[0]) == 1 if node.op_type in _LAST_AXIS else len(dims[0]) > axis
    if not plain or any(not one or one[-1] != dims[0][axis] for one in dims[1:]):
        return ()
    return ((names[0], axis), *((name, -1) for name in names[1:]))


def _reader(node: onnx.NodeProto, value: str, constants: Mapping[str, onnx.TensorProto]) -> tuple[str, int] | None:
    """The weight by which an operator reads a value, and the axis of its input channels."""
    if len(node.input) < 2 or node.input[0] != value or node.input[1] not in constants:
        return None
    name, settings = node.input[1], attributes_of(node)
    dims = constants[name].dims
    if node.op_type == "Conv":
        group = settings.get("group", 1)
        if group == 1:
            return name, 1
        return (name, 0) if dims[0] == group and dims[1] == 1 else None
    if node.op_type == "Gemm" and not settings.get("transA", 0):
        return name, 1 if settings.get("transB", 0) else 0
    return (name, 0) if node.op_type == "MatMul" and len(dims) == 2 else None


def _give_back(model: onnx.ModelProto, joint: Joint, factors: NDArray[np.float32]) -> None:
    """Multiply values by the factors for those who need them as they were."""
    name = f"{joint.values[0]}.factors"
    model.graph.initializer.append(numpy_helper.from_array(factors, name))
    restored = {value: f"{value}.restored" for value in joint.values}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.name in joint.others:
            node.input[:] = [restored.get(given, given) for given in node.input]
        model.graph.node.append(node)
        for value in restored.keys() & set(node.output):
            again = onnx.helper.make_node("Mul", [value, name], [restored[value]], f"{node.name}.restored{value}")
            model.graph.node.append(again)
