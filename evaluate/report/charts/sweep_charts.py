"""Pictures of sweeps: latency against batch (of a call and of a sample) and against threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluate.core.text import clean, duration, finite
from evaluate.report.charts.axes import TIMES, one_unit, scaled_axis, series_style
from evaluate.report.charts.svg import Picture, draw
from evaluate.report.messages.bench_blocks import Block, Condition, part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_SERIES = 12
LEGEND_LINE = 19


@dataclass(frozen=True)
class Series:
    """One model's figures: (x, value, low, high), x rising; times in milliseconds."""

    name: str
    points: list[tuple[float, float, float, float]]


def batch_pictures(blocks: Sequence[Block], *, key: str) -> list[tuple[Picture, str]]:
    """For every provider and number of threads: latency of a call and time of a sample against batch."""
    return _sweeps(blocks, "batch", key)


def threads_pictures(blocks: Sequence[Block], *, key: str) -> list[tuple[Picture, str]]:
    """For every provider and batch: latency against threads; [] where only one number of them was measured."""
    return _sweeps(blocks, "threads", key)


def _sweeps(blocks: Sequence[Block], over: str, key: str) -> list[tuple[Picture, str]]:
    groups: dict[Condition, list[Block]] = {}
    for block in blocks:
        fixed = block.condition._replace(batch=None) if over == "batch" else block.condition._replace(threads=None)
        groups.setdefault(fixed, []).append(block)
    drawn = []
    for number, (fixed, group) in enumerate(groups.items(), start=1):
        series = _series(group, over)
        if any(len(one.points) > 1 for one in series):
            drawn.append(_sweep(series, over, _fixed_text(fixed, over), f"{key}-{over}{number}"))
    return drawn


def _fixed_text(condition: Condition, over: str) -> str:
    other = "threads" if over == "batch" else "batch"
    value = getattr(condition, other)
    named = f"batch {value}" if other == "batch" else f"{value} thread{'' if value == 1 else 's'}"
    return f"{condition.provider}, {named}"


def _series(blocks: Sequence[Block], over: str) -> list[Series]:
    found: dict[str, dict[float, tuple[float, float, float]]] = {}
    for block in blocks:
        for label, entry in zip(block.labels, block.entries, strict=True):
            known = part(entry, "latency")
            x, median = known.get(over), known.get("median_ms")
            if finite(x) and x > 0 and finite(median) and median > 0:
                low, high = (_end(known.get(side), median) for side in ("low", "high"))
                found.setdefault(clean(label, 20), {})[float(x)] = (float(median), low, high)
    return [
        Series(name, [(x, *points[x]) for x in sorted(points)]) for name, points in list(found.items())[:MOST_SERIES]
    ]


def _end(value: Any, otherwise: float) -> float:
    return float(value) if finite(value) and value > 0 else float(otherwise)


def _sweep(series: Sequence[Series], over: str, where: str, key: str) -> tuple[Picture, str]:
    text = "; ".join(
        f"{one.name}: {', '.join(f'{duration(m)} at {x:g}' for x, m, _, _ in one.points)}" for one in series
    )

    def paint(figure: Figure) -> None:
        if over == "threads":
            _paint_series(figure.add_subplot(), series, over, "latency of a call", legend=True)
            return
        above, below = figure.subplots(2, 1, sharex=True)
        _paint_series(above, series, over, "latency of a call", legend=True)
        _paint_series(below, [_by_sample(one) for one in series], over, "time of a sample", legend=False)
        above.set_xlabel("")

    legend = LEGEND_LINE * -(-len(series) // 2)
    height = legend + (230 if over == "threads" else 400)
    picture = draw(paint, height=height, title=f"Latency against {over}: {where}", text=text, key=key)
    sample = " Below: that latency over the batch; where it stops falling, a larger batch gains nothing." * (
        over == "batch"
    )
    return picture, f"Medians with 95 % intervals, both axes logarithmic.{sample}"


def _by_sample(series: Series) -> Series:
    return Series(series.name, [(x, median / x, low / x, high / x) for x, median, low, high in series.points])


def _paint_series(axes: Axes, series: Sequence[Series], over: str, label: str, legend: bool) -> None:
    high = paint_lines(axes, series, over, legend=legend)
    axes.set_ylabel(f"{label}, {one_unit(axes, 'y', high, TIMES)}")


def paint_lines(axes: Axes, series: Sequence[Series], over: str, *, legend: bool = True) -> float:
    """A line a model with its intervals, over logarithmic axes, x ticked where something was measured.

    Gives the highest end of an interval.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for position, one in enumerate(series):
        _paint_one(axes, one, position)
    ends = [end for one in series for _, _, low, high in one.points for end in (low, high)]
    low, high = min(ends), max(ends)
    scaled_axis(axes, "y", low / 1.25, max(high * 1.25, low * 4.2))
    at = sorted({x for one in series for x, *_ in one.points})
    axes.set_xscale("log")
    axes.set_xlim(at[0] / 1.15, at[-1] * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(_apart(at)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(over)
    if legend:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handlelength=2.4)
    return high


def _paint_one(axes: Axes, series: Series, position: int) -> None:
    x, median, low, high = ([point[i] for point in series.points] for i in range(4))
    style = series_style(position)
    axes.vlines(x, low, high, color=style["color"], linewidth=1.4)
    axes.plot(x, median, label=series.name, linewidth=1.4, markersize=max(4, 8 - position), markeredgewidth=0, **style)  # type: ignore[arg-type]


def _apart(values: Sequence[float]) -> list[float]:
    """Those of the rising values whose labels do not touch on a logarithmic axis."""
    span = values[-1] / values[0]
    kept: list[float] = []
    for value in values:
        if not kept or value / kept[-1] >= span ** (1 / 12):
            kept.append(value)
    return kept
