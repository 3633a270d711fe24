"""Where the time of one call goes: per operator and per layer, by ONNX Runtime's own profiler.

The profiler writes down every kernel in whole microseconds, and what it does for that falls partly into the kernel's
own time: 1 to 3 us each, which is more than many kernels of a small model take. So it is measured, by a chain of
operators that do next to nothing, and taken off; and the same calls are timed without the profiler, in turns with it,
so that kernels and what lies outside them add up to the latency that counts.

One model opened twice, without and with ONNX Runtime's profiler, and what was timed of both.
"""

from __future__ import annotations

import contextlib
import copy
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import MachineError, UsageError
from evaluate.core.execution_providers import provider_named
from evaluate.profiling.graph import chain_model, read_graph
from evaluate.profiling.node_names import Names
from evaluate.profiling.trace import Cost, Timed, event_cost, parse_trace, summed
from evaluate.runtime.providers import load_runtime, runtime_errors
from evaluate.runtime.session import Session, Value, open_session

CHAIN = 32


class Subject(NamedTuple):
    """One model to profile: a name to call it by, its file or bytes, and its inputs (name -> array)."""

    name: str
    model: str | Path | bytes
    feeds: Mapping[str, Value]


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


Array = NDArray[Any]
Call = Callable[[], object]
Clock = Callable[[], float]
Status = Callable[[str, float, float], None]

ROUNDS = 20
# What is left of the time is for opening sessions and reading traces.
MEASURING = 0.7
# The runtime writes some 600 bytes for each: reading them back takes about a second.
MOST_EVENTS = 15_000
MOST_CALLS = 2000
WARM_UP_CALLS = 20
CHAIN_CALLS = 8


def profile(
    path_or_bytes: str | Path | bytes,
    feeds: Mapping[str, Array],
    *,
    provider: str = "cpu",
    threads: int = 1,
    seconds: float = 2.0,
    min_calls: int = 20,
    clock: Clock = time.perf_counter,
    name: str = "",
) -> dict[str, Any]:
    """Which operators and layers of one model take the time; see `profiles` for what the dict holds."""
    label = name or ("the model" if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).stem)
    (found,) = profiles(
        [Subject(label, path_or_bytes, feeds)],
        provider=provider,
        threads=threads,
        seconds=seconds,
        min_calls=min_calls,
        clock=clock,
    )
    return found


def profiles(
    models: Sequence[Subject],
    *,
    provider: str = "cpu",
    threads: int = 1,
    seconds: float = 2.0,
    min_calls: int = 20,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    status: Status | None = None,
) -> list[dict[str, Any]]:
    """Profile several models in shuffled, interleaved rounds, so that they can be set beside each other.

    seconds   : for each model, half of it with the profiler; `min_calls` profiled calls are made whatever they take.
    Gives a dict a model, all times in milliseconds of one call, all shares of kernels_ms:
      name, provider, threads, batch, calls (profiled ones), rounds, run (an id; profiles that share it took turns),
      call_ms (median without the profiler), call_error_ms, profiled_ms, overhead (profiled_ms / call_ms),
      event_ms (the profiler's own time inside that of a kernel, taken off), kernels_ms + outside_ms = call_ms,
      operators [{op, ms, share, count, error_ms}], longest first,
      nodes [{node, op, layer, ms, share, shape, provider, dtype, helper, count, iqr_ms, error_ms}] in running order,
      layers [{layer, ms, share, ops {op: ms}, parts, weights, count, error_ms}] in running order, warnings.
    A time is the mean of the middle half of all calls, since the runtime's clock counts whole microseconds; iqr_ms is
    their interquartile range, error_ms the standard error from the spread over rounds. `shape` is that of the first
    output in the layout that runs. On a GPU, times are the GPU's own where this onnxruntime can read them; `warnings`
    says where it cannot. Raises what `open_session` and `Session.bind` raise, MachineError where no trace could be
    written, UsageError for a wrong argument.
    """
    if not models or not seconds > 0 or min_calls < 1:
        raise UsageError(
            f"a profile needs a model, seconds above 0 and at least 1 call, got {len(models)} models, {seconds} and "
            f"{min_calls}"
        )
    with _folder() as folder, contextlib.ExitStack() as stack:
        candidates = [
            ProfiledModel(subject, provider, threads, folder / f"{place}", stack)
            for place, subject in enumerate([*models, *(chains() if provider_named(provider).on_host else ())])
        ]
        _measure(candidates, len(models), seconds, min_calls, seed, clock, status or _silent)
        timed = [candidate.timed() for candidate in candidates]
    cost = event_cost(timed[-2], timed[-1], CHAIN) if len(timed) > len(models) else Cost(0.0, 0.0)
    run = uuid.uuid4().hex
    return [
        {**candidate.about(), "run": run, **summed(one, cost, candidate.names)}
        for candidate, one in zip(candidates[: len(models)], timed)
    ]


