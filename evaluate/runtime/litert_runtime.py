"""LiteRT (TensorFlow Lite), beside ONNX Runtime: .tflite files, on the processor with its XNNPACK kernels."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

from evaluate.core.execution_providers import Source, register_runtime

# onnxruntime's words for numpy's types.
_TYPES = {
    "float32": "float", "float64": "double", "float16": "float16", "int8": "int8", "int16": "int16", "int32": "int32",
    "int64": "int64", "uint8": "uint8", "uint32": "uint32", "uint64": "uint64", "bool": "bool", "object": "string",
}  # fmt: skip


class _Port(NamedTuple):
    name: str
    shape: list[int | None]
    type: str


class _Model:
    """An interpreter; its tensors are laid out anew where a shape changes."""

    def __init__(self, source: Source, threads: int) -> None:
        interpreter: Any = importlib.import_module("ai_edge_litert.interpreter")
        place = {"model_content": source} if isinstance(source, bytes) else {"model_path": source}
        self._interpreter = interpreter.Interpreter(num_threads=threads, **place)
        self._interpreter.allocate_tensors()
        self.said = f"by ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"

    def get_inputs(self) -> Sequence[Any]:
        return [_port(detail) for detail in self._interpreter.get_input_details()]

    def get_outputs(self) -> Sequence[Any]:
        return [_port(detail) for detail in self._interpreter.get_output_details()]

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        self._feed(feeds)
        self._interpreter.invoke()
        found = {d["name"]: self._interpreter.get_tensor(d["index"]) for d in self._interpreter.get_output_details()}
        return [found[name] for name in names or found]

    def bound(self, feeds: Mapping[str, Any]) -> Callable[[], object]:
        self._feed(feeds)
        interpreter, places = self._interpreter, self._places()
        pairs = [(places[name], value) for name, value in feeds.items()]

        def call() -> None:
            for place, value in pairs:
                interpreter.set_tensor(place, value)
            interpreter.invoke()

        return call

    def _places(self) -> dict[str, int]:
        return {detail["name"]: detail["index"] for detail in self._interpreter.get_input_details()}

    def _feed(self, feeds: Mapping[str, Any]) -> None:
        shapes = {d["name"]: tuple(d["shape"]) for d in self._interpreter.get_input_details()}
        changed = {name: value for name, value in feeds.items() if shapes[name] != value.shape}
        for name, value in changed.items():
            self._interpreter.resize_tensor_input(self._places()[name], value.shape)
        if changed:
            self._interpreter.allocate_tensors()
        for name, place in self._places().items():
            self._interpreter.set_tensor(place, feeds[name])


def _port(detail: Mapping[str, Any]) -> _Port:
    shape = [None if size < 0 else int(size) for size in detail.get("shape_signature", detail["shape"])]
    kind = getattr(detail["dtype"], "__name__", str(detail["dtype"]))
    return _Port(str(detail["name"]), shape, f"tensor({_TYPES.get(kind, kind)})")


@register_runtime("litert", package="ai-edge-litert", install='pip install "leanfit[litert]"', suffix=".tflite")
def litert(source: Source, threads: int) -> _Model:
    """Google's runtime of .tflite files, on the processor."""
    return _Model(source, threads)
