"""What a profile must know of an ONNX graph: nodes, edges and the shapes of weights, read without the onnx package.

Only the few fields needed are decoded; weights are skipped over. (Protocol Buffers, Encoding; onnx.proto.)
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import NamedTuple

from evaluate.core.protobuf import fields, part, text, varint, view


class Node(NamedTuple):
    """One node of a graph. `inputs` and `outputs` are value names; an optional input left out is "" there."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Graph:
    """A graph's nodes, each behind those it reads, with who makes and who reads each value.

    producer  : value -> its node; consumers : value -> its nodes; weights : constant -> its shape.
    """

    def __init__(self, nodes: list[Node], weights: dict[str, tuple[int, ...]], outputs: tuple[str, ...]) -> None:
        nodes = _sorted(nodes)
        self.nodes, self.weights, self.outputs = nodes, weights, outputs
        self.by_name = {node.name: node for node in nodes}
        self.producer = {value: node for node in nodes for value in node.outputs if value}
        self.order = {node.name: place for place, node in enumerate(nodes)}
        self.consumers: dict[str, list[Node]] = {}
        for node in nodes:
            for value in node.inputs:
                self.consumers.setdefault(value, []).append(node)
        self._constant = self._constants()

    def _constants(self) -> set[str]:
        known = {"", *self.weights}
        for node in self.nodes:
            if node.op == "Constant" or (node.inputs and known.issuperset(node.inputs)):
                known.update(node.outputs)
        return known

    def is_constant(self, value: str) -> bool:
        """Whether a value depends on no input of the model: a weight, or what is computed from weights alone."""
        return value in self._constant

    def live(self) -> list[Node]:
        """The nodes that run at each call: those that depend on an input."""
        return [node for node in self.nodes if not all(value in self._constant for value in node.outputs)]

    def weight_of(self, value: str) -> str:
        """The stored weight a value comes from, through a DequantizeLinear or the like; "" where there is none."""
        for _ in range(len(self.nodes) + 1):
            if value in self.weights:
                return value
            if value not in self._constant or value not in self.producer or not self.producer[value].inputs:
                return ""
            value = self.producer[value].inputs[0]
        return ""

    def before(self, node: Node) -> list[Node]:
        """The nodes whose results this one reads."""
        return [self.producer[value] for value in node.inputs if value in self.producer]

    def after(self, node: Node) -> list[Node]:
        """The nodes that read this one's results."""
        return [reader for value in node.outputs for reader in self.consumers.get(value, ())]


def _sorted(nodes: list[Node]) -> list[Node]:
    """The nodes in an order in which they can run, else as written; quantizers append theirs at the file's end."""
    maker = {value: place for place, node in enumerate(nodes) for value in node.outputs if value}
    needs = [{maker[v] for v in node.inputs if v in maker} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for place, needed in enumerate(needs):
        for earlier in needed:
            readers[earlier].append(place)
    missing = [len(needed) for needed in needs]
    ready = [place for place, count in enumerate(missing) if count == 0]
    done: list[int] = []
    while ready:
        place = heapq.heappop(ready)
        done.append(place)
        for reader in readers[place]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    return [nodes[place] for place in done] if len(done) == len(nodes) else nodes


def read_graph(model: str | Path | bytes) -> Graph | None:
    """The main graph of an ONNX file or of its bytes; None where it cannot be read as one. Names need not be unique."""
    try:
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
        graphs = [value for number, value in fields(memoryview(data)) if number == 7]
        return _graph(view(graphs[-1])) if graphs else None
    except (OSError, ValueError, IndexError, OverflowError):
        return None


def _graph(data: memoryview) -> Graph:
    nodes: list[Node] = []
    weights: dict[str, tuple[int, ...]] = {}
    outputs: list[str] = []
    for number, value in fields(data):
        if number == 1:
            nodes.append(_node(view(value), len(nodes)))
        elif number == 5:
            name, shape = _tensor(view(value))
            weights[name] = shape
        elif number == 12:
            outputs += [text(inner) for key, inner in fields(view(value)) if key == 1]
    return Graph(nodes, weights, tuple(outputs))


def _node(data: memoryview, place: int) -> Node:
    """A node; a nameless one is called as the runtime calls it, by its type and its place."""
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
    for number, value in fields(data):
        if number in texts:
            texts[number].append(text(value))
    op = texts[4][-1] if texts[4] else "?"
    name = texts[3][-1] if texts[3] else ""
    return Node(name or f"{op}_{place}", op, tuple(texts[1]), tuple(texts[2]))


def _tensor(data: memoryview) -> tuple[str, tuple[int, ...]]:
    name, shape = "", list[int]()
    for number, value in fields(data):
        if number == 8:
            name = text(value)
        elif number == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
    return name, tuple(shape)


def _packed(data: memoryview) -> list[int]:
    found, at = list[int](), 0
    while at < len(data):
        value, at = varint(data, at)
        found.append(value)
    return found


def chain_model(length: int) -> bytes:
    """An ONNX model: `length` times the sign changed, of one float32, from input "x" to output "y"."""
    names = ["x", *(f"v{i}" for i in range(1, length)), "y"]
    nodes = [part(1, part(1, a), part(2, b), part(4, "Neg")) for a, b in zip(names, names[1:])]
    one_float = part(2, part(1, b"\x08\x01", part(2, part(1, b"\x08\x01"))))
    graph = part(7, *nodes, part(2, "chain"), part(11, part(1, "x"), one_float), part(12, part(1, "y"), one_float))
    return b"\x08\x08" + graph + part(8, b"\x10\x0d")
