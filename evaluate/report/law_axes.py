"""What the pictures of laws share: logarithmic axes in the units of their quantities, bands, hatching and legends."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.report.axes import STEPS, strokes
from evaluate.report.law_words import axis_label, quantity
from evaluate.report.svg import LINE, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


LEGEND_LINE = 19
FINE = tuple(
    tuple(s for s in np.round(np.arange(1, 10.01, gap), 3).tolist()) for gap in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
)


def log_axis(axes: Axes, side: str, name: str, low: float, high: float, most: int = 5, label: bool = True) -> None:
    """A logarithmic axis for a quantity: limits, at most `most` labelled ticks, and its name with the unit.

    Linear where it begins at 0, as a sparsity may.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axis = axes.xaxis if side == "x" else axes.yaxis
    (axes.set_xscale if side == "x" else axes.set_yscale)("log" if low > 0 else "linear")
    (axes.set_xlim if side == "x" else axes.set_ylim)(low, high)
    even = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
    axis.set_major_locator(FixedLocator(_ticks(low, high, most)) if low > 0 else even)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _bare(name, value)))
    if label:
        axis.set_label_text(axis_label(name))


def _bare(name: str, value: float) -> str:
    """A tick's text; the unit of a share stands in the label."""
    text = quantity(name, float(f"{value:.6g}")).replace(" %", "")
    return re.sub(r"(\.\d*?)0+(?=\D|$)", lambda m: m[1].rstrip("."), text) if "e" not in text else text


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the ends, evenly spread as far as the decades allow, at most `most`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    best: list[float] = []
    for steps in (*STEPS, *FINE):
        found = sorted({float(f"{step * 10.0**d:.6g}") for d in decades for step in steps})
        found = [tick for tick in found if low * 0.9999 <= tick <= high * 1.0001]
        if len(best) < len(found) <= most and _apart(found, low, high, most):
            best = found
    if len(best) < 3 and most < 7:  # closer together, before there are two ticks alone
        best = max(best, _ticks(low, high, 7), key=len)
    if len(best) >= 2:
        return best
    tens = [10.0**d for d in decades if low <= 10.0**d <= high]
    return tens[:: math.ceil(len(tens) / most)] if tens else best


def _apart(ticks: Sequence[float], low: float, high: float, most: int) -> bool:
    """Whether their labels do not touch."""
    least = math.log(high / low) / (2.2 * most)
    return all(math.log(b / a) > least for a, b in zip(ticks, ticks[1:]))


def padded(values: Any, share: float = 0.06) -> tuple[float, float]:
    """The ends of positive values with some room on a logarithmic axis."""
    low, high = float(np.min(values)), float(np.max(values))
    room = max((high / low) ** share, 1.02)
    return low / room, high * room


def steps_between(low: float, high: float, count: int) -> NDArray[np.float64]:
    """Values (count,) that are evenly spread on the axis that `log_axis` makes between these ends."""
    return np.geomspace(low, high, count) if low > 0 else np.linspace(low, high, count)


def hatched(axes: Axes, left: float, right: float) -> None:
    """Slanting strokes over a stretch of x, which is drawn as far as it lies inside of the axes.

    They are one path: a hatch of matplotlib's own is a pattern that a page's colors do not reach.
    """
    at = axes.get_ylim()[0]
    ends = [float(axes.transLimits.transform(axes.transScale.transform((x, at)))[0]) for x in (left, right)]
    a, b = (min(max(end, 0.0), 1.0) for end in ends)
    if b - a < 1e-6:
        return
    wide, high = axes.figure.get_size_inches()  # type: ignore[union-attr]
    slope = float(wide / high)
    steps = np.arange(a - 1 / slope, b, 0.022)
    start, stop = np.maximum(steps, a), np.minimum(steps + 1 / slope, b)
    path = strokes(start, (start - steps) * slope, stop, (stop - steps) * slope)
    (line,) = axes.plot(*path, color=LINE, linewidth=0.8, transform=axes.transAxes, zorder=0.4)
    line.get_path().should_simplify = False


def range_marks(axes: Axes, ends: Sequence[float]) -> None:
    """Where the points begin and end in x."""
    for end in ends:
        axes.axvline(end, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0.6)


def legend_above(axes: Axes, columns: int = 2) -> None:
    """A legend above the axes, where it hides nothing."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            borderaxespad=0.2,
            handlelength=2.2,
            columnspacing=1.4,
        )


def legend_height(entries: int, columns: int = 2) -> int:
    """What a legend above adds to the height of a picture."""
    return LEGEND_LINE * math.ceil(entries / columns)


def sized(rows: int) -> dict[str, Any]:
    """Marker sizes for n points: smaller where there are many."""
    return {"markersize": 3.2 if rows <= 120 else 2.4 if rows <= 600 else 1.6, "markeredgewidth": 0}
