"""Tables as text and the JSON summary, computed from Records only. No claim is made without its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluate.core.blocks import as_block
from evaluate.core.record_parts import ClassScore
from evaluate.core.records import BenchRecord, CompressRecord, Record, as_record
from evaluate.core.text import clean, duration, finite, interval_text, p_value, ratio
from evaluate.core.units import show_amount, size_labels
from evaluate.core.whole_files import plain
from evaluate.metrics.base import Metric
from evaluate.metrics.base import metric_of as base_metric_of
from evaluate.report.messages import run_messages as words
from evaluate.report.messages.bench_messages import bench_headline
from evaluate.report.text.text_columns import BOLD, COLORS, aligned, columns_of, painted, speakable, wrapped

SUMMARY_KEYS = ("artifact", "baseline", "compressed", "passes", "drop", "speedup", "goals", "warnings", "heads")


@dataclass(frozen=True)
class Row:
    """One row of the table. `verdict` is a verdict word or a p-value; empty where the row carries none."""

    label: str
    baseline: str = ""
    compressed: str = ""
    change: str = ""
    verdict: str = ""


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record under the stable JSON names, SUMMARY_KEYS: {artifact, baseline, compressed, passes, drop, ...}.

    The dict is a copy that `json.dumps(..., allow_nan=False)` accepts: numbers that are not finite become None.
    """
    lists = ("passes", "goals", "warnings", "heads")
    return {key: plain(record.get(key) or ([] if key in lists else None)) for key in SUMMARY_KEYS}


def lines_of(records: Sequence[Mapping[str, Any] | Record]) -> list[str]:
    """Records of any kind in lines: one a run, a benchmark and a law, and one a study for all of its trials."""
    from evaluate.report.html.study_page import lines_of_studies

    typed = [as_record(record) for record in records]
    return [*lines_of_studies(typed), *(line for record in typed for line in _line(record))]


def _line(record: Record) -> Iterator[str]:
    if isinstance(record, CompressRecord):
        yield f"{clean(record.name or 'run')}: {words.headline(record)}"
    elif isinstance(record, BenchRecord):
        name, found = clean(record.name or "benchmark", 80), bench_headline(record)
        yield found if found.startswith(f"{name}: ") else f"{name}: {found}"


def rows(record: CompressRecord) -> list[Row]:
    """The rows of the table: metric, latency, then the sizes that changed, each with its change; what was measured."""
    return [*_metric_rows(record), *_head_rows(record), *_latency_rows(record), *_size_rows(record)]


def _metric_rows(record: CompressRecord) -> Iterator[Row]:
    """The metric of both models and its change, each with its own interval; what was gained and lost by sample."""
    base, comp, drop, metric = (
        record.baseline.accuracy,
        record.compressed.accuracy,
        record.drop,
        words.metric_of(record),
    )
    shown = [interval_text(a.value, a.low, a.high, metric.decimals(a.value, a.high)) for a in (base, comp)]
    label = _label(record.heads[0].name if record.heads else None, metric)
    yield Row(label, shown[0], shown[1], words.change_text(drop, metric), words.drop_verdict(drop, metric))
    if drop.value is not None:
        if drop.gained is not None and drop.lost is not None:
            yield Row(metric.test, change=f"{drop.gained} gained, {drop.lost} lost", verdict=p_value(drop.p))
        elif drop.p is not None:
            yield Row("paired bootstrap", verdict=p_value(drop.p))
    if base.macro.f1 is not None and comp.macro.f1 is not None:
        yield Row("macro P/R/F1", _macro(base.macro), _macro(comp.macro))


def _head_rows(record: CompressRecord) -> Iterator[Row]:
    """The metrics of the heads after the first, whose rows are those of the metric."""
    for head in record.heads[1:]:
        metric = base_metric_of(head.baseline)
        sides = (head.baseline, head.compressed)
        decimals = metric.decimals(*(end for side in sides for end in (side.value, side.high)))
        shown = [interval_text(a.value, a.low, a.high, decimals) for a in sides]
        verdict = words.drop_verdict(head.drop, metric)
        yield Row(_label(head.name, metric), shown[0], shown[1], words.change_text(head.drop, metric), verdict)


