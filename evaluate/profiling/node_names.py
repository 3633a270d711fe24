"""Whose layer a kernel is: from the names the runtime gives its fused nodes back to those of the model's file.

The runtime renames what it fuses ("v4_nchwc", "fused layers.0", "layer1.0.conv1_token_4") and adds nodes of its own
(ReorderInput, Transpose, MemcpyToHost). Four traces lead back, the surest first: the name itself, the weights a node
reads, the value its name is made of, the value it gives. Where none does, the runtime's name stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from evaluate.profiling.graph import Graph, Node

QUANTIZING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
LAYOUT = ("ReorderInput", "ReorderOutput", "Transpose")
COPIES = ("MemcpyToHost", "MemcpyFromHost")
HELPERS = (*QUANTIZING, *LAYOUT, *COPIES, "Cast")
# A helper stands for the neighbour that made it necessary: the one in float, in the plain layout, on the CPU.
_LOOKS_BACK = ("QuantizeLinear", "DynamicQuantizeLinear", "ReorderInput", "MemcpyFromHost")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN", "Attention", "Einsum")
_PREFIXES = re.compile(r"^(fused |QLinear|DynamicQuantize|NhwcFused|Nhwc|Fused|Q(?=Gemm|Attention|MoE|Ordered))")
_ENDINGS = re.compile(r"(_token_\d+|_nchwc|_nhwc|_quant|/MatMulAddFusion|_DynamicQuantizeMatMul|_MatMulInteger)$")


class Place(NamedTuple):
    """Where a kernel belongs.

    layer   : the layer's name, or that of a node without weights.
    parts   : what of the model's file it computes; equal in two files for the same place in the network.
    weights : shape of the layer's weights, None without.
    helper  : it computes nothing of the network: it converts, reorders or copies for `layer`.
    """

    layer: str
    parts: tuple[str, ...]
    weights: tuple[int, ...] | None
    helper: bool


def kind(op: str) -> str:
    """The operator behind a fused, quantized or re-laid one: `Conv` for QLinearConv, FusedConv and ConvInteger."""
    if op in QUANTIZING:
        return op
    return re.sub(r"(Integer(ToFloat)?|NBits)$", "", _PREFIXES.sub("", _PREFIXES.sub("", op)))


def is_integer(op: str, dtype: str) -> bool:
    """Whether a kernel computes on quantized numbers: by its type, or by that of its first input."""
    quantized = op.startswith(("QLinear", "DynamicQuantizeM", "QGemm", "QAttention")) or "Integer" in op
    return quantized or op.endswith("NBits") or dtype in ("int8", "uint8")


class Names:
    """Places of a model's kernels. original: the file's graph; optimized: the graph that runs; either may be None."""

    def __init__(self, original: Graph | None, optimized: Graph | None) -> None:
        self._file, self._run = original or Graph([], {}, ()), optimized or original or Graph([], {}, ())
        self._layer_of = _weights(self._file)
        self._ours = [node for node in self._file.live() if node.op not in QUANTIZING]
        self._known = {node.name for node in self._ours}
        self._keys = _keys(self._file, self._ours)
        self._anchors = {node.name: found for node in self._run.nodes if (found := self._anchor(node))}
        self._parts = self._shared_out()

    def place(self, name: str, op: str) -> Place:
        """The place of the kernel the runtime calls `name`."""
        node = self._run.by_name.get(name) or Node(name, op, (), ())
        if self._is_helper(node):
            return Place(self._served(node), (), None, True)
        anchor = self._anchors.get(name) or self._anchor(node)
        parts = self._parts.get(name) or ([anchor] if anchor else [])
        layer = next((part for part in parts if part in self._weighted), anchor) or re.sub(r"_token_\d+$", "", name)
        return Place(layer, tuple(self._keys[part] for part in parts), self._weighted.get(layer), False)

    @property
    def _weighted(self) -> dict[str, tuple[int, ...]]:
        return self._layer_of.shapes

    def _is_helper(self, node: Node) -> bool:
        """Q and DQ, copies, and what the runtime has put in: a Transpose of the file is work of its own."""
        return node.op in HELPERS and (node.op in (*QUANTIZING, *COPIES) or node.name not in self._known)

    def _anchor(self, node: Node) -> str:
        """The node of the file that a node of the runtime stands for; "" where it cannot be told."""
        if self._is_helper(node):
            return ""
        for name in _plainer(node.name):
            if name in self._known:
                return name
        layers = [self._layer_of.readers[v] for v in node.inputs if v in self._layer_of.readers]
        for readers in layers:
            if len(readers) == 1:
                return readers[0]
        for value in (*_plainer(node.name), *node.outputs):
            if value in self._file.producer:
                return self._of_kind(self._file.producer[value], kind(node.op))
        return ""

    def _of_kind(self, node: Node, wanted: str) -> str:
        """The nearest node of this kind that leads to `node`: a fused Conv may be called by its Relu's value."""
        first = node
        for _ in range(4):
            if kind(node.op) == wanted and node.name in self._known:
                return node.name
            earlier = self._file.before(node)
            if not earlier:
                break
            node = max(earlier, key=lambda n: self._file.order[n.name])
        return first.name if first.name in self._known else ""

    def _shared_out(self) -> dict[str, list[str]]:
        """Runtime node -> nodes of the file in it: one that runs nowhere else went into what gives its last input."""
        owner = {anchor: name for name, anchor in self._anchors.items()}
        for node in self._ours:
            if node.name not in owner:
                earlier = [n for n in _through(self._file, node, back=True) if n.name in owner]
                if earlier:
                    owner[node.name] = owner[max(earlier, key=lambda n: self._file.order[n.name]).name]
        shared: dict[str, list[str]] = {name: [anchor] for name, anchor in self._anchors.items()}
        for part, name in owner.items():
            if part not in shared[name]:
                shared[name].append(part)
        return shared

    def _served(self, node: Node) -> str:
        """The layer a helper works for."""
        back = node.op in _LOOKS_BACK
        for direction in (back, not back):
            found = [n for n in _through(self._run, node, back=direction) if not self._is_helper(n)]
            if found:
                nearest = (max if direction else min)(found, key=lambda n: self._run.order[n.name])
                return self.place(nearest.name, nearest.op).layer
        return re.sub(r"_token_\d+$", "", node.name)


