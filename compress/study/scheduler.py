"""The loop of a study: hands out the most useful trial that no other one under way is in the way of, writes Records."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.core.errors import PassError, RecipeError
from compress.core.progress import Status
from compress.study.forecast import Forecast
from compress.study.pools import Event, Pool
from compress.study.trial import FINISHED, Plan, Trial, failed_record
from evaluate.core.errors import ArtifactError, DataError, LeanfitError, MachineError, ModelError
from evaluate.core.journal import Journal
from evaluate.core.text import long_duration

POLL = 0.5
ATTEMPTS = 2
ALIKE = 3  # trials that end for one reason, with none finished in between: then it is not the trials
Resolve = Callable[[Trial, int], Plan]
KINDS = {k.exit_code: k for k in (RecipeError, ModelError, DataError, PassError, ArtifactError, MachineError)}


@dataclass
class Drive:
    """A study under way.

    records : those of all trials so far, by id. resolve : tells the plan the params of a compressed trial.
    deadline: on time.monotonic(); None for as long as it takes.
    """

    plan: Plan
    folder: Path
    journal: Journal
    records: dict[str, dict[str, Any]]
    resolve: Resolve
    status: Status
    deadline: float | None = None
    retry_failed: bool = False
    running: dict[str, Trial] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    forecast: Forecast = field(default_factory=Forecast)
    fresh: set[str] = field(default_factory=set)
    evicted: set[str] = field(default_factory=set)
    alike: tuple[str, set[str]] = ("", set())
    attempts: int = ATTEMPTS
    saying: str = "starting"

    def left(self) -> list[Trial]:
        """Trials that have no Record yet (or a failed one, where those are tried again), the most useful first."""
        return [trial for trial in self.plan.trials if not self._done(trial)]

    def _done(self, trial: Trial) -> bool:
        record = self.records.get(trial.id)
        if record is None:
            return False
        return record["status"] == FINISHED or not self.retry_failed or trial.id in self.fresh

    def run(self, pool: Pool) -> None:
        """Until nothing is left, or the time is up. Raises what every trial would meet alike."""
        self.attempts = ATTEMPTS if pool.retries else 1
        self._evict()
        self._learn()
        while self.left() and not self._late():
            self._hand_out(pool)
            for event in pool.wait(POLL):
                self._take(event)
            self._show(pool.slots)

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _hand_out(self, pool: Pool) -> None:
        while len(self.running) < pool.slots:
            trial = self._next()
            if trial is None:
                return
            self.running[trial.id] = trial
            self.forecast.start(trial)
            pool.start(trial)

    def _next(self) -> Trial | None:
        """The most useful trial that needs no stage which is being made just now: nobody shall wait for another."""
        done = {p for t in self.plan.trials if self._finished(t) for p in t.prefixes}
        making = {p for t in self.running.values() for p in t.prefixes} - done
        free = (t for t in self.left() if t.id not in self.running and not making.intersection(t.prefixes))
        return next(free, None)

    def _finished(self, trial: Trial) -> bool:
        return self.records.get(trial.id, {}).get("status") == FINISHED

    def _take(self, event: Event) -> None:
        trial = event.trial
        if event.status:
            self.saying = f"{trial.label}: {event.status}"
            return
        self.running.pop(trial.id, None)
        self.forecast.end(trial, event.result is not None and "record" in event.result)
        if event.died:
            self._worker_died(trial, event.died)
        elif event.result is not None and "record" in event.result:
            self.alike = ("", set())
            self._keep(trial, event.result["record"])
        elif event.result is not None:
            self._fail(trial, event.result["failed"])

    def _worker_died(self, trial: Trial, reason: str) -> None:
        """A worker died over a trial: it may have been an accident, or it may be the trial."""
        self.deaths[trial.id] = self.deaths.get(trial.id, 0) + 1
        if self.deaths[trial.id] >= self.attempts:
            self._keep(trial, failed_record(trial, "WorkerDied", f"{reason}; the trial was tried {ATTEMPTS} times"))
        self._stop_where_alike(trial, reason, MachineError)

    def _fail(self, trial: Trial, failed: Mapping[str, Any]) -> None:
        """Write a failed trial, unless the reason is none of the trial's own."""
        nothing_works = not any(r["status"] == FINISHED for r in self.records.values())
        kind = KINDS.get(failed["exit_code"], LeanfitError)
        if failed["stops"] or (nothing_works and kind is DataError):
            raise kind(f"{trial.label}: {failed['message']}")
        self._keep(trial, failed_record(trial, failed["kind"], failed["message"]))
        self._stop_where_alike(trial, failed["message"], kind)

    def _stop_where_alike(self, trial: Trial, reason: str, kind: type[LeanfitError]) -> None:
        """Raise where so many trials on end have come to the same end: the others would, too, one after the other."""
        known, trials = self.alike
        self.alike = (reason, {*trials, trial.id} if reason == known else {trial.id})
        if len(self.alike[1]) >= ALIKE:
            raise kind(
                f"{ALIKE} trials on end came to the same end, so the study stops: {reason}. Remove the cause and run "
                "the same command again, with --retry-failed for those that have a Record already"
            )

    def _keep(self, trial: Trial, record: dict[str, Any]) -> None:
        self.journal.append(record)
        self.records[trial.id] = record
        self.fresh.add(trial.id)
        if trial.pending:
            self.resolve_known()
        self._evict()
        self._learn()

    def _learn(self) -> None:
        self.forecast.learn(self.plan.trials, self.records, self.left())

    def resolve_known(self) -> None:
        """Native models of compressed trials whose size is known by now."""
        for trial in self.plan.pending:
            if self._finished(trial):
                self.plan = self.resolve(trial, self.records[trial.id]["sizes"]["params"])

    def _evict(self) -> None:
        """Remove what passes left for resuming once no trial needs it; baselines stay, for levels that come later."""
        needed = {prefix for trial in self.left() for prefix in trial.prefixes}
        for trial in self.plan.trials:
            if self._finished(trial):
                for name in _pass_stages(trial, self.records[trial.id], needed) - self.evicted:
                    shutil.rmtree(self.folder / "stages" / name, ignore_errors=True)
                    self.evicted.add(name)

    def _show(self, slots: int) -> None:
        total = len(self.plan.trials)
        done = total - len(self.left())
        seconds = self.forecast.seconds(slots)
        about = "" if seconds is None else f", about {long_duration(seconds)} left"
        self.status(f"{done} of {total} trials{about}; {self.saying}", done, total)


def _pass_stages(trial: Trial, record: Mapping[str, Any], needed: set[str]) -> set[str]:
    """Folders of the passes of a finished trial that are not among the `needed` prefixes."""
    starts = tuple(f"{n}-" for n, prefix in enumerate(trial.prefixes[1:]) if prefix not in needed)
    names = [name for name in record.get("stages") or () if Path(name).name == name]  # never a path: it is removed
    return {name for name in names if name.startswith(starts)} if starts else set()
