"""A benchmark as text: its columns, as a terminal and a page have them, its table, and its scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from evaluate.core.bench_parts import Result, Scenario
from evaluate.core.blocks import as_block
from evaluate.core.records import BenchRecord
from evaluate.core.text import clean, duration, rate_text, ratio, size
from evaluate.core.units import joules
from evaluate.report.messages import bench_messages as bench
from evaluate.report.messages.bench_messages import Block, Condition, bound_text, counted, proof_text, rate_ends
from evaluate.report.messages.run_messages import value_text
from evaluate.report.text.profile_table import profile_table
from evaluate.report.text.text_columns import BOLD, aligned, columns_of, fits, painted, speakable, widths_of, wrapped

VERDICT = "verdict"


class Column(NamedTuple):
    """A heading, how its cell is read from a result, and what the cell is about where a title has to say it."""

    head: str
    cell: Callable[[Result], str]
    about: str = ""


def _told(value: float | None, show: Callable[[float], str]) -> str:
    """A figure as `show` puts it; empty where it is not known."""
    return "" if value is None else show(value)


def _mebibytes(value: float) -> str:
    return size(2**20 * value)


LATENCY = Column("latency", bench.latency_cell)
SPEED = (Column("speed-up", bench.speed_cell), Column(VERDICT, bench.verdict_of))
TAILS = (
    Column("P90", lambda r: _told(r.latency.p90, duration), "slow calls"),
    Column("P95", lambda r: _told(r.latency.p95, duration), "slow calls"),
    Column("P99", lambda r: _told(r.latency.p99, duration), "slow calls"),
)
STARTS = (
    Column("open", lambda r: _told(r.start.get("create_ms"), duration), "start"),
    Column("first call", lambda r: _told(r.start.get("first_call_ms"), duration), "start"),
    Column("a call", lambda r: _told(r.energy.joules_per_call, joules), "energy"),
)
MODELS = (
    Column("bytes", lambda r: _told(r.sizes.bytes, size), "size"),
    Column("packed", lambda r: _told(r.sizes.packed_bytes, size), "size"),
    Column("peak memory", lambda r: _told(r.memory.peak_rss_mb, _mebibytes), "memory"),
    Column("above runtime", lambda r: _told(r.memory.model_mb, _mebibytes), "memory"),
    Column("GPU memory", lambda r: _told(r.memory.gpu_mb, _mebibytes), "memory"),
    Column("answers", bench.agreement_text, "answers"),
)
QUALITY = (
    Column("accuracy", bench.accuracy_text, "accuracy"),
    Column("drop", lambda r: bench.drop_cell(r)[0], "drop"),
    Column(VERDICT, lambda r: bench.drop_cell(r)[1], "drop"),
)


def compared(found: Sequence[Block]) -> bool:
    """Whether any model was compared with a baseline."""
    return any(bench.verdict_of(result) for block in found for result in block.results)


def filled(columns: Sequence[Column], found: Sequence[Block]) -> tuple[Column, ...]:
    """The columns in which anything stands."""
    return tuple(c for c in columns if any(c.cell(result) for block in found for result in block.results))


def headings(columns: Sequence[Column], *before: str) -> list[str]:
    """The heads of the columns after those of the names."""
    return ["", *before, *(column.head for column in columns)]


def title_of(columns: Sequence[Column]) -> str:
    """What the columns are about: `size, memory`."""
    return ", ".join(dict.fromkeys(column.about for column in columns))


def block_rows(block: Block, columns: Sequence[Column]) -> list[list[str]]:
    """A row a model of one condition, its name first."""
    return [[label, *(column.cell(result) for column in columns)] for label, result in block.named()]


def _varying(found: Sequence[Block]) -> list[str]:
    """The fields in which the conditions differ."""
    return [f for f in Condition._fields if len({getattr(block.condition, f) for block in found}) > 1]


def condition_rows(found: Sequence[Block], columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of what depends on the condition: a row for each model under each of them."""
    varying = _varying(found)
    body = [
        [name, *(str(getattr(block.condition, field)) for field in varying), *cells]
        for block in found
        for name, *cells in block_rows(block, columns)
    ]
    return headings(columns, *varying), body


def model_rows(found: Sequence[Block], columns: Sequence[Column]) -> list[list[str]]:
    """A row for each model of what belongs to it, or one a condition where they differ."""
    varying = _varying(found)
    models: dict[str, dict[tuple[str, ...], str]] = {}
    for block in found:
        where = ", ".join(f"{field} {getattr(block.condition, field)}" for field in varying)
        for name, *cells in block_rows(block, columns):
            models.setdefault(name, {}).setdefault(tuple(cells), where)
    return [
        [f"{name}, {where}" if where and len(kinds) > 1 else name, *cells]
        for name, kinds in models.items()
        for cells, where in kinds.items()
    ]


