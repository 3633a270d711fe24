"""Layers of a graph by what they multiply by: matrix products, embeddings, convolutions, LSTMs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from compress.graph.onnx_graph import attributes_of

MICROSOFT = "com.microsoft"  # the runtime's own operators


class Writer:
    """A copy of a graph in which layers are replaced one by one, each by some nodes that give the same value."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(graph)
        self.model.graph.ClearField("value_info")
        self.constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._taken = {*self.constants, *(name for node in graph.graph.node for name in node.output)}
        self._replaced: dict[str, tuple[onnx.NodeProto, ...]] = {}
        self._split_gemms()

    def written(self) -> onnx.ModelProto:
        """The graph with all that was replaced."""
        nodes = list(self.model.graph.node)
        del self.model.graph.node[:]
        for node in nodes:
            self.model.graph.node.extend(self._replaced.get(node.output[0], (node,)))
        self._replaced = {}
        if any(node.domain == MICROSOFT for node in self.model.graph.node) and not any(
            entry.domain == MICROSOFT for entry in self.model.opset_import
        ):
            self.model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
        return self.model

    def layers(self, *kinds: str) -> Iterator[tuple[onnx.NodeProto, str]]:
        """Nodes of these kinds that hold a weight in fp32, and the name of the weight."""
        for node in list(self.model.graph.node):
            weight = weight_of(node, self.constants)
            if node.op_type in kinds and weight:
                yield node, weight

    def array(self, name: str) -> NDArray[np.float32]:
        """The values of a constant."""
        found: NDArray[np.float32] = numpy_helper.to_array(self.constants[name])
        return found

    def add(self, values: NDArray[np.generic], name: str) -> str:
        """A new constant, once for each name; gives the name, which is another where the graph itself has it."""
        while name in self._taken:
            name += "_"
        if name not in self.constants:
            self.constants[name] = tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
            self.model.graph.initializer.append(tensor)
        return name

    def replace(self, node: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
        """Put nodes in the place of one."""
        self._replaced[node.output[0]] = nodes

    def _split_gemms(self) -> None:
        """Gemm with a weight becomes a product, under the layer's name, and a sum: products are what integers know."""
        for node, weight in self.layers("Gemm"):
            settings = attributes_of(node)
            if settings.get("transA", 0):
                continue
            values = self.array(weight) * np.float32(settings.get("alpha", 1.0))
            matrix = self.add(values.T if settings.get("transB", 0) else values, f"{node.name}.matrix")
            biased = len(node.input) > 2 and bool(node.input[2])
            given = f"{node.output[0]}.product" if biased else node.output[0]
            product = onnx.helper.make_node("MatMul", [node.input[0], matrix], [given], node.name)
            after = []
            if biased:
                bias, beta = node.input[2], float(settings.get("beta", 1.0))
                if beta != 1.0:
                    factor = self.add(np.array(beta, np.float32), f"{node.name}.beta")
                    after.append(onnx.helper.make_node("Mul", [bias, factor], [f"{bias}.{node.name}"]))
                    bias = f"{bias}.{node.name}"
                after.append(onnx.helper.make_node("Add", [given, bias], [node.output[0]], f"{node.name}.bias"))
            self.replace(node, product, *after)
        self.written()


def weight_of(node: onnx.NodeProto, constants: dict[str, TensorProto]) -> str:
    """The matrix in fp32 that a product or an embedding multiplies by or looks up, the filters of a convolution, the
    inputs' weights of an LSTM; "" for none."""
    place = {"Gather": 0, "MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1, "LSTM": 1}.get(node.op_type)
    name = node.input[place] if place is not None and len(node.input) > place else ""
    tensor = constants.get(name)
    if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
        return ""
    axis = attributes_of(node).get("axis", 0)
    flat = node.op_type in ("Gather", "MatMul", "Gemm")
    return name if not flat or (len(tensor.dims) == 2 and (node.op_type != "Gather" or axis == 0)) else ""
