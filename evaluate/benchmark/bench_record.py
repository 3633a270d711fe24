"""The Record of kind `bench`: everything a table or a page shows of one comparison (docs/benchmarking.md).

From raw samples to what is said about them: latency, speed-up, noise floor and drift, under their stable names.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.benchmark.candidates import CONTROL, Candidate, Settings
from evaluate.benchmark.model_inputs import NOTHING, Wanted
from evaluate.core import stats
from evaluate.core.records import SCHEMA, BenchRecord
from evaluate.core.stats import Interval
from evaluate.hardware.environment import environment
from evaluate.metrics.base import drop
from evaluate.metrics.samples import Samples

# Two sessions of one file differ by 0.2 to 0.3 % (decision 6), and by more where a model fills the caches.
ONCE = 0.02
DOUBTFUL = 0.1  # share of an output's size by which runtimes differ
TAILS = {"p90": 90.0, "p95": 95.0, "p99": 99.0}


class Latency(TypedDict):
    """One call, in milliseconds: median with its 95 % interval, median absolute deviation, tails.

    A percentile is None where `n` samples do not carry it; `needs` then says how many more do. Where a sample is the
    mean of several calls (`loops` above 1), tails of single calls are not known, and `needs` is empty.
    """

    median_ms: float
    low: float
    high: float
    mad_ms: float
    p90: float | None
    p95: float | None
    p99: float | None
    needs: dict[str, int]
    provider: str
    io: str
    threads: int
    batch: int
    n: int
    loops: int
    sittings: int


class Speedup(TypedDict):
    """Baseline latency over this model's; `verdict` is faster, slower or not resolved."""

    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Judged:
    """One condition: the baseline against itself, the smallest difference that can be claimed, and each speed-up."""

    control: Interval
    floor: float
    speedups: dict[str, Speedup]


def summarise(
    samples: ArrayLike, *, provider: str, threads: int, batch: int, io: str = "device", loops: int = 1
) -> Latency:
    """The `latency` entry of a Record from samples (session runs, rounds, n) in seconds."""
    table = np.asarray(samples, dtype=np.float64)
    median, low, high = (1e3 * x for x in stats.median_interval(table))
    tails = {name: stats.percentile(table, q) if loops == 1 else None for name, q in TAILS.items()}
    missing = {name: stats.needed(q) - table.size for name, q in TAILS.items() if tails[name] is None and loops == 1}
    return Latency(
        median_ms=median,
        low=low,
        high=high,
        mad_ms=1e3 * stats.median_deviation(table),
        p90=_milli(tails["p90"]),
        p95=_milli(tails["p95"]),
        p99=_milli(tails["p99"]),
        needs=missing,
        provider=provider,
        io=io,
        threads=threads,
        batch=batch,
        n=int(table.size),
        loops=loops,
        sittings=len(table),
    )


def judge(
    conditions: Sequence[Mapping[str, Floats]],
    baseline: str,
    control: str,
    *,
    seed: int = 0,
    opened_once: bool = False,
) -> list[Judged]:
    """All speed-ups over the baseline, with intervals that hold jointly over models and conditions.

    conditions : candidate -> (session runs, rounds, n) seconds; each holds the candidates `baseline` and `control`, the
    baseline again. What the two candidates of the baseline differ by is the noise floor. Only the first takes part in
    speed-ups: the mean of both would be less noisy, and bias a trimmed mean, because its noise and a single candidate's
    are not alike.
    opened_once : of sessions that were never opened anew the floor is at least ONCE.
    """
    columns = [
        (index, name, stats.session_run_ratios(candidates[baseline], samples))
        for index, candidates in enumerate(conditions)
        for name, samples in candidates.items()
        if name not in (baseline, control)
    ]
    joint = stats.joint_intervals(np.stack([logs for _, _, logs in columns], axis=1), seed=seed) if columns else []
    judged = []
    for index, candidates in enumerate(conditions):
        (self_ratio,) = stats.joint_intervals(
            stats.session_run_ratios(candidates[baseline], candidates[control])[:, None], seed=seed
        )
        floor = max(stats.noise_floor(self_ratio), ONCE if opened_once else 0.0)
        mine = {name: ratio for (at, name, _), ratio in zip(columns, joint) if at == index}
        judged.append(Judged(self_ratio, floor, {name: _speedup(ratio, floor) for name, ratio in mine.items()}))
    return judged


def drift(samples: ArrayLike) -> dict[str, Any] | None:
    """The `drift` entry of a Record, in milliseconds; None below 6 session runs."""
    table = np.asarray(samples, dtype=np.float64)
    if len(table) < 6:
        return None
    found = stats.drift(table)
    return {
        "first_ms": 1e3 * found.first,
        "last_ms": 1e3 * found.last,
        "ratio": found.ratio.value,
        "low": found.ratio.low,
        "high": found.ratio.high,
        "drifts": found.drifts,
    }


