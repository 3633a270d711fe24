"""One benchmark on a page: its answers at a glance, tables by condition, pictures, scenarios and profiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from markupsafe import Markup

from evaluate.core.bench_parts import Scenario
from evaluate.core.records import BenchRecord
from evaluate.core.text import clean, duration, rate_text
from evaluate.report.charts.bars import layers_picture, operators_picture
from evaluate.report.charts.intervals import ratios_picture
from evaluate.report.charts.lines import rates_picture, sweep_pictures, throughput_picture
from evaluate.report.charts.sample_charts import distributions_picture, lanes_of, samples_picture
from evaluate.report.charts.svg import Drawn
from evaluate.report.html.markup import Verdict, capital, element, flat, plural, rendered
from evaluate.report.messages import bench_messages as bench
from evaluate.report.messages.bench_messages import Block, bound_text, counted, proof_text, rate_ends
from evaluate.report.messages.run_messages import speed_text, value_text
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
    busy_text,
    compared,
    condition_rows,
    filled,
    headings,
    model_rows,
    scenario_text,
    tail_text,
    title_of,
)
from evaluate.report.text.profile_table import explain, profile_text, remarks

# Of more conditions than these the raw samples are not drawn; the sweeps hold all of them.
MOST_CONDITIONS = 6
# Calls drawn in all lanes of a page together, and in one of them.
DOTS, MOST_DOTS, FEWEST_DOTS = 16_000, 300, 60
Tile = tuple[str, Any, Any]


def bench_tiles(record: BenchRecord) -> list[Tile]:
    """The answers at a glance: the best speed-up, what the run can claim, how much was measured, what failed."""
    found, lost = bench.blocks(record), bench.failures(record)
    tiles = [*_best_tile(found), *_floor_tile(found), *_extent_tile(record, found)]
    return tiles + ([("not measured", len(lost), ", ".join(f"{name} ({kind})" for name, kind, _ in lost))] * bool(lost))


def _best_tile(found: Sequence[Block]) -> list[Tile]:
    """The largest speed-up that the verdict calls one; none where there is none."""
    gains = [
        (result.speedup, label, block)
        for block in found
        for label, result in block.named()
        if bench.verdict_of(result) == "faster"
    ]
    if not gains:
        return []
    speedup, label, block = max(gains, key=lambda gain: gain[0].value or 0.0)
    value, _, ends = speed_text(speedup).partition(" (")
    interval = f"95 %: {ends.rstrip(')')}; " if ends else ""
    note = f"{interval}{bench.condition_text(block.condition)}"
    return [(f"largest speed-up: {clean(label, 30)}", (value, Verdict("faster")), note)]


def _floor_tile(found: Sequence[Block]) -> list[Tile]:
    shares = sorted(block.floor.noise_floor for block in found if block.floor.noise_floor is not None)
    if not shares:
        return []
    low, high = bench.percent(shares[0]), bench.percent(shares[-1])
    note = (
        bench.floor_text(found[0]).partition(" (")[2].rstrip(")")
        if len(found) == 1
        else f"by condition, of {len(found)}"
    )
    return [("smallest difference it can claim", low if low == high else f"{low} to {high}", note)]


def _extent_tile(record: BenchRecord, found: Sequence[Block]) -> list[Tile]:
    models = len({bench.name_of(result) for result in record.results})
    if not models:
        return []
    calls = [result.latency.n for result in record.results if result.latency.n is not None]
    texts = [f"{len(found)} conditions" if len(found) > 1 else bench.condition_text(found[0].condition)]
    texts += [f"{sum(calls):,} samples"] if calls else []
    texts += [duration(1e3 * record.seconds)] if record.seconds is not None else []
    return [("measured", plural(models, "model"), ", ".join(texts))]


def bench_sections(record: BenchRecord, *, key: str, level: int, share: int = 1) -> Markup:
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
        machine=list(flat(record.environment.to_json())),
        meanwhile=list(flat(record.machine.to_json())),
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


def _settings(record: BenchRecord) -> list[tuple[str, str]]:
    about = {"record": record.id, "created": record.created, "leanfit": record.leanfit}
    models = {
        f"model {bench.name_of(one, 60)}": f"{clean(one.path or '-')}, sha256 {clean(one.sha256)}"
        for one in record.results
        if one.sha256
    }
    return [*flat(record.settings), *((name, clean(value)) for name, value in {**about, **models}.items() if value)]


# Scenarios: a table of each kind, its head and how a row is read from a result.


class _Kind(NamedTuple):
    """How results of one scenario are shown: the heads after the name, a row's cells, and a picture of them all."""

    head: tuple[str, ...]
    cells: Callable[[Scenario], list[Any]]
    picture: Callable[..., Drawn | None] | None = None


def _scenarios(record: BenchRecord, key: str) -> list[dict[str, Any]]:
    """What a page shows of the scenarios, one for each thing that was asked."""
    found: dict[tuple[Any, ...], list[Scenario]] = {}
    for one in record.scenarios:
        found.setdefault((one.scenario, one.bound_ms, one.percentile), []).append(one)
    shown = []
    for number, (asked, group) in enumerate(found.items(), start=1):
        label, kind = str(asked[0]), KINDS.get(str(asked[0]))
        if label == "server" and asked[1] is not None:
            label, kind = f"server, {bound_text(group[0])}", HIGHEST
        picture = kind.picture(group, key=f"{key}-scenario{number}") if kind and kind.picture else None
        body = [[bench.name_of(one, 60), *kind.cells(one)] for one in group] if kind else []
        texts = [f"{bench.name_of(one, 40)}: {clean(text)}" for one in group for text in one.warnings]
        shown.append({
            "table": {"label": label, "head": [label, *kind.head], "body": body} if kind else {},
            "drawn": [picture] if picture else [],
            "warnings": list(dict.fromkeys(texts)),
            "text": scenario_text(group, 100) if kind else "",
        })  # fmt: skip
    return shown


def _single_stream(one: Scenario) -> list[str]:
    return [
        f"{duration(one.median_ms)} ({duration(one.low)} to {duration(one.high)})",
        *(tail_text(one, "p90", one.p90_ms), tail_text(one, "p99", one.p99_ms)),
        rate_text(one.qps),
        counted(one.queries),
    ]


def _served(one: Scenario) -> list[str]:
    return [counted(one.completed), counted(one.lost), busy_text(one)]


def _highest(one: Scenario) -> list[str]:
    if one.rate is None:
        return [clean(one.why or "none found"), "", *_served(one)]
    return [f"{rate_text(one.rate)}{rate_ends(one)}", proof_text(one), *_served(one)]


KINDS = {
    "offline": _Kind(
        ("samples/s", "best batch", "batches tried"),
        lambda s: [f"{rate_text(s.samples_per_s)}{rate_ends(s)}", value_text(s.batch), f"{len(s.batches)}"],
        throughput_picture,
    ),
    "single-stream": _Kind(("median", "P90", "P99", "queries/s", "queries"), _single_stream),
    "server": _Kind(
        ("rate", "P50", "P90", "P99", "queries", "lost", "busy"),
        lambda s: [f"{rate_text(s.rate)}/s", *map(duration, (s.p50_ms, s.p90_ms, s.p99_ms)), *_served(s)],
    ),
}
HIGHEST = _Kind(("highest rate, queries/s", "proof", "queries", "lost", "busy"), _highest, rates_picture)


def _profiles(record: BenchRecord, key: str) -> dict[str, Any] | None:
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
