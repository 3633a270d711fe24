"""Whether a run met the goals of its recipe. Every goal is "at most"; intervals decide, or leave it not resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import onnx
from torch import Tensor, nn

from evaluate.core.errors import ModelError, quoted
from evaluate.core.text import finite
from evaluate.metrics.base import metric_of

if TYPE_CHECKING:
    from compress.recipe.named_blocks import Goals


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
    for unit, amount in goals.amounts():
        value, low, high = unit.judged(unit.name, record, amount.relative)
        yield Goal(goal=unit.name, limit=amount.written, value=value, status=_outcome(value, low, high, amount.value))


def _outcome(value: float, low: float, high: float, limit: float) -> Outcome:
    if high <= limit:
        return "met"
    return "missed" if low > limit else "not resolved"


@dataclass(frozen=True)
class Deployed:
    """What a unit of the user's own may measure: the network, inputs by name, the deployed graph and its file."""

    module: nn.Module
    example: Mapping[str, Tensor]
    graph: onnx.ModelProto
    data: bytes


def own_sizes(goals: Goals, deployed: Deployed) -> dict[str, float]:
    """The sizes of a model in the units that these goals are set in and that are not leanfit's own.

    Raises ModelError where one gives no finite number.
    """
    sizes = {unit.name: unit.measure(deployed) for unit, _ in goals.amounts() if unit.measure}
    for name, value in sizes.items():
        if not finite(value):
            raise ModelError(f"unit {name!r} gives {quoted(value)}, where a finite number was expected")
    return {name: float(value) for name, value in sizes.items()}
