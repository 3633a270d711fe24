"""What `leanfit fit` does: a request, its points, the law, its answers; one result to print and to keep."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.core.errors import DataError, LeanfitError, UsageError
from evaluate.core.text import a_few
from evaluate.scaling import law_files
from evaluate.scaling.forms.form import kind_of, laws_with_levels
from evaluate.scaling.law import Law, law_class, read_law, select_law
from evaluate.scaling.points.cells import is_numeric, meets, parse_conditions, shown
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.points.point_files import read_points
from evaluate.scaling.points.points import Chosen, Points, holds_numbers, input_checks, reference_of, target_hint
from evaluate.scaling.points.roles import role, suits
from evaluate.scaling.points.scale import PLAIN, SPARSE, Scale, read_target, y_scale
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
    """Questions to the law that is fitted. Values are in the units of the points, or of a rate as "92%".

    keep : shares ("98%") of the accuracy of the dense model, or of the best point.  drop : points below it.
    """

    solve: Sequence[float | str] = ()
    keep: Sequence[str] = ()
    drop: Sequence[float] = ()
    solve_for: str | None = None
    given: Sequence[str] = ()
    interval: float = 0.9
    compute: str | None = None
    budget: float | None = None
    against: str | None = None


@dataclass(frozen=True)
class FitRequest:
    """One call of `leanfit fit`; x are columns, or NAME=COLUMN where the law has another name for it; x and y may be
    formulas of columns.  higher_is_better : None leaves it to the name and the values of y (y_scale).
    y_made : whether y is a formula, whose words say nothing of its unit.  pool : a column that tells the curves of a
    study apart; those beside the one that `where` names lend it their exponent.  both_ends : whether the result,
    as a file that will be asked, holds the law as it is fitted for the other end too."""

    points: Path | Points
    x: Sequence[str]
    y: str | None
    law: str = AUTO
    where: Sequence[str] = ()
    group: str | None = None
    weight: str | None = None
    pool: str | None = None
    both_ends: bool = False
    bootstrap: int | None = None
    seed: int = 0
    set_param: Sequence[str] = ()
    reference: str | None = None
    force: bool = False
    higher_is_better: bool | None = None
    y_made: bool = False
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
    request = completed(request, points, say)
    axes = _axes(request.x, points)
    request = replace(request, y_made=request.y not in points.columns)
    for text in (str(request.y), *axes.values()):
        points = points.with_formula(text)
    _check_query(request, list(axes), points)
    warnings = list(points.problems)
    try:
        rows = points.where(request.where)
        chosen, scale = chosen_points(request, rows, warnings)
        targets = targets_of(request, rows, chosen, scale, say)
        law = _law(request, chosen, scale, status, _sisters(request, axes, points, say))
        answers = _answers(request, law, targets, points, warnings, status)
    except LeanfitError:
        for sentence in warnings:
            say(f"warning: {sentence}")
        raise
    low, high = float(chosen.y.min()), float(chosen.y.max())
    warnings += filter(None, (target_hint(str(request.y), low, high, target) for target, _ in targets))
    about = {
        "source": points.source,
        "columns": [name if axes[name] == name else f"{name}={axes[name]}" for name in law.variables],
        "where": list(request.where),
        "group": request.group,
        "weight": request.weight,
        **({"pool": request.pool} if request.pool is not None else {}),
        "problems": warnings,
        "n": len(chosen.y),
    }
    others = {name: column[chosen.rows] for name, column in rows.columns.items()}
    columns = {**others, **chosen.columns, str(request.y): chosen.y}
    stored = law.to_dict() if request.both_ends else law_files.plain(law.fitted_)
    return FitResult(law, {**stored, **answers, "target": request.y, "points": about}, columns)


# The request.


def _check(request: FitRequest) -> None:
    """What can be said before anything is read. Raises UsageError."""
    query = request.query
    if request.law != AUTO:
        kind_of(request.law)
    elif request.set_param:
        raise UsageError("--set-param holds a parameter of one law: name it by --law (leanfit fit --law list)")
    if request.pool is not None and request.law != AUTO:
        raise UsageError(f"--pool lets the exponent of other curves compete: it goes with --law {AUTO}")
    if request.reference is not None and request.law not in laws_with_levels():
        raise UsageError(f"--reference names a level of the law {', '.join(laws_with_levels())}; add --law")
    if (query.compute is None) != (query.budget is None):
        missing = "--budget" if query.budget is None else '--compute, as "6*N*D"'
        raise UsageError(f"the best split of a budget takes --compute and --budget; add {missing}")
    if (query.solve_for or query.given) and not (_asks(query) or query.against or query.compute):
        raise UsageError("--solve-for and --given go with --solve, --against or --compute: add one, as --solve 0.08")
    for asked in query.solve:
        if not 0 < read_target(asked)[0] < math.inf:
            raise UsageError(f"--solve takes a positive value of y, got {asked}")
    for text in query.keep:
        if not 0 < share_of(text) <= 1:
            raise UsageError(f"--keep takes a share such as 98% or 0.98, got {text!r}")
    for points in query.drop:
        if not 0 <= points < math.inf:
            raise UsageError(f"--drop takes how many points may be lost, as 1, got {points:g}")


def _asks(query: Query) -> bool:
    return bool(query.solve or query.keep or query.drop)


def share_of(text: str) -> float:
    """98% or 0.98 as 0.98."""
    share, per_cent = read_target(text)
    return share / 100 if per_cent else share


def completed(request: FitRequest, points: Points, say: Say) -> FitRequest:
    """The request with its x and y named, where the points leave no doubt. Raises UsageError."""
    numeric = [name for name, column in points.columns.items() if holds_numbers(column)]
    other = [name for name in numeric if name != "params"]
    usual = [name for name in ("error", "accuracy") if name in numeric] or other * (len(other) == 1 < len(numeric))
    y = request.y or next(iter(usual), None)
    if y is None:
        raise UsageError(f"say what to fit by --y NAME; {points.source} has the columns {', '.join(numeric)}")
    others = [name for name in numeric if name != y]
    x = list(request.x) or (["params"] if "params" in others else others if len(others) == 1 else [])
    if not x:
        raise UsageError(f"say along what by --x NAME; {points.source} has the columns {', '.join(others)}")
    if (x, y) != (list(request.x), request.y):
        say(f"fitting {y} along {', '.join(x)} (--x and --y name others)")
    return replace(request, x=x, y=y)


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
    if request.pool is not None and len(names) > 1:
        raise UsageError(f"--pool is for curves along one variable; got --x {' --x '.join(names)}")
    if _asks(query) or query.against is not None:
        unknown_to_solve(names, query.solve_for, given)
    if query.compute is not None:
        split = [name for name in Formula(query.compute, names).names if name in given]
        if split and not (_asks(query) or query.against):
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


def chosen_points(request: FitRequest, points: Points, warnings: list[str]) -> tuple[Chosen, Scale]:
    """The rows that are fitted and the unit of y; what is odd about them is added to `warnings`."""
    y, axes = str(request.y), _axes(request.x, points)
    asks = _columns_for(request.law, axes)
    sparse = {name: _most_sparse(points, name) for name in axes.values() if name.lower() in SPARSE}
    asks["domains"] = {**{name: (0.0, most) for name, most in sparse.items()}, **asks.get("domains", {})}

    def taken() -> Chosen:
        return points.take(list(axes.values()), y, group=request.group, weight=request.weight, **asks)

    chosen, scale = taken(), PLAIN
    if request.law == AUTO or not kind_of(request.law).any_sign:
        along = next(iter(chosen.columns.values())) if len(axes) == 1 and not sparse else None
        scale, guess = y_scale("" if request.y_made else y, chosen.y, along, request.higher_is_better)
        warnings += [guess] if guess else []
    if scale.higher:  # what reaches the best there can be lacks nothing, and has no logarithm
        asks["domains"][y] = (0.0, math.nextafter(scale.top, 0.0))
        chosen = taken()
    warnings += [*chosen.problems, *input_checks(points, chosen, request.group)]
    return chosen._replace(columns={name: chosen.columns[column] for name, column in axes.items()}), scale


def _most_sparse(points: Points, name: str) -> float:
    """The largest sparsity that a law can take, as a fraction or in per cent: below all."""
    column = points.column(name)
    numbers = np.asarray(column, dtype=float) if is_numeric(column) else np.empty(0)
    return math.nextafter(100.0 if np.nanmax(numbers, initial=0.0) > 1 else 1.0, 0.0)


def targets_of(
    request: FitRequest, points: Points, chosen: Chosen, scale: Scale, say: Say
) -> list[tuple[float, dict[str, str]]]:
    """Each y that is asked for, and how it was asked where that was not by its value. Raises UsageError."""
    query, found = request.query, []
    for one in query.solve:
        target = scale.read(one)
        if not (math.isfinite(target) and scale.fitted(target) > 0):
            limit = f" below {scale.top:g}" if scale.higher else ""
            other = f"; {target:g} % is {target / 100:g} here" if scale.rate and scale.unit == 1 < target <= 100 else ""
            raise UsageError(f"--solve takes a positive value of {request.y}{limit}, got {target:g}{other}")
        found.append((target, {"asked": one} if isinstance(one, str) and "%" in one else {}))
    if query.keep or query.drop:
        best, of = reference_of(points, chosen, scale.higher)
        asked = [(f"keep {text}", scale.kept(share_of(text), best)) for text in query.keep]
        asked += [(f"drop {lost:g}", scale.dropped(lost, best)) for lost in query.drop]
        for words, target in asked:
            say(f"{words} of {of} with {request.y} {best:.4g}: {request.y} {target:.4g}")
            if not scale.fitted(target) > 0:
                raise UsageError(f"--{words}: {request.y} would have to be {target:.4g}, which cannot be")
            found.append((target, {"asked": f"{words} of {of}"}))
    return found


def _columns_for(law: str, axes: dict[str, str]) -> dict[str, Any]:
    """What the law asks of its columns, for `Points.take`. Raises UsageError for a wrong number of them."""
    if law == AUTO:
        levels = [column for name, column in axes.items() if role(name) == "level"]
        return {"names": levels} if levels and len(axes) > 1 else {}
    kind = kind_of(law)
    given, form = list(suits(list(axes), kind.competes) or axes), kind.form
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


def _sisters(request: FitRequest, axes: Mapping[str, str], points: Points, say: Say) -> list[tuple[Any, Any]]:
    """(x, y) of the other curves: by each other value of the column, the rows that meet the other conditions.

    Raises UsageError where no condition says which curve is fitted, DataError where there is no other.
    """
    if request.pool is None:
        return []
    conditions = parse_conditions(request.where)
    own = [condition for condition in conditions if condition.name == request.pool]
    if not own:
        asked = f'--where "{request.pool}={shown(points.column(request.pool)[0])}"'
        raise UsageError(f"--pool {request.pool} needs to know which curve is fitted: add a condition, as {asked}")
    rest = points.where([f'"{condition.text}"' for condition in conditions if condition not in own])
    column = rest.column(request.pool)
    others = np.unique(column[~np.all([meets(column, condition) for condition in own], axis=0)]).tolist()
    found = []
    for value in others:
        with suppress(DataError):
            chosen, _ = chosen_points(request, rest.rows(np.flatnonzero(column == value)), [])
            found.append((next(iter(chosen.columns.values())), chosen.y))
    if not found:
        raise DataError(f"--pool {request.pool}: no other curve meets the conditions; leave --pool out")
    names = a_few([shown(other) for other in others])
    say(f"the exponent of {len(found)} other curves may take part ({request.pool} {names})")
    return found


def _law(
    request: FitRequest, chosen: Chosen, scale: Scale, status: Status, sisters: Sequence[tuple[Any, Any]] = ()
) -> Law:
    what = "choosing the law" if request.law == AUTO else f"fitting the law {request.law}"
    status(f"{what}: {len(chosen.y)} points", 0, 0)
    options = {"bootstrap": request.bootstrap, "reference": request.reference}
    settings: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    settings |= {"seed": request.seed, "force": request.force, "scale": scale, "sisters": sisters}
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


def _answers(
    request: FitRequest,
    law: Law,
    targets: Sequence[tuple[float, dict[str, str]]],
    points: Points,
    warnings: list[str],
    status: Status,
) -> dict[str, Any]:
    """solve, optimum and break_even, as far as they were asked."""
    query, given = request.query, _given(request, law.variables)
    solved = [{**ask_solve(law, y, query.solve_for, given, query.interval), **asked} for y, asked in targets]
    found: dict[str, Any] = {"solve": solved}
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
    if path.is_file() and law_files.is_law_file(path):
        return read_law(path)[0]
    rows = read_points(path) if path.exists() else _rows_of_condition(points, against)
    own: list[str] = []
    law = _law(request, *chosen_points(request, rows, own), status)
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
