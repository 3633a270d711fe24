"""The one place that makes ONNX Runtime sessions, so that accuracy and latency come from the same options.

Spinning is off (idle threads would take the cores of whatever is measured next), the number of threads is always
given, the runtime prints nothing, and a provider that was asked for is the provider that runs.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluate.errors import EvaluateError, FileProblem, ModelProblem, RuntimeMissing, UsageProblem, did_you_mean

__all__ = ["PROVIDERS", "Port", "Session", "load_runtime", "open_session", "require_provider"]

# Short name -> (the runtime's name, where its inputs and outputs live).
PROVIDERS = {"cpu": ("CPUExecutionProvider", "cpu"), "cuda": ("CUDAExecutionProvider", "cuda")}
_INSTALL = {
    "cpu": 'pip install "leanfit[cpu]"',
    "cuda": 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "leanfit[gpu]"',
}
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip

Array = NDArray[Any]


class Port(NamedTuple):
    """An input or output of a model.

    shape : one int per fixed dimension, the name (or None) of a free one.
    dtype : numpy's name ("float32"), or the runtime's own text for what numpy has no type for ("tensor(string)").
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str


class Session:
    """An ONNX model ready to run; made by `open_session`."""

    def __init__(self, native: Any, provider: str, threads: int, label: str) -> None:
        self.inputs, self.outputs = _ports(native)
        self.provider = provider
        self.threads = threads
        self.label = label
        self._native = native

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs for these inputs (name -> array). Raises ModelProblem where they do not fit the model."""
        ready = self._checked(feeds)
        with self._explained(ready):
            return list(self._native.run(None, ready))

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """A call without arguments that runs the model once on these inputs, ready to be timed.

        The inputs are laid out on the provider's device beforehand and the outputs stay there, so that what is timed is
        the model and not Python's copies; the call returns when the outputs are complete. It is tried once here.
        """
        ready = self._checked(feeds)
        device = PROVIDERS[self.provider][1]
        binding = self._native.io_binding()
        with self._explained(ready):
            for name, array in ready.items():
                binding.bind_ortvalue_input(name, load_runtime().OrtValue.ortvalue_from_numpy(array, device, 0))
            for port in self.outputs:
                binding.bind_output(port.name, device)
            self._native.run_with_iobinding(binding)
        return _call(self._native, binding, ready, synchronize=device != "cpu")

    def _checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = {port.name for port in self.inputs}
        for name in feeds:
            if name not in names:
                raise ModelProblem(
                    f"{self.label} has no input {name!r}{did_you_mean(name, names) or '.'} It takes {self._wants()}."
                )
        missing = sorted(names - set(feeds))
        if missing:
            raise ModelProblem(f"{self.label} was given no {', '.join(missing)}. It takes {self._wants()}.")
        return {name: np.ascontiguousarray(array) for name, array in feeds.items()}

    @contextlib.contextmanager
    def _explained(self, feeds: Mapping[str, Array]) -> Any:
        """Turns the runtime's errors on a call into one ModelProblem that shows both sides."""
        try:
            yield
        except _runtime_errors() as error:
            given = ", ".join(f"{name} {list(a.shape)} {a.dtype}" for name, a in feeds.items())
            raise ModelProblem(
                f"{self.label} could not run on {given}. It takes {self._wants()}. onnxruntime says: {_said(error)}"
            ) from error

    def _wants(self) -> str:
        return ", ".join(f"{p.name} {_shape_text(p.shape)} {p.dtype}" for p in self.inputs)


def open_session(
    model: str | Path | bytes, *, provider: str = "cpu", threads: int = 1, optimize: bool = True
) -> Session:
    """Open an ONNX file (or the bytes of one).

    provider : "cpu" or "cuda"; it is used or refused, never replaced by another one.
    threads  : threads inside one operator, at least 1; operators run one after the other.
    optimize : False turns every graph optimisation off, as the saturation test of int8 models needs.

    Raises FileProblem for a file that is missing, truncated or no ONNX model, ModelProblem for a model this runtime has
    no kernels for, RuntimeMissing where onnxruntime or the provider is not there, UsageProblem for a wrong argument.
    """
    if provider not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise UsageProblem(
            f"unknown provider {provider!r}{did_you_mean(provider, PROVIDERS) or '.'} Known providers: {known}."
        )
    if threads < 1:
        raise UsageProblem(f"threads must be at least 1, got {threads}")
    label = "the model" if isinstance(model, bytes) else str(model)
    source = model if isinstance(model, bytes) else str(_checked_file(Path(model)))
    if not source:
        raise FileProblem("the model is empty (0 bytes); an ONNX model was expected")
    runtime = load_runtime()
    _require_provider(runtime, provider)
    native = _native_session(runtime, source, _options(runtime, threads, optimize), provider, label)
    if native.get_providers()[0] != PROVIDERS[provider][0]:
        raise RuntimeMissing(_refused(provider, f"it ran on {native.get_providers()[0]} instead"))
    return Session(native, provider, threads, label)


