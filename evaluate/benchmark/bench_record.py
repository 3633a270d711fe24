"""The Record of kind `bench`: everything a table or a page shows of one comparison (docs/benchmarking.md)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmark.candidates import CONTROL, Candidate, Settings
from evaluate.benchmark.summaries import Judged, drift, judge, summarise
from evaluate.core.records import SCHEMA, BenchRecord
from evaluate.hardware.environment import environment
from evaluate.metrics.base import drop
from evaluate.metrics.samples import Samples

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
    told: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.tables = [{} for _ in range(self.conditions)]
        self.starts = [{} for _ in range(self.conditions)]

    def add(self, session_run: Mapping[str, Any]) -> None:
        """Take in one session run as the worker told it."""
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

    def baseline(self) -> Candidate | None:
        """The baseline, where it could be measured."""
        return next((candidate for candidate in self.alive if candidate.name == self.base), None)


def make_record(found: Found, begun: float, **more: Any) -> dict[str, Any]:
    """The Record. begun : what `time.perf_counter` said at the start. more : entries for profiles or scenarios."""
    settings, tables = found.settings, found.timed.samples()
    judged = judge(tables, found.timed.reference, CONTROL, seed=settings.seed) if tables else []
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "bench",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "leanfit": _version(),
        "name": _joined([candidate.name for candidate in found.candidates]),
        "environment": environment(),
        "machine": found.timed.told.get("machine"),
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
        "warnings": [*found.warnings, *found.timed.told.get("machine_warnings", ())],
        **more,
    }
    if judged and found.baseline() is None:
        record["warnings"].append(f"the baseline {found.base} could not be measured, so there is no speed-up to tell")
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
        "inputs": "random" if found.samples is None else f"{len(found.samples)} real",
    }


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
    how, starts = timed.told["candidates"][index][candidate.name], timed.starts[index][candidate.name]
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
            timed.told["energy"],
            starts,
            how["calls"] * table.shape[1],
            elsewhere=candidate.provider != found.settings.provider,
        ),
        **_scores(found, candidate),
        "samples": table.tolist(),
        "warnings": [*candidate.probed["warnings"][index], *_other_work(found, candidate, index)],
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


def _inputs_text(inputs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{i['name']} {i['shape']} {i['dtype']}" for i in inputs)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
