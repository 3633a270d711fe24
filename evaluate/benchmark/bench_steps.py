"""The supervised steps of a comparison, each in a worker process: try, time, profile, serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.benchmark.bench_record import Timed
from evaluate.benchmark.candidates import CONTROL, Candidate, Settings
from evaluate.benchmark.model_inputs import Wanted, write_values
from evaluate.benchmark.supervise import Ended, run_job
from evaluate.core.errors import (
    ArtifactError,
    DataError,
    LeanfitError,
    ModelError,
    NoRuntimeError,
    UsageError,
    did_you_mean,
)
from evaluate.core.text import a_few
from evaluate.metrics.base import score
from evaluate.metrics.samples import Samples, agreement

Status = Callable[[str, float, float], None]
LEAST_SHARE = 0.5  # of the time asked for, though starting the worker took longer than that leaves


class Steps:
    """The supervised steps of one comparison, and the candidates lost on the way."""

    def __init__(
        self, settings: Settings, folder: Path, samples: Samples | None, wanted: Wanted, status: Status
    ) -> None:
        self.settings, self.folder, self.wanted, self.status = settings, folder, wanted, status
        self.failed: list[dict[str, Any]] = []
        self.samples: Samples | None = None
        self.warnings: list[str] = []
        if samples is not None:
            self.samples, self.warnings = samples.judged()
            np.savez(folder / "inputs.npz", *samples.inputs.values())  # by place: an input may be called "file"
        given, self.places = write_values(wanted.calls)
        (folder / "given.npz").write_bytes(given)

    def probe(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those of the candidates that run, each tried in a process of its own."""
        alive = []
        for number, candidate in enumerate(candidates):
            self.status(f"trying {candidate.name}", number, len(candidates))
            job = {**self._job([candidate]), "kind": "probe", "outputs": str(self.folder / f"{number}.npy")}
            events: dict[str, Any] = {}
            ended = run_job(job, [candidate.name], events.update, patience=self.settings.patience, within=self.folder)
            failure = events.get("failed")
            if "probe" in events:
                candidate.probed = events["probe"]
                failure = self._score(candidate, self.folder / f"{number}.npy")
            if "probe" in events and failure is None:
                alive.append(candidate)
            else:
                self._lose(candidate, failure, ended)
        self._require_used(alive)
        return alive

    def _require_used(self, alive: Sequence[Candidate]) -> None:
        """Raise UsageError for a name of a shape, a dimension or a value that no model has."""
        known = list(dict.fromkeys(name for candidate in alive for name in candidate.probed["names"]))
        for name in self.wanted.names():
            if alive and name not in known:
                raise UsageError(
                    f"no model here has an input or a free dimension {name!r}{did_you_mean(name, known) or '.'} Known: "
                    f"{a_few(known)}"
                )

    def _score(self, candidate: Candidate, outputs: Path) -> dict[str, Any] | None:
        """Metric and agreement of a candidate's outputs; how it failed, where they do not fit the samples."""
        samples = self.samples
        candidate.outputs = found = np.load(outputs, allow_pickle=False)
        if samples is None:
            return None
        try:
            if samples.targets is not None:
                candidate.scores["accuracy"] = score(found, samples.targets, samples.metric, samples.classes)
            if candidate.name in samples.expected:
                candidate.scores["agreement"] = agreement(found, samples.expected[candidate.name])
        except LeanfitError as error:
            return {"kind": "refused", "reason": f"{candidate.path}: {error}", "exit_code": error.exit_code}
        return None

    def time(self, alive: list[Candidate], base: str, seconds: float) -> tuple[list[Candidate], Timed]:
        """Samples of all that stay alive; one that fails now is left out, and the timing begins anew without it."""
        while alive:
            reference = next((c for c in alive if c.name == base), alive[0])
            timed = Timed(reference.name, len(self.settings.conditions))
            # Until when, not how long: starting the worker takes from the budget too.
            job = {
                **self._job(alive),
                "kind": "latency",
                "until": time.time() + seconds,
                "least": LEAST_SHARE * seconds,
            }
            job["models"][CONTROL] = job["models"][reference.name]
            candidates = [*(c.name for c in alive), CONTROL]
            ended = run_job(
                job, candidates, _passing(self.status, timed.take), patience=self.settings.patience, within=self.folder
            )
            candidate = timed.failed["candidate"] if timed.failed else ended.candidate
            if ended.kind == "done" and not timed.failed:
                return alive, timed
            lost = next((c for c in alive if c.name == candidate), reference if candidate == CONTROL else None)
            if lost is None:
                raise RuntimeError(f"the benchmark's worker {ended.kind}: {ended.reason}")
            self._lose(lost, timed.failed, ended)
            alive = [candidate for candidate in alive if candidate is not lost]
            self.warnings.append(
                f"{lost.name} failed while it was timed; the others were timed anew, beyond the budget"
            )
        raise self.first_error()

    def profile(self, alive: Sequence[Candidate], seconds: float) -> list[dict[str, Any]]:
        """Which operators take the time of each model, in the first condition; [] with a warning where it failed.

        All are profiled side by side on the run's own provider; one that was timed on another gets a warning instead.
        """
        mine = [c for c in alive if c.provider == self.settings.provider]
        self.warnings.extend(
            f"no profile of {c.name}: it runs on {c.provider}, and profiles are made on {self.settings.provider}; "
            f"profile it in a run with --provider {c.provider}"
            for c in alive
            if c not in mine
        )
        if not mine:
            return []
        self.status("profiling", 0, 1)
        events: dict[str, Any] = {}
        job = {**self._job(mine), "kind": "profile", "seconds": seconds / len(mine)}
        ended = run_job(
            job,
            [c.name for c in mine],
            _passing(self.status, events.update),
            patience=self.settings.patience + seconds,
            within=self.folder,
        )
        if "profiles" in events:
            return list(events["profiles"])
        why = events["failed"]["reason"] if "failed" in events else f"{ended.candidate}: {ended.reason}"
        self.warnings.append(f"no profile could be made: {why}")
        return []

    def serve(self, alive: Sequence[Candidate], scenario: Mapping[str, Any], seconds: float) -> list[dict[str, Any]]:
        """The scenario of each model, one after the other, each in a process of its own."""
        found = []
        for candidate in alive:
            events: dict[str, Any] = {}
            job = {**self._job([candidate]), "kind": "scenario", "scenario": scenario, "seconds": seconds / len(alive)}
            listener = _passing(self.status, events.update)
            ended = run_job(
                job,
                [candidate.name],
                listener,
                patience=self.settings.patience + seconds / len(alive),
                within=self.folder,
            )
            if "scenario" in events:
                self.warnings.extend(w for w in candidate.probed["warnings"][0] if w not in self.warnings)
                about = {"name": candidate.name, "provider": candidate.provider, **self.settings.conditions[0]}
                found.append({**about, **events["scenario"]})
            else:
                self._lose(candidate, events.get("failed"), ended)
        if not found:
            raise self.first_error()
        return found

    def first_error(self) -> LeanfitError:
        """What the first candidate that failed failed with."""
        first = self.failed[0]
        kinds: dict[int, type[LeanfitError]] = {8: NoRuntimeError, 7: ArtifactError, 5: DataError, 2: UsageError}
        return kinds.get(first["exit_code"], ModelError)(first["reason"])

    def _job(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        s = self.settings
        return {
            "models": {
                c.name: {"file": str(c.file), "shown": str(c.path), "provider": c.provider, **c.probed.get("how", {})}
                for c in candidates
            },
            "provider": s.provider,
            "io": s.io,
            "graphs": s.graphs,
            "conditions": s.conditions,
            "seed": s.seed,
            "energy": s.energy,
            "inputs": None if self.samples is None else str(self.folder / "inputs.npz"),
            "input_names": [] if self.samples is None else list(self.samples.inputs),
            "shapes": {name: list(shape) for name, shape in self.wanted.shapes.items()},
            "dims": dict(self.wanted.dims),
            "given": str(self.folder / "given.npz"),
            "places": self.places,
            "source": self.wanted.source,
        }

    def _lose(self, candidate: Candidate, failure: Mapping[str, Any] | None, ended: Ended) -> None:
        kind = failure["kind"] if failure else ended.kind
        reason = failure["reason"] if failure else f"{candidate.name}: {ended.reason}"
        self.failed.append({
            "name": candidate.name,
            "path": str(candidate.path),
            "kind": kind,
            "reason": reason,
            "exit_code": failure["exit_code"] if failure else ModelError.exit_code,
        })  # fmt: skip


def _passing(status: Status, take: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """What a worker's events are handed to: its progress is passed on, all else is taken."""
    return lambda event: status(*event["status"]) if "status" in event else take(event)
