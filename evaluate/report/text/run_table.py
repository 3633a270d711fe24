"""Tables as text and the JSON summary, computed from Records only. No claim is made without its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluate.core.text import (
    clean,
    duration,
    finite,
    interval_text,
    p_value,
    ratio,
)
from evaluate.core.units import show_amount, size_labels
from evaluate.core.whole_files import plain
from evaluate.metrics.base import Metric
from evaluate.report.messages import run_messages as words
from evaluate.report.messages.bench_messages import bench_headline, is_bench
from evaluate.report.messages.run_messages import RecordLike
from evaluate.report.text.text_columns import BOLD, COLORS, aligned, columns_of, painted, speakable, wrapped

SUMMARY_KEYS = ("artifact", "baseline", "compressed", "passes", "drop", "speedup", "goals", "warnings")


@dataclass(frozen=True)
class Row:
    """One row of the table. `verdict` is a verdict word or a p-value; empty where the row carries none."""

    label: str
    baseline: str = ""
    compressed: str = ""
    change: str = ""
    verdict: str = ""


def summary(record: RecordLike) -> dict[str, Any]:
    """The record under the stable JSON names: {artifact, baseline, compressed, passes, drop, speedup, goals, warnings}.

    The dict is a copy that `json.dumps(..., allow_nan=False)` accepts: numbers that are not finite become None.
    """
    lists = ("passes", "goals", "warnings")
    return {key: plain(record.get(key) or ([] if key in lists else None)) for key in SUMMARY_KEYS}


def one_line(record: RecordLike) -> str:
    """A record of any kind in one line: its name, and its verdict."""
    from evaluate.report.html.study_page import lines_of_studies, of_studies

    if of_studies(record):
        return lines_of_studies([record])[0]
    if not is_bench(record):
        return f"{clean(record.get('name', 'run'))}: {words.headline(record)}"
    name, told = clean(record.get("name") or "benchmark", 80), bench_headline(record)
    return told if told.startswith(f"{name}: ") else f"{name}: {told}"


def lines_of(records: Sequence[RecordLike]) -> list[str]:
    """Records of any kind in lines: one a run, a benchmark and a law, and one a study for all of its trials."""
    from evaluate.report.html.study_page import lines_of_studies, of_studies

    return [*lines_of_studies(records), *(one_line(record) for record in records if not of_studies(record))]


def _value_rows(base: Mapping[str, Any], comp: Mapping[str, Any], metric: Metric) -> list[Row]:
    """The metric of both models, each with its own interval."""
    cells = []
    for accuracy in (base, comp):
        decimals = metric.decimals(accuracy.get("value"), accuracy.get("high"))
        cells.append(interval_text(accuracy.get("value"), accuracy.get("low"), accuracy.get("high"), decimals))
    found = [Row(f"{clean(metric.label, 12)} {metric.unit}".strip(), cells[0], cells[1])]
    before, after = (side.get("macro") or {} for side in (base, comp))
    if finite(before.get("f1")) and finite(after.get("f1")):
        found.append(Row("macro P/R/F1", _macro(before), _macro(after)))
    return found


def _macro(macro: Mapping[str, Any]) -> str:
    return " / ".join(f"{macro[k]:.3f}" if finite(macro.get(k)) else "-" for k in ("precision", "recall", "f1"))


def _drop_rows(drop: Mapping[str, Any] | None, metric: Metric) -> list[Row]:
    if not drop or not finite(drop.get("value")):
        return []
    found = [Row("drop", change=words.drop_text(drop, metric), verdict=words.drop_verdict(drop, metric))]
    if finite(drop.get("gained")) and finite(drop.get("lost")):
        pair = f"{drop['gained']} gained, {drop['lost']} lost"
        found.append(Row(metric.test, change=pair, verdict=p_value(drop.get("p"))))
    return found


def _latency_rows(base: Any, comp: Any, speedup: Mapping[str, Any] | None) -> list[Row]:
    if not base or not comp:
        return []
    found = [Row("latency", words.latency_text(base), words.latency_text(comp))]
    if speedup and finite(speedup.get("value")):
        found.append(Row("speed-up", change=words.speed_text(speedup), verdict=words.speed_verdict(speedup)))
    if finite(base.get("p90")) and finite(comp.get("p90")) and comp["p90"] > 0:
        change = ratio(comp["p90"] / base["p90"]) if base["p90"] > 0 else ""
        found.append(Row("latency p90", duration(base["p90"]), duration(comp["p90"]), change))
    return found


def _size_rows(base: Mapping[str, Any], comp: Mapping[str, Any]) -> list[Row]:
    found = []
    for key, label in size_labels(base, comp).items():
        before, after = base.get(key), comp.get(key)
        if finite(before) or finite(after):
            change = ratio(after / before) if finite(before) and finite(after) and before else "-"
            found.append(Row(label, show_amount(key, before), show_amount(key, after), change))
    return found


def rows(record: RecordLike) -> list[Row]:
    """The rows of the table: metric, drop, latency, speed-up, then sizes; only what was measured."""
    base, comp = record.get("baseline") or {}, record.get("compressed") or {}
    metric = words.metric_of(record)
    found = _value_rows(base.get("accuracy") or {}, comp.get("accuracy") or {}, metric)
    found += _drop_rows(record.get("drop"), metric)
    found += _latency_rows(base.get("latency"), comp.get("latency"), record.get("speedup"))
    return found + _size_rows(base.get("sizes") or {}, comp.get("sizes") or {})


def _pass_lines(record: RecordLike, width: int) -> list[str]:
    lines: list[str] = []
    for number, entry in enumerate(record.get("passes") or (), start=1):
        seconds = f" ({duration(1000 * entry['seconds'])})" if finite(entry.get("seconds")) else ""
        text = f"{clean(entry.get('kind', 'pass'))}{seconds}: {words.pass_sentence(entry)}"
        lines += wrapped(text, width, f"  {number} ")
        for warning in entry.get("warnings") or ():
            lines += wrapped(clean(warning), width, "    ! ")
    return ["", "passes", *lines] if lines else []


def _goal_lines(record: RecordLike, width: int, color: bool) -> list[str]:
    lines: list[str] = []
    for goal in record.get("goals") or ():
        status = clean(goal.get("status", "?"))
        first, *rest = wrapped(words.goal_sentence(goal, record), width, f"  {status:<13} ")
        lines += [first.replace(status, painted(status, COLORS.get(status, "0"), color), 1), *rest]
    return ["", "goals", *lines] if lines else []


def _note_lines(record: RecordLike, width: int) -> list[str]:
    lines: list[str] = []
    worst = words.worst_class(record)
    if worst:
        lines += ["", *wrapped(worst, width, "", "  ")]
    said = {text for entry in record.get("passes") or () for text in entry.get("warnings") or ()}
    unsaid = [text for text in record.get("warnings") or () if text not in said]
    warnings = [line for text in unsaid for line in wrapped(clean(text), width, "  ! ")]
    return lines + (["", "warnings", *warnings] if warnings else [])


def text_table(record: RecordLike, width: int | None = None, color: bool = False) -> str:
    """The one honest table of a run, with its passes, goals and warnings below, in at most `width` columns.

    width : columns to use; None takes the terminal's, at most 100. Too narrow for columns, rows become blocks.
    color : paint headings and verdicts by ANSI codes.
    """
    columns = columns_of(width)
    name = clean(record.get("name", "run"))
    title = [painted(line, BOLD, color) for line in wrapped(f"{name}: {words.headline(record)}", columns, "", "  ")]
    body = [[row.label, row.baseline, row.compressed, row.change, row.verdict] for row in rows(record)]
    lines = [*title, *wrapped(words.conditions(record), columns, "", "  "), ""]
    lines += aligned(["", "baseline", "compressed", "change", "verdict"], body, columns, color)
    lines += _pass_lines(record, columns) + _note_lines(record, columns) + _goal_lines(record, columns, color)
    return speakable("\n".join(lines))
