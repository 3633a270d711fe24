"""Text in columns for a terminal: padded where it fits, one block a row where it does not, painted where asked."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from evaluate.core.text import glued

WIDEST, NARROWEST = 100, 40
GAP = 2
GREEN, RED, YELLOW, BOLD = "32", "31", "33", "1"
COLORS = {
    "faster": GREEN,
    "gained": GREEN,
    "met": GREEN,
    "slower": RED,
    "lost": RED,
    "missed": RED,
    "not resolved": YELLOW,
}


def columns_of(width: int | None) -> int:
    """How many columns to use: `width`, or the terminal's but at most 100; never below 40."""
    chosen = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns) if width is None else width
    return max(chosen, NARROWEST)


def painted(text: str, code: str, color: bool) -> str:
    """`text` inside an ANSI color code; as it is where `color` is off."""
    return f"\x1b[{code}m{text}\x1b[0m" if color and text else text


def speakable(text: str) -> str:
    """`text` in what the terminal's encoding can carry: user-given names may hold any letter."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return text.encode(encoding, "replace").decode(encoding, "replace")


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Lines of at most `width`, the first after `first`, others after `rest`; a number stays with its unit."""
    hanging = " " * len(first) if rest is None else rest
    lines = textwrap.wrap(
        glued(text, "\0"), width, initial_indent=first, subsequent_indent=hanging, break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in lines]


def widths_of(lines: Sequence[Sequence[str]]) -> list[int]:
    """The width each column needs, headings among the lines."""
    return [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]


def fits(widths: Sequence[int], width: int) -> bool:
    """Whether columns of these widths stand beside each other in `width`."""
    return sum(widths) + GAP * (len(widths) - 1) <= width


def _padded(line: Sequence[str], widths: Sequence[int], color: bool) -> str:
    cells = [painted(cell, COLORS.get(cell, ""), color and cell in COLORS) for cell in line]
    spaces = [" " * (widths[i] - len(cell) + GAP) for i, cell in enumerate(line)]
    return "".join(cell + space for cell, space in zip(cells, spaces)).rstrip()


def stacked(head: Sequence[str], body: Sequence[Sequence[str]], width: int) -> list[str]:
    """Each row as a small block, for terminals too narrow for columns."""
    lines: list[str] = []
    widest = max([10, *(len(name) for name in head[1:])])
    for label, *cells in body:
        lines.append(label)
        for position, cell in enumerate(cells, start=1):
            if cell:
                lines += wrapped(cell, max(width, 24), f"  {head[position]:<{widest}} ")
    return lines


def aligned(
    head: Sequence[str],
    body: Sequence[Sequence[str]],
    width: int,
    color: bool = False,
    widths: Sequence[int] | None = None,
) -> list[str]:
    """The table in columns, verdict words painted; in blocks where it does not fit into `width`.

    widths : the columns' widths, where several tables are to stand in line; else what this one needs.
    """
    chosen = widths_of([head, *body]) if widths is None else widths
    if not fits(chosen, width):
        return stacked(head, body, width)
    heading = painted(_padded(head, chosen, color=False), BOLD, color)
    return [heading, *(_padded(line, chosen, color) for line in body)]