def _label(name: str | None, metric: Metric) -> str:
    """`kind: accuracy %`; without the name of the output where there is only one."""
    return f"{clean(name, 14) + ': ' if name else ''}{clean(metric.label, 12)} {metric.unit}".strip()


def _macro(macro: ClassScore) -> str:
    return " / ".join("-" if x is None else f"{x:.3f}" for x in (macro.precision, macro.recall, macro.f1))


def _latency_rows(record: CompressRecord) -> Iterator[Row]:
    base, comp, speedup = record.baseline.latency, record.compressed.latency, record.speedup
    if not base or not comp:
        return
    quick = words.speed_text(speedup) if speedup.value is not None else ""
    yield Row("latency", words.latency_text(base), words.latency_text(comp), quick, words.speed_verdict(speedup))
    if base.p90 is not None and comp.p90 is not None and comp.p90 > 0:
        change = ratio(base.p90 / comp.p90) if base.p90 > 0 else ""  # as the row above; no interval, so no word
        yield Row("latency p90", duration(base.p90), duration(comp.p90), change)


def _size_rows(record: CompressRecord) -> Iterator[Row]:
    before, after = record.baseline.sizes.amounts(), record.compressed.sizes.amounts()
    for key, label in size_labels(before, after).items():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        known = finite(old) and finite(new) and old > 0 and new > 0
        change = words.size_change(old, new).removesuffix(" size") if known else "-"
        yield Row(label, show_amount(key, old), show_amount(key, new), change)


def _pass_lines(record: CompressRecord, width: int) -> list[str]:
    lines: list[str] = []
    for number, entry in enumerate(record.passes, start=1):
        seconds = f" ({duration(1000 * entry.seconds)})" if entry.seconds is not None else ""
        text = f"{clean(entry.kind or 'pass')}{seconds}: {words.pass_sentence(entry)}"
        lines += wrapped(text, width, f"  {number} ")
        if entry.candidates:
            head, *body = words.candidate_table(entry)
            lines += [f"    {line}" for line in aligned(head, body, width - 4)]
        lines += [line for warning in entry.warnings for line in wrapped(clean(warning), width, "    ! ")]
    return ["", "passes", *lines] if lines else []


def _goal_lines(record: CompressRecord, width: int, color: bool) -> list[str]:
    lines: list[str] = []
    for goal in record.goals:
        status = clean(goal.status or "?")
        first, *rest = wrapped(words.goal_sentence(goal, words.metric_of(record)), width, f"  {status:<13} ")
        lines += [first.replace(status, painted(status, COLORS.get(status, "0"), color), 1), *rest]
    return ["", "goals", *lines] if lines else []


def _note_lines(record: CompressRecord, width: int) -> list[str]:
    worst = words.worst_class(record)
    lines = ["", *wrapped(worst, width, "", "  ")] if worst else []
    warnings = [line for text in record.own_warnings() for line in wrapped(clean(text), width, "  ! ")]
    return lines + (["", "warnings", *warnings] if warnings else [])


def text_table(record: Mapping[str, Any] | CompressRecord, width: int | None = None, color: bool = False) -> str:
    """The one honest table of a run, with its passes, goals and warnings below, in at most `width` columns.

    width : columns to use; None takes the terminal's, at most 100. Too narrow for columns, rows become blocks.
    color : paint headings and verdicts by ANSI codes.
    """
    run = as_block(CompressRecord, record)
    columns, name = columns_of(width), clean(run.name or "run")
    title = [painted(line, BOLD, color) for line in wrapped(f"{name}: {words.headline(run)}", columns, "", "  ")]
    body = [[row.label, row.baseline, row.compressed, row.change, row.verdict] for row in rows(run)]
    lines = [*title, *wrapped(words.conditions(run), columns, "", "  "), ""]
    lines += aligned(["", "baseline", "compressed", "change", "verdict"], body, columns, color)
    lines += _pass_lines(run, columns) + _note_lines(run, columns) + _goal_lines(run, columns, color)
    return speakable("\n".join(lines))
