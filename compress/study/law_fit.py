"""What `leanfit fit` does: a request, its points, the law, its answers; one result to print and to keep."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.core.errors import LeanfitError, UsageError
from evaluate.scaling.forms.form import kind_of, laws_with_levels
from evaluate.scaling.law import Law, law_class, read_law, select_law
from evaluate.scaling.law_files import is_law_file
from evaluate.scaling.points.cells import is_numeric, number
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.points.point_files import read_points
from evaluate.scaling.points.points import Chosen, Points, input_checks, target_hint
from evaluate.scaling.query.crossing import (
    ask_break_even,
    ask_optimum,
    ask_solve,
    assignments,
    level_of,
)
from evaluate.scaling.query.line import unknown_to_solve

Status = Callable[[str, float, float], None]
Say = Callable[[str], None]
AUTO = "auto"


@dataclass(frozen=True)
class Query:
    """Questions to the law that is fitted. Values are in the units of the points."""

    solve: Sequence[float] = ()
    solve_for: str | None = None
    given: Sequence[str] = ()
    interval: float = 0.9
    compute: str | None = None
    budget: float | None = None
    against: str | None = None


@dataclass(frozen=True)
class FitRequest:
    """One call of `leanfit fit`; x are columns, or NAME=COLUMN where the law has another name for it."""

    points: Path | Points
    x: Sequence[str]
    y: str | None
    law: str = AUTO
    where: Sequence[str] = ()
    group: str | None = None
    weight: str | None = None
    bootstrap: int | None = None
    seed: int = 0
    set_param: Sequence[str] = ()
    reference: str | None = None
    force: bool = False
    query: Query = field(default_factory=Query)


@dataclass(frozen=True)
class FitResult:
    """law : fitted.  stored : its JSON, with what was asked.  columns : the points by the law's names, for pictures."""

    law: Law
    stored: dict[str, Any]
    columns: dict[str, Any]


def run_fit(request: FitRequest, say: Say, status: Status) -> FitResult:
    """Fit and ask. What is odd about the points is in stored["points"]["problems"]; `say` is told of it when the fit
    fails, and of defaults that were taken.

    Raises UsageError, DataError, ArtifactError; Unidentified and NotConverged (exit code 6) of the fit.
    """
    _check(request)
    points = read_points(request.points)
    request = _completed(request, points, say)
    axes = _axes(request.x, points)
    _check_query(request, list(axes), points)
    warnings = list(points.problems)
    try:
        rows = points.where(request.where)
        law, chosen = _fitted(request, rows, warnings, status)
        answers = _answers(request, law, points, warnings, status)
    except LeanfitError:
        for sentence in warnings:
            say(f"warning: {sentence}")
        raise
    low, high = float(chosen.y.min()), float(chosen.y.max())
    warnings += filter(None, (target_hint(str(request.y), low, high, target) for target in request.query.solve))
    about = {
        "source": points.source,
        "columns": [name if axes[name] == name else f"{name}={axes[name]}" for name in law.variables],
        "where": list(request.where),
        "group": request.group,
        "weight": request.weight,
        "problems": warnings,
        "n": len(chosen.y),
    }
    others = {name: column[chosen.rows] for name, column in rows.columns.items()}
    columns = {**others, **chosen.columns, str(request.y): chosen.y}
    return FitResult(law, {**law.to_dict(), **answers, "target": request.y, "points": about}, columns)


# The request.


def _check(request: FitRequest) -> None:
    """What can be said before anything is read. Raises UsageError."""
    query = request.query
    if request.law != AUTO:
        kind_of(request.law)
    elif request.set_param:
        raise UsageError("--set-param holds a parameter of one law: name it by --law (leanfit fit --law list)")
    if request.reference is not None and request.law not in laws_with_levels():
        raise UsageError(f"--reference names a level of the law {', '.join(laws_with_levels())}; add --law")
    if (query.compute is None) != (query.budget is None):
        missing = "--budget" if query.budget is None else '--compute, as "6*N*D"'
        raise UsageError(f"the best split of a budget takes --compute and --budget; add {missing}")
    if (query.solve_for or query.given) and not (query.solve or query.against or query.compute):
        raise UsageError("--solve-for and --given go with --solve, --against or --compute: add one, as --solve 0.08")