# The table.


NAMES = (34, 24, 18, 14)


def bench_table(record: Mapping[str, Any] | BenchRecord, width: int | None = None, color: bool = False) -> str:
    """The table of a bench Record in at most `width` columns: one block a condition, with what it can claim below it.

    width : columns to use; None takes the terminal's, at most 100. Too narrow for columns, rows become blocks.
    color : paint headings and verdicts by ANSI codes.
    """
    return speakable("\n".join(_lines(as_block(BenchRecord, record), columns_of(width), color)))


def _lines(record: BenchRecord, columns: int, color: bool) -> list[str]:
    found = bench.blocks(record)
    lines = _heading(record, columns, color)
    main, moved = _main_columns(found, columns)
    lines += _condition_lines(found, main, columns, color)
    lines += _others(found, (*moved, *STARTS), columns, color, by_model=False)
    lines += _others(found, MODELS, columns, color) + _others(found, QUALITY, columns, color)
    lines += extra_lines(record, columns, color)
    lines += _marked("failed", [f"{name}: {kind}: {why}" for name, kind, why in bench.failures(record)], "x", columns)
    lines += _marked("warnings", bench.warnings_of(record), "!", columns)
    lines += _marked("notes", [*bench.notes(record), bench.LEGENDS[compared(found)]] if found else [], "-", columns)
    return lines


def _heading(record: BenchRecord, width: int, color: bool) -> list[str]:
    name, told = clean(record.name or "bench", 80), bench.bench_headline(record)
    text = told if told.startswith(f"{name}: ") else f"{name}: {told}"
    bold = [painted(line, BOLD, color) for line in wrapped(text, width, "", "  ")]
    return [*bold, *wrapped(bench.bench_conditions(record), width, "", "  ")]


def _main_columns(found: Sequence[Block], width: int) -> tuple[list[Column], tuple[Column, ...]]:
    """The columns of the blocks, and the percentiles where there is no room for them beside the speed-up."""
    essential = [LATENCY, *(SPEED if compared(found) else ())]
    tails = filled([column for column in TAILS if column.head != "P95"], found)
    whole = [LATENCY, *tails, *essential[1:]]
    if any(fits(_widths(found, whole, names), width) for names in NAMES):
        return whole, ()
    return essential, tails


def _cut(rows: Sequence[Sequence[str]], names: int) -> list[list[str]]:
    return [[clean(name, names), *cells] for name, *cells in rows]


def _widths(found: Sequence[Block], columns: Sequence[Column], names: int) -> list[int]:
    body = [line for block in found for line in _cut(block_rows(block, columns), names)]
    return widths_of([headings(columns), *body])


def _condition_lines(found: Sequence[Block], columns: Sequence[Column], width: int, color: bool) -> list[str]:
    names = next((n for n in NAMES if fits(_widths(found, columns, n), width)), NAMES[-1])
    widths = _widths(found, columns, names) if found else []
    lines: list[str] = []
    for block in found:
        lines += ["", *wrapped(bench.condition_text(block.condition), width)]
        lines += aligned(headings(columns), _cut(block_rows(block, columns), names), width, color, widths)
        lines += wrapped(bench.floor_text(block), width, "", "  ")
    return lines


def _others(
    found: Sequence[Block], columns: Sequence[Column], width: int, color: bool, by_model: bool = True
) -> list[str]:
    """A table of the columns in which anything stands: a line a model, or a line for each under each condition."""
    shown = filled(columns, found)
    if not shown:
        return []
    head, body = (headings(shown), model_rows(found, shown)) if by_model else condition_rows(found, shown)
    return ["", title_of(shown), *aligned(head, _cut(body, NAMES[0 if by_model else 1]), width, color)]


def _marked(title: str, texts: Sequence[str], mark: str, width: int) -> list[str]:
    lines = [line for text in texts for line in wrapped(text, width, f"  {mark} ")]
    return ["", title, *lines] if lines else []


def extra_lines(record: BenchRecord, width: int, color: bool) -> list[str]:
    """Scenarios and profiles as the lines of a text table; [] where there are none."""
    lines: list[str] = []
    for one in record.scenarios:
        lines += ["", *scenario_table([one], width, color).split("\n")]
    if record.profiles:
        shown = bench.safely(partial(profile_table, bench.profiles_of(record), width, color), bench.UNREADABLE)
        lines += ["", "where the time goes", *shown.split("\n")]
    return lines


