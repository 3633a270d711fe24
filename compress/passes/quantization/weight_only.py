"""Weights alone in 4 or 8 bits, by blocks; what they are multiplied with stays in fp32.

Matrix products and embeddings become ONNX Runtime's own operators (MatMulNBits, GatherBlockQuantized), whose kernels
read the few bits. Convolutions are stored in 8 bits and widened when they run: fewer bytes, no speed. Weights in 16
bits are widened once, when the file is loaded: half the bytes, and the speed of fp32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.passes.quantization.block_weights import Blocks, gptq, hqq, packed, rtn
from compress.passes.quantization.dynamic import in_steps
from compress.passes.quantization.products import MICROSOFT, Writer, weight_of
from compress.passes.quantization.quantize_settings import QuantizeConfig

PRODUCTS = frozenset(("MatMul", "Gemm", "Gather"))
_STORED = ("Conv", "ConvTranspose")
_HALVED = PRODUCTS.union(_STORED, ("LSTM",))
_OF_INT8 = 4  # MatMulNBits' accuracy_level at which its inputs are rounded to int8


def kinds(config: QuantizeConfig) -> frozenset[str]:
    """The operators whose weights are taken."""
    return {4: PRODUCTS, 8: PRODUCTS.union(_STORED), 16: _HALVED}[config.bits]


def read_by_products(graph: onnx.ModelProto, left: Collection[str]) -> list[str]:
    """The values that matrix products read: what GPTQ needs the moments of."""
    return [node.input[0] for node, _ in Writer(graph).layers("MatMul") if node.name not in left]


def write_weight_only(
    graph: onnx.ModelProto, left: Collection[str], config: QuantizeConfig, moments: Mapping[str, NDArray[Any]]
) -> onnx.ModelProto:
    """The graph with its weights in integers, but for those of operators that are left.

    moments : of what products read, (inputs, inputs), for GPTQ.
    """
    if config.bits == 16:
        return _halved(graph, left)
    writer, asked, bits = Writer(graph), config.blocks, config.bits
    for node, weight in writer.layers("MatMul", "Gather", *(_STORED if bits == 8 else ())):
        if node.name in left:
            continue
        values = writer.array(weight)
        if node.op_type in _STORED:
            steps, scales = in_steps(values, tuple(range(1, values.ndim)), 127)
            stored = [writer.add(steps, f"{weight}.int8"), writer.add(scales.reshape(-1), f"{weight}.scale")]
            wide = onnx.helper.make_node("DequantizeLinear", stored, [f"{node.name}.weight.wide"], axis=0)
            node.input[1] = wide.output[0]
            writer.replace(node, wide, onnx.NodeProto.FromString(node.SerializeToString()))
        elif node.op_type == "Gather":
            _embedding(writer, node, weight, rtn(values, bits, asked.size, asked.symmetric), config)
        else:
            _product(writer, node, weight, _rounded(values.T, moments.get(node.input[0]), config), config)
    return writer.written()


def _halved(graph: onnx.ModelProto, left: Collection[str]) -> onnx.ModelProto:
    """The graph with its weights in float16, each behind a Cast; what float16 cannot hold stays as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers, kept = dict[str, list[onnx.NodeProto]](), set[str]()
    for node in model.graph.node:
        weight, whole = weight_of(node, constants), node.op_type in _HALVED and node.name not in left
        taken = {weight, *(node.input[2:3] if node.op_type == "LSTM" else ())} if weight and whole else set()
        for name in dict.fromkeys(node.input):
            if name in taken:
                readers.setdefault(name, []).append(node)
            else:
                kept.add(name)
    casts = []
    for name, nodes in readers.items():
        values = numpy_helper.to_array(constants[name])
        if name in kept or np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        constants[name].CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(onnx.helper.make_node("Cast", [name], [f"{name}.fp32"], to=onnx.TensorProto.FLOAT))
        for node in nodes:
            node.input[:] = [f"{name}.fp32" if given == name else given for given in node.input]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _rounded(weight: NDArray[Any], moments: NDArray[Any] | None, config: QuantizeConfig) -> Blocks:
    """A weight (outputs, inputs) by the method that is asked for; without moments GPTQ is rounding to nearest."""
    bits, asked = config.bits, config.blocks
    if asked.method == "hqq":
        return hqq(weight, bits, asked.size)
    if asked.method == "gptq" and moments is not None:
        return gptq(weight, moments, bits, asked.size, asked.symmetric)
    return rtn(weight, bits, asked.size, asked.symmetric)


def _constants(writer: Writer, name: str, blocks: Blocks, config: QuantizeConfig) -> tuple[str, str, list[str]]:
    """The names of the values, their scales, and the zero points where they are not those the operator assumes."""
    bits = config.bits
    values = writer.add(packed(blocks.values, bits), f"{name}.int{bits}")
    scales = writer.add(blocks.scales, f"{name}.scales")
    zeros = [] if config.blocks.symmetric else [writer.add(_stored(blocks.zeros, bits), f"{name}.zeros")]
    return values, scales, zeros


def _stored(zeros: NDArray[Any], bits: int) -> NDArray[Any]:
    return zeros if zeros.dtype == np.float32 else packed(zeros, bits)


def _product(writer: Writer, node: onnx.NodeProto, weight: str, blocks: Blocks, config: QuantizeConfig) -> None:
    inputs, outputs = writer.constants[weight].dims
    values, scales, zeros = _constants(writer, weight, blocks, config)
    compute: dict[str, Any] = {"accuracy_level": _OF_INT8} if config.blocks.compute == "int8" else {}
    made = onnx.helper.make_node(
        "MatMulNBits", [node.input[0], values, scales, *zeros], node.output, node.name, domain=MICROSOFT,
        K=inputs, N=outputs, bits=config.bits, block_size=config.blocks.size, **compute,
    )  # fmt: skip
    writer.replace(node, made)


def _embedding(writer: Writer, node: onnx.NodeProto, weight: str, blocks: Blocks, config: QuantizeConfig) -> None:
    rows, width = writer.constants[weight].dims
    flat = blocks._replace(values=blocks.values.reshape(rows, -1)[:, :width])
    values, scales, zeros = _constants(writer, f"{weight}.rows", flat, config)
    made = onnx.helper.make_node(
        "GatherBlockQuantized", [values, node.input[1], scales, *zeros], node.output, node.name, domain=MICROSOFT,
        bits=config.bits, block_size=config.blocks.size, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    writer.replace(node, made)
