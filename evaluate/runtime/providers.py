"""The runtime and its execution providers: whether they are there, what is asked for, and what their errors mean."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from collections import Counter
from typing import Any

from evaluate.core.errors import ArtifactError, LeanfitError, ModelError, NoRuntimeError
from evaluate.core.execution_providers import errors_of, provider_named
from evaluate.hardware.environment import onnxruntime_conflict, onnxruntime_distributions

_NO_MEMORY = re.compile(r"out of memory|allocate memory|ALLOC_FAILED|bad[_ ]alloc", re.I)
_NO_CAPTURE = re.compile(r"cannot use the (graph capture|CUDA graph) feature", re.I)
_NO_LIBRARY = re.compile(
    r"Failed to load library|cannot open shared object|LoadLibrary failed|able to be loaded|install TensorRT", re.I
)
_NO_DRIVER = re.compile(r"CUDA failure 35\b|driver version is insufficient", re.I)
_DAMAGED = re.compile(r"protobuf parsing|no graph|missing opset", re.I)
_NO_WEIGHTS = re.compile(r"external (data|initializer)", re.I)
_NO_GPU = re.compile(r"CUDA failure 100\b|no CUDA-capable device", re.I)


def load_runtime() -> Any:
    """The onnxruntime module. Raises NoRuntimeError, with what to install, where it is absent or half overwritten."""
    step = provider_named("cpu").install
    try:
        import onnxruntime
    except ImportError as error:
        raise NoRuntimeError(f"onnxruntime cannot be imported ({error}); run: {step}") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise NoRuntimeError(
            "onnxruntime is damaged: it has no InferenceSession, as when one of onnxruntime and onnxruntime-gpu was "
            f"removed from beside the other; run: pip uninstall -y onnxruntime onnxruntime-gpu && {step}"
        )
    return onnxruntime


def require(runtime: Any, provider: str) -> str:
    """Raise NoRuntimeError where the provider is not in this runtime; gives what its libraries said on loading.

    The text is empty where all was found; what it names may still be found otherwise when the session is made.
    """
    said = io.StringIO()
    wanted = provider_named(provider)
    if wanted.opens is not None:
        if importlib.util.find_spec(wanted.module) is None:
            raise NoRuntimeError(refused(provider, f"{wanted.package} is not installed"))
        return ""
    if not wanted.on_host and hasattr(runtime, "preload_dlls"):
        # Finds the CUDA libraries that pip installed; a runtime with CUDA as a plugin lists it only after this.
        with contextlib.redirect_stdout(said):
            runtime.preload_dlls()
    missing = "; ".join(line for line in said.getvalue().splitlines() if line.startswith("Failed to load"))
    available = runtime.get_available_providers()
    if wanted.native not in available:
        # Azure, which every build for CPUs lists as well, computes elsewhere.
        here = ", ".join(n.removesuffix("ExecutionProvider") for n in available if n != "AzureExecutionProvider")
        found = f" ({missing[:300]})" if missing else ""
        raise NoRuntimeError(refused(provider, f"this onnxruntime has only {here}{found}"))
    return missing


def misplaced(native: Any, provider: str, label: str) -> list[str]:
    """A sentence for nodes that run elsewhere than on `provider`; [] where there are none or the runtime cannot tell.

    Raises ModelError where no node at all runs on it. `native` must have been made with
    session.record_ep_graph_assignment_info.
    """
    name = provider_named(provider).native
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
    damaged = (runtime.capi.onnxruntime_pybind11_state.InvalidProtobuf, UnicodeDecodeError)
    if isinstance(error, damaged) or _DAMAGED.search(said):
        return ArtifactError(
            f"{label} is not a complete ONNX model (truncated, damaged, or another kind of file). onnxruntime "
            f"{version} says: {said}. Export or copy the file again."
        )
    if _NO_WEIGHTS.search(said):
        return ArtifactError(
            f"{label} keeps weights in files beside it, which are not there or not whole: {said}. Copy them along, "
            "under the names they had, or save the model as one file."
        )
    return ModelError(f"{label} is an ONNX file that onnxruntime {version} cannot load: {said}.")


def run_problem(error: Exception, label: str, provider: str, given: str, wants: str) -> LeanfitError:
    """The runtime's error on a call, as the user's own problem; `given` and `wants` describe the inputs."""
    said = _said(error)
    problem = _machine_problem(said, provider) or _memory_problem(said, label, provider, f" on {given}")
    who = "onnxruntime" if provider_named(provider).opens is None else provider
    return problem or ModelError(f"{label} could not run on {given}. It takes {wants}. {who} says: {said}")


def refused(provider: str, why: str, step: str = "") -> str:
    """The sentence for a provider that cannot be used: why, and the next step."""
    if len(onnxruntime_distributions()) > 1:  # each overwrites the other's files, so that any reason may be this one
        step = f"first of all, {onnxruntime_conflict()}"
    step = step or f"run: {provider_named(provider).install}"
    return f"provider {provider!r} was asked for and cannot be used: {why}; {step}, or use provider cpu"


def fallen_back(provider: str, ran_on: str, missing: str) -> str:
    """The sentence for a session that the runtime quietly made on another provider; `missing` is from `require`."""
    told = f" ({missing[:300]})" if missing else ", as it does where libraries are missing"
    return refused(provider, f"onnxruntime could not start it and ran on {ran_on} instead{told}", _libraries(provider))


def runtime_errors() -> tuple[type[Exception], ...]:
    """All the exceptions onnxruntime raises; they have no common base of their own."""
    return errors_of(load_runtime())


def _machine_problem(said: str, provider: str) -> LeanfitError | None:
    """A fault of the GPU's software, whatever the model is."""
    if _NO_DRIVER.search(said):
        step = "update the NVIDIA driver, or install an onnxruntime-gpu that was built for an older CUDA"
        return NoRuntimeError(refused(provider, f"the NVIDIA driver is too old for this onnxruntime ({said})", step))
    if _NO_GPU.search(said):
        step = "look at nvidia-smi and at CUDA_VISIBLE_DEVICES"
        return NoRuntimeError(refused(provider, f"CUDA sees no GPU ({said})", step))
    if not provider_named(provider).on_host and _NO_LIBRARY.search(said):
        return NoRuntimeError(refused(provider, f"a library is missing ({said})", _libraries(provider)))
    return None


def _libraries(provider: str) -> str:
    wanted = provider_named(provider)
    return f"run: {wanted.libraries or wanted.install}"


def _memory_problem(said: str, label: str, provider: str, given: str) -> LeanfitError | None:
    if not _NO_MEMORY.search(said):
        return None
    where, look = ("memory", "free") if provider_named(provider).on_host else ("the GPU's memory", "nvidia-smi")
    return ModelError(
        f"{label} does not fit into {where}{given}; take a smaller batch, or end what else fills it ({look} shows it). "
        f"onnxruntime says: {said}"
    )


def _said(error: Exception) -> str:
    """The runtime's message on one line, without its error code, source file, C++ signature and host name."""
    text = " ".join(str(error).split())
    failure = re.search(r"(CUDA|CUDNN|CUBLAS|CUFFT) failure \d+: [^;]+", text)
    if failure:
        return failure.group().rstrip(". ")
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^(Load model from .*? failed:)?\S+\.(cc|h):\d+ .+?\) (?=[A-Z])", "", text)
    return text[:400].rstrip(". ")