def _speedup(ratio: Interval, floor: float) -> Speedup:
    return Speedup(value=ratio.value, low=ratio.low, high=ratio.high, verdict=stats.verdict(ratio, floor))


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Start:
    """How a session run began for a candidate, in seconds, with the joules of its blocks where they can be counted."""

    create: float
    first: float
    warm_up: int
    joules: float | None


@dataclass
class Timed:
    """What the timing worker found: for every condition and candidate a table of samples and a start a session run."""

    reference: str
    conditions: int
    tables: list[dict[str, list[Any]]] = field(default_factory=list)
    starts: list[dict[str, list[Start]]] = field(default_factory=list)
    messages: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.tables = [{} for _ in range(self.conditions)]
        self.starts = [{} for _ in range(self.conditions)]

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in an event of the worker: a session run, how it failed, or any other message."""
        if "session_run" in event:
            self.add(event["session_run"])
        elif "failed" in event:
            self.failed = event["failed"]
        else:
            self.messages.update(event)

    def add(self, session_run: Mapping[str, Any]) -> None:
        """Take in the samples and starts of one session run."""
        index = session_run["condition"]
        for candidate, table in session_run["samples"].items():
            self.tables[index].setdefault(candidate, []).append(table)
            start = Start(
                session_run["create"][candidate],
                session_run["first"][candidate],
                session_run["warm_up"][candidate],
                session_run["joules"].get(candidate),
            )
            self.starts[index].setdefault(candidate, []).append(start)

    def samples(self) -> list[dict[str, Floats]]:
        """For every condition: candidate -> (session runs, rounds, n) seconds."""
        return [
            {candidate: np.array(tables, dtype=np.float64) for candidate, tables in candidates.items()}
            for candidates in self.tables
        ]


@dataclass(frozen=True)
class Found:
    """All that a comparison found, ready to be put down."""

    settings: Settings
    candidates: Sequence[Candidate]
    alive: Sequence[Candidate]
    base: str
    timed: Timed
    failed: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]
    samples: Samples | None
    wanted: Wanted = NOTHING

    def baseline(self) -> Candidate | None:
        """The baseline, where it could be measured."""
        return next((candidate for candidate in self.alive if candidate.name == self.base), None)


def make_record(found: Found, begun: float, **more: Any) -> dict[str, Any]:
    """The Record. begun : what `time.perf_counter` said at the start. more : entries for profiles or scenarios."""
    settings, tables, once = found.settings, found.timed.samples(), bool(found.timed.messages.get("opened_once"))
    judged = judge(tables, found.timed.reference, CONTROL, seed=settings.seed, opened_once=once) if tables else []
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "bench",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "leanfit": _version(),
        "name": _joined([candidate.name for candidate in found.candidates]),
        "environment": environment(),
        "machine": found.timed.messages.get("machine"),
        "settings": _settings(found),
        "baseline": found.base,
        "results": [
            _entry(found, candidate, index, tables[index][candidate.name], judged[index])
            for index in range(len(judged))
            for candidate in found.alive
        ],
        "floors": [
            _floor(found, condition, one, candidates)
            for condition, one, candidates in zip(settings.conditions, judged, tables)
        ],
        "failed": list(found.failed),
        "warnings": [*found.warnings, *found.timed.messages.get("machine_warnings", ())],
        **more,
    }
    if judged and found.baseline() is None:
        record["warnings"].append(f"the baseline {found.base} could not be measured, so there is no speed-up to tell")
    if once:
        record["warnings"].append(
            f"opening the models takes too long for {settings.seconds:g} s: each was opened once, so that no "
            f"difference below {100 * ONCE:g} % is claimed; more --seconds open them anew"
        )
    record["seconds"] = round(time.perf_counter() - begun, 3)
    record["id"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]
    return dict(BenchRecord.of(record).raw)


def _version() -> str | None:
    """leanfit's own; None where the package was not installed by a tool, as in a bundle."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("leanfit")
    return None


def _settings(found: Found) -> dict[str, Any]:
    settings = found.settings
    return {
        "provider": settings.provider,
        "io": settings.io,
        "graphs": settings.graphs,
        "threads": list(settings.threads),
        "batch": list(settings.batch),
        "seconds": settings.seconds,
        "seed": settings.seed,
        "inputs": _inputs_said(found),
        **({"shapes": {n: list(s) for n, s in found.wanted.shapes.items()}} if found.wanted.shapes else {}),
        **({"dims": dict(found.wanted.dims)} if found.wanted.dims else {}),
    }


def _inputs_said(found: Found) -> str:
    if found.samples is not None:
        return f"{len(found.samples)} real"
    if not found.wanted.calls:
        return "random"
    calls = max((candidate.probed["calls"] for candidate in found.alive), default=1)
    return f"{found.wanted.source}, {calls} call{'' if calls == 1 else 's'} in turn"


