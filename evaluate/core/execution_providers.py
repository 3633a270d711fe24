"""What runs models, each a component: the execution providers of ONNX Runtime, and runtimes of their own.

Options are those of ONNX Runtime's own documents. Everything that changes a result is left at its default, because that
is what ships: TF32 on NVIDIA's newer GPUs among it. Only Python's own library is imported: a bundle asks what it needs
before anything is installed.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Protocol, TypeVar, Union

from evaluate.core.components import Registry
from evaluate.core.errors import UsageError, did_you_mean

Source = Union[str, bytes]
Asked = list[tuple[str, dict[str, Any]]]
F = TypeVar("F", bound=Callable[..., Any])

PROVIDERS: Registry[Any] = Registry("provider", home="evaluate.runtime.known_providers")
FALLBACK = "CPUExecutionProvider"  # what the runtime itself adds at the end, and takes quietly
_GPU = 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "leanfit[gpu]"'


class Native(Protocol):
    """A model that a runtime of its own has opened, as onnxruntime's InferenceSession shows one.

    said : what to know of how it runs: the runtime's version, the precision it computes in.
    """

    said: str

    def get_inputs(self) -> Sequence[Any]:
        """Objects with `name`, `shape` (an int, a name or None for each dimension) and `type`, as "tensor(float)"."""

    def get_outputs(self) -> Sequence[Any]:
        """The same of the outputs."""

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """Outputs of one call, which stay as they are in later calls."""

    def bound(self, feeds: Mapping[str, Any]) -> Callable[[], object]:
        """A call on these inputs, to be timed; what it returns may be overwritten by the next one."""


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    native  : the runtime's name.  memory : where inputs and outputs live, as OrtValue calls it.
    package : the distribution of onnxruntime that has it.  install : how to get that; libraries : and what it loads.
    ask     : (runtime, source, graphs) -> what to ask the runtime for, in order: (its name, options).
    opens   : (source, threads) -> a Native, of a runtime of its own; None for those of ONNX Runtime.
    suffix  : of files that this runtime alone reads, as .tflite.
    """

    name: str
    native: str
    memory: str
    package: str
    install: str
    libraries: str
    ask: Callable[[Any, Source, bool], Asked]
    opens: Callable[[Source, int], Native] | None = None
    suffix: str = ""

    @property
    def module(self) -> str:
        """What is imported of it."""
        return self.package.replace("-", "_")

    @property
    def on_host(self) -> bool:
        """Whether it computes in the host's memory."""
        return self.memory == "cpu"


def register_provider(
    name: str, *, native: str, memory: str = "cpu", package: str = "onnxruntime", install: str = "", libraries: str = ""
) -> Callable[[F], F]:
    """Decorator of a function (runtime, source, graphs) -> what to ask the runtime for: a provider under a name.

    source : the path of the model, or its bytes.  graphs : whether calls are replayed as CUDA graphs. The rest: see
    Provider. It is used or refused, never replaced by another.
    """
    facts = {"native": native, "memory": memory, "package": package, "install": install, "libraries": libraries}
    return PROVIDERS.register(name, **facts)


def register_runtime(name: str, *, package: str, install: str, suffix: str = "") -> Callable[[F], F]:
    """Decorator of a function (source, threads) -> Native: a runtime of its own on the processor, under a name.

    source  : the path of the model, or its bytes.  package : its distribution, imported when a model is opened.
    install : how to get it.  suffix : of files that it alone reads.
    """
    facts = {"native": "", "memory": "cpu", "package": package, "install": install, "libraries": "", "suffix": suffix}
    return PROVIDERS.register(name, opens=True, **facts)


def provider_named(name: str) -> Provider:
    """The provider of a name, or of `module:name`. Raises UsageError, with the nearest name."""
    if not isinstance(name, str) or (":" not in name and name not in PROVIDERS.all()):
        known = PROVIDERS.all()
        raise UsageError(
            f"unknown provider {name!r}{did_you_mean(str(name), known) or '.'} Known providers: {', '.join(known)}."
        )
    component = PROVIDERS.get(name)
    facts: dict[str, Any] = {**component.facts, "install": component.facts["install"] or f"install {component.address}"}
    own = component.target if facts.pop("opens", False) else None
    return Provider(name=name, ask=component.target if own is None else _asks_nothing, opens=own, **facts)


