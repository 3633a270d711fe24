"""What a search for the highest rate found: probes judged, the rate with its interval, and the sentences about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluate.core import stats
from evaluate.core.text import duration, rate_text
from evaluate.load_test.arrivals import Served, early_stopping

FEW, NEAR = 3, 1.5  # probes that a median takes at least; how far from the rate a probe may lie to count for it
BELOW, ABOVE = (0.8, 0.97), (1.03, 1.25)  # relative to the rate: the probes that confirm it
SATURATED = 0.99  # of the capacity: from here on it is not the bound that limits
UNSTEADY = 0.1  # half-width of the interval, relative to the rate, from which on the machine was not quiet


class Goal(NamedTuple):
    """bound : seconds; percentile : above 75, below 100; needed : queries that carry it."""

    bound: float
    percentile: float
    seed: int
    needed: int


class Alone(NamedTuple):
    """Calls back to back, in seconds; `highest` is the rate that queries like these would have borne, 0 for none."""

    queries: int
    median: float
    tail: float
    busy: float
    highest: float


class Probe(NamedTuple):
    """One run of the server under load; times in seconds, `late` counts queries over the bound."""

    rate: float
    issued: int
    completed: int
    median: float
    p99: float | None
    tail: float
    late: int
    cut: bool
    busy: float
    highest: float


def judged(rate: float, served: Served, goal: Goal, highest: float) -> Probe:
    """The figures of a probe, from what it served."""
    latencies = served.latencies
    return Probe(
        rate=rate,
        issued=served.arrivals.size,
        completed=served.finished.size,
        median=float(np.median(latencies)),
        p99=stats.percentile(latencies, 99),
        tail=float(np.percentile(latencies, goal.percentile)),
        late=int(np.sum(latencies > goal.bound)),
        cut=served.cut,
        busy=float(np.mean(served.busy)),
        highest=highest,
    )


def found_rate(probes: Sequence[Probe], goal: Goal) -> float:
    """The rate that the median probe would have borne, of those that count for it; 0.0 for none."""
    counted = _counted(probes, goal)
    return float(np.median([probe.highest for probe in counted])) if counted else 0.0


def _counted(probes: Sequence[Probe], goal: Goal) -> list[Probe]:
    """The probes that carry the percentile and lie near the rate that the last ones found; else those last ones."""
    whole = [probe for probe in probes if probe.completed >= goal.needed]
    last = (whole if len(whole) >= FEW else list(probes))[-FEW:]
    rate = float(np.median([probe.highest for probe in last])) if last else 0.0
    near = [probe for probe in whole if rate / NEAR <= probe.rate <= rate * NEAR]
    return near if len(near) >= FEW else last


def rate_result(
    goal: Goal, alone: Alone, probes: Sequence[Probe], why: str | None, *, calls: int, seconds: float
) -> dict[str, Any]:
    """The dict that `highest_rate` documents."""
    issued, completed = sum(probe.issued for probe in probes), sum(probe.completed for probe in probes)
    result: dict[str, Any] = {
        "scenario": "server",
        "bound_ms": 1e3 * goal.bound,
        "percentile": goal.percentile,
        "seed": goal.seed,
        "seconds": seconds,
        "rate": None,
        "low": None,
        "high": None,
        "why": why,
        "utilisation": None,
        "capacity": 1 / alone.busy,
        "alone": {"queries": alone.queries, "p50_ms": 1e3 * alone.median, "tail_ms": 1e3 * alone.tail},
        "probes": [_entry(probe, goal) for probe in probes],
        "below": None,
        "above": None,
        "confirmed": False,
        "mlperf_valid": False,
        "issued": issued,
        "completed": completed,
        "lost": max(0, issued - completed),
        "counted_twice": max(0, completed - issued),
        "calls": calls,
        "warnings": [],
    }
    return result if why is not None else {**result, **_found(goal, probes)}


def _entry(probe: Probe, goal: Goal) -> dict[str, Any]:
    return {
        "rate": probe.rate,
        "queries": probe.completed,
        "p50_ms": 1e3 * probe.median,
        "p99_ms": None if probe.p99 is None else 1e3 * probe.p99,
        "tail_ms": 1e3 * probe.tail,
        "met": not probe.cut and probe.tail <= goal.bound,
        "cut": probe.cut,
        "highest": probe.highest,
    }


def _found(goal: Goal, probes: Sequence[Probe]) -> dict[str, Any]:
    """What is known where a rate was found."""
    counted = _counted(probes, goal)
    rate, low, high = stats.median_interval([probe.highest for probe in counted], seed=goal.seed)
    utilisation = rate * float(np.median([probe.busy for probe in counted]))
    lower, upper = ([p for p in probes if least * rate <= p.rate <= most * rate] for least, most in (BELOW, ABOVE))
    below, above = _side(lower, goal), _side(upper, goal)
    saturated = utilisation >= SATURATED
    found = {
        "rate": rate,
        "low": low,
        "high": high,
        "utilisation": utilisation,
        "below": below,
        "above": above,
        "confirmed": bool(below and below["met"] and (saturated or (above and not above["met"]))),
        "mlperf_valid": early_stopping(sum(p.late for p in lower), sum(p.issued for p in lower), goal.percentile),
    }
    return {**found, "warnings": _warnings(found, goal, saturated)}


def _side(probes: Sequence[Probe], goal: Goal) -> dict[str, Any] | None:
    """Probes on one side of the rate, as one: the median of their percentiles; None where there are none."""
    if not probes:
        return None
    tail = float(np.median([math.inf if probe.cut else probe.tail for probe in probes]))
    return {
        "rate": float(np.median([probe.rate for probe in probes])),
        "probes": len(probes),
        "queries": sum(probe.completed for probe in probes),
        "tail_ms": 1e3 * tail if tail < math.inf else None,
        "met": tail <= goal.bound,
    }


def _warnings(found: dict[str, Any], goal: Goal, saturated: bool) -> list[str]:
    rate, below, above = found["rate"], found["below"], found["above"]
    within = f"the {goal.percentile:g}th percentile within {duration(1e3 * goal.bound)}"
    said = []
    if saturated:
        said.append(
            f"arrivals are not what limits: up to {rate_text(rate)} queries/s, the rate of calls back to back, {within}"
        )
    elif not (below and above):
        said.append("not confirmed: the rate moved while it was measured, and no probes lie on both sides of it")
    elif above["met"]:
        said.append(f"not confirmed: at {rate_text(above['rate'])} queries/s, above the rate, the bound was still met")
    if below and not below["met"]:
        said.append(f"not confirmed: at {rate_text(below['rate'])} queries/s, below the rate, the bound was not met")
    if found["high"] - found["low"] > 2 * UNSTEADY * rate:
        said.append(
            f"the probes differ: {rate_text(found['low'])} to {rate_text(found['high'])} queries/s; other work on the "
            "machine, or a bound close to what single calls take; a quiet machine or more seconds narrow it"
        )
    return said


def out_of_reach(alone: Alone, goal: Goal, probes: Sequence[Probe]) -> str:
    """Why no rate keeps the bound."""
    bound = duration(1e3 * goal.bound)
    if alone.median > goal.bound:
        return f"out of reach: even one query alone takes {duration(1e3 * alone.median)} against the bound of {bound}"
    share = f"{100 - goal.percentile:.3g} % of queries"
    if alone.tail > goal.bound or not probes:
        return f"out of reach: {share} take more than {duration(1e3 * alone.tail)} alone, against the bound of {bound}"
    slowest = min(probes, key=lambda probe: probe.rate)
    return (
        f"out of reach: even at {rate_text(slowest.rate)} queries/s, {share} take more than "
        f"{duration(1e3 * slowest.tail)}, against the bound of {bound}"
    )


def too_short(goal: Goal, rate: float, seconds: float, probes: int, needs: float) -> str:
    """Why no rate was looked for: the budget does not carry the percentile."""
    return (
        f"a {goal.percentile:g}th percentile needs {probes} probes of {goal.needed} queries, and {seconds:g} s do not "
        f"carry them at about {rate_text(rate)} queries/s; give at least {math.ceil(needs)} s"
    )
