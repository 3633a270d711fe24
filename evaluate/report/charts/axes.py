"""What the pictures share: axes in one unit, readable ticks on linear and logarithmic scales, marks for series."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from evaluate.report.charts.svg import ACCENT, BASE, GAINED, INK, LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Tick
    from numpy.typing import NDArray


Units = tuple[tuple[float, str], ...]
BYTES: Units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
COUNTS: Units = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1, "number"))
TIMES: Units = ((1e3, "s"), (1, "ms"), (1e-3, "us"))
LEGEND_LINE = 19  # the height of a line of a legend
# From this ratio of its ends on, an axis is logarithmic.
WIDE = 4.0
STEPS = ((1, 10), (1, 3, 10), (1, 2, 5, 10), (1, 1.5, 2, 3, 5, 7, 10))


def one_unit(axes: Axes, side: str, largest: float, units: Units) -> str:
    """Ticks of an axis in the one unit that suits its largest value; the unit's name goes into the label."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    scale, name = next((u for u in units if largest >= u[0]), units[-1])
    axis = axes.xaxis if side == "x" else axes.yaxis
    if axis.get_scale() == "linear":
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:.4g}"))
    return name


def scaled_axis(
    axes: Axes, side: str, low: float, high: float, text: Callable[[float], str] | None = None, most: int = 5
) -> None:
    """The limits of an axis with at most `most` labelled ticks; logarithmic where its ends are far apart."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axis = axes.xaxis if side == "x" else axes.yaxis
    logarithmic = 0 < low * WIDE < high
    if side == "x":
        axes.set_xscale("log" if logarithmic else "linear")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log" if logarithmic else "linear")
        axes.set_ylim(low, high)
    axis.set_major_locator(
        FixedLocator(_ticks(low, high, most)) if logarithmic else MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
    )
    axis.set_minor_locator(NullLocator())
    if text is not None:
        axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the ends: as many as there is room for."""
    best: list[float] = []
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in STEPS:
        found = sorted({step * 10.0**d for d in decades for step in steps})
        found = [tick for tick in found if low <= tick * 1.0001 and tick <= high * 1.0001]
        if len(best) < len(found) <= most:
            best = found
    if best:
        return best
    return [10.0**d for d in decades if low <= 10.0**d <= high][:: math.ceil(len(decades) / most)]


def rows_axis(axes: Axes, names: Sequence[str], room: float = 0.6, grid: bool = False) -> list[Tick]:
    """A row for each name, from above, without lines between them: what belongs to a row is drawn at its number."""
    ticks = axes.set_yticks(range(len(names)), names, fontsize=11)
    axes.set_ylim(len(names) - 1 + room, -room)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if not grid:
        axes.grid(visible=False, axis="y")
    return ticks


def strokes(
    x0: NDArray[np.float64], y0: NDArray[np.float64], x1: NDArray[np.float64], y1: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Separate strokes from (x0, y0) to (x1, y1) as one path with gaps."""
    gap = np.full(len(x0), np.nan)
    return np.stack([x0, x1, gap], axis=1).ravel(), np.stack([y0, y1, gap], axis=1).ravel()


def series_style(position: int) -> dict[str, object]:
    """Color, marker and line of the n-th series; told apart without color as well."""
    colors: Sequence[str] = (BASE, ACCENT, GAINED, LOST, INK)
    lines: Sequence[str] = ("-", "--", ":", "-.")
    markers: Sequence[str] = ("s", "o", "^", "D", "v", "P", "X", "<", ">")
    return {
        "color": colors[position % len(colors)],
        "marker": markers[position % len(markers)],
        "linestyle": lines[(position // len(colors)) % len(lines)],
    }
