"""One benchmark on a page: its answers at a glance, tables by condition, pictures, scenarios and profiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from evaluate.core.text import clean, duration, finite
from evaluate.load_test.rate_result import proof_text, rate_text
from evaluate.report.charts.bars import layers_picture, operators_picture
from evaluate.report.charts.intervals import ratios_picture
from evaluate.report.charts.lines import rates_picture, sweep_pictures, throughput_picture
from evaluate.report.charts.sample_charts import distributions_picture, lanes_of, samples_picture
from evaluate.report.charts.svg import Drawn
from evaluate.report.html.markup import Verdict, capital, element, flat, plural, rendered
from evaluate.report.messages import bench_messages as bench
from evaluate.report.messages.bench_messages import Block, Entry
from evaluate.report.messages.run_messages import RecordLike, speed_text
from evaluate.report.text.bench_table import (
    LATENCY,
    MODELS,
    QUALITY,
    SPEED,
    STARTS,
    TAILS,
    VERDICT,
    Column,
    block_rows,
    compared,
    condition_rows,
    filled,
    headings,
    model_rows,
    scenario_text,
    title_of,
)
from evaluate.report.text.profile_table import explain, profile_text, remarks

# Of more conditions than these the raw samples are not drawn; the sweeps hold all of them.
MOST_CONDITIONS = 6
# Calls drawn in all lanes of a page together, and in one of them.
DOTS, MOST_DOTS, FEWEST_DOTS = 16_000, 300, 60
Tile = tuple[str, Any, Any]


def bench_tiles(record: RecordLike) -> list[Tile]:
    """The answers at a glance: the best speed-up, what the run can claim, how much was measured, what failed."""
    found, lost = bench.blocks(record), bench.failures(record)
    tiles = [*_best_tile(found), *_floor_tile(found), *_extent_tile(record, found)]
    return tiles + ([("not measured", len(lost), ", ".join(f"{name} ({kind})" for name, kind, _ in lost))] * bool(lost))


def _best_tile(found: Sequence[Block]) -> list[Tile]:
    """The largest speed-up that the verdict calls one; none where there is none."""
    gains = [
        (bench.part(entry, "speedup"), label, block)
        for block in found
        for label, entry in zip(block.labels, block.entries, strict=True)
        if bench.verdict_of(entry) == "faster"
    ]
    if not gains:
        return []
    speedup, label, block = max(gains, key=lambda gain: float(gain[0]["value"]))
    value, _, ends = speed_text(speedup).partition(" (")
    interval = f"95 %: {ends.rstrip(')')}; " if ends else ""
    note = f"{interval}{bench.condition_text(block.condition)}"
    return [(f"largest speed-up: {clean(label, 30)}", (value, Verdict("faster")), note)]


def _floor_tile(found: Sequence[Block]) -> list[Tile]:
    known = [block.floor.get("noise_floor") for block in found]
    shares = sorted(share for share in known if finite(share))
    if not shares:
        return []
    low, high = bench.percent(shares[0]), bench.percent(shares[-1])
    note = (
        bench.floor_text(found[0]).partition(" (")[2].rstrip(")")
        if len(found) == 1
        else f"by condition, of {len(found)}"
    )
    return [("smallest difference it can claim", low if low == high else f"{low} to {high}", note)]


def _extent_tile(record: RecordLike, found: Sequence[Block]) -> list[Tile]:
    models = len({bench.name_of(entry) for entry in bench.entries(record)})
    if not models:
        return []
    calls = [n for entry in bench.entries(record) if finite(n := bench.part(entry, "latency").get("n"))]
    texts = [f"{len(found)} conditions" if len(found) > 1 else bench.condition_text(found[0].condition)]
    texts += [f"{sum(calls):,} samples"] if calls else []
    texts += [duration(1e3 * record["seconds"])] if finite(record.get("seconds")) else []
    return [("measured", plural(models, "model"), ", ".join(texts))]


def bench_sections(record: RecordLike, *, key: str, level: int, share: int = 1) -> Markup:
    """Everything below the header of one benchmark.

    key   : makes the ids of its pictures its own.
    level : the heading level of its sections.
    share : how many benchmarks the page holds: each draws so much fewer of its raw samples.
    """
    found = bench.blocks(record)
    most = max(1, MOST_CONDITIONS // share)
    main = (LATENCY, *filled(TAILS, found), *(SPEED if compared(found) else ()))
    said = [*bench.notes(record), bench.LEGENDS[compared(found)]] if found else []
    return rendered(
        "bench.html",
        level=level,
        main_head=["model", *headings(main)[1:]],
        groups=[(_condition(block), _chipped(block_rows(block, main), main)) for block in found],
        starts=_starts(found),
        by_model=[_by_model(found, columns) for columns in (filled(MODELS, found), filled(QUALITY, found)) if columns],
        notes=[capital(text) + "." for text in said],
        failed=bench.failures(record),
        scenarios=_scenarios(record, key),
        unreadable=bench.UNREADABLE,
        drawn=_pictures(found, key, most, share),
        cut=f"Of {len(found)} conditions, the raw samples of the first {most} are drawn." if len(found) > most else "",
        profiles=_profiles(record, key),
        warnings=bench.warnings_of(record),
        machine=list(flat(bench.part(record, "environment"))),
        meanwhile=list(flat(bench.part(record, "machine"))),
        settings=_settings(record),
    )


def _condition(block: Block) -> tuple[str, str]:
    """A condition, and what can be claimed under it."""
    floor = bench.floor_text(block)
    return bench.condition_text(block.condition), element("span", floor, "quiet") if floor else ""


def _chipped(body: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[list[str]]:
    """Rows whose verdicts are chips."""
    verdicts = {place for place, column in enumerate(columns, start=1) if column.head == VERDICT}
    return [[Verdict(cell) if place in verdicts else cell for place, cell in enumerate(row)] for row in body]


def _starts(found: Sequence[Block]) -> dict[str, Any] | None:
    """The table of starts and energy, by condition."""
    if not (starts := filled(STARTS, found)):
        return None
    head, body = condition_rows(found, starts)
    title = title_of(starts) + (", by condition" if len(found) > 1 else "")
    return {"title": title, "head": ["model", *head[1:]], "body": body}


def _by_model(found: Sequence[Block], columns: Sequence[Column]) -> dict[str, Any]:
    body = _chipped(model_rows(found, columns), columns)
    return {"title": title_of(columns), "head": ["model", *headings(columns)[1:]], "body": body}


def _pictures(found: Sequence[Block], key: str, most: int, share: int) -> list[Drawn]:
    drawn = [ratios_picture(found, key=f"{key}-ratios")]
    drawn += sweep_pictures(found, "batch", key=key) + sweep_pictures(found, "threads", key=key)
    lanes = sum(len(lanes_of(block)) for block in found[:most])
    dots = min(MOST_DOTS, max(FEWEST_DOTS, DOTS // (share * max(1, lanes))))
    for number, block in enumerate(found[:most], start=1):
        where = bench.condition_text(block.condition) if len(found) > 1 else ""
        drawn.append(distributions_picture(block, key=f"{key}-spread{number}", where=where))
        drawn.append(samples_picture(block, key=f"{key}-samples{number}", where=where, dots=dots))
    return [one for one in drawn if one is not None]


def _settings(record: RecordLike) -> list[tuple[str, str]]:
    known = {"record": record.get("id"), "created": record.get("created"), "leanfit": record.get("leanfit")}
    models = {
        f"model {bench.name_of(entry, 60)}": f"{clean(entry.get('path') or '-')}, sha256 {clean(entry['sha256'])}"
        for entry in bench.entries(record)
        if entry.get("sha256")
    }
    given = [(name, clean(value)) for name, value in {**known, **models}.items() if value]
    return [*flat(bench.part(record, "settings")), *given]


# Scenarios: a table of each kind, its head and how a row is read from a result.


@dataclass(frozen=True)
class _Kind:
    """How results of one scenario are shown: the heads after the name, a row's cells, and a picture of them all."""

    head: tuple[str, ...]
    cells: Callable[[Entry], list[Any]]
    picture: Callable[..., Drawn | None] | None = None


