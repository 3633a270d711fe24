"""The HTML page of one run or of several: one file that needs nothing else, computed from Records only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluate.core.errors import DataError
from evaluate.core.text import clean, finite, size
from evaluate.report.html.bench_sections import bench_sections, bench_tiles
from evaluate.report.html.device_tables import device_names, devices_section
from evaluate.report.html.document import shell, written
from evaluate.report.html.markup import Html, chip, element, joined, table
from evaluate.report.html.overview import overview
from evaluate.report.html.run_sections import run_sections
from evaluate.report.html.study_page import of_studies, study_parts
from evaluate.report.messages.bench_blocks import is_bench
from evaluate.report.messages.bench_messages import bench_conditions, bench_headline
from evaluate.report.messages.run_messages import (
    RecordLike,
    conditions,
    drop_text,
    drop_verdict,
    goal_sentence,
    headline,
    latency_text,
    metric_of,
    size_change,
    speed_text,
    speed_verdict,
)
from evaluate.report.text.bench_extras import UNREADABLE, safely

Status = Callable[[str, float, float], None]


def silent(message: str, done: float, total: float) -> None:
    """The status callback that shows nothing."""


# Of more Records than these, only the newest have their own report on the page; all have a line in the overview.
MOST_WHOLE = 20


def write_page(records: Sequence[RecordLike], out: str | Path, status: Status = silent) -> Path:
    """Write one self-contained page about these records to `out` (parents are made); it appears by one rename.

    One record gives its report; several give an overview and each one folded in below it, of many only the newest.
    Records of kind "bench" may stand among those of compressed models, and so may the trials of studies, a section a
    study, and laws. `status` is called with (message, done, total).
    Raises DataError without records, MachineError where the file cannot be written.
    """
    if not records:
        raise DataError("there is no record to report on: run `leanfit compress RECIPE` first, or name its folder")
    alone = len(records) == 1 and not of_studies(records[0])
    page = _document(records[0]) if alone else _documents(records, status)
    return written(Path(out), page)


def _document(record: RecordLike) -> str:
    name = _name(record)
    head = element("header", element("h1", name), element("p", _sentence(record), class_="lead"), *_head(record))
    return shell(f"{name}: leanfit report", element("main", head, _sections_or_words(record, key="run", level=2)))


def _documents(records: Sequence[RecordLike], status: Status) -> str:
    """Studies and laws first, then compressed models and benchmarks beside their own kind, each folded in below."""
    words, sections = study_parts(records)
    others = [r for r in records if not of_studies(r)]
    runs, benches = ([r for r in others if is_bench(r) is wanted] for wanted in (False, True))
    counts = words + [
        f"{len(group)} {word}{'' if len(group) == 1 else 's'}"
        for group, word in ((runs, "run"), (benches, "benchmark"))
        if group
    ]
    title = f"leanfit: {' and '.join(part for part in (', '.join(counts[:-1]), counts[-1]) if part)}"
    parts = [element("header", element("h1", title)), *sections, overview(runs) if runs else Html("")]
    whole = _newest([*runs, *benches])
    shown = [bench for bench in benches if id(bench) in whole]
    beside = devices_section(shown, key="devices", level=3)
    parts += [element("h2", "Benchmarks side by side"), beside] if beside else []
    devices = dict(zip(map(id, shown), device_names(shown), strict=True))
    folded: dict[bool, list[Html]] = {False: [], True: []}
    for number, record in enumerate([*runs, *benches], start=1):
        if id(record) not in whole:
            continue
        status("drawing reports", sum(map(len, folded.values())), len(whole))
        device = f" on {devices[id(record)]}" if id(record) in devices else ""
        folded[is_bench(record)].append(_folded_run(number, _name(record) + device, record, len(shown)))
    older = [bench for bench in benches if id(bench) not in whole]
    if older:
        lines = [[_name(b), clean(b.get("created") or "-", 20), _sentence(b)] for b in older]
        parts += [element("h2", "Older benchmarks"), table(["", "made", "verdict"], lines, label="older benchmarks")]
    if len(runs) + len(benches) > len(whole):
        note = f"The reports of the newest {len(whole)} of {len(runs) + len(benches)}; name others to see theirs."
        parts.append(element("p", note, class_="quiet"))
    for heading, bench in (("Each run", False), ("Each benchmark", True)):
        parts += [element("h2", heading), *folded[bench]] if folded[bench] else []
    return shell(title, element("main", *parts))


def _newest(records: Sequence[RecordLike]) -> set[int]:
    """The identities of those that have their own report on the page."""
    ordered = sorted(records, key=lambda record: str(record.get("created", "")), reverse=True)
    return {id(record) for record in ordered[:MOST_WHOLE]}


def _folded_run(number: int, name: str, record: RecordLike, benches: int) -> Html:
    summary = element("summary", element("h2", f"{number}. {name}"), element("span", _sentence(record)))
    body = _sections_or_words(record, key=f"run{number}", level=3, alone=False, share=benches)
    return element("details", summary, *_head(record, class_="quiet"), body, class_="run")


def _name(record: RecordLike) -> str:
    return clean(record.get("name") or ("benchmark" if is_bench(record) else "run"), 120)


def _head(record: RecordLike, **attributes: str) -> tuple[Html, Html]:
    """Under what the figures hold, and the answers at a glance."""
    bench = is_bench(record)
    where = bench_conditions(record) if bench else conditions(record)
    return element("p", where, **attributes), bench_tiles(record) if bench else _tiles(record)


def _sections_or_words(record: RecordLike, **options: Any) -> Html:
    """The sections of a record; a sentence where an entry deep in it is not as leanfit writes it."""
    return safely(lambda: _sections(record, **options), element("p", UNREADABLE, class_="quiet"))


def _sections(record: RecordLike, *, key: str, level: int, alone: bool = True, share: int = 1) -> Html:
    if is_bench(record):
        return bench_sections(record, key=key, level=level, share=share)
    return run_sections(record, key=key, level=level, alone=alone)


def _sentence(record: RecordLike) -> str:
    if is_bench(record):  # begins with a model's name
        return bench_headline(record)
    text = headline(record)
    return text[:1].upper() + text[1:]


def _tile(name: str, value: str, verdict: str, note: object) -> Html:
    shown = (
        [element("dd", value, Html(" "), chip(verdict), class_="value")]
        if verdict
        else [element("dd", value, class_="value")]
    )
    return element("div", element("dt", name), *shown, element("dd", note, class_="quiet"))


def _tiles(record: RecordLike) -> Html:
    """The answers at a glance: how much smaller, at what speed, what it did to the metric; and the goals."""
    base, comp = record.get("baseline") or {}, record.get("compressed") or {}
    before, after = ((side.get("sizes") or {}).get("bytes") for side in (base, comp))
    tiles = [_tile("deployed file", size_change(before, after), "", f"{size(before)} → {size(after)}")]
    tiles += _speed_tile(record, base, comp) + _drop_tile(record) + _goals_tile(record)
    return element("dl", *tiles, class_="tiles")


def _speed_tile(record: RecordLike, base: Mapping[str, Any], comp: Mapping[str, Any]) -> list[Html]:
    speedup = record.get("speedup") or {}
    verdict = speed_verdict(speedup)
    if not verdict:
        return []
    value, _, ends = speed_text(speedup).partition(" (")
    times = f"{_median(base)} → {_median(comp)}"
    return [_tile("speed-up", value, verdict, f"95 %: {ends.rstrip(')')}; {times}" if ends else times)]


def _drop_tile(record: RecordLike) -> list[Html]:
    drop, metric = record.get("drop") or {}, metric_of(record)
    verdict = drop_verdict(drop, metric)
    if not verdict:
        return []
    value, _, ends = drop_text(drop, metric).partition(" (")
    pair = f"; {drop['gained']} gained, {drop['lost']} lost" if finite(drop.get("gained")) else ""
    unit = " (points)" if metric.share else ""
    return [_tile(f"drop in {clean(metric.label, 20)}{unit}", value, verdict, f"95 %: {ends.rstrip(')')}{pair}")]


def _goals_tile(record: RecordLike) -> list[Html]:
    goals = record.get("goals") or []
    if not goals:
        return []
    met = sum(goal.get("status") == "met" for goal in goals)
    others = [g for g in goals if g.get("status") != "met"]
    failed = [joined((chip(clean(g.get("status", "?"))), goal_sentence(g, record)), " ") for g in others]
    return [_tile("goals", f"{met} of {len(goals)} met", "", joined(failed, "<br>"))]


def _median(side: Mapping[str, Any]) -> str:
    return latency_text(side.get("latency")).partition(" (")[0]
