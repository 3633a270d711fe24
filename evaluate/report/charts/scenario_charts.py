"""Pictures of scenarios: the tail of latency against the rate of arrivals, and throughput against batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evaluate.core.text import clean, duration, finite
from evaluate.load_test.rate_result import rate_text
from evaluate.report.charts.axes import COUNTS, TIMES, one_unit, scaled_axis, series_style
from evaluate.report.charts.svg import INK, LOST, MUTED, Picture, draw
from evaluate.report.charts.sweep_charts import LEGEND_LINE, MOST_SERIES, Series, paint_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Result = Mapping[str, Any]


def rates_picture(results: Sequence[Result], *, key: str) -> tuple[Picture, str] | None:
    """The tail of latency in each probe against its rate, the bound, and the rate found with its interval.

    results : dicts of `load_test.scenarios.highest_rate` that share a bound and a percentile; None without probes.
    """
    shown = [result for result in results if _probes(result)][:MOST_SERIES]
    if not shown:
        return None
    tail, bound = f"P{shown[0]['percentile']:g}", float(shown[0]["bound_ms"])
    text = f"bound {duration(bound)}; " + "; ".join(map(_said, shown))

    def paint(figure: Figure) -> None:
        _paint_rates(figure.add_subplot(), shown, bound, tail)

    height = 250 + LEGEND_LINE * -(-len(shown) // 2)
    caption = (
        f"A mark is a probe: random arrivals at that rate, and the {tail} from scheduled arrival to answer. Level "
        f"line: the bound, {duration(bound)}. Upright bands: the rate found and its 95 % interval. Crosses: broken off."
    )
    return draw(paint, height=height, title=f"{tail} against rate", text=text, key=key), caption


def _probes(result: Result) -> list[Result]:
    probes = [
        probe for probe in result.get("probes") or () if finite(probe.get("rate")) and finite(probe.get("tail_ms"))
    ]
    return [probe for probe in probes if probe["rate"] > 0 and probe["tail_ms"] > 0]


def _said(result: Result) -> str:
    name = clean(result.get("name", "model"), 40)
    if not finite(result.get("rate")):
        return f"{name}: no rate found"
    return f"{name}: {rate_text(result['rate'])} queries/s"


def _paint_rates(axes: Axes, results: Sequence[Result], bound: float, tail: str) -> None:
    rates: list[float] = []
    tails = [bound]
    for position, result in enumerate(results):
        style = series_style(position)
        probes = sorted(_probes(result), key=lambda probe: float(probe["rate"]))
        x, y = ([float(probe[k]) for probe in probes] for k in ("rate", "tail_ms"))
        rates, tails = rates + x, tails + y
        name = clean(result.get("name", "model"), 20)
        marker: dict[str, Any] = {**style, "linestyle": "none"}
        axes.plot(x, y, markersize=6, markeredgewidth=0, label=name, **marker)
        cut = [(float(p["rate"]), float(p["tail_ms"])) for p in probes if p.get("cut")]
        axes.plot([a for a, _ in cut], [b for _, b in cut], "x", color=INK, markersize=7, markeredgewidth=1.4)
        if finite(result.get("rate")):
            low, high = (result[k] if finite(result.get(k)) else result["rate"] for k in ("low", "high"))
            axes.axvspan(low, high, color=str(style["color"]), alpha=0.22, linewidth=0)
            axes.axvline(result["rate"], color=str(style["color"]), linewidth=1)
    axes.axhline(bound, color=LOST, linewidth=1.2)
    axes.text(0.01, bound, "bound", transform=axes.get_yaxis_transform(), va="bottom", color=LOST, fontsize=11)
    _rate_axes(axes, rates, tails, tail)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handlelength=1.2)


def _rate_axes(axes: Axes, rates: Sequence[float], tails: Sequence[float], tail: str) -> None:
    scaled_axis(axes, "y", min(tails) / 1.3, max(max(tails) * 1.3, min(tails) * 5))
    axes.set_ylabel(f"{tail}, {one_unit(axes, 'y', max(tails), TIMES)}")
    low, high = min(rates), max(rates)
    scaled_axis(axes, "x", low / 1.1, high * 1.1, lambda value: f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}")
    axes.set_xlabel("arrivals, queries a second", color=MUTED)


def throughput_picture(results: Sequence[Result], *, key: str) -> tuple[Picture, str] | None:
    """Samples a second against batch, a line a model; None where fewer than two batches were tried."""
    series = [one for one in map(_throughput, results[:MOST_SERIES]) if len(one.points) > 1]
    if not series:
        return None
    told = [f"{one.name}: {', '.join(f'{rate_text(v)} at {x:g}' for x, v, _, _ in one.points)}" for one in series]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        high = paint_lines(axes, series, "batch")
        axes.set_ylabel(f"samples a second, {one_unit(axes, 'y', high, COUNTS)}")

    height = 240 + LEGEND_LINE * -(-len(series) // 2)
    picture = draw(paint, height=height, title="Throughput against batch", text="; ".join(told), key=key)
    return picture, "Medians of rounds with 95 % intervals, both axes logarithmic. Each model ran by itself."


def _throughput(result: Result) -> Series:
    points = []
    for entry in result.get("batches") or ():
        x, value = entry.get("batch"), entry.get("samples_per_s")
        if finite(x) and x > 0 and finite(value) and value > 0:
            low, high = (entry[k] if finite(entry.get(k)) and entry[k] > 0 else value for k in ("low", "high"))
            points.append((float(x), float(value), float(low), float(high)))
    return Series(clean(result.get("name", "model"), 20), sorted(points))
