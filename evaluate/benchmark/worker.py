"""The process that opens and runs models for the benchmark; `supervise` starts it and reads its events."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmark.first_call import bound_in_turn, first_call
from evaluate.benchmark.latency import Call, Opener, SessionRun, measure_conditions
from evaluate.benchmark.model_inputs import (
    Feeds,
    Wanted,
    batch_of,
    calls_for,
    fixed_batch,
    free_names,
    input_warnings,
    rows_for,
    seeded_inputs,
    stored_calls,
)
from evaluate.benchmark.supervise import Beacon
from evaluate.core.errors import LeanfitError, ModelError, NoRuntimeError
from evaluate.core.execution_providers import provider_named
from evaluate.runtime.providers import load_runtime, runtime_errors
from evaluate.runtime.session import Port, Session, judged_place, open_session
from evaluate.runtime.worker_process import Message, Parent

Emit = Callable[[Message], None]
Job = Mapping[str, Any]
PADDING = 1 << 20
MOST_KEPT = 10**7  # values of an output, to compare with another runtime's


class _CandidateFailed(Exception):
    """A candidate cannot be measured: `error` says why."""

    def __init__(self, candidate: str, error: LeanfitError, kind: str) -> None:
        super().__init__(str(error))
        self.candidate, self.error, self.kind = candidate, error, kind


def main() -> None:
    """Read a job, do it, say so."""
    parent = Parent()
    job = parent.receive()
    try:
        JOBS[job["kind"]](job, Beacon(job["beacon"], job["candidates"]), parent.send)
    except _CandidateFailed as failed:
        failure = {"candidate": failed.candidate, "kind": failed.kind, "reason": str(failed.error)}
        parent.send({"failed": {**failure, "exit_code": failed.error.exit_code}})
    except Exception:  # noqa: BLE001  (the supervisor raises it again)
        parent.send({"bug": traceback.format_exc()})
    parent.send({"done": True})


def _real_inputs(job: Job) -> dict[str, NDArray[Any]] | None:
    if not job.get("inputs"):
        return None
    with np.load(job["inputs"], allow_pickle=False) as stored:
        return {name: stored[f"arr_{place}"] for place, name in enumerate(job["input_names"])}


def _open(job: Job, candidate: str, condition: Job) -> Session:
    """A session of this candidate in this condition, opened as its probe found that it runs."""
    model = job["models"][candidate]
    how = {"io": job["io"], "graphs": job["graphs"], **{key: model[key] for key in ("io",) if key in model}}
    return open_session(model["file"], provider=model["provider"], threads=condition["threads"], **how)


def _wanted(job: Job) -> Wanted:
    """What was said of inputs."""
    given = stored_calls(job["given"], job["places"]) if job.get("places") else ()
    return Wanted(job["shapes"], job["dims"], given, job["source"])


def _feeds(job: Job, session: Session, candidate: str, batch: int, real: Any, zeros: bool | None = None) -> list[Feeds]:
    """What is fed call by call: samples, what was given, or seeded values (zeros: None for what the probe found)."""
    if real is not None:
        return [rows_for(session, batch, real)]
    found = job["models"][candidate].get("zeros", False) if zeros is None else zeros
    return calls_for(session, batch, job["seed"], _wanted(job), zeros=found)


def _probe(job: Job, beacon: Beacon, emit: Emit) -> None:
    """One model alone in a fresh process: how does it run, what does it answer, what memory does it take?"""
    from evaluate.hardware.memory import peak_rss_mb, rss_mb

    (candidate,) = job["candidates"]
    condition, real = job["conditions"][0], _real_inputs(job)
    with _failing(candidate):
        load_runtime()
        bare = rss_mb()
        beacon.show(candidate, "opening")
        session = _open(job, candidate, condition)
        beacon.show(candidate, "first call")
        feeds_of = functools.partial(_feeds, job, session, candidate, condition["batch"], real)
        ran = first_call(session, feeds_of, set() if real is not None else seeded_inputs(session, _wanted(job)))
        job["models"][candidate]["zeros"] = ran.zeros
        memory = _memory(job["models"][candidate]["provider"], bare, peak_rss_mb())
        beacon.show(candidate, "checking its outputs")
        plain = _open({**job, "graphs": False}, candidate, condition) if job["graphs"] else session
        outputs, unusual = _outputs(plain, ran.feeds[0], real, condition["batch"])
        shown, batches = Path(job["models"][candidate]["shown"]), [c["batch"] for c in job["conditions"]]
        fed = [_feeds(job, session, candidate, batch, real)[0] for batch in batches]
        found = {
            "inputs": [_described(each) for each in fed],
            "memory": memory,
            "batches": [batch_of(session, each) for each in fed],
            "warnings": [
                [*input_warnings(shown, session, each, batch), *session.warnings, *ran.said, *unusual]
                for batch, each in zip(batches, fed)
            ],
            "how": {"zeros": ran.zeros, **({"io": "host"} if ran.unbound else {})},
            "calls": len(ran.feeds),
            "names": free_names(session),
        }
    np.save(job["outputs"], outputs)
    emit({"probe": found})


def _described(feeds: Feeds) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": list(a.shape), "dtype": str(a.dtype)}
        if isinstance(a, np.ndarray)
        else {"name": name, "shape": [len(a)], "dtype": "sequence"}
        for name, a in feeds.items()
    ]


def _outputs(session: Session, feeds: Feeds, real: Any, batch: int) -> tuple[NDArray[Any], list[str]]:
    """The judged output (n, ...) on all n real inputs, which has to be finite to be scored; that of one call without.

    Then what is to be said of values that are not finite: a mask or a logarithm gives them on purpose.
    """
    if real is None:
        outputs = session.run(feeds)
        judged = outputs[judged_place(outputs)]
        kept = isinstance(judged, np.ndarray) and judged.dtype.kind == "f" and judged.size <= MOST_KEPT
        return judged if kept else np.empty(0), _not_finite(session, session.outputs, outputs)
    size, total = fixed_batch(session) or batch, len(next(iter(real.values())))
    found, unusual = [], list[str]()
    for start in range(0, total, size):
        rows = {name: array[start : start + size] for name, array in real.items()}
        count = len(next(iter(rows.values())))
        full = {name: np.resize(array, (size, *array.shape[1:])) for name, array in rows.items()}
        outputs = session.run(full)
        place, ports = judged_place(outputs), list(session.outputs)
        judged, port = outputs.pop(place), ports.pop(place)
        for said in _not_finite(session, [port], [judged]):
            raise _NotFinite(f"{said}, on the samples: it cannot be scored")
        unusual = unusual or _not_finite(session, ports, outputs)
        found.append(_rows(session, port, judged, size)[:count])
    return np.concatenate(found), unusual


def _not_finite(session: Session, ports: Sequence[Port], outputs: Sequence[Any]) -> list[str]:
    """A sentence for each output with NaN or infinity; what is no array of floats (text, a sequence) has neither."""
    said = []
    for port, array in zip(ports, outputs):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        counts = {"NaN": np.isnan(array), "-inf": np.isneginf(array), "inf": np.isposinf(array)}
        told = " and ".join(f"{int(found.sum())} {name}" for name, found in counts.items() if found.any())
        if told:
            all_nan = array.size and np.isnan(array).all()
            more = ": look at the model, or give it inputs that it is made for" if all_nan else ""
            said.append(f"{session.label}: of {array.size} values of output {port.name!r} there are {told}{more}")
    return said


def _rows(session: Session, port: Port, output: Any, size: int) -> NDArray[Any]:
    """The judged output of a call on `size` samples. Raises ModelError where it does not hold numbers for each."""
    if isinstance(output, np.ndarray) and output.dtype.kind in "fiub" and output.ndim and len(output) == size:
        return output
    got = f"{list(output.shape)} of {output.dtype}" if isinstance(output, np.ndarray) else f"a {type(output).__name__}"
    raise ModelError(
        f"{session.label}: its output {port.name!r} has to hold numbers for each of {size} "
        f"samples to be scored, and is {got}; measure it without samples"
    )


class _NotFinite(ModelError):
    """Outputs that are NaN or infinite."""


def _memory(provider: str, bare: Any, peak: Any) -> dict[str, Any]:
    from evaluate.hardware.memory import gpu_memory_mb

    gpu, why = (None, "") if provider_named(provider).on_host else gpu_memory_mb(os.getpid())
    reasons = [text for text in (None if peak is not None else "peak memory cannot be read here", why) if text]
    model = None if peak is None or bare is None else max(0.0, peak - bare)
    return {"peak_rss_mb": peak, "model_mb": model, "gpu_mb": gpu, "why": "; ".join(reasons) or None}


@contextlib.contextmanager
def _failing(candidate: str) -> Iterator[None]:
    """Turns what a candidate raises into its failure."""
    try:
        yield
    except MemoryError as error:
        raise _CandidateFailed(candidate, ModelError("out of memory; take a smaller batch"), "refused") from error
    except LeanfitError as error:
        kinds = {_NotFinite: "not finite", NoRuntimeError: "missing provider"}
        raise _CandidateFailed(candidate, error, kinds.get(type(error), "refused")) from error


def _latency(job: Job, beacon: Beacon, emit: Emit) -> None:
    """All candidates of all conditions, interleaved."""
    from evaluate.hardware.energy import Meter, open_meter
    from evaluate.hardware.monitor import Watch

    meter = open_meter(job["provider"]) if job["energy"] else None
    if meter is not None and not provider_named(job["provider"]).on_host:
        # A turn lasts 5 ms. RAPL counts every millisecond, so that many turns add up; NVML's counter moves some ten
        # times a second, and would give every candidate the mean of all.
        meter = Meter(None, None, "the GPU's counter is too slow to tell models apart that take turns of milliseconds")
    watch = Watch()
    real = _real_inputs(job)
    openers = [
        {candidate: _opener(job, candidate, condition, real) for candidate in job["candidates"]}
        for condition in job["conditions"]
    ]

    def status(message: str, done: float, total: float) -> None:
        if message == "timing":  # after the pilot, so that a clock that wakes up is not taken for one that swings
            watch.mark()
        emit({"status": [message, done, total]})

    def each(index: int, session_run: SessionRun) -> None:
        emit({"session_run": {"condition": index, **_plain(session_run)}})

    try:
        timings = measure_conditions(
            openers,
            seconds=max(job["least"], job["until"] - time.time()),
            seed=job["seed"],
            meter=meter.read if meter is not None and meter.source else None,
            status=status,
            notice=beacon.show,
            each=each,
        )
    except runtime_errors() as error:
        _, candidate, doing = beacon.read()
        raise _CandidateFailed(
            str(candidate), ModelError(f"{candidate} failed while {doing}: {error}"), "refused"
        ) from error
    summary = watch.summary()
    plans = [timing.candidates.items() for timing in timings]
    emit({
        "candidates": [{name: {**vars(plan), "calls": plan.calls} for name, plan in items} for items in plans],
        "machine": summary,
        "machine_warnings": watch.warnings(summary),
        "opened_once": timings[0].opened_once,
        "energy": {"source": meter.source, "why": meter.why} if meter else {"source": None, "why": "not asked for"},
    })  # fmt: skip


def _opener(job: Job, candidate: str, condition: Job, real: Mapping[str, NDArray[Any]] | None) -> Opener:
    rng = random.Random(f"{job['seed']} {candidate} {condition}")
    feeds, kept = list[Feeds](), list[Any]()

    def open_candidate() -> Call:
        # What lies where in memory differs from session run to session run, so that no candidate has the luckier place
        # throughout.
        padding = np.empty(rng.randrange(1, PADDING), np.uint8)
        with _failing(candidate):
            session = _open(job, candidate, condition)
            if not feeds:
                feeds.extend(_feeds(job, session, candidate, condition["batch"], real))
            call = bound_in_turn(session, feeds)
        kept[:] = [padding]
        return call

    return open_candidate


def _plain(session_run: SessionRun) -> dict[str, Any]:
    return {
        "samples": {candidate: np.round(table, 10).tolist() for candidate, table in session_run.samples.items()},
        "create": session_run.create,
        "first": session_run.first,
        "warm_up": session_run.warm_up,
        "joules": session_run.joules,
    }


def _profile(job: Job, beacon: Beacon, emit: Emit) -> None:
    """Operators and layers of all models, interleaved, in the first condition."""
    from evaluate.profiling.profile import Subject, profiles

    condition, real, subjects = job["conditions"][0], _real_inputs(job), []
    for candidate in job["candidates"]:
        beacon.show(candidate, "profiling")
        with _failing(candidate), _open({**job, "graphs": False}, candidate, condition) as session:
            feeds = _feeds(job, session, candidate, condition["batch"], real)[0]
        subjects.append(Subject(candidate, job["models"][candidate]["file"], feeds))
    found = profiles(
        subjects,
        provider=job["provider"],
        threads=condition["threads"],
        seconds=job["seconds"],
        seed=job["seed"],
        status=lambda message, done, total: emit({"status": [message, done, total]}),
    )
    emit({"profiles": found})


def _scenario(job: Job, beacon: Beacon, emit: Emit) -> None:
    """One model under one of MLPerf's scenarios."""
    from evaluate.load_test.rate_search import highest_rate
    from evaluate.load_test.scenarios import offline, single_stream

    (candidate,), condition, asked, real = job["candidates"], job["conditions"][0], job["scenario"], _real_inputs(job)
    limits = {"seconds": job["seconds"], "seed": job["seed"]}

    def status(message: str, done: float, total: float) -> None:
        beacon.show(candidate, "serving requests")
        emit({"status": [f"{candidate}: {message}", done, total]})

    with _failing(candidate):
        beacon.show(candidate, "opening")
        calls = {}
        for batch in asked["batches"]:
            session = _open(job, candidate, condition)
            feeds = _feeds(job, session, candidate, batch, real)
            with session.explained(feeds[0]):
                calls[batch_of(session, feeds[0])] = bound_in_turn(session, feeds)
        beacon.show(candidate, "serving requests")
        first = next(iter(calls.values()))
        if asked["name"] == "offline":
            found = offline(calls, **limits)
        elif asked["name"] == "single-stream":
            found = single_stream(first, **limits)
        else:
            bound = {"bound_ms": 1e3 * asked["bound"], "percentile": asked["percentile"]}
            found = highest_rate(first, **bound, **limits, status=status)
    emit({"scenario": found})


JOBS: dict[str, Callable[[Job, Beacon, Emit], None]] = {
    "probe": _probe,
    "latency": _latency,
    "profile": _profile,
    "scenario": _scenario,
}
