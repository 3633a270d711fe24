"""The runtime and its execution providers: which are there, how each is asked for, and what its errors mean.

Options are those of ONNX Runtime's own documents (CUDA and TensorRT execution provider). Everything that changes a
result is left at its default, because that is what ships: TF32 on NVIDIA's newer GPUs among it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Union

from evaluate.core.errors import ArtifactError, LeanfitError, ModelError, NoRuntimeError, UsageError, did_you_mean
from evaluate.hardware.environment import onnxruntime_conflict, onnxruntime_distributions

# Short name -> (the runtime's name, where its inputs and outputs live).
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "cpu"),
    "cuda": ("CUDAExecutionProvider", "cuda"),
    "tensorrt": ("TensorrtExecutionProvider", "cuda"),
}
_GPU = 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "leanfit[gpu]"'
_INSTALL = {
    "cpu": 'pip install "leanfit[cpu]"',
    "cuda": _GPU,
    "tensorrt": f"{_GPU}, and TensorRT's own libraries",
}
_LIBRARIES = {
    "cuda": 'pip install "onnxruntime-gpu[cuda,cudnn]" (or put CUDA and cuDNN on LD_LIBRARY_PATH)',
    "tensorrt": "install TensorRT, CUDA and cuDNN in the versions this onnxruntime was built for, on LD_LIBRARY_PATH",
}
_NO_MEMORY = re.compile(r"out of memory|allocate memory|ALLOC_FAILED|bad[_ ]alloc", re.I)
_NO_CAPTURE = re.compile(r"cannot use the (graph capture|CUDA graph) feature", re.I)
_NO_LIBRARY = re.compile(
    r"Failed to load library|cannot open shared object|LoadLibrary failed|able to be loaded|install TensorRT", re.I
)
_NO_DRIVER = re.compile(r"CUDA failure 35\b|driver version is insufficient", re.I)
_NO_GPU = re.compile(r"CUDA failure 100\b|no CUDA-capable device", re.I)

Source = Union[str, bytes]


def load_runtime() -> Any:
    """The onnxruntime module. Raises NoRuntimeError, with what to install, where it is absent or half overwritten."""
    try:
        import onnxruntime
    except ImportError as error:
        raise NoRuntimeError(f"onnxruntime cannot be imported ({error}); run: {_INSTALL['cpu']}") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise NoRuntimeError(
            "onnxruntime is damaged: it has no InferenceSession, as when one of onnxruntime and onnxruntime-gpu was "
            f"removed from beside the other; run: pip uninstall -y onnxruntime onnxruntime-gpu && {_INSTALL['cpu']}"
        )
    return onnxruntime


def check_provider(provider: str) -> None:
    """Raise UsageError for a provider that is not one of PROVIDERS."""
    if provider not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise UsageError(
            f"unknown provider {provider!r}{did_you_mean(provider, PROVIDERS) or '.'} Known providers: {known}."
        )


def require(runtime: Any, provider: str) -> str:
    """Raise NoRuntimeError where the provider is not in this runtime; gives what its libraries said on loading.

    The text is empty where all was found; what it names may still be found otherwise when the session is made.
    """
    said = io.StringIO()
    if provider != "cpu" and hasattr(runtime, "preload_dlls"):
        # Finds the CUDA libraries that pip installed; a runtime with CUDA as a plugin lists it only after this.
        with contextlib.redirect_stdout(said):
            runtime.preload_dlls()
    missing = "; ".join(line for line in said.getvalue().splitlines() if line.startswith("Failed to load"))
    available = runtime.get_available_providers()
    if PROVIDERS[provider][0] not in available:
        # Azure, which every build for CPUs lists as well, computes elsewhere.
        here = ", ".join(n.removesuffix("ExecutionProvider") for n in available if n != "AzureExecutionProvider")
        found = f" ({missing[:300]})" if missing else ""
        raise NoRuntimeError(refused(provider, f"this onnxruntime has only {here}{found}"))
    return missing


def provider_chain(runtime: Any, provider: str, source: Source, *, graphs: bool) -> list[tuple[str, dict[str, Any]]]:
    """What to ask the runtime for, in order: (its name, options). The runtime itself adds the CPU at the end.

    TensorRT takes what it can and leaves the rest to CUDA. Its precision flags follow the file: float16 inputs or
    outputs, and quantized operators, which it refuses without them.
    """
    name = PROVIDERS[provider][0]
    if provider == "cuda":
        return [(name, {"enable_cuda_graph": True} if graphs else {})]
    if provider == "cpu":
        return [(name, {})]
    return [(name, _tensorrt(runtime, source, graphs)), (PROVIDERS["cuda"][0], {})]


def misplaced(native: Any, provider: str, label: str) -> list[str]:
    """A sentence for nodes that run elsewhere than on `provider`; [] where there are none or the runtime cannot tell.

    Raises ModelError where no node at all runs on it. `native` must have been made with
    session.record_ep_graph_assignment_info.
    """
    name = PROVIDERS[provider][0]
    told = getattr(native, "get_provider_graph_assignment_info", list)  # added in onnxruntime 1.24
    try:
        parts = [(part.ep_name, node.op_type) for part in told() for node in part.get_nodes()]
    except runtime_errors():  # some builds leave it out
        return []
    away = Counter(where for where, _ in parts if where != name)
    if not away:
        return []
    places = " and ".join(where.removesuffix("ExecutionProvider") for where in away)
    operators = Counter(operator for where, operator in parts if where != name).most_common(4)
    shown = ", ".join(f"{operator} {count}" for operator, count in operators)
    if sum(away.values()) == len(parts):
        raise ModelError(
            f"{label} was to run on {provider}, but all of its {len(parts)} nodes ({shown}) run on {places}: "
            f"{provider} has no kernels for them. Use a model made for it, or provider cpu."
        )
    return [
        f"{label}: {sum(away.values())} of {len(parts)} nodes run on {places}, not on {provider} ({shown}); shape "
        "arithmetic is put there on purpose, anything else costs copies"
    ]


def load_problem(error: Exception, label: str, provider: str, runtime: Any) -> LeanfitError:
    """The runtime's error on loading a model, as the user's own problem."""
    said, version = _said(error), runtime.__version__
    problem = _machine_problem(said, provider) or _memory_problem(said, label, provider, "")
    if problem is not None:
        return problem
    if _NO_CAPTURE.search(said):
        return ModelError(
            f"{label} cannot be captured as a CUDA graph on {provider}: it has control flow, or operators that "
            f"{provider} does not run. Measure it without CUDA graphs. onnxruntime {version} says: {said}"
        )
    if isinstance(error, runtime.capi.onnxruntime_pybind11_state.EPFail):
        return NoRuntimeError(refused(provider, said))
    if "IR version" in said or "under development" in said:
        return ArtifactError(
            f"{label} was written for a newer runtime than onnxruntime {version}: {said}. Update onnxruntime."
        )
    if any(sign in said for sign in ("an implementation for", "No Op registered", "not a registered")):
        return ModelError(f"{label} needs an operator that onnxruntime {version} lacks on {provider}: {said}.")
    return ArtifactError(
        f"{label} is not a complete ONNX model (truncated, damaged, or another kind of file). onnxruntime {version} "
        f"says: {said}. Export or copy the file again."
    )


def run_problem(error: Exception, label: str, provider: str, given: str, wants: str) -> LeanfitError:
    """The runtime's error on a call, as the user's own problem; `given` and `wants` describe the inputs."""
    said = _said(error)
    problem = _machine_problem(said, provider) or _memory_problem(said, label, provider, f" on {given}")
    return problem or ModelError(f"{label} could not run on {given}. It takes {wants}. onnxruntime says: {said}")


def refused(provider: str, why: str, step: str = "") -> str:
    """The sentence for a provider that cannot be used: why, and the next step."""
    if len(onnxruntime_distributions()) > 1:  # each overwrites the other's files, so that any reason may be this one
        step = f"first of all, {onnxruntime_conflict()}"
    step = step or f"run: {_INSTALL[provider]}"
    return f"provider {provider!r} was asked for and cannot be used: {why}; {step}, or use provider cpu"


def fallen_back(provider: str, ran_on: str, missing: str) -> str:
    """The sentence for a session that the runtime quietly made on another provider; `missing` is from `require`."""
    why = f"onnxruntime could not start it and ran on {ran_on} instead"
    if not missing:
        return refused(provider, f"{why}, as it does where libraries are missing", f"run: {_LIBRARIES[provider]}")
    return refused(provider, f"{why} ({missing[:300]})", f"run: {_LIBRARIES[provider]}")


def runtime_errors() -> tuple[type[Exception], ...]:
    """All the exceptions onnxruntime raises; they have no common base of their own."""
    state = load_runtime().capi.onnxruntime_pybind11_state
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, TypeError)


def _machine_problem(said: str, provider: str) -> LeanfitError | None:
    """A fault of the GPU's software, whatever the model is."""
    if _NO_DRIVER.search(said):
        step = "update the NVIDIA driver, or install an onnxruntime-gpu that was built for an older CUDA"
        return NoRuntimeError(refused(provider, f"the NVIDIA driver is too old for this onnxruntime ({said})", step))
    if _NO_GPU.search(said):
        step = "look at nvidia-smi and at CUDA_VISIBLE_DEVICES"
        return NoRuntimeError(refused(provider, f"CUDA sees no GPU ({said})", step))
    if provider != "cpu" and _NO_LIBRARY.search(said):
        return NoRuntimeError(refused(provider, f"a library is missing ({said})", f"run: {_LIBRARIES[provider]}"))
    return None