# Scenarios.


def scenario_table(
    results: Sequence[Mapping[str, Any] | Scenario], width: int | None = None, color: bool = False
) -> str:
    """The results of `single_stream`, `offline`, `server` and `highest_rate`, one below the other.

    results : those dicts; where one has a `name` (of its model), its heading begins with it.
    width   : columns to use; None takes the terminal's, at most 100. color : paint headings by ANSI codes.
    """
    return speakable(scenario_text([as_block(Scenario, one) for one in results], width, color))


def scenario_text(results: Sequence[Scenario], width: int | None = None, color: bool = False) -> str:
    """The same with all letters of all names, whatever the terminal can show: for a page."""
    columns = columns_of(width)
    return "\n\n".join("\n".join(_scenario(one, columns, color)) for one in results)


def _scenario(one: Scenario, width: int, color: bool) -> list[str]:
    name = f"{clean(one.name)}: " if one.name else ""
    if one.scenario not in HEADLINES:
        return wrapped(name + bench.UNREADABLE, width, "", "  ")
    lines = wrapped(name + HEADLINES[one.scenario](one), width, "", "  ")
    rows = _batches(one) if one.batches else _probes(one)
    lines += [f"  {line}" for line in aligned(rows[0], rows[1:], width - 2, color)] if len(rows) > 1 else []
    return lines + [line for text in one.warnings for line in wrapped(clean(text), width, "! ", "  ")]


def _offline(one: Scenario) -> str:
    return f"offline: {rate_text(one.samples_per_s)} samples/s{rate_ends(one)} at batch {one.batch}"


def _single_stream(one: Scenario) -> str:
    tails = [f"P90 {tail_text(one, 'p90', one.p90_ms)}", f"P99 {tail_text(one, 'p99', one.p99_ms)}"]
    return (
        f"single-stream: median {duration(one.median_ms)} ({duration(one.low)} to {duration(one.high)}), "
        f"{', '.join(tails)}, {rate_text(one.qps)} queries/s over {counted(one.queries)} queries"
    )


def tail_text(one: Scenario, name: str, value: float | None) -> str:
    """A percentile, or how many more queries it needs."""
    return f"needs {value_text(one.needs.get(name))} more" if value is None else duration(value)


def _server(one: Scenario) -> str:
    if one.bound_ms is None:
        known = {"P50": one.p50_ms, "P90": one.p90_ms, "P99": one.p99_ms}
        tails = [f"{name} {duration(tail)}" for name, tail in known.items() if tail is not None]
        return (
            f"server: {', '.join(tails)} at {rate_text(one.rate)} queries/s, {counted(one.queries)} queries, "
            f"{value_text(one.lost)} lost, server busy {busy_text(one)}"
        )
    if one.rate is None:
        return f"server, {bound_text(one)}: {clean(one.why or 'no rate found')}"
    return (
        f"server, {bound_text(one)}: {rate_text(one.rate)} queries/s{rate_ends(one)}, {proof_text(one)}; server busy "
        f"{busy_text(one)}; {counted(one.completed)} queries, {value_text(one.lost)} lost"
    )


HEADLINES = {"offline": _offline, "single-stream": _single_stream, "server": _server}


def busy_text(one: Scenario) -> str:
    """The share of time in which the server worked, as per cent."""
    return "-" if one.utilisation is None else f"{100 * one.utilisation:.0f} %"


def _batches(one: Scenario) -> list[list[str]]:
    rows = [
        [
            f"{tried.batch}" + (" <" if tried.batch == one.batch else ""),
            f"{rate_text(tried.samples_per_s)}{rate_ends(tried)}",
            duration(tried.call_ms),
        ]
        for tried in one.batches
    ]
    return [["batch", "samples/s", "one call"], *rows]


def _probes(one: Scenario) -> list[list[str]]:
    rows = [
        [
            rate_text(probe.rate),
            ratio(probe.rate / one.rate) if one.rate and probe.rate is not None else "-",
            counted(probe.queries),
            duration(probe.p50_ms),
            duration(probe.tail_ms),
            "met" if probe.met else "hopeless" if probe.cut else "missed",
        ]
        for probe in one.probes
    ]
    tail = f"P{99 if one.percentile is None else one.percentile:g}"
    return [["queries/s", "of the rate", "queries", "P50", tail, "bound"], *rows]
