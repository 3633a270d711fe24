"""The text table of a benchmark: a block for each condition, then what belongs to a model, then what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.core.text import clean
from evaluate.report.messages.bench_blocks import Block, blocks, condition_text
from evaluate.report.messages.bench_messages import (
    LEGENDS,
    bench_conditions,
    bench_headline,
    failures,
    floor_text,
    notes,
    warnings_of,
)
from evaluate.report.messages.run_messages import RecordLike
from evaluate.report.text.bench_columns import (
    LATENCY,
    MODELS,
    QUALITY,
    SPEED,
    STARTS,
    TAILS,
    Column,
    block_rows,
    compared,
    condition_rows,
    filled,
    headings,
    model_rows,
    title_of,
)
from evaluate.report.text.bench_extras import extra_lines
from evaluate.report.text.text_columns import BOLD, aligned, columns_of, fits, painted, speakable, widths_of, wrapped

NAMES = (34, 24, 18, 14)


def bench_table(record: RecordLike, width: int | None = None, color: bool = False) -> str:
    """The table of a bench Record in at most `width` columns: one block a condition, with what it can claim below it.

    width : columns to use; None takes the terminal's, at most 100. Too narrow for columns, rows become blocks.
    color : paint headings and verdicts by ANSI codes.
    """
    columns, found = columns_of(width), blocks(record)
    lines = _heading(record, columns, color)
    main, moved = _main_columns(found, columns)
    lines += _condition_lines(found, main, columns, color)
    lines += _others(found, (*moved, *STARTS), columns, color, by_model=False)
    lines += _others(found, MODELS, columns, color) + _others(found, QUALITY, columns, color)
    lines += extra_lines(record, columns, color)
    lines += _marked("failed", [f"{name}: {kind}: {why}" for name, kind, why in failures(record)], "x", columns)
    lines += _marked("warnings", warnings_of(record), "!", columns)
    lines += _marked("notes", [*notes(record), LEGENDS[compared(found)]] if found else [], "-", columns)
    return speakable("\n".join(lines))


def _heading(record: RecordLike, width: int, color: bool) -> list[str]:
    name, told = clean(record.get("name") or "bench", 80), bench_headline(record)
    text = told if told.startswith(f"{name}: ") else f"{name}: {told}"
    bold = [painted(line, BOLD, color) for line in wrapped(text, width, "", "  ")]
    return [*bold, *wrapped(bench_conditions(record), width, "", "  ")]


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
        lines += ["", *wrapped(condition_text(block.condition), width)]
        lines += aligned(headings(columns), _cut(block_rows(block, columns), names), width, color, widths)
        lines += wrapped(floor_text(block), width, "", "  ")
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
