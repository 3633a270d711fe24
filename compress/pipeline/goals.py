"""Whether a run met the goals of its recipe. Every goal is "at most"; intervals decide, or leave it not resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from compress.core.amounts import Amount
from evaluate.metrics.base import metric_of

if TYPE_CHECKING:
    from compress.recipe.schema import Goals


Outcome = Literal["met", "missed", "not resolved"]


class Goal(TypedDict):
    """One goal: its name, the limit as the recipe wrote it, the value in the same unit, and the outcome."""

    goal: str
    limit: float | str
    value: float
    status: Outcome


def judge_goals(goals: Goals, record: Mapping[str, Any]) -> list[Goal]:
    """Compare a Record with the goals. Sizes are exact; drop and latency are judged by their intervals."""
    return list(_judged(goals, record))


def _judged(goals: Goals, record: Mapping[str, Any]) -> Iterator[Goal]:
    if goals.drop is not None:
        worse = metric_of(record["baseline"]["accuracy"]).as_loss(record["drop"])
        yield Goal(goal="drop", limit=goals.drop, value=worse[0], status=_outcome(*worse, goals.drop))
    for name in ("params", "macs", "bytes"):
        amount: Amount | None = getattr(goals, name)
        if amount is not None:
            value = record["compressed"]["sizes"][name] / (record["baseline"]["sizes"][name] if amount.relative else 1)
            yield Goal(goal=name, limit=amount.written, value=value, status=_outcome(value, value, value, amount.value))
    if goals.latency is not None:
        value, low, high = _latency(goals.latency, record)
        outcome = _outcome(value, low, high, goals.latency.value)
        yield Goal(goal="latency", limit=goals.latency.written, value=value, status=outcome)


def _outcome(value: float, low: float, high: float, limit: float) -> Outcome:
    if high <= limit:
        return "met"
    return "missed" if low > limit else "not resolved"


def _latency(limit: Amount, record: Mapping[str, Any]) -> tuple[float, float, float]:
    if limit.relative:
        s = record["speedup"]
        return 1 / s["value"], 1 / s["high"], 1 / s["low"]
    milliseconds = record["compressed"]["latency"]
    return milliseconds["median_ms"] / 1e3, milliseconds["low"] / 1e3, milliseconds["high"] / 1e3
