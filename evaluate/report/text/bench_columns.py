"""The columns of a benchmark's tables, as text and on a page: what is read from an entry, and the rows they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from evaluate.core.text import size
from evaluate.report.messages.bench_blocks import (
    Block,
    Condition,
    Entry,
    accuracy_text,
    agreement_text,
    drop_cell,
    energy_text,
    latency_cell,
    memory_text,
    part,
    speed_cell,
    start_text,
    tail_text,
    verdict_of,
)

VERDICT = "verdict"


class Column(NamedTuple):
    """A heading, how its cell is read from an entry, and what the cell is about where a title has to say it."""

    head: str
    cell: Callable[[Entry], str]
    about: str = ""


LATENCY = Column("latency", latency_cell)
SPEED = (Column("speed-up", speed_cell), Column(VERDICT, verdict_of))
TAILS = (
    Column("P90", lambda e: tail_text(e, "p90"), "slow calls"),
    Column("P95", lambda e: tail_text(e, "p95"), "slow calls"),
    Column("P99", lambda e: tail_text(e, "p99"), "slow calls"),
)
STARTS = (
    Column("open", lambda e: start_text(e, "create_ms"), "start"),
    Column("first call", lambda e: start_text(e, "first_call_ms"), "start"),
    Column("a call", energy_text, "energy"),
)
MODELS = (
    Column("bytes", lambda e: _sized(e, "bytes"), "size"),
    Column("packed", lambda e: _sized(e, "packed_bytes"), "size"),
    Column("peak memory", lambda e: memory_text(e, "peak_rss_mb"), "memory"),
    Column("above runtime", lambda e: memory_text(e, "model_mb"), "memory"),
    Column("GPU memory", lambda e: memory_text(e, "gpu_mb"), "memory"),
    Column("answers", agreement_text, "answers"),
)
QUALITY = (
    Column("accuracy", accuracy_text, "accuracy"),
    Column("drop", lambda e: drop_cell(e)[0], "drop"),
    Column(VERDICT, lambda e: drop_cell(e)[1], "drop"),
)


def _sized(entry: Entry, key: str) -> str:
    known = part(entry, "sizes").get(key)
    return size(known) if known is not None else ""


def compared(blocks: Sequence[Block]) -> bool:
    """Whether any model was compared with a baseline."""
    return any(verdict_of(entry) for block in blocks for entry in block.entries)


def filled(columns: Sequence[Column], blocks: Sequence[Block]) -> tuple[Column, ...]:
    """The columns in which anything stands."""
    return tuple(c for c in columns if any(c.cell(entry) for block in blocks for entry in block.entries))


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


def _varying(blocks: Sequence[Block]) -> list[str]:
    """The fields in which the conditions differ."""
    return [f for f in Condition._fields if len({getattr(block.condition, f) for block in blocks}) > 1]


def condition_rows(blocks: Sequence[Block], columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of what depends on the condition: a row for each model under each of them."""
    varying = _varying(blocks)
    body = [
        [name, *(str(getattr(block.condition, field)) for field in varying), *cells]
        for block in blocks
        for name, *cells in block_rows(block, columns)
    ]
    return headings(columns, *varying), body


def model_rows(blocks: Sequence[Block], columns: Sequence[Column]) -> list[list[str]]:
    """A row for each model of what belongs to it, or one a condition where they differ."""
    varying = _varying(blocks)
    models: dict[str, dict[tuple[str, ...], str]] = {}
    for block in blocks:
        where = ", ".join(f"{field} {getattr(block.condition, field)}" for field in varying)
        for name, *cells in block_rows(block, columns):
            models.setdefault(name, {}).setdefault(tuple(cells), where)
    return [
        [f"{name}, {where}" if where and len(kinds) > 1 else name, *cells]
        for name, kinds in models.items()
        for cells, where in kinds.items()
    ]