UNKNOWN: tuple[dict[str, Any], list[Drawn]] = ({}, [])


def _scenarios(record: RecordLike, key: str) -> list[dict[str, Any]]:
    """What a page shows of the scenarios, one for each thing that was asked."""
    found: dict[tuple[str, ...], list[Entry]] = {}
    for entry in bench.scenarios_of(record):
        asked = (entry.get("scenario"), entry.get("bound_ms"), entry.get("percentile"))
        found.setdefault(tuple(map(str, asked)), []).append(entry)
    shown = []
    for number, group in enumerate(found.values(), start=1):
        table, drawn = bench.safely(partial(_scenario, group, f"{key}-scenario{number}"), UNKNOWN)
        texts = [f"{bench.name_of(entry, 40)}: {text}" for entry in group for text in bench.texts_of(entry, "warnings")]
        full = "\n\n".join(bench.safely(partial(scenario_text, [entry], 100), "") for entry in group)
        shown.append({"table": table, "drawn": drawn, "warnings": list(dict.fromkeys(texts)), "text": full})
    return shown


def _scenario(group: Sequence[Entry], key: str) -> tuple[dict[str, Any], list[Drawn]]:
    """(table, pictures) of results that were asked the same."""
    name = str(group[0]["scenario"])
    label = name if name in ("offline", "single-stream") else "server"
    kind = KINDS[label]
    if label == "server" and "bound_ms" in group[0]:
        label, kind = f"server, P{group[0]['percentile']:g} within {duration(group[0]['bound_ms'])}", HIGHEST
    picture = kind.picture(group, key=key) if kind.picture else None
    body = [[bench.name_of(entry, 60), *kind.cells(entry)] for entry in group]
    return {"label": label, "head": [label, *kind.head], "body": body}, [picture] if picture else []