def _floor(
    found: Found, condition: Mapping[str, int], judged: Judged, candidates: Mapping[str, Floats]
) -> dict[str, Any]:
    reference = next(candidate for candidate in found.alive if candidate.name == found.timed.reference)
    return {
        "provider": reference.provider,
        **condition,
        "noise_floor": judged.floor,
        **judged.control._asdict(),
        "samples": candidates[CONTROL].tolist(),
    }


def _entry(found: Found, candidate: Candidate, index: int, table: Floats, judged: Judged) -> dict[str, Any]:
    timed, condition = found.timed, found.settings.conditions[index]
    how, starts = timed.messages["candidates"][index][candidate.name], timed.starts[index][candidate.name]
    return {
        "name": candidate.name,
        "path": str(candidate.path),
        "file": str(candidate.file),
        **candidate.stored,
        "baseline": candidate.name == found.base,
        "inputs": candidate.probed["inputs"][index],
        "latency": summarise(
            table,
            provider=candidate.provider,
            threads=condition["threads"],
            batch=candidate.probed["batches"][index],
            io=found.settings.io,
            loops=how["loops"],
        ),
        "speedup": judged.speedups.get(candidate.name) if timed.reference == found.base else None,
        "noise_floor": judged.floor,
        "start": {
            "create_ms": 1e3 * float(np.median([start.create for start in starts])),
            "first_call_ms": 1e3 * float(np.median([start.first for start in starts])),
            "warm_up_calls": int(np.median([start.warm_up for start in starts])),
        },
        "drift": drift(table),
        "memory": candidate.probed["memory"],
        "energy": _energy(
            timed.messages["energy"],
            starts,
            how["calls"] * table.shape[1],
            elsewhere=candidate.provider != found.settings.provider,
        ),
        **_scores(found, candidate),
        "samples": table.tolist(),
        "warnings": [
            *candidate.probed["warnings"][index],
            *_other_work(found, candidate, index),
            *_other_answers(found, candidate),
        ],
    }


def _energy(meter: Mapping[str, Any], starts: Sequence[Start], calls: int, *, elsewhere: bool) -> dict[str, Any]:
    """Joules of one call: the counter's difference over a model's blocks by their calls (`calls` a session run)."""
    if elsewhere:
        why = "it runs on another provider than the run, whose counter was read"
        return {"joules_per_call": None, "source": None, "why": why}
    joules = [start.joules for start in starts if start.joules is not None]
    if not meter.get("source") or not joules:
        return {"joules_per_call": None, **meter}
    return {"joules_per_call": sum(joules) / (len(joules) * calls), **meter}


def _scores(found: Found, candidate: Candidate) -> dict[str, Any]:
    """Metric, paired drop and agreement with the outputs packed elsewhere, by the session options that were timed."""
    samples, base = found.samples, found.baseline()
    scores: dict[str, Any] = {"accuracy": None, "drop": None, "agreement": None, **candidate.scores}
    if base is None or base is candidate or samples is None or samples.targets is None:
        return scores
    if base.outputs is not None and candidate.outputs is not None:
        scores["drop"] = drop(base.outputs, candidate.outputs, samples.targets, samples.metric)
    return scores


def _other_work(found: Found, candidate: Candidate, index: int) -> list[str]:
    """Says when a model was not measured on what the baseline was."""
    base = found.baseline()
    if base is None:
        return []
    mine, theirs = ([(i["shape"], i["dtype"]) for i in c.probed["inputs"][index]] for c in (candidate, base))
    if mine == theirs:
        return []
    return [
        f"{candidate.path} takes {_inputs_text(candidate.probed['inputs'][index])}, the baseline {base.path} takes "
        f"{_inputs_text(base.probed['inputs'][index])}: the speed-up compares different work"
    ]


def _other_answers(found: Found, candidate: Candidate) -> list[str]:
    """Says how far outputs of another runtime are from the baseline's, of the same first call."""
    base = found.baseline()
    if base is None or base is candidate or base.provider == candidate.provider:
        return []
    mine, theirs = candidate.outputs, base.outputs
    if mine is None or theirs is None or not theirs.size or _other_work(found, candidate, 0):
        return []
    if mine.shape != theirs.shape:
        return [
            f"{candidate.name} gives {list(mine.shape)} where {base.name} gives {list(theirs.shape)}: other models?"
        ]
    size, apart = (float(np.linalg.norm(a.astype(np.float64))) for a in (theirs, mine - theirs))
    share = apart / size if size else apart
    doubt = ": are these the same model?" if not share < DOUBTFUL else ""
    return [f"{candidate.name} gives what {base.name} gives on the same inputs within {share:.1g} of its size{doubt}"]


def _inputs_text(inputs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{i['name']} {i['shape']} {i['dtype']}" for i in inputs)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
