"""What `leanfit predict` does: a law from its file, asked at given x, along a file of points, or for a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import UsageError, did_you_mean
from evaluate.report.messages.law_messages import answer_sentence, beyond_text, quantity
from evaluate.report.messages.law_view import Answer, in_unit, part
from evaluate.report.text.text_columns import aligned
from evaluate.scaling.diagnose.design import beyond, extrapolation
from evaluate.scaling.law import read_law
from evaluate.scaling.points.cells import is_numeric
from evaluate.scaling.points.scale import PLAIN, Scale
from evaluate.scaling.query.crossing import ask_solve, assignments, level_of

if TYPE_CHECKING:
    from evaluate.scaling.law import Law
    from evaluate.scaling.points.points import Points

Floats = NDArray[np.float64]
UNLIMITED = 2**20  # columns: a table that a program may read is not folded


@dataclass(frozen=True)
class PredictRequest:
    """One call of `leanfit predict`."""

    path: Path
    x: Sequence[str] = ()
    points: Path | None = None
    where: Sequence[str] = ()
    interval: float = 0.9
    solve: Sequence[float | str] = ()
    solve_for: str | None = None


def run_predict(request: PredictRequest) -> dict[str, Any]:
    """{law, variables, params, target, interval, predictions, solve, warnings}, and `scale` where y is not fitted as
    it stands. Raises UsageError, ArtifactError, DataError."""
    law, stored = read_law(request.path)
    target = str(stored.get("target") or "y")
    problems: list[str] = []
    given = assignments(request.x, "--x", level_of(law.name, law.variables))
    _check(request, law, given)
    found: dict[str, Any] = {
        "law": law.name, "variables": list(law.variables), "params": law.params_, "target": target,
        "interval": request.interval, "predictions": [], "solve": [],
    }  # fmt: skip
    scale = law.fitted_.settings.scale
    found |= {"scale": scale.plain()} if scale != PLAIN else {}
    if request.points is not None:
        columns, problems, labels, actual = _columns_of(request, law, stored)
        found["predictions"] = _predictions(law, columns, request.interval, labels)
        problems += extrapolation(law, law.fitted_.numbers(columns))
        if actual is not None:
            found["score"] = _score(found["predictions"], actual)
    elif not request.solve:
        columns = _aligned(given)
        found["predictions"] = _predictions(law, columns, request.interval, [])
        problems += extrapolation(law, law.fitted_.numbers(columns))
    fixed = {name: values[0] for name, values in given.items()}
    targets = [scale.read(y) for y in request.solve]
    found["solve"] = [ask_solve(law, y, request.solve_for, fixed, request.interval) for y in targets]
    found["warnings"] = [*law.warnings_, *problems]
    return found


def _check(request: PredictRequest, law: Law, given: Mapping[str, Sequence[Any]]) -> None:
    """Raise UsageError for variables that are missing, unknown, or given twice."""
    names = law.variables
    for name in given:
        if name not in names:
            near = did_you_mean(name, names)
            raise UsageError(f"{request.path}: the law has no variable {name!r}{near}; it has {', '.join(names)}")
    if request.solve:
        if request.points is not None:
            raise UsageError("--solve and --points exclude each other; the other variables are given by --x")
        many = next((name for name, values in given.items() if len(values) > 1), None)
        if many:
            raise UsageError(f"--solve takes one value of {many}; ask again for each of the others")
        return
    if request.points is not None and given:
        raise UsageError("give the variables by --x, or by --points, not by both")
    missing = [name for name in names if name not in given]
    if missing and request.points is None:
        told = " ".join(f"--x {name}=VALUE" for name in missing)
        raise UsageError(f"{request.path}: {', '.join(missing)} not given; add {told}, or --points FILE")


def _aligned(given: Mapping[str, Sequence[Any]]) -> dict[str, NDArray[Any]]:
    """Columns (n,) of equal length; a single value stands for all. Raises UsageError."""
    count = max(len(values) for values in given.values())
    for name, values in given.items():
        if len(values) not in (1, count):
            raise UsageError(f"--x {name} has {len(values)} values and another has {count}; give as many, or one")
    return {name: np.array(list(values) * (count // len(values))) for name, values in given.items()}


def _columns_of(
    request: PredictRequest, law: Law, stored: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], list[str], Floats | None]:
    """The law's variables in a file of points, what was left out, what rows are called, and y where it is there."""
    from evaluate.scaling.points.point_files import read_points

    points = read_points(str(request.points), where=request.where)
    about = stored.get("points")
    known_as = about.get("columns") if isinstance(about, Mapping) else None
    points = _renamed(points, law.variables, known_as if isinstance(known_as, list) else [])
    level = level_of(law.name, law.variables)
    columns, rows, left_out = points.inputs(
        law.variables, domains=law.fitted_.domains(), names=[level] if level else []
    )
    actual = points.columns.get(str(stored.get("target")))
    known = None if actual is None or not is_numeric(actual) else actual[rows]
    return columns, [*points.problems, *left_out], [points.label(int(row)) for row in rows], known