def _single_stream(entry: Entry) -> list[str]:
    tails = [entry.get(f"{key}_ms") for key in ("p90", "p99")]
    return [
        f"{duration(entry['median_ms'])} ({duration(entry['low'])} to {duration(entry['high'])})",
        *(duration(v) if finite(v) else f"needs {entry['needs'][k]} more" for k, v in zip(("p90", "p99"), tails)),
        rate_text(entry["qps"]),
        f"{entry['queries']:,}",
    ]


def _served(entry: Entry) -> list[str]:
    busy = f"{100 * entry['utilisation']:.0f} %" if finite(entry.get("utilisation")) else "-"
    return [f"{entry['completed']:,}", f"{entry['lost']:,}", busy]


def _highest(entry: Entry) -> list[str]:
    if not finite(entry.get("rate")):
        return [entry.get("why") or "none found", "", *_served(entry)]
    return [f"{rate_text(entry['rate'])}{_ends(entry)}", proof_text(entry), *_served(entry)]


def _ends(entry: Entry) -> str:
    low, high = entry.get("low"), entry.get("high")
    return f" ({rate_text(low)} to {rate_text(high)})" if finite(low) and finite(high) else ""


KINDS = {
    "offline": _Kind(
        ("samples/s", "best batch", "batches tried"),
        lambda e: [f"{rate_text(e['samples_per_s'])}{_ends(e)}", str(e["batch"]), f"{len(e['batches'])}"],
        throughput_picture,
    ),
    "single-stream": _Kind(("median", "P90", "P99", "queries/s", "queries"), _single_stream),
    "server": _Kind(
        ("rate", "P50", "P90", "P99", "queries", "lost", "busy"),
        lambda e: [f"{rate_text(e['rate'])}/s", *(duration(e.get(f"p{q}_ms")) for q in (50, 90, 99)), *_served(e)],
    ),
}
HIGHEST = _Kind(("highest rate, queries/s", "proof", "queries", "lost", "busy"), _highest, rates_picture)


def _profiles(record: RecordLike, key: str) -> dict[str, Any] | None:
    """Where the time goes: sentences, time by operator and by layer, and all figures as text."""
    found = bench.profiles_of(record)
    if not found:
        return None
    told = [partial(explain, found[0], other) for other in found[1:]] or [partial(remarks, found[0])]
    operators = bench.safely(partial(operators_picture, found, key=f"{key}-operators"), None)
    layers = bench.safely(partial(layers_picture, found, key=f"{key}-layers"), None)
    return {
        "sentences": [text for make in told for text in bench.safely(make, [bench.UNREADABLE])],
        "drawn": [(operators, "Time of one call, the profiler's own taken off."), (layers, "In running order.")],
        "text": bench.safely(partial(profile_text, found, 100), ""),
    }
