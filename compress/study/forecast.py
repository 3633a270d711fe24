"""How long the rest of a study takes, from what its finished trials took and from the pace of this very run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.study.trial import FINISHED, Trial

Floats = NDArray[np.float64]
LEAST = 1e-6  # seconds
REACH = 2.0  # a largest model so many times larger than any that is done leaves its cost open by orders
PRIOR = 20.0  # seconds at the estimated pace that are taken for granted: one slow start says little
Records = Mapping[str, Mapping[str, Any]]
ENOUGH = 0.2  # of the trials: by then there is something to say all the same


class Estimate:
    """Seconds of stages as a x MACs x samples x epochs + b x samples x epochs + c, fitted to finished trials.

    MACs of models that have not run are taken from their params, at the ratio of the finished trials nearest in size.
    """

    def __init__(self, trials: Sequence[Trial], records: Mapping[str, Mapping[str, Any]]) -> None:
        done = [(t, records[t.id]) for t in trials if records.get(t.id, {}).get("status") == FINISHED]
        reached = bool(done) and REACH * max(t.params for t, _ in done) >= max(t.params for t in trials)
        self.sound = reached or len(done) > ENOUGH * len(trials)
        sizes = sorted((_base(record)["params"], _base(record)["macs"]) for _, record in done)
        self.params = np.array([params for params, _ in sizes], dtype=np.float64)
        self.macs = np.array([macs for _, macs in sizes], dtype=np.float64)
        self.samples = max((int(record["train_samples"]) for _, record in done), default=1)
        self.made = {prefix for trial, _ in done for prefix in trial.prefixes}
        self.rates = self._fit(done)

    def remaining(self, trials: Iterable[Trial]) -> float | None:
        """Seconds of work that these trials still cost, each shared stage once; None while that would be a guess."""
        if not self.sound:
            return None
        counted = set(self.made)
        total = 0.0
        for trial in trials:
            total += float(self.features(trial, counted) @ self.rates)
            counted |= set(trial.prefixes)
        return total

    def features(self, trial: Trial, made: set[str]) -> Floats:
        """(3,) work, passes over samples, and stages: of those that are not `made`."""
        samples = min(trial.samples or self.samples, self.samples)
        epochs = [e for e, prefix in zip(trial.epochs, trial.prefixes, strict=True) if prefix not in made]
        seen = float(samples * sum(epochs))
        return np.array([seen * self._macs(trial.params), seen, float(len(epochs))])

    def _macs(self, params: int) -> float:
        near = int(np.argmin(np.abs(np.log(self.params / params)))) if len(self.params) else 0
        return float(params * self.macs[near] / self.params[near]) if len(self.params) else float(params)

    def _fit(self, done: Sequence[tuple[Trial, Mapping[str, Any]]]) -> Floats:
        """Non-negative rates with the smallest relative error."""
        if not done:
            return np.zeros(3)
        rows = np.array([self.features(trial, set()) for trial, _ in done])
        seconds = np.array([max(float(record["seconds"]), LEAST) for _, record in done])
        scale = np.where(rows.max(axis=0) > 0, rows.max(axis=0), 1.0)
        from scipy.optimize import nnls

        solved, _ = nnls(rows / scale / seconds[:, None], np.ones(len(rows)))
        return np.asarray(solved / scale)


def _base(record: Mapping[str, Any]) -> Mapping[str, Any]:
    sizes: Mapping[str, Any] = record["baseline"] or record["sizes"]
    return sizes


class Forecast:
    """The seconds left. Starting a worker, reading data and other programs all cost time that no stage shows.

    So the work that is left is multiplied by the pace: what this run's trials took on the clock, over what their stages
    were estimated to take.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began: dict[str, tuple[Trial, float]] = {}
        self.estimate = Estimate([], {})
        self.work: float | None = None
        self.done: Floats = np.zeros(3)
        self.took = 0.0

    def start(self, trial: Trial) -> None:
        """A trial is handed out."""
        self.began[trial.id] = (trial, self.clock())

    def end(self, trial: Trial, finished: bool) -> None:
        """A trial is over; one that failed or was lost says nothing about the pace."""
        _, began = self.began.pop(trial.id)
        if finished:
            self.took += self.clock() - began
            self.done = self.done + self.estimate.features(trial, self.estimate.made)

    def learn(self, trials: Sequence[Trial], records: Records, left: Sequence[Trial]) -> None:
        """Take in new Records; `left` are the trials still to do, those under way among them."""
        self.estimate = Estimate(trials, records)
        self.work = self.estimate.remaining(left)

    def seconds(self, slots: int) -> float | None:
        """Until the end with so many trials at a time; None while that would be a guess."""
        if self.work is None:
            return None
        rates, now = self.estimate.rates, self.clock()
        pace = (self.took + PRIOR) / (float(self.done @ rates) + PRIOR)
        longest, spent = 0.0, 0.0
        for trial, began in self.began.values():
            whole = pace * float(self.estimate.features(trial, self.estimate.made) @ rates)
            longest = max(longest, whole - (now - began))
            spent += min(now - began, whole)
        return max((pace * self.work - spent) / slots, longest)
