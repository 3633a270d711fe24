"""Compare ONNX models on this machine: each is tried in a process of its own, then all are timed interleaved.

paths -> candidates -> probes (does it run? memory, outputs) -> one worker with all candidates -> samples -> a `bench`
Record.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.benchmark.bench_record import Found, Timed, make_record
from evaluate.benchmark.bench_steps import Steps
from evaluate.benchmark.candidates import checked, find_candidates
from evaluate.benchmark.latency import LATE
from evaluate.benchmark.model_inputs import Wanted, wanted_of
from evaluate.core.errors import UsageError, did_you_mean
from evaluate.metrics.samples import Samples
from evaluate.runtime.providers import load_runtime

Status = Callable[[str, float, float], None]
LEAST_SHARE = 0.5  # of the budget is kept for timing, however long the probes took
FINISH_SECONDS = 0.02  # for the statistics of one model in one condition
PROFILE_SHARE, PROFILE_SECONDS = 0.15, 2.0  # of the budget for the profile of each model, at most
PROFILES_SHARE = 0.4  # for those of all models, at most
SCENARIOS = ("single-stream", "offline", "server")
OFFLINE_BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found. `record` is the whole of it, JSON-able (docs/benchmarking.md names its entries)."""

    record: dict[str, Any]

    @property
    def results(self) -> list[dict[str, Any]]:
        """One entry per model and condition."""
        return list(self.record["results"])

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Candidates that could not be measured: name, path, kind, reason, exit_code."""
        return list(self.record["failed"])

    @property
    def exit_code(self) -> int:
        """0, or the exit code of the first candidate that failed."""
        return int(self.failed[0]["exit_code"]) if self.failed else 0

    def table(self, width: int | None = None) -> str:
        """The comparison as text."""
        from evaluate.report.text.bench_table import bench_table

        return bench_table(self.record, width)

    def __repr__(self) -> str:
        from evaluate.core.records import BenchRecord
        from evaluate.report.messages.bench_messages import bench_headline

        return f"<Comparison: {bench_headline(BenchRecord.of(self.record))}>"

    def _repr_html_(self) -> str:
        from evaluate.report.html.notebook import framed

        with tempfile.TemporaryDirectory() as folder:
            return framed(self.page(Path(folder) / "bench.html"), repr(self))

    def page(self, path: str | Path) -> Path:
        """Write the comparison as one HTML page; needs matplotlib."""
        from evaluate.report.html.pages import write_page

        return write_page([self.record], path)


@dataclass(frozen=True)
class Measurement:
    """What `measure` found about one model in one condition."""

    record: dict[str, Any]

    @property
    def latency(self) -> dict[str, Any]:
        """Median of one call with its interval, and the tails the samples carry (`Latency` of summaries.py)."""
        return dict(self.record["results"][0]["latency"])

    @property
    def noise_floor(self) -> float:
        """The smallest relative difference this run could have claimed."""
        return float(self.record["results"][0]["noise_floor"])

    def table(self, width: int | None = None) -> str:
        """The measurement as text."""
        return Comparison(self.record).table(width)


def compare(
    paths: str | Path | Sequence[str | Path],
    baseline: str | Path | None = None,
    *,
    provider: str = "cpu",
    io: str = "device",
    graphs: bool = False,
    threads: int | Sequence[int] = 1,
    batch: int | Sequence[int] = 1,
    seconds: float = 20.0,
    seed: int = 0,
    samples: Samples | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    names: Sequence[str] | None = None,
    energy: bool = True,
    profile: bool = False,
    patience: float = 60.0,
    status: Status | None = None,
) -> Comparison:
    """Latency, speed-up, memory and size of every model, and accuracy where samples are given.

    paths    : one or several ONNX files, or folders that hold a `model.onnx`; `PATH@cuda` is measured on that provider.
    baseline : one of them, or another one (it is then measured too and comes first); where not given the first that
               runs.
    provider : "cpu", "cuda" or "tensorrt"; used or refused, never replaced.
    io       : "device" leaves inputs and outputs on the provider's device, "host" times their transfer as well.
    threads, batch : one or several; every combination is a condition, and conditions alternate within the one run.
    seconds  : budget of everything, kept within 5 % unless trying the models takes more than half of it, one fails
               while it is timed, or eight session runs of one round take longer.
    samples  : inputs to time and to score on; seeded random inputs where not given.
    shapes   : input -> its shape in one call; dims : free dimension, by its name over all inputs -> its size.
    inputs   : values by input, or a file of them (.npz, .npy, .json); several calls are made in turn.
    names    : names of the models, in the order of `paths`.
    profile  : also say which operators and layers take the time, in the first condition.
    patience : seconds without any sign of life after which a candidate counts as hung.

    A candidate that crashes, hangs, gives values that are not finite, or cannot be run is named in `failed`, and the
    others are measured. Raises ArtifactError for a path where no file is, UsageError for a wrong argument, and what the
    first candidate failed with (or ModelError) where none is left.
    """
    begun, paths = time.perf_counter(), [paths] if isinstance(paths, (str, Path)) else paths
    settings = checked(provider, io, graphs, threads, batch, seconds, seed, energy, patience, len(paths))
    wanted = _wanted(shapes, dims, inputs, samples)
    load_runtime()
    candidates, base = find_candidates(paths, baseline, provider, names)
    with tempfile.TemporaryDirectory(prefix="leanfit-bench-") as folder:
        steps = Steps(settings, Path(folder), samples, wanted, status or _silent)
        alive = steps.probe(candidates)
        tried = time.perf_counter() - begun
        for_profile = _for_profiles(seconds, len(alive)) if profile else 0.0
        taken = time.perf_counter() - begun + for_profile + FINISH_SECONDS * len(alive) * len(settings.conditions)
        alive, timed = steps.time(alive, base, max(LEAST_SHARE * seconds, seconds - taken))
        took = time.perf_counter() - begun
        if took > LATE * seconds + 1:
            steps.warnings.append(
                f"it took {took:.0f} s where {seconds:g} were asked for: {tried:.0f} s to try each model by itself, "
                f"{took - tried:.0f} s to time them, which takes 8 sittings of one call at least"
            )
        if baseline is None and len(alive) > 1 and all(candidate.name != base for candidate in alive):
            steps.warnings.append(
                f"{base}, the first, could not be measured: speed-up is against {alive[0].name}, the next one"
            )
            base = alive[0].name
        more = {"profiles": steps.profile(alive, for_profile)} if profile else {}
    found = Found(settings, candidates, alive, base, timed, steps.failed, steps.warnings, steps.samples, wanted)
    return Comparison(make_record(found, begun, **more))


def _wanted(
    shapes: Mapping[str, Sequence[int]] | None, dims: Mapping[str, int] | None, inputs: Any, samples: Samples | None
) -> Wanted:
    if samples is not None and (shapes or dims or inputs is not None):
        raise UsageError("samples say all inputs: give no shapes, dims or inputs beside them")
    return wanted_of(shapes, dims, inputs)


def _for_profiles(seconds: float, models: int) -> float:
    """Seconds for the profiles of all models."""
    return min(PROFILES_SHARE * seconds, models * min(PROFILE_SECONDS, PROFILE_SHARE * seconds))


def serve(
    paths: str | Path | Sequence[str | Path],
    scenario: str,
    *,
    bound: str | float = "",
    percentile: float = 99.0,
    provider: str = "cpu",
    io: str = "device",
    graphs: bool = False,
    threads: int | Sequence[int] = 1,
    batch: int | Sequence[int] = 1,
    seconds: float = 60.0,
    seed: int = 0,
    samples: Samples | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    names: Sequence[str] | None = None,
    patience: float = 60.0,
    status: Status | None = None,
) -> Comparison:
    """A scenario of MLPerf Inference for every model, one after the other (`load_test.scenarios`); in `scenarios`.

    scenario : "single-stream", "offline" (throughput at the best of several batches) or "server" (the highest rate of
               random arrivals that keeps the percentile of latency under `bound`).
    bound    : "50ms", or seconds; needed by the server scenario, and by no other.
    batch    : for offline, the batches to try (1 to 64 where only 1 is given); 1 for the others.
    The rest is that of `compare`; so are the errors.
    """
    begun, paths = time.perf_counter(), [paths] if isinstance(paths, (str, Path)) else paths
    if scenario not in SCENARIOS:
        known = ", ".join(SCENARIOS)
        raise UsageError(f"unknown scenario {scenario!r}{did_you_mean(scenario, SCENARIOS) or '.'} Known: {known}.")
    settings = checked(provider, io, graphs, threads, batch, seconds, seed, False, patience, len(paths))
    asked = _scenario(scenario, bound, percentile, settings.batch, len(settings.threads))
    wanted = _wanted(shapes, dims, inputs, samples)
    load_runtime()
    candidates, base = find_candidates(paths, None, provider, names)
    with tempfile.TemporaryDirectory(prefix="leanfit-bench-") as folder:
        steps = Steps(settings, Path(folder), samples, wanted, status or _silent)
        alive = steps.probe(candidates)
        if not alive:
            raise steps.first_error()
        found = steps.serve(alive, asked, max(LEAST_SHARE * seconds, seconds - (time.perf_counter() - begun)))
    nothing = Timed(base, 0)
    put = Found(settings, candidates, alive, base, nothing, steps.failed, steps.warnings, steps.samples, wanted)
    return Comparison(make_record(put, begun, scenarios=found))


def _scenario(
    name: str, bound: str | float, percentile: float, batches: tuple[int, ...], threads: int
) -> dict[str, Any]:
    """What the worker is asked for. Raises UsageError for settings that do not go together."""
    from evaluate.load_test.scenarios import parse_bound

    if threads > 1:
        raise UsageError(f"the scenario {name} takes one number of threads; run it once for each")
    if name != "offline" and batches != (1,):
        raise UsageError(f"the scenario {name} serves one sample a call; --batch is for offline")
    if (name == "server") != bool(bound):
        need = "needs a bound of latency, as --latency-bound 50ms" if name == "server" else "takes no latency bound"
        raise UsageError(f"the scenario {name} {need}")
    return {
        "name": name,
        "bound": (parse_bound(bound) if isinstance(bound, str) else bound) if bound else None,
        "percentile": percentile,
        "batches": list(OFFLINE_BATCHES if batches == (1,) else batches) if name == "offline" else [1],
    }


def measure(path: str | Path, **options: Any) -> Measurement:
    """One model in one condition, by the machinery and with the options of `compare`; raises what it cannot do."""
    found = compare([path], **options)
    return Measurement(found.record)


def _silent(message: str, done: float, total: float) -> None:
    """The status callback of whoever gave none."""