def _renamed(points: Points, variables: Sequence[str], known_as: Sequence[Any]) -> Points:
    """The points with the law's own names, where they have the columns that the law was fitted to by other ones."""
    pairs = [str(text).partition("=")[::2] for text in known_as]
    own = {
        name: points.columns[column]
        for name, column in pairs
        if name in variables and name not in points.columns and column in points.columns
    }
    return replace(points, columns={**points.columns, **own})


def _predictions(law: Law, columns: Mapping[str, Any], interval: float, labels: Sequence[str]) -> list[dict[str, Any]]:
    ends = law.predict(columns, interval=interval)
    far = beyond(law, law.fitted_.numbers(columns))
    rows = []
    for place, (y, low, high, past) in enumerate(zip(*(values.tolist() for values in (*ends, far)), strict=True)):
        x = {name: _plain(columns[name][place]) for name in law.variables}
        row = {"x": x, "y": y, "low": low, "high": high, "beyond": past}
        rows.append({**row, "row": labels[place]} if labels else row)
    return rows


def _score(rows: list[dict[str, Any]], actual: Floats) -> dict[str, Any]:
    """How the predictions do where y is known: rmsle, the rms of log(predicted) - log(actual), and the share of the
    points inside their interval. The rows get their `actual`."""
    known, logs, inside = 0, 0.0, 0
    for row, value in zip(rows, actual.tolist(), strict=True):
        row["actual"] = value
        if value > 0 and math.isfinite(value) and row["y"] > 0:
            known, inside = known + 1, inside + (row["low"] <= value <= row["high"])
            logs += math.log(row["y"] / value) ** 2
    return {"n": known, "rmsle": math.sqrt(logs / known), "inside": inside / known} if known else {"n": 0}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def predicted_table(found: Mapping[str, Any]) -> str:
    """Predictions as aligned columns, and answers as sentences."""
    lines, target, share = (
        [],
        in_unit(found["target"], Scale.of(found.get("scale", {}))),
        f"{100 * found['interval']:.4g} % interval",
    )
    if found["predictions"]:
        rows = [
            [
                *(quantity(name, row["x"][name]) for name in found["variables"]),
                *(quantity(target, row["y"]), f"{quantity(target, row['low'])} to {quantity(target, row['high'])}"),
                beyond_text(row["beyond"]),
            ]
            for row in found["predictions"]
        ]
        lines += aligned([*found["variables"], target, share, ""], rows, UNLIMITED)
    if (found.get("score") or {}).get("n"):
        score = found["score"]
        lines.append(
            f"against the {score['n']} known values of {target}: off by {100 * score['rmsle']:.3g} % (rms), "
            f"{100 * score['inside']:.3g} % of them inside the {share}"
        )
    lines += [answer_sentence(part(Answer, answer), target) for answer in found["solve"]]
    return "\n".join(lines)
