"""A law on a page: what it says, its pictures, its figures and how sure they are; from its JSON and the points."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluate.core.text import clean, finite
from evaluate.report.document import shell, written
from evaluate.report.law_bars import Level, candidates_picture, effective_picture
from evaluate.report.law_curve import curve_picture
from evaluate.report.law_plane import Budget, plane_picture
from evaluate.report.law_residuals import residuals_picture
from evaluate.report.law_saving import LawPicture
from evaluate.report.law_table import candidate_rows
from evaluate.report.law_told import (
    candidates_of,
    chosen_sentence,
    fit_sentence,
    headline_of,
    optimum_of,
    parameter_head,
    parameter_rows,
    questions,
    range_sentence,
    warnings_of,
)
from evaluate.report.law_view import View, sample_of, view_of
from evaluate.report.markup import Html, element, flat, folded, joined, pairs, table
from evaluate.report.overview import figures
from evaluate.scaling.points.cells import label

LEFT_OUT = ("draws", "residuals", "spread")


def write_law_page(law: Any, points: Any, out: str | Path) -> Path:
    """Write one self-contained page about a law to `out` (parents are made); it appears by one rename.

    law : its JSON, or a fitted law. points : those it was fitted to (`Points`, or name -> (n,)), or None.
    Raises DataError for a JSON that is no law, MachineError where the file cannot be written.
    """
    view = view_of(law)
    title = headline_of(view)
    title = title[:1].upper() + title[1:]
    head = element("header", element("h1", "leanfit: a law"), element("p", title, class_="lead"))
    return written(Path(out), shell(f"{title}: leanfit", element("main", head, law_sections(view, points))))


def law_sections(
    law: Any, points: Any = None, *, key: str = "law", level: int = 2, more: Sequence[LawPicture] = ()
) -> Html:
    """Everything about a law below its headline.

    law : its JSON, or a fitted law. points : those it was fitted to, or None: then the law is drawn alone.
    key : makes the ids of its pictures its own. level : the heading level of its sections.
    more : pictures that stand with its own.
    """
    view = view_of(law)
    drawn = [(picture, picture.caption) for picture in (*law_pictures(view, points, key=key), *more)]
    sections = [
        ("Answers", _answers(view)),
        ("The law", _law(view)),
        ("Warnings", joined(element("p", text, class_="warn") for text in warnings_of(view))),
        ("Pictures", figures(drawn, level + 1)),
        ("How it was chosen", _chosen(view)),
        ("How it was fitted", _fitted(view)),
    ]
    return joined(joined((element(f"h{level}", name), body)) for name, body in sections if body)


def law_pictures(law: Any, points: Any = None, *, key: str = "law") -> list[LawPicture]:
    """Every picture that there is something to draw for, in the order of the page."""
    view = view_of(law)
    found: list[LawPicture | None] = [
        curve_picture(view, points, variable=name, key=f"{key}-curve{n}")
        for n, name in enumerate(_axes(view, points), start=1)
    ]
    if len(axes := _axes(view, points)) > 1:
        found.append(plane_picture(view, points, pair=(axes[0], axes[1]), budget=_budget(view), key=f"{key}-plane"))
    found.append(residuals_picture(view, points, groups=_groups(view, points), key=f"{key}-residuals"))
    found.append(candidates_picture(candidates_of(view.stored), key=f"{key}-candidates"))
    found.append(effective_picture(levels_of(view), variable=_level_name(view), key=f"{key}-effective"))
    return [picture for picture in found if picture is not None]


def _axes(view: View, points: Any) -> tuple[str, ...]:
    """The variables that can be an axis: numbers that differ."""
    sample = sample_of(view, points)
    found = []
    for column, name in enumerate(view.variables):
        span = view.span(name)
        words = bool(view.levels(name))
        words |= sample is not None and any(isinstance(value, str) for value in sample.x[:, column])
        if not words and (span is None or span[1] > span[0]):
            found.append(name)
    return tuple(found) or view.variables[:1]


def _groups(view: View, points: Any) -> Sequence[Any] | None:
    """What tells the points apart: a variable of names, else their role or level."""
    sample = sample_of(view, points)
    if sample is None:
        return None
    for column, name in enumerate(view.variables):
        if view.levels(name):
            return [label(value) for value in sample.x[:, column]]
        if any(isinstance(value, str) for value in sample.x[:, column]):
            return [str(value) for value in sample.x[:, column]]
    columns: Mapping[str, Any] = getattr(points, "columns", points if isinstance(points, Mapping) else {})
    found = [list(columns[name]) for name in ("role", "level") if name in columns and name not in view.variables]
    return next((values for values in found if len(values) == len(sample) and len(set(values)) > 1), None)


def _budget(view: View) -> Budget | None:
    """What the best split was asked for; None where it was not."""
    found = view.stored.get("optimum")
    if not isinstance(found, Mapping) or not finite(found.get("budget")) or not found.get("compute"):
        return None
    from evaluate.scaling.query.budget import Formula

    formula = Formula(str(found["compute"]), view.variables)
    best = optimum_of(view.stored, view.variables)
    return Budget(formula, float(found["budget"]), formula.text, best)


def levels_of(view: View) -> list[Level]:
    """The efficiencies of a law of effective params: its parameters `eff...`, one a compression level."""
    found = []
    for name, value in (view.stored.get("params") or {}).items():
        if str(name).startswith("eff") and finite(value):
            told = str(name)[3:].strip("_[]() ")
            number = re.search(r"\d+(\.\d+)?(e-?\d+)?", told)
            at = float(number[0]) if number else float("nan")
            found.append(Level(told or str(name), at, float(value), *view.ends(str(name))))
    return found


def _level_name(view: View) -> str:
    return next((name for name in view.variables if view.levels(name)), "level")


def _answers(view: View) -> Html:
    return pairs(questions(view)) if questions(view) else Html("")


def _law(view: View) -> Html:
    parts = [element("pre", element("code", Html(html.escape(view.formula))))] if view.formula else []
    parts.append(table(parameter_head(view), parameter_rows(view), label="parameters of the law", stack=True))
    told = [text for text in (range_sentence(view), fit_sentence(view)) if text]
    parts += [element("p", f"{'. '.join(t[:1].upper() + t[1:] for t in told)}.", class_="quiet")] if told else []
    parts += [element("p", f"Form: {view.source}.", class_="quiet")] if view.source else []
    return joined(parts)


def _chosen(view: View) -> Html:
    sentence = chosen_sentence(view)
    told = element("p", f"{sentence[:1].upper()}{sentence[1:]}.") if sentence else Html("")
    found = candidates_of(view.stored)
    if len(found) < 2:
        return told
    head = ("candidate", "held-out error", "AIC", "BIC", "")
    return joined((told, table(head, candidate_rows(found), label="candidates", stack=True)))


def _fitted(view: View) -> Html:
    """Where the points are from and with which settings it was fitted; the JSON without its long lists, folded."""
    stored = view.stored
    entries = list(flat({k: v for k, v in (stored.get("points") or {}).items() if k != "problems"}))
    entries += list(flat(stored.get("settings") or {}))
    short = {k: v for k, v in stored.items() if k not in LEFT_OUT}
    text = json.dumps(short, indent=1, ensure_ascii=False, default=str)
    code = Html(html.escape("\n".join(clean(line) for line in text.split("\n"))))
    return joined((pairs(entries), folded("its JSON, without draws", element("pre", element("code", code)))))
