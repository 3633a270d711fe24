"""One model opened twice, without and with ONNX Runtime's profiler, and what was timed of both."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import MachineError
from evaluate.profiling.graph import chain_model, read_graph
from evaluate.profiling.node_names import Names
from evaluate.profiling.sums import Timed
from evaluate.profiling.trace import parse_trace
from evaluate.runtime.providers import load_runtime, runtime_errors
from evaluate.runtime.session import Session, open_session

Array = NDArray[Any]
Call = Callable[[], object]
CHAIN = 32


class Subject(NamedTuple):
    """One model to profile: a name to call it by, its file or bytes, and its inputs (name -> array)."""

    name: str
    model: str | Path | bytes
    feeds: Mapping[str, Array]


class ProfiledModel:
    """One model opened twice, without and with the profiler, and what was timed of both."""

    def __init__(
        self, subject: Subject, provider: str, threads: int, folder: Path, stack: contextlib.ExitStack
    ) -> None:
        self.subject, self.folder = subject, folder
        self.session = stack.enter_context(open_session(subject.model, provider=provider, threads=threads))
        self.plain = self.session.bind(subject.feeds)
        self.calls, self.lead = 1, 0
        self.times: dict[str, list[list[float]]] = {"plain": [], "profiled": []}
        self.graph = read_graph(subject.model)
        self.names = Names(None, None)
        self._stack = stack
        self._profiled: Call | None = None
        self._native: Any = None

    def profiled(self) -> Call:
        """The call with the profiler on; opened at first use, since a GPU's profiler slows all sessions down."""
        if self._profiled is None:
            self.folder.mkdir()
            second = _profiling(self.session, self.subject.model, self.folder)
            self._native = second._native
            self._stack.callback(self.end)
            self._profiled = second.bind(self.subject.feeds)
        return self._profiled

    def kernels(self) -> int:
        """About how many kernels a call has: of the graph that runs, or, before that is known, of the file's."""
        graph = read_graph(self.folder / "graph.onnx") or self.graph
        return max(1, len(graph.nodes)) if graph else 100

    def end(self) -> Path | None:
        """Close the profiler; gives its file, None where it is closed already."""
        native, self._native, self._profiled = self._native, None, None
        return Path(native.end_profiling()) if native else None

    def timed(self) -> Timed:
        """What was measured, the runtime's trace among it."""
        self.names = Names(self.graph, read_graph(self.folder / "graph.onnx"))
        file = self.end()
        rows = len(self.times["profiled"])
        text = file.read_text(encoding="utf-8", errors="replace") if file and file.exists() else ""
        trace = parse_trace(text, rows * (self.calls + self.lead))
        if trace is None or len(trace.calls_ms) < rows * (self.calls + self.lead):
            raise MachineError(
                f"onnxruntime's profile of {self.session.label} is not complete in {self.folder.parent}: free some "
                "space there, or point TMPDIR to another place, and run the same command again"
            )
        # The call that leads a turn finds another model's data in the caches.
        ms = trace.ms.reshape(rows, self.calls + self.lead, -1)[:, self.lead :]
        return Timed(np.array(self.times["plain"]) * 1e3, np.array(self.times["profiled"]) * 1e3, trace, ms)

    def about(self) -> dict[str, Any]:
        """Under which conditions this model ran."""
        shapes = [np.shape(array) for array in self.subject.feeds.values()]
        batch = shapes[0][0] if shapes and shapes[0] else 1
        session = self.session
        return {"name": self.subject.name, "provider": session.provider, "threads": session.threads, "batch": batch}


def chains() -> list[Subject]:
    """What the profiler's cost is measured on: a chain of operators that do next to nothing, and one alone."""
    feeds = {"x": np.zeros(1, np.float32)}
    return [Subject("the profiler", chain_model(CHAIN), feeds), Subject("the profiler", chain_model(1), feeds)]


def _profiling(plain: Session, model: str | Path | bytes, folder: Path) -> Session:
    """The same as an open session, with its very options and the profiler on, that also writes down its graph.

    A graph that cannot be written (compiled nodes, more than 2 GB) is done without: names then lead back less far.
    """
    native, source = plain._native, model if isinstance(model, bytes) else str(model)
    options = native.get_session_options()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "trace")
    chain = [(name, native.get_provider_options().get(name, {})) for name in native.get_providers()]
    second = copy.copy(plain)
    try:
        options.optimized_model_filepath = str(folder / "graph.onnx")
        second._native = load_runtime().InferenceSession(source, options, providers=chain, enable_fallback=0)
    except runtime_errors():
        options.optimized_model_filepath = ""
        second._native = load_runtime().InferenceSession(source, options, providers=chain, enable_fallback=0)
    return second
