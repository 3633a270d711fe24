"""A law on a page: what it says, its pictures, its figures and how sure they are; from its JSON and the points."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluate.core.errors import LeanfitError
from evaluate.core.text import clean, finite
from evaluate.report.charts.bars import candidates_picture
from evaluate.report.charts.law_charts import Budget, plane_picture, residuals_picture
from evaluate.report.charts.law_curve import curve_picture
from evaluate.report.charts.study_charts import Level, effective_picture, worth_picture
from evaluate.report.charts.svg import Picture
from evaluate.report.html.markup import capital, element, flat, rendered, write_document
from evaluate.report.messages.law_messages import (
    candidate_table,
    chosen_sentence,
    fit_sentence,
    headline_of,
    parameter_table,
    questions,
    range_sentence,
)
from evaluate.report.messages.law_view import View, has_names, sample_of, view_of
from evaluate.scaling.points.cells import label
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.points.point_files import from_records

LEFT_OUT = ("draws", "residuals", "spread")


def write_law_page(law: Any, points: Any, out: str | Path) -> Path:
    """Write one self-contained page about a law to `out` (parents are made); it appears by one rename.

    law : its JSON, or a fitted law. points : those it was fitted to (`Points`, or name -> (n,)), or None.
    Raises DataError for a JSON that is no law, MachineError where the file cannot be written.
    """
    view = view_of(law)
    title = capital(headline_of(view))
    body = rendered("law_page.html", title=title, sections=law_sections(view, points))
    return write_document(Path(out), f"{title}: leanfit", body)


def law_line(law: Any) -> str:
    """A law in one line, with the first two answers that it gave; a law that cannot be read, by its name."""
    try:
        view = view_of(law)
    except LeanfitError:
        return f"law {clean(law.get('law') or 'without a name', 40)}"
    answers = "; ".join(f"{asked}: {answer}" for asked, answer in questions(view)[:2])
    return headline_of(view) + (f"; {answers}" if answers else "")


def law_section(stored: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], key: str, alone: bool) -> Markup:
    """A law under its headline; one of several is folded in. A law that cannot be read costs its pictures alone."""
    title, _, answers = capital(law_line(stored)).partition("; ")
    try:
        view = view_of(stored)
        body = law_sections(view, points_of(view, trials), key=key, level=3, more=_worth(view, trials, key))
    except LeanfitError as error:
        body = element("p", f"This law could not be drawn: {error}", "warn")
    return rendered("law_among.html", title=title, answers=answers, body=body, alone=alone)


def law_sections(
    view: View, points: Any = None, *, key: str = "law", level: int = 2, more: Sequence[Picture] = ()
) -> Markup:
    """Everything about a law below its headline.

    points : those it was fitted to, or None: then the law is drawn alone. key : makes the ids of its pictures its own.
    level : the heading level of its sections. more : pictures that stand with its own.
    """
    head, parameters = parameter_table(view)
    _, rows = candidate_table(view.candidates)
    notes = [", ".join(filter(None, (row[-1], clean(c.reason, 200)))) for row, c in zip(rows, view.candidates)]
    about = {name: value for name, value in view.about.items() if name != "problems"}
    short = {name: value for name, value in view.stored.items() if name not in LEFT_OUT}
    return rendered(
        "law.html",
        level=level,
        answers=questions(view),
        formula=view.formula,
        parameter_head=head,
        parameters=parameters,
        points_and_fit=". ".join(capital(t) for t in (range_sentence(view), fit_sentence(view)) if t),
        source=clean(view.law.form.source, 200),
        warnings=view.warnings,
        drawn=[(picture, picture.caption) for picture in (*law_pictures(view, points, key=key), *more)],
        chosen=chosen_sentence(view),
        candidates=[[*row[:-1], note] for row, note in zip(rows, notes)] if len(rows) > 1 else [],
        fitted=[*flat(about), *flat(view.stored.get("settings") or {})],
        json=json.dumps(short, indent=1, ensure_ascii=False, default=str),
    )


def law_pictures(law: Any, points: Any = None, *, key: str = "law") -> list[Picture]:
    """Every picture that there is something to draw for, in the order of the page."""
    view = view_of(law)
    axes = _axes(view, points)
    found: list[Picture | None] = [
        curve_picture(view, points, variable=name, key=f"{key}-curve{n}") for n, name in enumerate(axes, start=1)
    ]
    if len(axes) > 1:
        found.append(plane_picture(view, points, pair=(axes[0], axes[1]), budget=_budget(view), key=f"{key}-plane"))
    found.append(residuals_picture(view, points, groups=_groups(view, points), key=f"{key}-residuals"))
    found.append(candidates_picture(view.candidates, key=f"{key}-candidates"))
    level = next((name for name in view.variables if view.levels(name)), "level")
    found.append(effective_picture(_levels(view), variable=level, key=f"{key}-effective"))
    return [picture for picture in found if picture is not None]


def _axes(view: View, points: Any) -> tuple[str, ...]:
    """The variables that can be an axis: numbers that differ."""
    sample = sample_of(view, points)
    found = []
    for column, name in enumerate(view.variables):
        names = bool(view.levels(name)) or (sample is not None and has_names(sample.x[:, column]))
        span = view.span(name)
        if not names and (span is None or span[1] > span[0]):
            found.append(name)
    return tuple(found) or view.variables[:1]


def _groups(view: View, points: Any) -> Sequence[Any] | None:
    """What tells the points apart: a variable of names, else their role or level."""
    sample = sample_of(view, points)
    if sample is None:
        return None
    for column, name in enumerate(view.variables):
        if view.levels(name) or has_names(sample.x[:, column]):
            return [label(value) if view.levels(name) else str(value) for value in sample.x[:, column]]
    columns: Mapping[str, Any] = getattr(points, "columns", points)
    found = [list(columns[name]) for name in ("role", "level") if name in columns and name not in view.variables]
    return next((values for values in found if len(values) == len(sample) and len(set(values)) > 1), None)


def _budget(view: View) -> Budget | None:
    """What the best split was asked for; None where it was not."""
    found = view.optimum
    if found is None or not finite(found.budget) or not found.compute:
        return None
    formula = Formula(found.compute, view.variables)
    return Budget(formula, float(found.budget), formula.text, found.best)


def _levels(view: View) -> list[Level]:
    """The efficiencies of a law of effective params: its parameters `eff...`, one a compression level."""
    found = []
    for name, value in view.law.params.items():
        if name.startswith("eff"):
            level = name[3:].strip("_[]() ")
            number = re.search(r"\d+(\.\d+)?(e-?\d+)?", level)
            found.append(Level(level or name, float(number[0] if number else "nan"), value, *view.law.intervals[name]))
    return found


def _worth(view: View, trials: Sequence[Mapping[str, Any]], key: str) -> list[Picture]:
    """What the compressed models among these trials are worth by a law of the dense ones."""
    conditions = " ".join(map(str, view.about.get("where") or ())).replace(" ", "")
    if not trials or not any(f"role={role}" in conditions for role in ("dense", "native")):
        return []
    try:
        picture = worth_picture(view, from_records(list(trials), "the trials"), key=f"{key}-worth")
    except LeanfitError:
        return []
    return [picture] if picture is not None else []


def points_of(view: View, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The points of a law, by its variables' names, where these trials are the ones it was fitted to; else None.

    They are where the same columns and conditions give as many points as the law says that it had.
    """
    texts = [text for part in view.about.get("columns") or () for text in str(part).split(",")]
    columns = [text.partition("=")[2] or text for text in texts]
    if not trials or len(columns) != len(view.variables):
        return None
    try:
        found = from_records(trials, "the trials").where(view.about.get("where") or ())
        chosen = found.take(columns, view.target)
    except LeanfitError:
        return None
    if len(chosen.y) != view.law.n:
        return None
    return {**{name: chosen.x[:, i] for i, name in enumerate(view.variables)}, view.target: chosen.y}
