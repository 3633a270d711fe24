"""The supervised steps of a comparison, each in a worker process: try, time, profile, serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.benchmark.bench_record import Timed
from evaluate.benchmark.candidates import CONTROL, Candidate, Settings
from evaluate.benchmark.supervise import Ended, run_job
from evaluate.core.errors import ArtifactError, DataError, LeanfitError, ModelError, NoRuntimeError, UsageError
from evaluate.metrics.base import score
from evaluate.metrics.samples import Samples, agreement

Status = Callable[[str, float, float], None]
LEAST_SHARE = 0.5  # of the time asked for, though starting the worker took longer than that leaves


class Steps:
    """The supervised steps of one comparison, and the candidates lost on the way."""

    def __init__(self, settings: Settings, folder: Path, samples: Samples | None, status: Status) -> None:
        self.settings, self.folder, self.status = settings, folder, status
        self.failed: list[dict[str, Any]] = []
        self.samples: Samples | None = None
        self.warnings: list[str] = []
        if samples is not None:
            self.samples, self.warnings = samples.judged()
            np.savez(folder / "inputs.npz", *samples.inputs.values())  # by place: an input may be called "file"

    def probe(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those of the candidates that run, each tried in a process of its own."""
        alive = []
        for number, candidate in enumerate(candidates):
            self.status(f"trying {candidate.name}", number, len(candidates))
            job = {**self._job([candidate]), "kind": "probe", "outputs": str(self.folder / f"{number}.npy")}
            heard: list[dict[str, Any]] = []
            ended = run_job(job, [candidate.name], heard.append, patience=self.settings.patience)
            told = {key: value for event in heard for key, value in event.items()}
            said = told.get("failed")
            if "probe" in told:
                candidate.probed = told["probe"]
                said = self._score(candidate, self.folder / f"{number}.npy")
            if "probe" in told and said is None:
                alive.append(candidate)
            else:
                self._lose(candidate, said, ended)
        return alive

    def _score(self, candidate: Candidate, outputs: Path) -> dict[str, Any] | None:
        """Metric and agreement of a candidate's outputs; how it failed, where they do not fit the samples."""
        samples = self.samples
        if samples is None:
            return None
        candidate.outputs = found = np.load(outputs, allow_pickle=False)
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
            ended = run_job(job, candidates, _Ear(timed, self.status), patience=self.settings.patience)
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
        heard: dict[str, Any] = {}
        job = {**self._job(mine), "kind": "profile", "seconds": seconds / len(mine)}
        ended = run_job(
            job, [c.name for c in mine], _Teller(heard, self.status), patience=self.settings.patience + seconds
        )
        if "profiles" in heard:
            return list(heard["profiles"])
        why = heard["failed"]["reason"] if "failed" in heard else f"{ended.candidate}: {ended.reason}"
        self.warnings.append(f"no profile could be made: {why}")
        return []

    def serve(self, alive: Sequence[Candidate], scenario: Mapping[str, Any], seconds: float) -> list[dict[str, Any]]:
        """The scenario of each model, one after the other, each in a process of its own."""
        found = []
        for candidate in alive:
            heard: dict[str, Any] = {}
            job = {**self._job([candidate]), "kind": "scenario", "scenario": scenario, "seconds": seconds / len(alive)}
            ear = _Teller(heard, self.status)
            ended = run_job(job, [candidate.name], ear, patience=self.settings.patience + seconds / len(alive))
            if "scenario" in heard:
                self.warnings.extend(w for w in candidate.probed["warnings"][0] if w not in self.warnings)
                about = {"name": candidate.name, "provider": candidate.provider, **self.settings.conditions[0]}
                found.append({**about, **heard["scenario"]})
            else:
                self._lose(candidate, heard.get("failed"), ended)
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
            "models": {c.name: {"file": str(c.file), "shown": str(c.path), "provider": c.provider} for c in candidates},
            "provider": s.provider,
            "io": s.io,
            "graphs": s.graphs,
            "conditions": s.conditions,
            "seed": s.seed,
            "energy": s.energy,
            "inputs": None if self.samples is None else str(self.folder / "inputs.npz"),
            "input_names": [] if self.samples is None else list(self.samples.inputs),
        }

    def _lose(self, candidate: Candidate, said: Mapping[str, Any] | None, ended: Ended) -> None:
        kind = said["kind"] if said else ended.kind
        reason = said["reason"] if said else f"{candidate.name}: {ended.reason}"
        self.failed.append({
            "name": candidate.name,
            "path": str(candidate.path),
            "kind": kind,
            "reason": reason,
            "exit_code": said["exit_code"] if said else ModelError.exit_code,
        })  # fmt: skip


class _Teller:
    """Keeps what a worker tells, and passes its progress on."""

    def __init__(self, heard: dict[str, Any], status: Status) -> None:
        self.heard, self.status = heard, status

    def __call__(self, event: dict[str, Any]) -> None:
        if "status" in event:
            self.status(*event["status"])
        else:
            self.heard.update(event)


class _Ear:
    """Takes in what the timing worker tells."""

    def __init__(self, timed: Timed, status: Status) -> None:
        self.timed, self.status = timed, status

    def __call__(self, event: dict[str, Any]) -> None:
        if "status" in event:
            self.status(*event["status"])
        elif "session_run" in event:
            self.timed.add(event["session_run"])
        elif "failed" in event:
            self.timed.failed = event["failed"]
        else:
            self.timed.told.update(event)
