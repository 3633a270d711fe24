"""Studies and laws on the page of `leanfit report`: a section a study, a section a law, from their Records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.errors import LeanfitError
from evaluate.core.text import clean
from evaluate.report.law_effective import worth_picture
from evaluate.report.law_page import law_sections
from evaluate.report.law_saving import LawPicture
from evaluate.report.law_study import is_trial, studies_of, study_line, study_section
from evaluate.report.law_told import headline_of, questions
from evaluate.report.law_view import View, view_of
from evaluate.report.markup import Html, element, joined
from evaluate.report.wording import RecordLike


def is_law(record: RecordLike) -> bool:
    """Whether a Record is a fitted law."""
    return record.get("kind") == "law"


def of_studies(record: RecordLike) -> bool:
    """Whether a Record is a trial of a study, or a law."""
    return is_trial(record) or is_law(record)


def law_line(record: RecordLike) -> str:
    """A law in one line, with the first answer that it gave."""
    view = View(record, None, clean(record.get("target") or "y", 40))
    answers = "; ".join(f"{asked}: {answer}" for asked, answer in questions(view)[:2])
    return headline_of(view) + (f"; {answers}" if answers else "")


def lines_of_studies(records: Sequence[RecordLike]) -> list[str]:
    """One line a study and one a law."""
    lines = [study_line(name, trials) for name, trials in studies_of(records).items()]
    return lines + [law_line(record) for record in records if is_law(record)]


def study_parts(records: Sequence[RecordLike]) -> tuple[list[str], list[Html]]:
    """(what there is in words, the sections) of the studies and the laws among these Records; both empty without."""
    studies = studies_of(records)
    laws = [record for record in records if is_law(record)]
    counts = [("study", "studies", len(studies)), ("law", "laws", len(laws))]
    words = [f"{count} {one if count == 1 else several}" for one, several, count in counts if count]
    sections = [study_section(name, trials, key=f"study{n}") for n, (name, trials) in enumerate(studies.items(), 1)]
    trials = [record for record in records if is_trial(record)]
    sections += [_law(record, trials, f"law{n}", len(laws) == 1) for n, record in enumerate(laws, start=1)]
    return words, sections


def _law(record: RecordLike, trials: Sequence[RecordLike], key: str, alone: bool) -> Html:
    """A law under its headline; one of several is folded in. A law that cannot be read costs its pictures alone."""
    line = law_line(record)
    line = line[:1].upper() + line[1:]
    title, _, answers = line.partition("; ")
    try:
        view = view_of(record)
        body = law_sections(view, points_of(record, trials), key=key, level=3, more=_worth(view, trials, key))
    except LeanfitError as error:
        body = element("p", f"This law could not be drawn: {error}", class_="warn")
    if alone:
        return joined((element("h2", title), body))
    told = [element("span", answers)] if answers else []
    return element("details", element("summary", element("h2", title), *told), body, class_="run")


def _worth(view: View, trials: Sequence[RecordLike], key: str) -> list[LawPicture]:
    """What the compressed models among these trials are worth by a law of the dense ones."""
    told = view.stored.get("points")
    conditions = " ".join(map(str, told.get("where") or ())) if isinstance(told, Mapping) else ""
    if not trials or not any(f"role={role}" in conditions.replace(" ", "") for role in ("dense", "native")):
        return []
    from evaluate.scaling.points.point_files import from_records

    try:
        picture = worth_picture(view, from_records(list(trials), "the trials"), key=f"{key}-worth")
    except LeanfitError:
        return []
    return [picture] if picture is not None else []


def points_of(record: RecordLike, trials: Sequence[RecordLike]) -> dict[str, Any] | None:
    """The points of a law, by its variables' names, where these trials are the ones it was fitted to; else None.

    They are where the same columns and conditions give as many points as the law says that it had.
    """
    told = record.get("points")
    if not isinstance(told, Mapping) or not trials:
        return None
    from evaluate.scaling.points.point_files import from_records

    names, target = [str(name) for name in record.get("variables") or ()], str(record.get("target"))
    columns = [
        str(text).partition("=")[2] or str(text) for part in told.get("columns") or () for text in part.split(",")
    ]
    if len(columns) != len(names):
        return None
    try:
        found = from_records(trials, "the trials").where(told.get("where") or ())
        chosen = found.take(columns, target)
    except LeanfitError:
        return None
    if len(chosen.y) != record.get("n"):
        return None
    return {**{name: chosen.x[:, i] for i, name in enumerate(names)}, target: chosen.y}