def load_runtime() -> Any:
    """The onnxruntime module. Raises RuntimeMissing, with what to install, where it is absent or half overwritten."""
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(f"onnxruntime cannot be imported ({error}); run: {_INSTALL['cpu']}") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise RuntimeMissing(
            "onnxruntime is damaged: it has no InferenceSession, as when one of onnxruntime and onnxruntime-gpu was "
            f"removed from beside the other; run: pip uninstall -y onnxruntime onnxruntime-gpu && {_INSTALL['cpu']}"
        )
    return onnxruntime


def _options(runtime: Any, threads: int, optimize: bool) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return options


def _native_session(runtime: Any, source: str | bytes, options: Any, provider: str, label: str) -> Any:
    runtime.set_default_logger_severity(4)
    try:
        # Without enable_fallback=0 the runtime answers a failing provider by a session on the CPU.
        native = runtime.InferenceSession(source, options, providers=[PROVIDERS[provider][0]], enable_fallback=0)
        _ports(native)  # names that are no text, in a damaged file, show only here
    except _runtime_errors() as error:
        raise _load_problem(error, label, provider, runtime) from error
    return native


def _load_problem(error: Exception, label: str, provider: str, runtime: Any) -> EvaluateError:
    """The runtime's error on loading, as the user's own problem."""
    said, version = _said(error), runtime.__version__
    if isinstance(error, runtime.capi.onnxruntime_pybind11_state.EPFail):
        return RuntimeMissing(_refused(provider, said))
    if "IR version" in said or "under development" in said:
        return FileProblem(
            f"{label} was written for a newer runtime than onnxruntime {version}: {said}. Update onnxruntime."
        )
    if any(sign in said for sign in ("an implementation for", "No Op registered", "not a registered")):
        return ModelProblem(f"{label} needs an operator that onnxruntime {version} lacks on {provider}: {said}.")
    return FileProblem(
        f"{label} is not a complete ONNX model (truncated, damaged, or another kind of file). onnxruntime {version} "
        f"says: {said}. Export or copy the file again."
    )


def require_provider(provider: str) -> None:
    """Raise RuntimeMissing, as `open_session` would, where onnxruntime or the provider is not there."""
    _require_provider(load_runtime(), provider)


def _require_provider(runtime: Any, provider: str) -> None:
    available = runtime.get_available_providers()
    if PROVIDERS[provider][0] not in available:
        here = ", ".join(name.removesuffix("ExecutionProvider") for name in available)
        raise RuntimeMissing(_refused(provider, f"this onnxruntime has only {here}"))
    if provider == "cuda" and hasattr(runtime, "preload_dlls"):
        # Finds the CUDA libraries that pip installed; what it cannot find shows when the session is made.
        with contextlib.redirect_stdout(io.StringIO()):
            runtime.preload_dlls()


def _refused(provider: str, why: str) -> str:
    return (
        f"provider {provider!r} was asked for and cannot be used: {why}; run: {_INSTALL[provider]}, or use provider cpu"
    )


def _checked_file(path: Path) -> Path:
    if path.is_dir():
        raise FileProblem(f"{path} is a folder; an ONNX file was expected, as {path / 'model.onnx'}")
    if not path.exists():
        siblings = [p.name for p in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
        raise FileProblem(f"there is no file {path}{did_you_mean(path.name, siblings)}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror or error}") from error
    if empty:
        raise FileProblem(f"{path} is empty (0 bytes); an ONNX model was expected")
    return path


def _ports(native: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a native session."""
    return tuple(map(_port, native.get_inputs())), tuple(map(_port, native.get_outputs()))


def _port(node: Any) -> Port:
    text = str(node.type)
    inner = text.removeprefix("tensor(").removesuffix(")")
    return Port(str(node.name), tuple(node.shape or ()), _DTYPES.get(inner, text))


def _call(native: Any, binding: Any, kept: Mapping[str, Array], *, synchronize: bool) -> Callable[[], None]:
    run = native.run_with_iobinding

    def plain(_kept: Mapping[str, Array] = kept) -> None:  # the binding points into these arrays: they must live
        run(binding)

    def synchronized() -> None:
        run(binding)
        binding.synchronize_outputs()

    return synchronized if synchronize else plain


def _runtime_errors() -> tuple[type[Exception], ...]:
    """All the exceptions onnxruntime raises; they have no common base of their own."""
    state = load_runtime().capi.onnxruntime_pybind11_state
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, TypeError)


def _said(error: Exception) -> str:
    """The runtime's message on one line, without its error code, source file and C++ signature."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^(Load model from .*? failed:)?\S+\.(cc|h):\d+ .+?\) (?=[A-Z])", "", text)
    return text[:400].rstrip(". ")


def _shape_text(shape: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
