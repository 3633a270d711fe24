"""What an ONNX file holds, layer by layer: types, parameters, bytes, multiply-adds, and what int8 could do about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from compress.graph.onnx_graph import (
    INTEGERS,
    PACKED,
    QDQ_OPSET,
    WEIGHTED,
    constant_sizes,
    constants_of,
    dequantized,
    element_bits,
    macs_of_nodes,
    opset_of,
    packed_weights,
    read_whole,
    with_bodies,
)
from evaluate.runtime.onnx_file import external_files
from evaluate.runtime.session import Value

_OTHERS = frozenset(("LSTM", "GRU", "RNN", "Einsum", "Attention", "MultiHeadAttention"))
_OF_INTEGERS = INTEGERS - {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Layer:
    """A node with weights of its own. macs is None where no inputs were given; why is "" where int8 takes it."""

    name: str
    op: str
    dtype: str
    params: int
    bytes: int
    macs: int | None
    why: str


@dataclass(frozen=True)
class Inspection:
    """An ONNX file: what it says of itself, its operators, and its layers in their order."""

    producer: str
    opset: int
    ir_version: int
    operators: dict[str, int]
    sizes: dict[str, float]
    macs: int | None
    layers: tuple[Layer, ...]
    beside: tuple[str, ...]
    remarks: tuple[str, ...]


def inspect(path: Path, feeds: Mapping[str, Value] | None, samples: int = 1) -> Inspection:
    """feeds : inputs of one call on so many samples, for the multiply-adds. Raises ModelError for what is no model."""
    outside = external_files(path)
    graph, _ = read_whole(path)
    counted = {node.output[0]: macs for node, macs in macs_of_nodes(graph, feeds)} if feeds is not None else {}
    layers = tuple(_layers(graph, counted if feeds is not None else None, samples))
    sizes = constant_sizes(graph, path.read_bytes())
    sizes["bytes"] += sum(file.stat().st_size for file in outside)
    operators = Counter(node.op_type for part in with_bodies(graph.graph) for node in part.node)
    opset = opset_of(graph)
    macs = sum(counted.values()) // samples if feeds is not None else None
    producer = f"{graph.producer_name} {graph.producer_version}".strip()
    return Inspection(
        producer, opset, graph.ir_version, dict(operators.most_common()), sizes, macs, layers,
        tuple(file.name for file in outside), tuple(_remarks(graph, opset, layers, operators)),
    )  # fmt: skip


def _layers(graph: onnx.ModelProto, counted: Mapping[str, int] | None, samples: int) -> list[Layer]:
    found = []
    for depth, part in enumerate(with_bodies(graph.graph)):
        constants = constants_of(part)
        widened = {name: source[0] for name, source in dequantized(part, constants).items()}
        for number, node in enumerate(part.node):
            read = node.input[PACKED.get(node.op_type, 1) :]
            held = [constants[source] for name in read if (source := widened.get(name, name)) in constants]
            if node.op_type not in WEIGHTED | _OTHERS | _OF_INTEGERS or not held:
                continue
            params = sum(math.prod(tensor.dims) for tensor in held)
            if node.op_type in PACKED:  # scales and zero points are none
                params = packed_weights(node, held[0])
            macs = None if counted is None else counted.get(node.output[0], 0) // samples
            found.append(
                Layer(
                    node.name or f"{node.op_type}_{number}",
                    node.op_type,
                    onnx.TensorProto.DataType.Name(held[0].data_type).lower(),
                    params,
                    sum(-(-math.prod(tensor.dims) * element_bits(tensor) // 8) for tensor in held),
                    macs,
                    _why_not(node, held[0], inside=depth > 0),
                )
            )
    return found


def _why_not(node: onnx.NodeProto, weight: onnx.TensorProto, *, inside: bool) -> str:
    if weight.data_type != onnx.TensorProto.FLOAT:
        return f"its weights are {onnx.TensorProto.DataType.Name(weight.data_type).lower()} already"
    if inside:
        return "it stands inside of a loop or a condition"
    return "" if node.op_type in WEIGHTED else f"static int8 knows no {node.op_type}"


def _remarks(graph: onnx.ModelProto, opset: int, layers: tuple[Layer, ...], operators: Mapping[str, int]) -> list[str]:
    params = sum(layer.params for layer in layers)
    good = sum(layer.params for layer in layers if not layer.why)
    found = []
    if not layers:
        found.append("no layer with weights: there is nothing to compress")
    elif INTEGERS.intersection(operators):
        found.append("it holds integers already: compress the file in fp32 that it was made of")
    else:
        found.append(f"int8 takes {100 * good / max(1, params):.0f} % of the {params:,} parameters of its layers")
    if opset < QDQ_OPSET:
        found.append(f"its operator set {opset} is brought up to {QDQ_OPSET} for integers of each channel")
    if any(len(part.node) and depth for depth, part in enumerate(with_bodies(graph.graph))):
        found.append("bodies of loops and conditions stay as they are, and are not in the multiply-adds")
    return found


def as_json(found: Inspection) -> dict[str, Any]:
    """The whole of it as plain data."""
    return {**vars(found), "layers": [vars(layer) for layer in found.layers]}