def _asks_nothing(runtime: Any, source: Source, graphs: bool) -> Asked:
    return []


def provider_of(suffix: str, otherwise: str) -> str:
    """The runtime that alone reads files of a suffix; `otherwise` for those that ONNX Runtime reads."""
    found = (name for name, known in PROVIDERS.all().items() if known.facts.get("suffix") == suffix.lower() != "")
    return next(found, otherwise)


def computes_on_host(name: str) -> bool:
    """Whether a provider that is known here computes in the host's memory; nothing is imported for a name in a file."""
    known = PROVIDERS.registered().get(name.rpartition(":")[2])
    return known is not None and known.facts["memory"] == "cpu"


@register_provider("cpu", native=FALLBACK, install='pip install "leanfit[cpu]"')
def cpu(runtime: Any, source: Source, graphs: bool) -> Asked:
    """The processor, by the runtime's own kernels."""
    return [(FALLBACK, {})]


@register_provider(
    "cuda",
    native="CUDAExecutionProvider",
    memory="cuda",
    package="onnxruntime-gpu",
    install=_GPU,
    libraries='pip install "onnxruntime-gpu[cuda,cudnn]" (or put CUDA and cuDNN on LD_LIBRARY_PATH)',
)
def cuda(runtime: Any, source: Source, graphs: bool) -> Asked:
    """NVIDIA GPUs, by cuDNN and the runtime's own kernels."""
    return [("CUDAExecutionProvider", {"enable_cuda_graph": True} if graphs else {})]


@register_provider(
    "tensorrt",
    native="TensorrtExecutionProvider",
    memory="cuda",
    package="onnxruntime-gpu",
    install=f"{_GPU}, and TensorRT's own libraries",
    libraries="install TensorRT, CUDA and cuDNN in the versions this onnxruntime was built for, on LD_LIBRARY_PATH",
)
def tensorrt(runtime: Any, source: Source, graphs: bool) -> Asked:
    """NVIDIA GPUs, by TensorRT, which takes what it can and leaves the rest to CUDA.

    Its precision flags follow the file: float16 inputs or outputs, and quantized operators, which it refuses without
    them. It wants True and False, not 1 and 0.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    types, shapes = _declared(runtime, source)
    options: dict[str, Any] = {
        "trt_fp16_enable": "tensor(float16)" in types,
        "trt_int8_enable": b"QuantizeLinear" in data,  # an operator's name stands in the file as it is
        "trt_cuda_graph_enable": graphs,
    }
    # An engine for free dimensions grows with every batch it meets: kept, it would be another engine for each order.
    if shapes and all(isinstance(size, int) for shape in shapes for size in shape):
        options.update(trt_engine_cache_enable=True, trt_engine_cache_path=str(_engine_folder(source, data)))
    return [("TensorrtExecutionProvider", options), ("CUDAExecutionProvider", {})]


def errors_of(runtime: Any) -> tuple[type[Exception], ...]:
    """All the exceptions that this onnxruntime raises; they have no common base of their own."""
    state = runtime.capi.onnxruntime_pybind11_state
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, TypeError)


def _declared(runtime: Any, source: Source) -> tuple[set[str], list[Any]]:
    """Types of all inputs and outputs and shapes of the inputs, from a plain session; nothing where it has none."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        plain = runtime.InferenceSession(source, options, providers=[FALLBACK])
        return {p.type for p in (*plain.get_inputs(), *plain.get_outputs())}, [p.shape for p in plain.get_inputs()]
    except errors_of(runtime):  # an operator of TensorRT's own, or a damaged file: the real session will say which
        return set(), []


def _engine_folder(source: Source, data: bytes) -> Path:
    """A folder of this process for one model's engine.

    The runtime names an engine by the graph and not by its weights, so that two models of one architecture would share
    it; hence one folder for each content (and path: large weights lie beside the file).
    """
    place = b"" if isinstance(source, bytes) else str(Path(source).resolve()).encode()
    folder = Path(_engines().name) / hashlib.sha256(place + b"\0" + data).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    return folder


@functools.lru_cache(maxsize=1)
def _engines() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="leanfit-engines-")
