"""A benchmark as text: its columns, as a terminal and a page have them, its table, and its scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from evaluate.core.text import clean, duration, finite, ratio, size
from evaluate.core.units import joules
from evaluate.load_test.rate_result import proof_text, rate_text
from evaluate.report.messages import bench_messages as bench
from evaluate.report.messages.bench_messages import Block, Condition, Entry
from evaluate.report.messages.run_messages import RecordLike
from evaluate.report.text.profile_table import profile_table
from evaluate.report.text.text_columns import BOLD, aligned, columns_of, fits, painted, speakable, widths_of, wrapped

VERDICT = "verdict"


def _mebibytes(value: float) -> str:
    return size(2**20 * value)


class Column(NamedTuple):
    """A heading, how its cell is read from an entry, and what the cell is about where a title has to say it."""

    head: str
    cell: Callable[[Entry], str]
    about: str = ""


LATENCY = Column("latency", bench.latency_cell)
SPEED = (Column("speed-up", bench.speed_cell), Column(VERDICT, bench.verdict_of))
TAILS = (
    Column("P90", lambda e: bench.figure(e, "latency", "p90", duration), "slow calls"),
    Column("P95", lambda e: bench.figure(e, "latency", "p95", duration), "slow calls"),
    Column("P99", lambda e: bench.figure(e, "latency", "p99", duration), "slow calls"),
)
STARTS = (
    Column("open", lambda e: bench.figure(e, "start", "create_ms", duration), "start"),
    Column("first call", lambda e: bench.figure(e, "start", "first_call_ms", duration), "start"),
    Column("a call", lambda e: bench.figure(e, "energy", "joules_per_call", joules), "energy"),
)
MODELS = (
    Column("bytes", lambda e: _sized(e, "bytes"), "size"),
    Column("packed", lambda e: _sized(e, "packed_bytes"), "size"),
    Column("peak memory", lambda e: bench.figure(e, "memory", "peak_rss_mb", _mebibytes), "memory"),
    Column("above runtime", lambda e: bench.figure(e, "memory", "model_mb", _mebibytes), "memory"),
    Column("GPU memory", lambda e: bench.figure(e, "memory", "gpu_mb", _mebibytes), "memory"),
    Column("answers", bench.agreement_text, "answers"),
)
QUALITY = (
    Column("accuracy", bench.accuracy_text, "accuracy"),
    Column("drop", lambda e: bench.drop_cell(e)[0], "drop"),
    Column(VERDICT, lambda e: bench.drop_cell(e)[1], "drop"),
)


def _sized(entry: Entry, key: str) -> str:
    known = bench.part(entry, "sizes").get(key)
    return size(known) if known is not None else ""


def compared(found: Sequence[Block]) -> bool:
    """Whether any model was compared with a baseline."""
    return any(bench.verdict_of(entry) for block in found for entry in block.entries)


def filled(columns: Sequence[Column], found: Sequence[Block]) -> tuple[Column, ...]:
    """The columns in which anything stands."""
    return tuple(c for c in columns if any(c.cell(entry) for block in found for entry in block.entries))


def headings(columns: Sequence[Column], *before: str) -> list[str]:
    """The heads of the columns after those of the names."""
    return ["", *before, *(column.head for column in columns)]


def title_of(columns: Sequence[Column]) -> str:
    """What the columns are about: `size, memory`."""
    return ", ".join(dict.fromkeys(column.about for column in columns))


def block_rows(block: Block, columns: Sequence[Column]) -> list[list[str]]:
    """A row a model of one condition, its name first."""
    named = zip(block.labels, block.entries)
    return [[label, *(column.cell(entry) for column in columns)] for label, entry in named]


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


def bench_table(record: RecordLike, width: int | None = None, color: bool = False) -> str:
    """The table of a bench Record in at most `width` columns: one block a condition, with what it can claim below it.

    width : columns to use; None takes the terminal's, at most 100. Too narrow for columns, rows become blocks.
    color : paint headings and verdicts by ANSI codes.
    """
    columns, found = columns_of(width), bench.blocks(record)
    lines = _heading(record, columns, color)
    main, moved = _main_columns(found, columns)
    lines += _condition_lines(found, main, columns, color)
    lines += _others(found, (*moved, *STARTS), columns, color, by_model=False)
    lines += _others(found, MODELS, columns, color) + _others(found, QUALITY, columns, color)
    lines += extra_lines(record, columns, color)
    lines += _marked("failed", [f"{name}: {kind}: {why}" for name, kind, why in bench.failures(record)], "x", columns)
    lines += _marked("warnings", bench.warnings_of(record), "!", columns)
    lines += _marked("notes", [*bench.notes(record), bench.LEGENDS[compared(found)]] if found else [], "-", columns)
    return speakable("\n".join(lines))


def _heading(record: RecordLike, width: int, color: bool) -> list[str]:
    name, told = clean(record.get("name") or "bench", 80), bench.bench_headline(record)
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


def extra_lines(record: RecordLike, width: int, color: bool) -> list[str]:
    """Scenarios and profiles as the lines of a text table; [] where there are none."""
    lines: list[str] = []
    for entry in bench.scenarios_of(record):
        lines += ["", *bench.safely(partial(scenario_table, [entry], width, color), bench.UNREADABLE).split("\n")]
    profiles = bench.profiles_of(record)
    if profiles:
        shown = bench.safely(partial(profile_table, profiles, width, color), bench.UNREADABLE)
        lines += ["", "where the time goes", *shown.split("\n")]
    return lines


# Scenarios.


Result = Mapping[str, Any]


def scenario_table(results: Sequence[Result], width: int | None = None, color: bool = False) -> str:
    """The results of `single_stream`, `offline`, `server` and `highest_rate`, one below the other.

    results : those dicts; where one has a `name` (of its model), its heading begins with it.
    width   : columns to use; None takes the terminal's, at most 100. color : paint headings by ANSI codes.
    """
    return speakable(scenario_text(results, width, color))


def scenario_text(results: Sequence[Result], width: int | None = None, color: bool = False) -> str:
    """The same with all letters of all names, whatever the terminal can show: for a page."""
    columns = columns_of(width)
    return "\n\n".join("\n".join(_block(result, columns, color)) for result in results)


def _block(result: Result, width: int, color: bool) -> list[str]:
    name = f"{result['name']}: " if result.get("name") else ""
    lines = wrapped(name + _headline(result), width, "", "  ")
    rows = _batches(result) if result.get("batches") else _probes(result)
    lines += [f"  {line}" for line in aligned(rows[0], rows[1:], width - 2, color)] if len(rows) > 1 else []
    return lines + [line for text in result.get("warnings") or () for line in wrapped(text, width, "! ", "  ")]


def _headline(result: Result) -> str:
    if result["scenario"] == "single-stream":
        return _single_stream(result)
    if result["scenario"] == "offline":
        ends = _ends(result)
        return f"offline: {rate_text(result['samples_per_s'])} samples/s{ends} at batch {result['batch']}"
    return _highest(result) if "bound_ms" in result else _server(result)


def _single_stream(result: Result) -> str:
    low, high = duration(result["low"]), duration(result["high"])
    needs = result.get("needs") or {}
    tails = [
        f"P{q} {duration(result[f'p{q}_ms'])}" if finite(result[f"p{q}_ms"]) else f"P{q} needs {needs[f'p{q}']} more"
        for q in (90, 99)
    ]
    return (
        f"single-stream: median {duration(result['median_ms'])} ({low} to {high}), {', '.join(tails)}, "
        f"{rate_text(result['qps'])} queries/s over {result['queries']:,} queries"
    )


def _server(result: Result) -> str:
    tails = [f"P{q} {duration(result[f'p{q}_ms'])}" for q in (50, 90, 99) if finite(result[f"p{q}_ms"])]
    return (
        f"server: {', '.join(tails)} at {rate_text(result['rate'])} queries/s, {result['queries']:,} queries, "
        f"{result['lost']} lost, server busy {100 * result['utilisation']:.0f} %"
    )


def _highest(result: Result) -> str:
    asked = f"server, P{result['percentile']:g} within {duration(result['bound_ms'])}"
    if result["rate"] is None:
        return f"{asked}: {result['why']}"
    return (
        f"{asked}: {rate_text(result['rate'])} queries/s{_ends(result)}, {proof_text(result)}; server busy "
        f"{100 * result['utilisation']:.0f} %; {result['completed']:,} queries, {result['lost']} lost"
    )


def _ends(result: Result) -> str:
    return f" ({rate_text(result['low'])} to {rate_text(result['high'])})"


def _batches(result: Result) -> list[list[str]]:
    rows = [
        [
            f"{entry['batch']}" + (" <" if entry["batch"] == result["batch"] else ""),
            f"{rate_text(entry['samples_per_s'])}{_ends(entry)}",
            duration(entry["call_ms"]),
        ]
        for entry in result["batches"]
    ]
    return [["batch", "samples/s", "one call"], *rows]


def _probes(result: Result) -> list[list[str]]:
    tail = f"P{result.get('percentile', 99):g}"
    rows = [
        [
            rate_text(probe["rate"]),
            ratio(probe["rate"] / result["rate"]) if result["rate"] else "-",
            f"{probe['queries']:,}",
            duration(probe["p50_ms"]),
            duration(probe["tail_ms"]),
            "met" if probe["met"] else "hopeless" if probe["cut"] else "missed",
        ]
        for probe in result.get("probes") or ()
    ]
    return [["queries/s", "of the rate", "queries", "P50", tail, "bound"], *rows]
