"""How long a study under way still takes on the clock: its estimate of work, at the pace of this very run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compress.study.estimate import Estimate, Floats
from compress.study.trial import Trial

PRIOR = 20.0  # seconds at the estimated pace that are taken for granted: one slow start says little
Records = Mapping[str, Mapping[str, Any]]


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
