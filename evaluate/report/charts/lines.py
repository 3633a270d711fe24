"""Lines with intervals over logarithmic axes: latency and throughput of sweeps, tails of latency against the rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluate.core.bench_parts import Scenario
from evaluate.core.text import clean, duration, rate_text
from evaluate.report.charts.svg import (
    COUNTS,
    INK,
    LEGEND_LINE,
    LOST,
    MUTED,
    TIMES,
    Picture,
    draw,
    one_unit,
    scaled_axis,
    series_style,
)
from evaluate.report.messages.bench_messages import Block, Condition, bound_text, name_of, triple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SERIES = 12


@dataclass(frozen=True)
class Series:
    """One model's figures: (x, value, low, high), x rising; times in milliseconds."""

    name: str
    points: list[tuple[float, float, float, float]]


def _point(known: Any, at: str, key: str) -> tuple[float, float, float, float] | None:
    """(x, value, low, high) of a latency or a batch's rate; None where one of them is not known."""
    x, found = getattr(known, at), triple(known, key)
    return (float(x), *found) if found and x is not None and x > 0 else None


def _paint_lines(axes: Axes, series: Sequence[Series], over: str, *, legend: bool = True) -> float:
    """A line a model with its intervals, x ticked where something was measured; gives the highest end of one."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for position, one in enumerate(series):
        x, value, low, high = zip(*one.points)
        style: Any = {**series_style(position), "linewidth": 1.4, "markeredgewidth": 0}
        axes.vlines(x, low, high, color=style["color"], linewidth=1.4)
        axes.plot(x, value, label=one.name, markersize=max(4, 8 - position), **style)
    ends = [end for one in series for _, _, low, high in one.points for end in (low, high)]
    least, most = min(ends), max(ends)
    scaled_axis(axes, "y", least / 1.25, max(most * 1.25, least * 4.2))
    at = sorted({x for one in series for x, *_ in one.points})
    axes.set_xscale("log")
    axes.set_xlim(at[0] / 1.15, at[-1] * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(_apart(at)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(over)
    if legend:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handlelength=2.4)
    return most


def _apart(values: Sequence[float]) -> list[float]:
    """Those of the rising values whose labels do not touch on a logarithmic axis."""
    span = values[-1] / values[0]
    kept: list[float] = []
    for value in values:
        if not kept or value / kept[-1] >= span ** (1 / 12):
            kept.append(value)
    return kept


def _legend_height(entries: Sequence[Any]) -> int:
    return LEGEND_LINE * -(-len(entries) // 2)


# Sweeps.


def sweep_pictures(blocks: Sequence[Block], over: str, *, key: str) -> list[tuple[Picture, str]]:
    """Latency of a call over "batch", and time of a sample, or over "threads": one for each of the other conditions.

    [] where only one batch, or one number of threads, was measured.
    """
    other = "threads" if over == "batch" else "batch"
    groups: dict[Condition, list[Block]] = {}
    unsaid: dict[str, Any] = {over: None}
    for block in blocks:
        groups.setdefault(block.condition._replace(**unsaid), []).append(block)
    drawn = []
    for number, (fixed, group) in enumerate(groups.items(), start=1):
        value = getattr(fixed, other)
        where = f"batch {value}" if other == "batch" else f"{value} thread{'' if value == 1 else 's'}"
        series = _series(group, over)
        if any(len(one.points) > 1 for one in series):
            drawn.append(_sweep(series, over, f"{fixed.provider}, {where}", f"{key}-{over}{number}"))
    return drawn


def _series(blocks: Sequence[Block], over: str) -> list[Series]:
    found: dict[str, dict[float, tuple[float, float, float, float]]] = {}
    for block in blocks:
        for label, result in block.named():
            if point := _point(result.latency, over, "median_ms"):
                found.setdefault(clean(label, 20), {})[point[0]] = point
    return [Series(name, [points[x] for x in sorted(points)]) for name, points in list(found.items())[:MOST_SERIES]]


def _sweep(series: Sequence[Series], over: str, where: str, key: str) -> tuple[Picture, str]:
    def paint(figure: Figure) -> None:
        both = over == "batch"
        above, *below = figure.subplots(1 + both, 1, sharex=True, squeeze=False).ravel()
        high = _paint_lines(above, series, over)
        above.set_ylabel(f"latency of a call, {one_unit(above, 'y', high, TIMES)}")
        for axes in below:
            samples = [Series(one.name, [(x, v / x, a / x, b / x) for x, v, a, b in one.points]) for one in series]
            high = _paint_lines(axes, samples, over, legend=False)
            axes.set_ylabel(f"time of a sample, {one_unit(axes, 'y', high, TIMES)}")
            above.set_xlabel("")

    told = [f"{one.name}: {', '.join(f'{duration(m)} at {x:g}' for x, m, _, _ in one.points)}" for one in series]
    height = _legend_height(series) + (230 if over == "threads" else 400)
    picture = draw(paint, height=height, title=f"Latency against {over}: {where}", text="; ".join(told), key=key)
    sample = " Below: that latency over the batch; where it stops falling, a larger batch gains nothing."
    return picture, f"Medians with 95 % intervals, both axes logarithmic.{sample if over == 'batch' else ''}"


def throughput_picture(results: Sequence[Scenario], *, key: str) -> tuple[Picture, str] | None:
    """Samples a second against batch, a line a model; None where fewer than two batches were tried."""
    series = []
    for result in results[:MOST_SERIES]:
        points = [point for e in result.batches if (point := _point(e, "batch", "samples_per_s"))]
        if len(points) > 1:
            series.append(Series(name_of(result, 20), sorted(points)))
    if not series:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        high = _paint_lines(axes, series, "batch")
        axes.set_ylabel(f"samples a second, {one_unit(axes, 'y', high, COUNTS)}")

    told = [f"{one.name}: {', '.join(f'{rate_text(v)} at {x:g}' for x, v, _, _ in one.points)}" for one in series]
    height = 240 + _legend_height(series)
    picture = draw(paint, height=height, title="Throughput against batch", text="; ".join(told), key=key)
    return picture, "Medians of rounds with 95 % intervals, both axes logarithmic. Each model ran by itself."


# Rates.


def rates_picture(results: Sequence[Scenario], *, key: str) -> tuple[Picture, str] | None:
    """The tail of latency in each probe against its rate, the bound, and the rate found with its interval.

    results : those of `load_test.scenarios.highest_rate` that share a bound and a percentile; None without probes.
    """
    shown = [result for result in results if _probes(result)][:MOST_SERIES]
    if not shown:
        return None
    tail, bound = bound_text(shown[0]).split(" ")[0], float(shown[0].bound_ms or 0.0)
    found = [(name_of(one, 40), one.rate) for one in shown]
    told = [f"{name}: {'no rate found' if v is None else f'{rate_text(v)} queries/s'}" for name, v in found]
    caption = (
        f"A mark is a probe: random arrivals at that rate, and the {tail} from scheduled arrival to answer. Level "
        f"line: the bound, {duration(bound)}. Upright bands: the rate found and its 95 % interval. Crosses: broken off."
    )
    picture = draw(
        lambda figure: _paint_rates(figure.add_subplot(), shown, bound, tail),
        height=250 + _legend_height(shown), title=f"{tail} against rate",
        text=f"bound {duration(bound)}; {'; '.join(told)}", key=key,
    )  # fmt: skip
    return picture, caption


def _probes(result: Scenario) -> list[tuple[float, float, bool]]:
    """(rate, tail in milliseconds, whether it was broken off) of each probe, by rising rate."""
    known = ((p.rate or 0.0, p.tail_ms or 0.0, bool(p.cut)) for p in result.probes)
    return sorted((probe for probe in known if probe[0] > 0 and probe[1] > 0), key=lambda probe: probe[0])


def _paint_rates(axes: Axes, results: Sequence[Scenario], bound: float, tail: str) -> None:
    for position, result in enumerate(results):
        marker: Any = {**series_style(position), "linestyle": "none", "markersize": 6, "markeredgewidth": 0}
        probes, color = _probes(result), str(marker["color"])
        x, y = [probe[0] for probe in probes], [probe[1] for probe in probes]
        axes.plot(x, y, label=name_of(result, 20), **marker)
        cut = [(rate, late) for rate, late, broken in probes if broken]
        axes.plot([a for a, _ in cut], [b for _, b in cut], "x", color=INK, markersize=7, markeredgewidth=1.4)
        if (rate := result.rate) is not None:
            low, high = (rate if end is None else end for end in (result.low, result.high))
            axes.axvspan(low, high, color=color, alpha=0.22, linewidth=0)
            axes.axvline(rate, color=color, linewidth=1)
    axes.axhline(bound, color=LOST, linewidth=1.2)
    axes.text(0.01, bound, "bound", transform=axes.get_yaxis_transform(), va="bottom", color=LOST, fontsize=11)
    every = [probe for result in results for probe in _probes(result)]
    rates, tails = [rate for rate, _, _ in every], [bound, *(late for _, late, _ in every)]
    scaled_axis(axes, "y", min(tails) / 1.3, max(max(tails) * 1.3, min(tails) * 5))
    axes.set_ylabel(f"{tail}, {one_unit(axes, 'y', max(tails), TIMES)}")
    low, high = min(rates) / 1.1, max(rates) * 1.1
    scaled_axis(axes, "x", low, high, lambda value: f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}")
    axes.set_xlabel("arrivals, queries a second", color=MUTED)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handlelength=1.2)
