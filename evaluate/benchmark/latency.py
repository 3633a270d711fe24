"""Latency by session runs of interleaved rounds: the policy of timing, with its clock and its sessions handed in.

Two things make one model differ from itself: the machine changes while it is measured, and every opened session lies
elsewhere in memory, which no number of rounds averages out. So every round times every candidate in shuffled order, and
every session run opens all sessions anew in shuffled order. (Kalibera and Jones 2013, Rigorous benchmarking in
reasonable time, ISMM: repeat at the level at which the variation enters.)
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluate.load_test.arrivals import Timekeeper, collector_off, warm_up

Call = Callable[[], object]
Opener = Callable[[], Call]
Clock = Callable[[], float]
Status = Callable[[str, float, float], None]
Notice = Callable[[str, str], None]
Floats = NDArray[np.float64]

MIN_SESSION_RUNS = 8  # below, intervals cannot leave out the worst session runs
FEW_SESSION_RUNS = 12
MANY_SESSION_RUNS = 50
SESSION_RUN_SECONDS = 0.5
LONGEST_SESSION_RUN = 20.0  # a run of hours has more of them, so that turns stay short and a worker gives signs of life
LATE = 1.25  # times the time that is left: more is told
MOST_OPENING = 0.3  # share of a session run that opening and warming up may take before session runs become fewer
ROUNDS = 16  # at most, in a session run
BLOCK_SECONDS = 0.005  # a candidate's turn in a round
KEPT = 16  # at most, samples of a block
READINGS = 256  # of the clock, to learn what one costs
TIMER_SHARE = 200  # a sample lasts at least as many times what reading the clock costs
WARM_UP_SECONDS = 2.0


@dataclass(frozen=True)
class CandidatePlan:
    """How one candidate is timed in its turn: `samples` samples, each the mean of `loops` calls, `between` calls apart.

    `loops` is the same for all candidates of a condition.
    """

    samples: int
    loops: int
    between: int

    @property
    def calls(self) -> int:
        """Calls of one turn, the untimed first one among them."""
        return 1 + self.samples * (self.loops + self.between)


@dataclass(frozen=True)
class SessionRun:
    """One opening of all sessions of a condition. Seconds; `samples` are (rounds, samples) for every candidate."""

    samples: dict[str, Floats]
    create: dict[str, float]
    first: dict[str, float]
    warm_up: dict[str, int]
    joules: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """All session runs of one condition, and how each candidate was timed in them.

    opened_once : whether the sessions were the same in all of them.
    """

    session_runs: tuple[SessionRun, ...]
    candidates: dict[str, CandidatePlan]
    opened_once: bool = False

    @property
    def samples(self) -> dict[str, Floats]:
        """Candidate -> (session runs, rounds, samples) floats: SECONDS of one call."""
        return {
            name: np.stack([session_run.samples[name] for session_run in self.session_runs]) for name in self.candidates
        }


def measure_latency(
    openers: Mapping[str, Opener],
    *,
    seconds: float = 20.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    status: Status | None = None,
) -> Timing:
    """Time some calls against each other in one condition; see `measure_conditions`."""
    (timing,) = measure_conditions([openers], seconds=seconds, seed=seed, clock=clock, status=status)
    return timing


def measure_conditions(
    conditions: Sequence[Mapping[str, Opener]],
    *,
    seconds: float = 20.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    meter: Callable[[], float | None] | None = None,
    status: Status | None = None,
    notice: Notice | None = None,
    each: Callable[[int, SessionRun], None] | None = None,
) -> list[Timing]:
    """Time the candidates of several conditions; session runs of all conditions alternate, so that no hour favours one
    of them.

    conditions : each maps a candidate's name to what opens it: a function that makes a new session, lays out its inputs
                 and gives a call without arguments, not yet run. What it holds is freed when the call is dropped.
    seconds    : budget for everything, the pilot session run and warm-up included, kept to half a session run. Where it
                 is too small to open all anew 8 times, sessions are opened once; where it is too small still, 8 session
                 runs of one round are measured whatever they take, which `status` is told.
    meter      : a counter in joules, read before and after every block.
    notice     : called with (candidate, "opening" | "first call" | "timing") before each, for whoever watches over
                 hangs.
    each       : called with (condition, session run) as soon as a session run is complete.

    A sample is a single call wherever a call of the fastest candidate lasts at least 200 times what reading the clock
    costs; else it is the mean of as many calls for every candidate of the condition.
    Raises ValueError without conditions, candidates or time; what a call raises is passed on.
    """
    if not conditions or not all(conditions) or not seconds > 0:
        raise ValueError("latency needs at least one condition, each with something to call, and more than 0 seconds")
    run = _Run(clock, meter, notice or _ignored)
    deadline, tell = clock() + seconds, status or _silent
    tell("warming up", 0, seconds)
    rng = random.Random(seed)
    with collector_off():
        pilots = [run.pilot(openers, rng, 0.1 * seconds / len(conditions)) for openers in conditions]
        left = deadline - clock()
        plans = [_plan(pilot, left / len(conditions), clock) for pilot in pilots]
        once = MIN_SESSION_RUNS * sum(pilot.opening for pilot in pilots) > left
        kept: list[Mapping[str, _Opened]] = [pilot.opened if once else {} for pilot in pilots]
        least = MIN_SESSION_RUNS * sum(2 * sum(p.one_call.values()) + (0 if once else p.opening) for p in pilots)
        del pilots
        if least > LATE * left:
            tell(f"{MIN_SESSION_RUNS} sittings take some {least:.0f} s, not {seconds:g}", 0, seconds)
            deadline = clock() + least
            seconds = seconds - left + least
        done: list[list[SessionRun]] = [[] for _ in conditions]
        begun, taken = clock(), 0
        while taken < MIN_SESSION_RUNS or clock() + (clock() - begun) / taken / 2 <= deadline:
            tell("timing", seconds - (deadline - clock()), seconds)
            for index in rng.sample(range(len(conditions)), len(conditions)):
                done[index].append(run.session_run(conditions[index], plans[index], rng, kept[index]))
                if each:
                    each(index, done[index][-1])
            taken += 1
    tell("timing", seconds, seconds)
    return [Timing(tuple(session_runs), dict(plan.candidates), once) for session_runs, plan in zip(done, plans)]


@dataclass(frozen=True)
class _Opened:
    """An open session: its call, the seconds of opening it and of its first call, and how often it was warmed up."""

    call: Call
    create: float
    first: float
    warm_up: int


@dataclass(frozen=True)
class _Pilot:
    """What a first session run showed: seconds of a call of each candidate, and of opening and warming up all."""

    one_call: dict[str, float]
    opening: float
    opened: dict[str, _Opened]


@dataclass(frozen=True)
class _Plan:
    candidates: dict[str, CandidatePlan]
    rounds: int
    warm_up: float  # seconds a candidate may take to warm up


class _Run:
    """The steps of a session run on one clock."""

    def __init__(self, clock: Clock, meter: Callable[[], float | None] | None, notice: Notice) -> None:
        self.clock, self.meter, self.notice = clock, meter, notice

    def pilot(self, openers: Mapping[str, Opener], rng: random.Random, longest: float) -> _Pilot:
        """Open and warm up every candidate, and learn how long each takes."""
        begun, one_call, opened = self.clock(), dict[str, float](), dict[str, _Opened]()
        for name in rng.sample(list(openers), len(openers)):
            found, one_call[name] = self.open(name, openers[name], min(WARM_UP_SECONDS, longest / len(openers)))
            opened[name] = found
        return _Pilot({name: one_call[name] for name in openers}, self.clock() - begun, opened)

    def open(self, name: str, opener: Opener, longest: float) -> tuple[_Opened, float]:
        """A session, warmed up for `longest` seconds at most, and the seconds of one call."""
        self.notice(name, "opening")
        begun = self.clock()
        call = opener()
        create = self.clock() - begun
        self.notice(name, "first call")
        first = _timed(call, 1, self.clock)
        one_call, calls = warm_up(call, Timekeeper(self.clock), longest)
        return _Opened(call, create, first, 1 + calls), one_call

    def session_run(
        self, openers: Mapping[str, Opener], plan: _Plan, rng: random.Random, kept: Mapping[str, _Opened]
    ) -> SessionRun:
        """Open all candidates anew, but those that are kept open, in shuffled order; then shuffled rounds."""
        opened = dict(kept) or {
            name: self.open(name, openers[name], plan.warm_up)[0] for name in rng.sample(list(openers), len(openers))
        }
        calls = {name: found.call for name, found in opened.items()}
        create, first = ({n: getattr(o, what) for n, o in opened.items()} for what in ("create", "first"))
        warmed = {name: found.warm_up for name, found in opened.items()}
        samples: dict[str, list[list[float]]] = {name: [] for name in openers}
        joules = dict.fromkeys(openers, 0.0)
        for _ in range(plan.rounds):
            for name in rng.sample(list(openers), len(openers)):
                self.notice(name, "timing")
                before = self.meter() if self.meter else None
                samples[name].append(_block(calls[name], plan.candidates[name], self.clock))
                after = self.meter() if self.meter else None
                joules[name] += after - before if before is not None and after is not None else math.nan
        tables = {name: np.array(table, dtype=np.float64) for name, table in samples.items()}
        return SessionRun(tables, create, first, warmed, joules if self.meter else {})


def _plan(pilot: _Pilot, seconds: float, clock: Clock) -> _Plan:
    """Session runs, rounds and blocks that fill `seconds`: as many session runs as opening them allows."""
    session_runs = min(
        max(MANY_SESSION_RUNS, seconds / LONGEST_SESSION_RUN), max(FEW_SESSION_RUNS, seconds / SESSION_RUN_SECONDS)
    )
    session_runs = max(MIN_SESSION_RUNS, min(session_runs, MOST_OPENING * seconds / max(pilot.opening, 1e-9)))
    timer, count = _timer(clock), len(pilot.one_call)
    share = max(0.0, seconds / session_runs - pilot.opening) / count  # of one candidate in one session run
    most = max(pilot.one_call.values())
    rounds = min(ROUNDS, max(1, int(share / max(BLOCK_SECONDS, 2 * most))))
    # The same for all candidates, so that what the clock adds to a sample weighs alike on them.
    loops = max(1, math.ceil(TIMER_SHARE * timer / min(pilot.one_call.values())))
    candidates = {name: _candidate_plan(one, share / rounds, loops) for name, one in pilot.one_call.items()}
    return _Plan(candidates, rounds, MOST_OPENING * seconds / session_runs / count)


def _candidate_plan(one_call: float, seconds: float, loops: int) -> CandidatePlan:
    """Samples for a block of about `seconds`, after its one untimed call."""
    room = max(1, int((seconds - one_call) / (loops * one_call)))
    samples = min(KEPT, room)
    between = max(0, int((seconds - one_call) / (samples * one_call)) - loops)
    return CandidatePlan(samples, loops, between)


def _timer(clock: Clock) -> float:
    """What reading the clock costs, or the step in which it counts where that is larger; seconds."""
    # A clock that counts in steps (100 ns under Windows) shows the same time in most readings.
    steps = np.diff([clock() for _ in range(READINGS)])
    return float(np.median(steps[steps > 0])) if np.any(steps > 0) else 0.0


def _block(call: Call, candidate: CandidatePlan, clock: Clock) -> list[float]:
    """One turn of a candidate. Its first call brings the weights back into the caches, and is not kept."""
    call()
    if candidate.loops == 1 and candidate.between == 0:
        return [_single(call, clock) for _ in range(candidate.samples)]
    taken = []
    for _ in range(candidate.samples):
        for _ in range(candidate.between):
            call()
        taken.append(_timed(call, candidate.loops, clock))
    return taken


def _single(call: Call, clock: Clock) -> float:
    start = clock()
    call()
    return clock() - start


def _timed(call: Call, loops: int, clock: Clock) -> float:
    if loops == 1:
        return _single(call, clock)
    start = clock()
    for _ in range(loops):
        call()
    return (clock() - start) / loops


def _silent(message: str, done: float, total: float) -> None:
    """The status callback of whoever gave none."""


def _ignored(candidate: str, doing: str) -> None:
    """The notice of whoever watches over nothing."""
