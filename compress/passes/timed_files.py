"""Files timed against each other on this device, as a pass does that chooses by measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compress.core.errors import PassError
from compress.passes.base import Context, Trials
from evaluate.benchmark.bench_record import Speedup, judge
from evaluate.benchmark.first_call import bound_in_turn
from evaluate.benchmark.latency import Opener, measure_latency
from evaluate.core import stats
from evaluate.runtime.session import open_session

# For each file, and for each of two profiles: this share of what the benchmark may take, within bounds in seconds.
SHARE, LEAST, MOST = 0.075, 0.3, 1.5
_AGAIN = "the first again"


@dataclass(frozen=True)
class Together:
    """What one interleaved run says.

    speedups : over the first file, of all others.
    seconds  : median of one call of each.
    faster   : whether one of two is faster than the other.
    """

    speedups: Mapping[str, Speedup]
    seconds: Mapping[str, float]
    faster: Callable[[str, str], bool]


def trials_for(kind: str, context: Context) -> Trials:
    """How a pass may time files. Raises PassError, naming the pass, where nothing may be timed."""
    if context.trials is None:
        raise PassError(
            f"{kind}: a target of latency is measured on this device, and nothing may be timed here: trials of a study "
            "share the machine. Use a target in macs."
        )
    return context.trials


def seconds_each(trials: Trials) -> float:
    """How long each of some candidates is timed or profiled."""
    return float(min(max(SHARE * trials.seconds, LEAST), MOST))


def time_together(
    files: Mapping[str, bytes], trials: Trials, status: Callable[[str, float, float], None], seconds: float
) -> Together:
    """Time files in shuffled, interleaved rounds, `seconds` for each; the first is the one others are set against."""
    base = next(iter(files))

    def opener(data: bytes) -> Opener:
        return lambda: bound_in_turn(
            open_session(data, provider=trials.provider, threads=trials.threads, io=trials.io), [dict(trials.feeds)]
        )

    openers = {name: opener(data) for name, data in {**files, _AGAIN: files[base]}.items()}
    timing = measure_latency(openers, seconds=seconds * len(openers), seed=trials.seed, status=status)
    (judged,) = judge([timing.samples], base, _AGAIN, seed=trials.seed, opened_once=timing.opened_once)

    def faster(one: str, other: str) -> bool:
        logs = stats.session_run_ratios(timing.samples[other], timing.samples[one])
        return stats.verdict(stats.joint_intervals(logs[:, None], seed=trials.seed)[0], judged.floor) == "faster"

    return Together(judged.speedups, {name: float(np.median(timing.samples[name])) for name in files}, faster)
