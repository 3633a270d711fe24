"""Laws and studies on a page: a section each, from a law's JSON with its points, and from the Records of trials."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from evaluate.core.errors import LeanfitError
from evaluate.core.records import LawRecord, Record, TrialRecord
from evaluate.core.text import clean, finite, long_duration
from evaluate.core.units import show_amount
from evaluate.metrics.base import metric_of
from evaluate.report.charts.bars import candidates_picture
from evaluate.report.charts.chances import chances_picture
from evaluate.report.charts.law_charts import Budget, plane_picture, residuals_picture
from evaluate.report.charts.law_curve import curve_picture
from evaluate.report.charts.study_charts import Level, effective_picture, native_picture, study_curves, worth_picture
from evaluate.report.charts.svg import Picture
from evaluate.report.html.markup import capital, element, flat, plural, rendered, write_document
from evaluate.report.messages.law_messages import (
    candidate_table,
    chosen_sentence,
    fit_sentence,
    headline_of,
    in_words,
    parameter_table,
    questions,
    range_sentence,
)
from evaluate.report.messages.law_view import View, has_names, sample_of, view_of
from evaluate.report.messages.sizing_messages import next_sentence, sizing_rows, sizing_sentence
from evaluate.scaling.points.cells import label
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.points.point_files import from_records
from evaluate.scaling.points.scale import Scale
from evaluate.scaling.query.sizing import Sizing, sizing

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
        words=in_words(view),
        averaged=bool(view.law.form.members),
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


# Studies.


Trials = Sequence[TrialRecord]
MOST_GROUPS = 120
MOST_FAILED = 60
ROLES = ("dense", "native", "compressed")
COST, KEPT, SHARE = "packed_bytes", "98 % of the accuracy of the best dense model", Scale(limit=1.0)


def lines_of_studies(records: Sequence[Record]) -> list[str]:
    """One line a study and one a law."""
    lines = [study_line(name, trials) for name, trials in studies_of(records).items()]
    return lines + [law_line(record.raw) for record in records if isinstance(record, LawRecord)]


def study_parts(records: Sequence[Record]) -> tuple[list[str], list[Markup]]:
    """(what there is in words, the sections) of the studies and the laws among these Records; both empty without."""
    studies, laws = studies_of(records), [record.raw for record in records if isinstance(record, LawRecord)]
    counts = [("study", "studies", len(studies)), ("law", "laws", len(laws))]
    words = [f"{count} {one if count == 1 else several}" for one, several, count in counts if count]
    sections = [study_section(name, trials, key=f"study{n}") for n, (name, trials) in enumerate(studies.items(), 1)]
    trials = [record.raw for record in records if isinstance(record, TrialRecord)] if laws else []
    sections += [law_section(law, trials, f"law{n}", len(laws) == 1) for n, law in enumerate(laws, start=1)]
    return words, sections


def studies_of(records: Sequence[Record]) -> dict[str, list[TrialRecord]]:
    """Study -> its trials, each once: a trial that failed and was run again counts as it ended last."""
    found: dict[str, dict[str, TrialRecord]] = {}
    for number, trial in enumerate(records):
        if isinstance(trial, TrialRecord):
            found.setdefault(clean(trial.study or "study", 80), {})[trial.id or str(number)] = trial
    return {name: list(trials.values()) for name, trials in found.items()}


def study_line(name: str, trials: Trials) -> str:
    """`digits-resnet: 36 trials of 12 designs, 35 finished and 1 failed; task digits`."""
    failed = sum(not _finished(t) for t in trials)
    ended = f"{len(trials) - failed} finished and {failed} failed" if failed else "all finished"
    tasks = dict.fromkeys(clean(t.task.name or "", 60) for t in trials)
    task = ", ".join(filter(None, tasks))
    designs = plural(len({_design(t) for t in trials}), "design")
    return f"{name}: {plural(len(trials), 'trial')} of {designs}, {ended}{f'; task {task}' if task else ''}"


def study_section(name: str, trials: Trials, *, key: str, level: int = 2) -> Markup:
    """One study: the smallest model that keeps the target, with its chance; pictures; the trials by size and level; and
    those that failed, by name with the reason."""
    seconds = [t.seconds for t in trials if t.seconds is not None]
    spent = f" Together they took {long_duration(sum(seconds))}." if seconds else ""
    measured, _, _ = _measured([t for t in trials if _finished(t)])
    groups = _by_size(trials)
    note = "Over seeds: the standard deviation, and the lowest and the highest; every seed trains its own baseline."
    cut = f" The {MOST_GROUPS} largest of {len(groups)} sizes." if len(groups) > MOST_GROUPS else ""
    failed = [t for t in trials if not _finished(t)]
    more = f" (the first {MOST_FAILED})" if len(failed) > MOST_FAILED else ""
    found = _sized(trials)
    drawn = _pictures(trials, key)
    told: dict[str, Any] = {"answer": ""}
    if found is not None:
        drawn = [chances_picture(found, "error", SHARE, KEPT, f"{key}-chances"), *drawn]
        head, body = sizing_rows(found, "error", SHARE)
        told = {
            "answer": sizing_sentence(found, "error", SHARE, KEPT), "following": next_sentence(found),
            "chance_head": head, "chances": body, "doubts": found.problems,
        }  # fmt: skip
    return rendered(
        "study.html",
        **told,
        level=level,
        name=name,
        sentence=f"{study_line(name, trials).partition(': ')[2]}.{spent}",
        note=note + cut,
        head=["level", "role", "seeds", "params", "bytes", "bits", f"{measured}, mean", "over seeds"],
        groups=groups[:MOST_GROUPS],
        drawn=[(picture, picture.caption) for picture in drawn],
        failed_title=f"{plural(len(failed), 'trial')} failed",
        failed=[
            (f"{_size(t)}, {_level(t)}, seed {'-' if t.seed is None else t.seed}", _reason(t))
            for t in failed[:MOST_FAILED]
        ],
        folded=f"{plural(len(failed), 'failed trial')}{more}" if len(failed) > 10 else "",
    )


def _sized(trials: Trials) -> Sizing | None:
    """The smallest packed model that keeps KEPT of the accuracy of the best dense one (means of seeds), by levels; None
    where trials tell no error rate, no packed size, or only one of them."""
    usable = [
        t for t in trials
        if _finished(t) and t.error is not None and 0 < t.error < 1 and _sizes(t, COST) > 0 and not t.data
    ]  # fmt: skip
    dense: dict[tuple[str, str, str], list[float]] = {}
    for trial in usable:
        if trial.role == "dense":
            dense.setdefault(_design(trial), []).append(float(trial.error or 0.0))
    if not dense or len({_design(t) for t in usable}) < 2 or _measured(usable)[0] != "error":
        return None
    best = min(float(np.mean(errors)) for errors in dense.values())
    costs = np.array([_sizes(t, COST) for t in usable])
    errors = np.array([t.error for t in usable], dtype=float)
    names = [clean(t.level.get("name") or t.role or "compressed", 40) for t in usable]
    try:
        return sizing(costs, errors, names, SHARE.kept(0.98, best), cost=COST, scale=SHARE)
    except LeanfitError:
        return None


def _finished(trial: TrialRecord) -> bool:
    return trial.status in (None, "finished")


def _pairs(values: Mapping[str, Any]) -> list[str]:
    """`width 16` of each entry."""
    shown = {k: f"{v:g}" if isinstance(v, float) else clean(v, 40) for k, v in values.items() if v is not None}
    return [f"{clean(name, 24)} {value}" for name, value in shown.items()]


def _size(trial: TrialRecord) -> str:
    """`width 16, depth 8`."""
    return ", ".join(_pairs(trial.size)) or "one size"


def _level(trial: TrialRecord) -> str:
    """`prune density 0.5`, with the data where they vary."""
    name = clean(trial.level.get("name") or trial.role or "-", 40)
    values = _pairs({k: v for k, v in trial.level.items() if k not in ("name", "bits")})
    return ", ".join([" ".join([name, *values]), *_pairs(trial.data)])


def _design(trial: TrialRecord) -> tuple[str, str, str]:
    """What trials share that differ in their seed alone."""
    return _size(trial), clean(trial.role or "", 20), _level(trial)


def _sizes(trial: TrialRecord, key: str) -> float:
    """One of its sizes; NaN where it is not known."""
    found = getattr(trial.sizes, key)
    return float("nan") if found is None else float(found)


def _measured(trials: Trials) -> tuple[str, list[float], float]:
    """(name, values, their scale): the error, as a share; of another metric its own value, and without one the loss."""
    scores = [t.accuracy for t in trials]
    metric = metric_of(next((a for a in scores if a.metric), None))
    errors = [t.error for t in trials if t.error is not None]
    if metric.share and errors:
        return "error", errors, 100.0
    values = [a.value for a in scores if a.value is not None]
    known = values or [t.loss for t in trials if t.loss is not None]
    return clean(metric.label if any(a.metric for a in scores) else "loss", 20), known, 1.0


def _spread(trials: Trials) -> tuple[str, str]:
    """(mean, spread) as text: the spread as standard deviation and range, where there are two seeds at least."""
    _, known, scale = _measured(trials)
    if not known:
        return "-", ""
    values = scale * np.asarray(known)
    mean = f"{np.mean(values):.2f} %" if scale > 1 else f"{np.mean(values):.4g}"
    if len(values) < 2:
        return mean, "one seed"
    return mean, f"± {np.std(values, ddof=1):.2g} ({values.min():.4g} to {values.max():.4g})"


def _by_size(trials: Trials) -> list[tuple[str, list[list[str]]]]:
    """(size, rows) for each size, large ones first; a row for each level, over its seeds."""
    sizes: dict[str, dict[tuple[str, str, str], list[TrialRecord]]] = {}
    for trial in trials:
        sizes.setdefault(_size(trial), {}).setdefault(_design(trial), []).append(trial)

    def params(designs: Mapping[Any, list[TrialRecord]]) -> float:
        return max((_sizes(t, "params") for group in designs.values() for t in group if t.sizes), default=0.0)

    ranked = sorted(sizes.items(), key=lambda item: -np.nan_to_num(params(item[1])))
    return [(size, [_row(g) for g in sorted(designs.values(), key=_place)]) for size, designs in ranked]


def _place(group: list[TrialRecord]) -> tuple[int, float, str]:
    """The dense model first, then what was made of it, mildest first."""
    role = group[0].role or ""
    kept = np.nan_to_num([_sizes(t, "packed_bytes") for t in group])
    return (ROLES.index(role) if role in ROLES else len(ROLES), -float(max(kept)), _level(group[0]))


def _row(trials: list[TrialRecord]) -> list[str]:
    done = [t for t in trials if _finished(t)]
    failed = f", {len(trials) - len(done)} failed" if len(done) < len(trials) else ""
    sizes = [_mean(key, done) for key in ("params", "bytes", "bits")]
    return [_level(trials[0]), clean(trials[0].role or "-", 20), f"{len(done)}{failed}", *sizes, *_spread(done)]


def _mean(key: str, trials: Trials) -> str:
    values = [value for t in trials if finite(value := _sizes(t, key))]
    return show_amount(key, float(np.mean(values))) if values else "-"


def _pictures(trials: Trials, key: str) -> list[Any]:
    """Compressed against native, in params and in bytes of the file."""
    done = [t for t in trials if _finished(t) and t.error is not None and t.error > 0]
    if len(done) < 2:
        return []
    columns = _columns(done)
    curves = {x: study_curves(columns, x=x) for x in ("params", "bytes")}
    drawn = [native_picture(found, x=x, key=f"{key}-{x}") for x, found in curves.items() if len(found) > 1]
    return [picture for picture in drawn if picture is not None]


def _columns(trials: Trials) -> dict[str, Any]:
    """What `study_curves` takes, of trials that have an error."""
    columns: dict[str, Any] = {name: [t.size.get(name, "") for t in trials] for t in trials for name in t.size}
    for name in ("params", "bytes", "bits"):
        columns[name] = np.array([_sizes(t, name) for t in trials])
    columns["error"] = np.array([t.error for t in trials], dtype=np.float64)
    columns["level"] = [clean(t.level.get("name") or "compressed", 40) for t in trials]
    columns["role"] = np.array([str(t.role) for t in trials])
    columns["data"] = np.array(["less" if t.data else "full" for t in trials])
    columns["design"] = [" ".join(_design(t)) for t in trials]
    return columns


def _reason(trial: TrialRecord) -> str:
    parts = [str(trial.reason[key]) for key in ("kind", "message") if trial.reason.get(key)]
    return clean(": ".join(parts) or "no reason given", 400)