def _completed(request: FitRequest, points: Points, say: Say) -> FitRequest:
    """The request with its x and y named, where the points leave no doubt. Raises UsageError."""
    numeric = [name for name, column in points.columns.items() if _holds_numbers(column)]
    y = request.y or ("error" if "error" in numeric else None)
    if y is None:
        raise UsageError(f"say what to fit by --y NAME; {points.source} has the columns {', '.join(numeric)}")
    others = [name for name in numeric if name != y]
    x = list(request.x) or (["params"] if "params" in others else others if len(others) == 1 else [])
    if not x:
        raise UsageError(f"say along what by --x NAME; {points.source} has the columns {', '.join(others)}")
    if (x, y) != (list(request.x), request.y):
        say(f"fitting {y} along {', '.join(x)} (--x and --y name others)")
    return replace(request, x=x, y=y)


def _holds_numbers(column: Any) -> bool:
    """Whether a column is numbers but for a few cells, which the fit then names."""
    return is_numeric(column) or 2 * sum(number(cell) is not None for cell in column if cell) > len(column)


def _axes(x: Sequence[str], points: Points) -> dict[str, str]:
    """The law's variables and the columns that they are: --x N, --x N=params, --x N,D.

    Raises UsageError for a name that is there twice.
    """
    axes: dict[str, str] = {}
    for part in (part for text in x for part in ([text] if text in points.columns else text.split(","))):
        name, sign, column = (piece.strip() for piece in part.partition("="))
        if not sign or part in points.columns:
            name = column = part.strip()
        if name in axes:
            raise UsageError(f"--x names {name!r} twice; each x is another column")
        axes[name] = column
    return axes


def _check_query(request: FitRequest, names: Sequence[str], points: Points) -> None:
    """What is wrong with the questions, before the law is fitted. Raises UsageError, DataError."""
    query, given = request.query, _given(request, names)
    if query.solve or query.against is not None:
        unknown_to_solve(names, query.solve_for, given)
    for target in query.solve:
        if not (math.isfinite(target) and target > 0):
            raise UsageError(f"--solve takes a positive value of {request.y}, got {target:g}")
    if query.compute is not None:
        split = [name for name in Formula(query.compute, names).names if name in given]
        if split and not (query.solve or query.against):
            raise UsageError(f"--given holds {split[0]}, which the budget is to be split in: leave it out")
        if query.budget is not None and not (math.isfinite(query.budget) and query.budget > 0):
            raise UsageError(f"--budget takes a positive number, got {query.budget:g}")
    if query.against is not None and not Path(query.against).exists():
        _rows_of_condition(points, query.against)


def _given(request: FitRequest, names: Sequence[str]) -> dict[str, Any]:
    found = assignments(request.query.given, "--given", level_of(request.law, names))
    return {name: _single(name, values) for name, values in found.items()}


def _single(name: str, values: Sequence[Any]) -> Any:
    if len(values) > 1:
        raise UsageError(f"{name} takes one value here, got {', '.join(map(str, values))}")
    return values[0]


# The fit.


def _fitted(request: FitRequest, points: Points, warnings: list[str], status: Status) -> tuple[Law, Chosen]:
    """The law of these points and the rows it was fitted to; what is odd about them is added to `warnings`."""
    y, axes = str(request.y), _axes(request.x, points)
    asks = _columns_for(request.law, axes)
    chosen = points.take(list(axes.values()), y, group=request.group, weight=request.weight, **asks)
    warnings += [*chosen.problems, *input_checks(points, chosen, y, request.group)]
    chosen = chosen._replace(columns={name: chosen.columns[column] for name, column in axes.items()})
    what = "choosing the law" if request.law == AUTO else f"fitting the law {request.law}"
    status(f"{what}: {len(chosen.y)} points", 0, 0)
    return _law(request, chosen, status), chosen


