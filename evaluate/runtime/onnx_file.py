"""What the runtime does not say of an ONNX file: files beside it that hold weights, inputs without a shape, ranges.

Read without the onnx package, which no device needs. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evaluate.core.protobuf import messages, text

_UNREADABLE = (OSError, ValueError, IndexError, OverflowError)
_EXTERNAL = 13  # entries of a tensor whose values lie in another file


def external_files(model: str | Path) -> tuple[Path, ...]:
    """The files that hold tensors of a model: of its weights, of Constant nodes, of the bodies of If and Loop.

    () where all is in the model itself, or where that cannot be read as one.
    """
    path = Path(model)
    try:
        data = memoryview(path.read_bytes())
        names = {name for graph in messages(data, 7) for name in _of_graph(graph)}
        names |= {name for function in messages(data, 25) for node in messages(function, 7) for name in _of_node(node)}
    except _UNREADABLE:
        return ()
    return tuple(path.parent / name for name in sorted(names))


def inputs_without_shape(model: str | Path | bytes) -> frozenset[str]:
    """Inputs that are tensors of no known rank, which the runtime shows as scalars."""
    try:
        data = memoryview(model if isinstance(model, bytes) else Path(model).read_bytes())
        ports = [port for graph in messages(data, 7) for port in messages(graph, 11)]
        return frozenset(text(next(messages(port, 1))) for port in ports if _has_no_shape(port))
    except (*_UNREADABLE, StopIteration):
        return frozenset()


def finds_ranges_by_call(model: str | Path | bytes) -> bool:
    """Whether a file quantizes activations by the range of each call, so that a row's output depends on the others."""
    try:
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
    except OSError:
        return False
    return b"DynamicQuantize" in data  # DynamicQuantizeLinear, and the runtime's own DynamicQuantizeLSTM, -MatMul


def _has_no_shape(port: memoryview) -> bool:
    tensors = [tensor for kind in messages(port, 2) for tensor in messages(kind, 1)]
    return any(next(messages(tensor, 2), None) is None for tensor in tensors)


def _of_graph(graph: memoryview) -> Iterator[str]:
    for tensor in messages(graph, 5):
        yield from _of_tensor(tensor)
    for sparse in messages(graph, 15):
        yield from _of_sparse(sparse)
    for node in messages(graph, 1):
        yield from _of_node(node)


def _of_node(node: memoryview) -> Iterator[str]:
    for attribute in messages(node, 5):
        for tensor in messages(attribute, 5, 10):
            yield from _of_tensor(tensor)
        for graph in messages(attribute, 6, 11):
            yield from _of_graph(graph)
        for sparse in messages(attribute, 22, 23):
            yield from _of_sparse(sparse)


def _of_sparse(sparse: memoryview) -> Iterator[str]:
    for tensor in messages(sparse, 1, 2):
        yield from _of_tensor(tensor)


def _of_tensor(tensor: memoryview) -> Iterator[str]:
    for entry in messages(tensor, _EXTERNAL):
        key, value = (text(next(messages(entry, number), memoryview(b""))) for number in (1, 2))
        if key == "location":
            yield value
