"""Numbers as people read them: counts, bytes, times, ratios and intervals, with their units."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeGuard


def clean(text: object, limit: int = 0) -> str:
    """Text that is safe to print or draw: no control characters, no lone surrogates; cut in its middle to `limit`."""
    kept = "".join(char if char.isprintable() else "?" for char in str(text))
    if limit and len(kept) > limit:
        tail = (limit - 1) * 2 // 3
        return kept[: limit - 1 - tail] + "…" + kept[-tail:]
    return kept


def a_few(entries: Sequence[str], most: int = 5, between: str = ", ") -> str:
    """`a, b and 3 more`: at most so many of them, and how many more there are."""
    more = len(entries) - most
    return between.join(entries[:most]) + (f" and {more} more" if more > 0 else "")


def glued(text: str, glue: str) -> str:
    """`text` with `glue` between each number and its unit, so that a line never breaks there."""
    return re.sub(r"(?<=\d) (?=([kMG]?B|[kMG]|us|ms|s|points|%)(?!\w))", glue, text)


def finite(value: Any) -> TypeGuard[float]:
    """Whether `value` is a number that can be shown."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and abs(value) <= sys.float_info.max


def _scaled(value: float, steps: Sequence[tuple[float, str]]) -> str:
    """`value` with three significant digits in the largest unit that keeps it at 1 or more, else in the smallest."""
    for scale, unit in steps:
        if abs(value) >= 0.9995 * scale:
            shown = value / scale
            decimals = max(0, 2 - math.floor(math.log10(abs(shown) * 1.0005)))
            return f"{shown:.{decimals}f} {unit}"
    scale, unit = steps[-1]
    return f"{value / scale:.3g} {unit}"


def count(value: Any) -> str:
    """A count of things: `532`, `272 k`, `40.8 M`."""
    if not finite(value):
        return "-"
    return str(round(value)) if abs(value) < 1000 else _scaled(value, ((1e9, "G"), (1e6, "M"), (1e3, "k")))


def size(value: Any) -> str:
    """A number of bytes in decimal units: `532 B`, `346 kB`, `1.09 MB`."""
    if not finite(value):
        return "-"
    return f"{round(value)} B" if abs(value) < 1000 else _scaled(value, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")))


def duration(milliseconds: Any) -> str:
    """A time given in milliseconds: `964 us`, `1.48 ms`, `2.10 s`."""
    return _scaled(milliseconds, ((1e3, "s"), (1, "ms"), (1e-3, "us"))) if finite(milliseconds) else "-"


def long_duration(seconds: float) -> str:
    """A time in seconds as people say it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rate_text(rate: float | None) -> str:
    """A rate with three digits: `0.523`, `61.2`, `1,234`; `-` where it is not known."""
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 99.95 else f"{rate:.3g}"


def ratio(value: Any) -> str:
    """A ratio with a trailing x: `0.32x`, `0.031x`, `12.3x`."""
    if not finite(value):
        return "-"
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}x"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}x"


def signed(value: float, decimals: int = 2, plus: bool = True) -> str:
    """A number with its sign; never `-0.00`."""
    rounded = round(value, decimals)
    return f"{rounded:{'+' if plus and rounded else ''}.{decimals}f}" if rounded else f"{0:.{decimals}f}"


def p_value(p: Any) -> str:
    """A p-value: `p 0.91`, `p 0.004`, `p < 0.001`."""
    if not finite(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p {p:.{2 if p >= 0.01 else 3}f}"


def decimals_for(low: float, high: float, least: int = 2, most: int = 4, parts: float = 2) -> int:
    """Decimals whose last digit is at most one of `parts` of the interval, so that its two ends can be told apart."""
    width = abs(high - low)
    return least if width <= 0 else min(most, max(least, math.ceil(-math.log10(width / parts) - 1e-9)))


def ratio_decimals(low: Any, high: Any) -> int:
    """Decimals for a ratio's interval: an end that is not 1 is never shown as 1."""
    if not (finite(low) and finite(high)):
        return 2
    decimals = decimals_for(low, high)
    while decimals < 4 and any(end != 1 and round(end, decimals) == 1 for end in (low, high)):
        decimals += 1
    return decimals


def interval_text(value: Any, low: Any, high: Any, decimals: int, unit: str = "") -> str:
    """`91.73 (91.17 to 92.25)`; the interval is left out where there is none."""
    if not finite(value):
        return "-"
    ends = f" ({low:.{decimals}f} to {high:.{decimals}f})" if finite(low) and finite(high) else ""
    return f"{value:.{decimals}f}{unit}{ends}"


def four_digits(value: float) -> int:
    """Decimals for four significant digits of `value`."""
    return 2 if not value else min(8, max(0, 3 - math.floor(math.log10(abs(value)))))


def numbers_in(value: Any) -> list[float]:
    """The finite numbers in a value of any nesting, in their order; what is none is left out."""
    found, waiting = list[float](), [value]
    while waiting:
        item = waiting.pop()
        item = item.tolist() if hasattr(item, "tolist") else item
        if isinstance(item, (list, tuple)):
            waiting += reversed(item)
        elif finite(item):
            found.append(float(item))
    return found


def html_rows(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A small table for a notebook: a title, then a name and a value in each row."""
    left = "style='text-align:left'"
    lines = (f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption {left}><b>{escape(title)}</b></caption>{''.join(lines)}</table>"