def _columns_for(law: str, axes: dict[str, str]) -> dict[str, Any]:
    """What the law asks of its columns, for `Points.take`. Raises UsageError for a wrong number of them."""
    if law == AUTO:
        return {}
    kind, given = kind_of(law), list(axes)
    form = kind.form
    if kind.any_sign:
        return {"domains": dict.fromkeys(axes.values(), (-math.inf, math.inf))}
    if len(given) != len(form.variables) and not kind.any_columns:
        wanted = " ".join(f"--x {variable}" for variable in form.variables)
        raise UsageError(
            f"the law {law} takes {wanted}, in this order ({form.variables[0]}=COLUMN for a column of another name); "
            f"got {len(given)}: {', '.join(given)}"
        )
    level = level_of(law, given)
    places = zip(form.variables if set(form.variables) == set(given) else given, form.variables, strict=False)
    domains = {axes[own]: form.domains[variable] for own, variable in places if variable in form.domains}
    return {"domains": domains, "names": [axes[level]] if level else [], "constant": True}


def _law(request: FitRequest, chosen: Chosen, status: Status) -> Law:
    options = {"bootstrap": request.bootstrap, "reference": request.reference}
    settings: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    settings |= {"seed": request.seed, "force": request.force}
    points: dict[str, Any] = {"sample_weight": chosen.weights, "groups": chosen.groups}
    if request.law == AUTO:
        return select_law(chosen.columns, chosen.y, **points, **settings)
    fixed = {name: _single(name, values) for name, values in assignments(request.set_param, "--set-param").items()}
    for name, value in fixed.items():
        if not isinstance(value, float):
            raise UsageError(f"--set-param {name} takes a number, got {value!r}")
    law = law_class(request.law)(fixed=fixed, **settings)
    law.status = lambda text: status(text, *_counted(text))
    return law.fit(chosen.columns, chosen.y, **points)


def _counted(text: str) -> tuple[float, float]:
    """(64, 200) of "bootstrap: 64 of 200"; zeros without."""
    found = re.search(r"(\d+) of (\d+)", text)
    return (float(found[1]), float(found[2])) if found else (0.0, 0.0)


# The answers.


def _answers(request: FitRequest, law: Law, points: Points, warnings: list[str], status: Status) -> dict[str, Any]:
    """solve, optimum and break_even, as far as they were asked."""
    query, given = request.query, _given(request, law.variables)
    found: dict[str, Any] = {"solve": [ask_solve(law, y, query.solve_for, given, query.interval) for y in query.solve]}
    if query.compute is not None and query.budget is not None:
        formula = Formula(query.compute, law.variables)
        found["optimum"] = ask_optimum(law, formula, query.budget, given, query.interval)
    if query.against is not None:
        other = _other(request, points, query.against, warnings, status)
        found["break_even"] = {
            **ask_break_even(law, other, query.solve_for, given, query.interval), "against": query.against,
            "other": {"law": other.name, "params": other.params_, "curve": _sampled(law, other)},
        }  # fmt: skip
    return found


def _other(request: FitRequest, points: Points, against: str, warnings: list[str], status: Status) -> Law:
    """The second curve: a law's file, other points, or a condition on all rows of the same points."""
    path = Path(against)
    if path.is_file() and is_law_file(path):
        return read_law(path)[0]
    rows = read_points(path) if path.exists() else _rows_of_condition(points, against)
    own: list[str] = []
    law = _fitted(request, rows, own, status)[0]
    warnings += [f"{sentence} (--against)" for sentence in own]
    return law


def _rows_of_condition(points: Points, against: str) -> Points:
    if not re.search(r"[<>=]", against):
        raise UsageError(
            f"--against takes a condition such as role=native, points, or a law's file; there is no {against}"
        )
    return points.where(against)


def _sampled(law: Law, other: Law) -> list[list[float]] | None:
    """[x, y] of the other curve over three times the range of both, for pictures; None with several variables."""
    if len(other.variables) != 1:
        return None
    ends = [end for one in (law, other) for pair in one.range_.values() for end in pair]
    x = np.geomspace(min(ends) / 3, max(ends) * 3, 160) if min(ends) > 0 else np.linspace(min(ends), max(ends), 160)
    top = other.form_.domains.get(other.form_.variables[0], (0.0, math.inf))[1]
    inside = x[x <= top].tolist()
    return [inside, other.predict(inside).tolist()]
