"""OpenVINO, Intel's own runtime, beside ONNX Runtime: the same .onnx file, on the processor."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from evaluate.core.execution_providers import Source, register_runtime

INSTALL = 'pip install "leanfit[openvino]"'


class _Model:
    """A compiled model with one infer request."""

    def __init__(self, source: Source, threads: int) -> None:
        onnxruntime: Any = importlib.import_module("onnxruntime")
        openvino: Any = importlib.import_module("openvino")
        # Names of free dimensions, which OpenVINO forgets, as ONNX Runtime tells them.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        shown = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._ports = shown.get_inputs(), shown.get_outputs()
        # float32 as the file says: on a processor with AMX the default is bfloat16.
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        core = openvino.Core()
        self._request = core.compile_model(core.read_model(source), "CPU", settings).create_infer_request()
        self.said = f"by openvino {openvino.__version__.split('-')[0]}, in the file's own precision"

    def get_inputs(self) -> Sequence[Any]:
        return list(self._ports[0])

    def get_outputs(self) -> Sequence[Any]:
        return list(self._ports[1])

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        found = self._request.infer(dict(feeds), share_inputs=True, share_outputs=False)
        by_name = {name: value for port, value in found.items() for name in port.names}
        return [by_name[name] for name in names or [port.name for port in self.get_outputs()]]

    def bound(self, feeds: Mapping[str, Any]) -> Callable[[], object]:
        infer, kept = self._request.infer, dict(feeds)
        return lambda: infer(kept, share_inputs=True, share_outputs=True)


@register_runtime("openvino", package="openvino", install=INSTALL)
def openvino(source: Source, threads: int) -> _Model:
    """Intel's own runtime, on the processor."""
    return _Model(source, threads)
