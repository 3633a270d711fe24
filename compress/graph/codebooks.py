"""Weights that have a few values: stored as these and, for each weight, which of them it is.

In the file an index of 4 or 8 bits is cast and looked up (`Gather`), and multiplied by a factor for each channel where
a batch norm was folded into the layer. All is of constants, so that the runtime does it once when it loads: the bytes
are few, the speed is that of fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compress.graph.onnx_graph import WEIGHTED, opset_of

UINT4_OPSET = 21  # from which on a Cast takes 4 bits
SAME = 1e-5  # of the largest weight: how far folding a batch norm may have rounded


def with_codebooks(
    graph: onnx.ModelProto, shared: Mapping[str, NDArray[np.float32]], most: int
) -> tuple[onnx.ModelProto, list[str]]:
    """A copy in which layers store their weights by a codebook, and the layers of which that failed.

    shared : by layer its weights in the network, of at most `most` values. In the graph they may be transposed, or
             scaled for each channel of one side.
    Operator set 21 where `most` is up to 16, as the 4 bits need it. Raises what the converter of operator sets raises
    where the graph cannot be converted to that.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    if most <= 16 and opset_of(model) < UINT4_OPSET:
        model = onnx.version_converter.convert_version(model, UINT4_OPSET)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made, written = dict[str, list[onnx.NodeProto]](), set[str]()
    for node in model.graph.node:
        place = 0 if node.op_type == "Gather" else 1
        name = node.input[place] if len(node.input) > place else ""
        if node.name not in shared or node.op_type not in (*WEIGHTED, "Gather") or name not in constants:
            continue
        if name in made:
            written.add(node.name)
            continue
        nodes = _coded(model.graph, constants[name], shared[node.name], most)
        if nodes:
            made[name] = nodes
            written.add(node.name)
    rest = [*(node for nodes in made.values() for node in nodes), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(rest)
    return model, [layer for layer in shared if layer not in written]


def _coded(
    graph: onnx.GraphProto, tensor: TensorProto, weights: NDArray[np.float32], most: int
) -> list[onnx.NodeProto]:
    """The nodes that make a constant of its codes, which take its place; none where it is no such weight."""
    stored, name = numpy_helper.to_array(tensor), tensor.name
    for turned in (weights, weights.T) if weights.ndim == 2 else (weights,):
        factors = _factors(stored, turned) if turned.shape == stored.shape else None
        if factors is None:
            continue
        values, index = np.unique(turned, return_inverse=True)
        if len(values) > most:
            return []
        graph.initializer.remove(tensor)
        kind = TensorProto.UINT4 if most <= 16 else TensorProto.UINT8
        codes = index.reshape(stored.shape).astype(helper.tensor_dtype_to_np_dtype(kind))
        held = {f"{name}.codes": codes, f"{name}.values": values}
        whole = bool((factors == 1).all())
        shared = name if whole else f"{name}.shared"
        nodes = [
            helper.make_node("Cast", [f"{name}.codes"], [f"{name}.index"], to=TensorProto.INT32),
            helper.make_node("Gather", [f"{name}.values", f"{name}.index"], [shared], axis=0),
        ]
        if not whole:
            held[f"{name}.factors"] = factors
            nodes.append(helper.make_node("Mul", [shared, f"{name}.factors"], [name]))
        graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in held.items())
        return nodes
    return []


def _factors(stored: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float32] | None:
    """One factor a channel, shaped to multiply `weights`, that gives what is stored; None where no side has such."""
    if np.array_equal(stored, weights):
        return np.ones(1, np.float32)
    for axis in range(weights.ndim):
        over = tuple(i for i in range(weights.ndim) if i != axis)
        energy = np.square(weights.astype(np.float64)).sum(over, keepdims=True)
        factors = (stored * weights.astype(np.float64)).sum(over, keepdims=True) / np.where(energy > 0, energy, 1.0)
        factors = np.where(energy > 0, factors, 1.0).astype(np.float32)
        if np.abs(weights * factors - stored).max() <= SAME * np.abs(stored).max(initial=0.0):
            return factors
    return None
