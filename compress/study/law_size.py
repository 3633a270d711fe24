"""What `leanfit size` does: points of several families of models, a target, and the smallest model that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.study.law_fit import FitRequest, Query, Say, chosen_points, completed, targets_of
from evaluate.core.errors import LeanfitError, UsageError
from evaluate.core.text import a_few
from evaluate.scaling.points.cells import is_numeric, shown
from evaluate.scaling.points.point_files import read_points
from evaluate.scaling.points.points import Chosen, Points, input_checks
from evaluate.scaling.points.scale import SPARSE, Scale
from evaluate.scaling.query.sizing import Sizing, sizing

FAMILIES = ("level", "role", "method", "kind", "format", "bits", "family", "model")  # columns that tell families apart
MOST_FAMILIES = 24
KEEP = "98%"


@dataclass(frozen=True)
class SizeRequest:
    """One call of `leanfit size`: the points as for `leanfit fit`, the column of the cost, those that tell families
    apart, one target (a value, "92%", a share kept or points dropped of the dense), and the chance that is asked for.
    """

    points: Path | Points
    cost: str | None = None
    y: str | None = None
    by: Sequence[str] = ()
    where: Sequence[str] = ()
    group: str | None = None
    higher_is_better: bool | None = None
    query: Query = field(default_factory=Query)
    confidence: float = 0.9


@dataclass(frozen=True)
class SizeResult:
    """sizing : the answer.  y : the name of the metric, scale its unit.  asked : how the target was asked for."""

    sizing: Sizing
    y: str
    scale: Scale
    asked: str
    by: tuple[str, ...]
    source: str

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "source": self.source, "y": self.y, "scale": self.scale.plain(), "asked": self.asked, "by": list(self.by),
            **self.sizing.plain(),
        }  # fmt: skip


def run_size(request: SizeRequest, say: Say) -> SizeResult:
    """Read, choose the rows, and ask. Raises UsageError, DataError, ArtifactError."""
    points = read_points(request.points)
    asks = FitRequest(
        points=points, x=[request.cost] if request.cost else (), y=request.y, where=request.where, group=request.group,
        higher_is_better=request.higher_is_better, query=_one_target(request.query),
    )  # fmt: skip
    asks = completed(asks, points, lambda _: None)
    (cost,), y = asks.x, str(asks.y)
    if (cost, y) != (request.cost, request.y):
        say(f"{y} is to be kept, and {cost} to be small (--y and --cost name others)")
    if cost.lower() in SPARSE:
        raise UsageError(f'{cost} grows as models become smaller, and a cost falls: ask for --cost "1 - {cost}"')
    for text in (y, cost):
        points = points.with_formula(text)
    warnings = list(points.problems)
    try:
        rows = points.where(request.where)
        by = _families(request, rows, {cost, y}, say)
        chosen, scale = chosen_points(replace(asks, y_made=asks.y not in points.columns), rows, warnings)
        ((target, words),) = targets_of(asks, rows, chosen, scale, say)
    except LeanfitError:
        for sentence in warnings:
            say(f"warning: {sentence}")
        raise
    names = [_name(rows, by, row) or "models" for row in chosen.rows.tolist()]
    found = sizing(
        chosen.columns[cost], chosen.y, names, target, cost=cost, confidence=request.confidence, scale=scale,
        groups=_runs(request, rows, chosen),
    )  # fmt: skip
    of_one_law = set(
        input_checks(rows, chosen, request.group)
    )  # runs and kinds that are mixed: here that is the question
    told = [sentence for sentence in warnings if sentence not in of_one_law]
    found = replace(found, problems=(*told, *found.problems))
    return SizeResult(found, y, scale, words.get("asked", ""), tuple(by), points.source)


def _one_target(query: Query) -> Query:
    """The query, with `keep 98 %` where nothing is asked for. Raises UsageError for several targets."""
    asked = [*query.solve, *query.keep, *query.drop]
    if len(asked) > 1:
        raise UsageError(
            f"a size is found for one target, got {a_few([str(one) for one in asked])}; ask again for others"
        )
    return query if asked else replace(query, keep=[KEEP])


def _families(request: SizeRequest, points: Points, axes: set[str], say: Say) -> list[str]:
    """The columns that tell families apart: those named, else the usual ones that the points have. UsageError."""
    if request.by:
        for name in request.by:
            points.column(name)
        by = list(request.by)
    else:
        several = [
            name for name in FAMILIES
            if name in points.columns and name not in axes and len(set(map(shown, points.columns[name]))) > 1
        ]  # fmt: skip
        by = several[:1]
        if by:
            say(f"families by {by[0]} (--by names other columns)")
    names = {_name(points, by, row) for row in range(len(points))}
    if len(names) > MOST_FAMILIES:
        raise UsageError(
            f"{' and '.join(by)} tell {len(names)} families apart, and those are to be few: name a column of levels or "
            "methods by --by, or take fewer rows by --where"
        )
    return by


def _name(points: Points, by: Sequence[str], row: int) -> str:
    values = [(name, points.columns[name][row]) for name in by]
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else shown(value) for name, value in values)


def _runs(request: SizeRequest, points: Points, chosen: Chosen) -> Any:
    """Labels of points of one run, where a column tells them."""
    if chosen.groups is not None:
        return chosen.groups
    runs = points.columns.get("run")
    known = runs is not None and not is_numeric(runs) and request.group is None
    return runs[chosen.rows] if known and len(np.unique(runs[chosen.rows].astype(str))) > 2 else None  # type: ignore[index]