def _measure(
    candidates: Sequence[ProfiledModel],
    models: int,
    seconds: float,
    min_calls: int,
    seed: int,
    clock: Clock,
    status: Status,
) -> None:
    """Fill the candidates' times. On a GPU all calls without the profiler come first: it slows those beside it down."""
    apart = not provider_named(candidates[0].session.provider).on_host
    for kinds in (("plain",), ("profiled",)) if apart else (("plain", "profiled"),):
        turns = [(candidate, kind) for candidate in candidates for kind in kinds]
        calls = {
            (id(candidate), kind): candidate.plain if kind == "plain" else candidate.profiled()
            for candidate, kind in turns
        }
        for place, candidate in enumerate(candidates):
            status(f"warming up {candidate.subject.name}", 0, ROUNDS)
            one = max(_warmed(calls[id(candidate), kind], clock, 0.05 * seconds) for kind in kinds)
            if kinds[0] == "plain":
                candidate.calls = _block(one, seconds, min_calls, candidate) if place < models else CHAIN_CALLS
                candidate.lead = 1 if candidate.calls > 1 else 0
        _rounds(turns, calls, random.Random(seed), clock, status)


def _warmed(call: Call, clock: Clock, longest: float) -> float:
    """Seconds of one call, after some calls or `longest` seconds."""
    start, taken = clock(), list[float]()
    while len(taken) < 2 or (len(taken) < WARM_UP_CALLS and clock() - start < longest):
        taken.append(_one(call, clock))
    return float(np.median(taken[len(taken) // 2 :]))


def _block(one_call: float, seconds: float, min_calls: int, candidate: ProfiledModel) -> int:
    """Calls in one turn: both turns of a round, with the call that leads each, fit into the model's time."""
    fitting = min(MEASURING * seconds / 2 / max(one_call, 1e-6), MOST_CALLS, MOST_EVENTS / candidate.kernels()) / ROUNDS
    return max(-(-min_calls // ROUNDS), int(fitting) - 1)


def _rounds(
    turns: Sequence[tuple[ProfiledModel, str]],
    calls: Mapping[tuple[int, str], Call],
    shuffle: random.Random,
    clock: Clock,
    status: Status,
) -> None:
    order = list(turns)
    for done in range(ROUNDS):
        shuffle.shuffle(order)
        for candidate, kind in order:
            call = calls[id(candidate), kind]
            for _ in range(candidate.lead):
                call()
            candidate.times[kind].append([_one(call, clock) for _ in range(candidate.calls)])
        status("profiling", done + 1, ROUNDS)


def _one(call: Call, clock: Clock) -> float:
    start = clock()
    call()
    return clock() - start


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for traces that is gone afterwards, whatever happens."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="leanfit-profile-")
    except OSError as error:
        raise MachineError(
            f"there is no place for onnxruntime's profile: {error.strerror or error}; point TMPDIR to a folder that "
            "can be written"
        ) from error
    with folder as path:
        yield Path(path)


def _silent(message: str, done: float, total: float) -> None:
    """The status callback of whoever gave none."""