def _memory_problem(said: str, label: str, provider: str, given: str) -> LeanfitError | None:
    if not _NO_MEMORY.search(said):
        return None
    where, look = ("memory", "free") if provider == "cpu" else ("the GPU's memory", "nvidia-smi")
    return ModelError(
        f"{label} does not fit into {where}{given}; take a smaller batch, or end what else fills it ({look} shows it). "
        f"onnxruntime says: {said}"
    )


def _tensorrt(runtime: Any, source: Source, graphs: bool) -> dict[str, Any]:
    """TensorRT's options for one model; it wants True and False, not 1 and 0."""
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
    return options


def _declared(runtime: Any, source: Source) -> tuple[set[str], list[Any]]:
    """Types of all inputs and outputs and shapes of the inputs, from a plain session; nothing where it has none."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        plain = runtime.InferenceSession(source, options, providers=[PROVIDERS["cpu"][0]])
        return {p.type for p in (*plain.get_inputs(), *plain.get_outputs())}, [p.shape for p in plain.get_inputs()]
    except runtime_errors():  # an operator of TensorRT's own, or a damaged file: the real session will say which
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


def _said(error: Exception) -> str:
    """The runtime's message on one line, without its error code, source file, C++ signature and host name."""
    text = " ".join(str(error).split())
    failure = re.search(r"(CUDA|CUDNN|CUBLAS|CUFFT) failure \d+: [^;]+", text)
    if failure:
        return failure.group().rstrip(". ")
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^(Load model from .*? failed:)?\S+\.(cc|h):\d+ .+?\) (?=[A-Z])", "", text)
    return text[:400].rstrip(". ")
