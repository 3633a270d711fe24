"""The one place that makes ONNX Runtime sessions, so that accuracy and latency come from the same options.

Spinning is off (idle threads would take the cores of whatever is measured next), the number of threads is always
given, the runtime prints nothing, and a provider that was asked for is the provider that runs.

Calls without arguments on inputs that lie where they are needed: what `Session.bind` gives.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import ArtifactError, ModelError, NoRuntimeError, UsageError, did_you_mean
from evaluate.core.execution_providers import FALLBACK, Native, provider_named
from evaluate.runtime import providers
from evaluate.runtime.onnx_file import finds_ranges_by_call, inputs_without_shape
from evaluate.runtime.providers import load_runtime, runtime_errors

Call = Callable[[], object]


def host_call(native: Any, outputs: Sequence[str], arrays: Mapping[str, Value]) -> Call:
    """numpy in, new numpy arrays out.

    Not by a binding to host memory: that would copy the inputs to a GPU once, when they are bound, and never in the
    call (onnxruntime#5857).
    """
    return functools.partial(native.run, list(outputs), dict(arrays))


def bound_call(
    runtime: Any, native: Any, outputs: Sequence[str], arrays: Mapping[str, Value], device: str, *, transfers: bool
) -> tuple[Call, Any]:
    """The call, and its binding; nothing is run yet.

    transfers : copy the inputs to the device and the outputs from it in every call, with both memories fixed, as CUDA
                graphs need it. Otherwise inputs are copied here, once, and outputs stay.
    """
    values = {name: runtime.OrtValue.ortvalue_from_numpy(array, device, 0) for name, array in arrays.items()}
    binding = native.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in outputs:  # the runtime allocates at the first run, and writes to the same memory ever after
        binding.bind_output(name, device)
    if device == "cpu":
        return _plain(native, binding, (arrays, values)), binding
    binding.synchronize_inputs()
    if transfers:
        return _transferring(native, binding, [(values[name], array) for name, array in arrays.items()]), binding
    return _synchronized(native, binding, values), binding


def output_addresses(binding: Any) -> list[int]:
    """Where the outputs of the last run lie."""
    return [value.data_ptr() for value in binding.get_outputs()]


def _plain(native: Any, binding: Any, kept: object) -> Call:
    """Nearly as cheap as calling the runtime by hand; a function, as Python calls those faster than a `partial`."""
    run = native.run_with_iobinding

    def call(_kept: object = kept) -> None:  # the binding points into these arrays, and older runtimes do not hold them
        run(binding)

    return call


def _synchronized(native: Any, binding: Any, kept: object) -> Call:
    """A run waits for its stream by default; asked for here as well, so that no version returns early."""
    run, wait = native.run_with_iobinding, binding.synchronize_outputs

    def call(_kept: object = kept) -> None:
        run(binding)
        wait()

    return call


def _transferring(native: Any, binding: Any, pairs: Sequence[tuple[Any, Value]]) -> Call:
    run = native.run_with_iobinding

    def call() -> object:
        for value, array in pairs:
            value.update_inplace(array)
        binding.synchronize_inputs()  # the copy and the graph are on different streams
        run(binding)
        return binding.copy_outputs_to_cpu()

    return call


IO = ("device", "host")
# The first run warms up, a later one is recorded, the next ones replay; how many, differs between versions.
GRAPH_RUNS = 3
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip

Array = NDArray[Any]
Value = Union[Array, list[Any]]  # a list is a sequence of tensors


class Port(NamedTuple):
    """An input or output of a model.

    shape : one int per fixed dimension, the name (or None) of a free one.
    dtype : numpy's name ("float32"), or the runtime's own text for what numpy has no type for ("tensor(string)").
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str


class Session:
    """An ONNX model ready to run; made by `open_session`, and a context manager that closes it.

    warnings      : sentences on what runs elsewhere than on the provider asked for.
    without_shape : inputs of which the file says no shape, not even how many dimensions.
    """

    def __init__(
        self,
        native: Any,
        provider: str,
        threads: int,
        label: str,
        *,
        source: str | bytes,
        io: str = "device",
        graphs: bool = False,
    ) -> None:
        self.inputs, self.outputs = _ports(native)
        self.provider, self.threads, self.label = provider, threads, label
        self.io, self.graphs = io, graphs
        self.warnings: tuple[str, ...] = ()
        self.without_shape: frozenset[str] = frozenset()
        self._source: str | bytes = source
        self._native: Any = native
        self._binding: Any = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model; its memory is free as soon as the calls that `bind` gave are dropped as well."""
        self._native = self._binding = None
        self._source = b""

    @functools.cached_property
    def ranges_by_call(self) -> bool:
        """Whether what a row gives depends on the other rows of its call, as in dynamic int8.

        Looked for in the file when it is first asked, and not when the file is opened, as opening is timed.
        """
        return finds_ranges_by_call(self._source)

    def run(self, feeds: Mapping[str, Value]) -> list[Array]:
        """All outputs for these inputs (name -> array). Raises ModelError where they do not fit the model.

        Not with CUDA graphs (UsageError): those replay what was bound, whatever is fed; `fetch` gives its outputs.
        """
        native, ready = self._open(), self._checked(feeds)
        if self.graphs:
            raise UsageError(
                f"{self.label} was opened with CUDA graphs, which replay only what was bound: use bind() and fetch(), "
                "or open it without graphs"
            )
        with self.explained(ready):
            return list(native.run(None, ready))

    def bind(self, feeds: Mapping[str, Value], *, try_once: bool = True) -> Call:
        """A call without arguments that runs the model once on these inputs, ready to be timed.

        io "device" : inputs are laid out on the provider's device here and outputs stay there, in the same memory at
                      every call; the call returns when they are complete. What is timed is the model.
        io "host"   : inputs are numpy arrays in host memory, outputs come back as new ones; on a GPU, both transfers
                      are inside the call. On the CPU there is nothing to transfer: it adds only the runtime's packing.
        try_once    : run it here, so that what does not fit shows as a ModelError. Otherwise nothing runs, the first
                      call is the caller's to time, and `explained` turns its errors into a ModelError.

        With CUDA graphs, recording falls into the first calls, and a session can be bound once (UsageError).
        The call keeps its inputs and the model alive; it gives no promise about what it returns.
        """
        native, ready = self._open(), self._checked(feeds)
        if self.graphs and self._binding is not None:
            raise UsageError(
                f"{self.label} is bound already, and a session with CUDA graphs replays one set of inputs; "
                "open it again"
            )
        names = [port.name for port in self.outputs]
        plain = all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in ready.values())
        host = self.io == "host" or not plain  # texts and sequences cannot be bound
        with self.explained(ready):
            if hasattr(native, "bound"):
                call: Call = native.bound(ready)
            elif host and not self.graphs:
                call = host_call(native, names, ready)
            else:
                device = provider_named(self.provider).memory
                call, self._binding = bound_call(load_runtime(), native, names, ready, device, transfers=host)
            if try_once:
                self._try(call)
        return call

    def fetch(self) -> list[Array]:
        """Copies of all outputs of the call that was bound last, as its last run left them.

        Raises UsageError where nothing is bound to memory of its own, as with io "host".
        """
        self._open()
        if self._binding is None:
            raise UsageError(f'{self.label}: nothing is bound that could be fetched; use bind() with io "device"')
        return [np.array(output) for output in self._binding.copy_outputs_to_cpu()]

    def end_profile(self) -> Path:
        """Write the runtime's profile and give its file; the session must have been opened with `profile`."""
        return Path(str(self._open().end_profiling()))

    @contextlib.contextmanager
    def explained(self, feeds: Mapping[str, Value]) -> Iterator[None]:
        """Turns the runtime's errors on a call into one sentence that shows both sides."""
        try:
            yield
        except runtime_errors() as error:
            given = ", ".join(f"{name} {described(value)}" for name, value in feeds.items())
            raise providers.run_problem(error, self.label, self.provider, given, self._wants()) from error

    def _try(self, call: Call) -> None:
        call()
        if not self.graphs:
            return
        before = output_addresses(self._binding)
        for _ in range(GRAPH_RUNS - 1):
            call()
        if output_addresses(self._binding) != before:
            raise ModelError(
                f"{self.label}: its outputs move in memory, so that a CUDA graph would write to the wrong place; "
                "measure it without CUDA graphs"
            )

    def _open(self) -> Any:
        if self._native is None:
            raise UsageError(f"the session of {self.label} is closed; open it again")
        return self._native

    def _checked(self, feeds: Mapping[str, Value]) -> dict[str, Value]:
        names = {port.name for port in self.inputs}
        for name in feeds:
            if name not in names:
                raise ModelError(
                    f"{self.label} has no input {name!r}{did_you_mean(name, names) or '.'} It takes {self._wants()}."
                )
        missing = sorted(names - set(feeds))
        if missing:
            raise ModelError(f"{self.label} was given no {', '.join(missing)}. It takes {self._wants()}.")
        # Not `ascontiguousarray`: it makes a scalar input a vector of one.
        return {n: a if isinstance(a, list) else np.asarray(a, order="C") for n, a in feeds.items()}

    def _wants(self) -> str:
        return ", ".join(f"{p.name} {shape_text(p.shape)} {p.dtype}" for p in self.inputs)


def judged_place(outputs: Sequence[Any]) -> int:
    """Which of a model's outputs is judged: the first of floats (scikit-learn gives labels before), else the first."""
    kinds = [getattr(output, "dtype", np.dtype(bool)).kind for output in outputs]
    return kinds.index("f") if "f" in kinds else 0


def open_session(
    model: str | Path | bytes,
    *,
    provider: str = "cpu",
    threads: int = 1,
    optimize: bool = True,
    io: str = "device",
    graphs: bool = False,
    profile: str | Path | None = None,
) -> Session:
    """Open an ONNX file (or the bytes of one).

    provider : "cpu", "cuda" or "tensorrt"; it is used or refused, never replaced by another one. Nodes it has no
               kernels for run elsewhere and are said in `Session.warnings`; a model without any it runs is refused.
    threads  : threads inside one operator, at least 1; operators run one after the other.
    optimize : False turns every graph optimisation off, as the saturation test of int8 models needs.
    io       : where inputs and outputs of bound calls are, "device" or "host"; see `Session.bind`.
    graphs   : replay bound calls as CUDA graphs; only for cuda and tensorrt.
    profile  : path prefix of the runtime's own profile (JSON), which `Session.end_profile` writes.

    Raises ArtifactError for a file that is missing, truncated or no ONNX model, ModelError for a model this runtime has
    no kernels or no memory for, NoRuntimeError where onnxruntime, the provider, its libraries or its GPU is not there,
    UsageError for a wrong argument.
    """
    _check_arguments(provider, threads, io, graphs)
    label = "the model" if isinstance(model, bytes) else str(model)
    source = model if isinstance(model, bytes) else str(_checked_file(Path(model)))
    if not source:
        raise ArtifactError("the model is empty (0 bytes); an ONNX model was expected")
    runtime = load_runtime()
    missing = providers.require(runtime, provider)
    opens = provider_named(provider).opens
    if opens is not None:
        return _of_own_runtime(opens, source, provider, threads, label)
    options = _options(runtime, threads, optimize, profile)
    wanted = provider_named(provider)
    if wanted.native != FALLBACK:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    native = _native_session(runtime, source, options, provider, label, graphs)
    if native.get_providers()[0] != wanted.native:
        raise NoRuntimeError(providers.fallen_back(provider, native.get_providers()[0], missing))
    session = Session(native, provider, threads, label, source=source, io=io, graphs=graphs)
    if not all(port.shape for port in session.inputs):  # a scalar, or of no known rank
        session.without_shape = inputs_without_shape(source)
    session.warnings = tuple(providers.misplaced(native, provider, label)) if wanted.native != FALLBACK else ()
    return session


def _of_own_runtime(
    opens: Callable[[str | bytes, int], Native], source: str | bytes, provider: str, threads: int, label: str
) -> Session:
    """A session of a runtime that is none of ONNX Runtime's providers."""
    try:
        native = opens(source, threads)
    except ImportError as error:
        raise NoRuntimeError(providers.refused(provider, f"it cannot be imported ({error})")) from error
    except runtime_errors() as error:
        raise ModelError(f"{label}: {provider} cannot open it: {' '.join(str(error).split())[:400]}") from error
    session = Session(native, provider, threads, label, source=source, io="host")
    session.warnings = (f"{label}: {native.said}",)
    return session


def require_provider(provider: str) -> None:
    """Raise NoRuntimeError, as `open_session` would, where onnxruntime or the provider is not there."""
    providers.require(load_runtime(), provider)


def _check_arguments(provider: str, threads: int, io: str, graphs: bool) -> None:
    memory = provider_named(provider).memory
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    if io not in IO:
        raise UsageError(f"unknown io {io!r}{did_you_mean(io, IO) or '.'} It is {' or '.join(IO)}.")
    if graphs and memory != "cuda":
        raise UsageError(
            f"CUDA graphs need provider cuda or tensorrt, got {provider}; choose one of them, or leave graphs out"
        )


def _options(runtime: Any, threads: int, optimize: bool, profile: str | Path | None) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if profile is not None:
        Path(profile).parent.mkdir(parents=True, exist_ok=True)
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return options


def _native_session(runtime: Any, source: str | bytes, options: Any, provider: str, label: str, graphs: bool) -> Any:
    runtime.set_default_logger_severity(4)
    try:
        chain = provider_named(provider).ask(runtime, source, graphs)
        # Without enable_fallback=0 the runtime answers a failing provider by a session on the CPU.
        native = runtime.InferenceSession(source, options, providers=chain, enable_fallback=0)
        _ports(native)  # names that are no text, in a damaged file, show only here
    except runtime_errors() as error:
        raise providers.load_problem(error, label, provider, runtime) from error
    return native


def _checked_file(path: Path) -> Path:
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder; an ONNX file was expected, as {path / 'model.onnx'}")
    if not path.exists():
        siblings = [p.name for p in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
        raise ArtifactError(f"there is no file {path}{did_you_mean(path.name, siblings)}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    if empty:
        raise ArtifactError(f"{path} is empty (0 bytes); an ONNX model was expected")
    return path


def _ports(native: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a native session."""
    return tuple(map(_port, native.get_inputs())), tuple(map(_port, native.get_outputs()))


def _port(node: Any) -> Port:
    return Port(str(node.name), tuple(node.shape or ()), dtype_name(str(node.type)))


def dtype_name(text: str) -> str:
    """numpy's name for the runtime's "tensor(float)"; the text as it is for what numpy has no type for."""
    return _DTYPES.get(text.removeprefix("tensor(").removesuffix(")"), text)


def shape_text(shape: tuple[int | str | None, ...]) -> str:
    """`[batch, 3, ?]`."""
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def described(value: Any) -> str:
    """`[1, 3] float32` of an array, `a list of 4` of a sequence."""
    return f"{list(value.shape)} {value.dtype}" if isinstance(value, np.ndarray) else f"a list of {len(value)}"