class _Weights(NamedTuple):
    """shapes: layer -> shape of its weights; readers: constant -> the layers that read it."""

    shapes: dict[str, tuple[int, ...]]
    readers: dict[str, list[str]]


def _weights(graph: Graph) -> _Weights:
    shapes: dict[str, tuple[int, ...]] = {}
    readers: dict[str, list[str]] = {}
    for node in graph.live():
        stored = [w for w in (graph.weight_of(value) for value in node.inputs) if w]
        large = [graph.weights[w] for w in stored if len(graph.weights[w]) > 1]
        if kind(node.op) in _WEIGHTED and large:
            shapes[node.name] = large[0]
            for weight in stored:
                readers.setdefault(weight, []).append(node.name)
    return _Weights(shapes, readers)


def _keys(graph: Graph, nodes: Sequence[Node]) -> dict[str, str]:
    """Node -> what identifies it in another file of the same network: numbers in names change, layers do not."""
    weighted = _weights(graph).shapes
    behind: dict[str, str] = {}
    keys: dict[str, str] = {}
    seen: dict[str, int] = {}
    for node in graph.nodes:
        earlier = [behind[n.name] for n in graph.before(node) if n.name in behind]
        latest = max(earlier, key=lambda name: graph.order.get(name, -1), default="")
        behind[node.name] = node.name if node.name in weighted else latest
    for node in nodes:
        key = node.name if node.name in weighted else f"{kind(node.op)} after {behind[node.name] or 'the input'}"
        seen[key] = seen.get(key, 0) + 1
        keys[node.name] = key if seen[key] == 1 else f"{key}, {seen[key]}"
    return keys


def _through(graph: Graph, node: Node, *, back: bool) -> list[Node]:
    """The nearest neighbours of a node that are no helpers by type."""
    found: list[Node] = []
    queue, seen = [node], {node.name}
    while queue:
        for near in _steps(graph, queue.pop(0), back):
            if near.name in seen:
                continue
            seen.add(near.name)
            (queue if near.op in HELPERS else found).append(near)
    return found


def _steps(graph: Graph, node: Node, back: bool) -> Iterable[Node]:
    return graph.before(node) if back else graph.after(node)


def _plainer(name: str) -> list[str]:
    """A name and what is left as the runtime's additions are taken off, one by one."""
    found = [name]
    while True:
        shorter = _ENDINGS.sub("", _PREFIXES.sub("", found[-1]) if found[-1].startswith("fused ") else found[-1])
        if shorter == found[-1]:
            return found
        found.append(shorter)
