"""Figures with their intervals: the metric against what it costs, speed-ups by condition, latencies by device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluate.core.record_parts import Speedup
from evaluate.core.text import clean, duration, ratio, size
from evaluate.metrics.base import Metric
from evaluate.report.charts.svg import (
    ACCENT,
    BASE,
    BYTES,
    GAINED,
    INK,
    LOST,
    MUTED,
    TIMES,
    Picture,
    draw,
    one_unit,
    rows_axis,
    scaled_axis,
    series_style,
)
from evaluate.report.messages.bench_messages import Block, Triple, condition_text, triple, verdict_of
from evaluate.report.messages.run_messages import speed_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]

MOST_LABELS, MOST_ROWS = 40, 60
STYLES = {"faster": ("o", GAINED), "slower": ("s", LOST), "not resolved": ("D", MUTED)}
SHAPES = {"faster": "Dot", "slower": "Square", "not resolved": "Open diamond"}


def _bars(triples: Sequence[Triple]) -> list[list[float]]:
    """What `errorbar` takes: how far the ends lie below and above the values."""
    return [[max(v - low, 0.0) for v, low, _ in triples], [max(high - v, 0.0) for v, _, high in triples]]


# The trade-off.


@dataclass(frozen=True)
class Point:
    """One model in a trade-off picture: a name, and (value, low, high) of the horizontal quantity and of the metric."""

    label: str
    x: Triple
    y: Triple
    baseline: bool = False


def tradeoff_picture(points: Sequence[Point], *, quantity: str, metric: Metric, key: str) -> Picture | None:
    """The metric against what it costs, each point with both of its 95 % intervals.

    quantity : "bytes" (x in bytes, exact) or "latency" (x in milliseconds).
    """
    if not points:
        return None
    said, units = (size, BYTES) if quantity == "bytes" else (duration, TIMES)
    right, left = max(max(p.x) for p in points), min(p.x[0] for p in points)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for point in points:
            color, marker = (BASE, "s") if point.baseline else (ACCENT, "o")
            bars: Any = {"fmt": "none", "color": color, "ecolor": color, "elinewidth": 1.2, "capsize": 2.5}
            axes.errorbar(point.x[0], point.y[0], xerr=_bars([point.x]), yerr=_bars([point.y]), **bars)
            axes.plot(point.x[0], point.y[0], marker, color=color, markersize=7, markeredgewidth=0)
        if 0 < left * 30 < right:
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, right * 1.12)
        unit = one_unit(axes, "x", right, units)
        axes.margins(y=0.15)
        what = "size of the deployed file" if quantity == "bytes" else "latency of one call, median"
        axes.set_xlabel(f"{what}, {unit}")
        axes.set_ylabel(clean(metric.heading, 40))
        figure.draw_without_rendering()
        _place_labels(axes, points)

    name = clean(metric.label, 20)
    named = name.upper() if len(name) < 5 else name.capitalize()
    kind = metric.unit or name
    text = "; ".join(f"{clean(p.label, 40)}: {p.y[0]:.4g} {kind} at {said(p.x[0])}" for p in points[:MOST_LABELS])
    return draw(paint, height=290, title=f"{named} against {quantity}", text=text, key=key)


def _place_labels(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside their points, each at the side where it hides least of what is drawn already."""
    spots = [tuple(axes.transData.transform((p.x[0], p.y[0]))) for p in points]
    frame = axes.get_window_extent()
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    scale = axes.figure.dpi / 72

    def cost(box: Box) -> float:
        hidden = sum(
            max(0.0, min(box[2], t[2]) - max(box[0], t[0])) * max(0.0, min(box[3], t[3]) - max(box[1], t[1]))
            for t in taken
        )
        beyond: Box = (frame.x0 - box[0], frame.y0 - box[1], box[2] - frame.x1, box[3] - frame.y1)
        return float(hidden) + 100 * sum(max(0.0, side) for side in beyond)

    for point, (x, y) in list(zip(points, spots, strict=True))[:MOST_LABELS]:
        name = clean(point.label, 22)
        if not name:
            continue
        wide, high = 7 * len(name) * scale, 13 * scale
        sides = [(a, b) for r in (8, 20) for a, b in ((r, r), (-r - wide, r), (r, -r - high), (-r - wide, -r - high))]
        box = min([(x + a, y + b, x + a + wide, y + b + high) for a, b in sides], key=cost)
        taken.append(box)
        place = ((box[0] - x) / scale, (box[1] - y) / scale)
        color = BASE if point.baseline else ACCENT
        axes.annotate(name, (point.x[0], point.y[0]), place, textcoords="offset points", color=color, in_layout=False)


# Speed-ups.


@dataclass(frozen=True)
class _Row:
    """One line of the picture of ratios: a heading, or a model with its speed-up (value, low, high)."""

    label: str
    ratio: Triple | None
    verdict: str
    floor: float


def ratios_picture(blocks: Sequence[Block], *, key: str) -> tuple[Picture, str] | None:
    """Every speed-up with its joint interval, by condition; a band around 1 is what the run cannot tell from none."""
    one_provider = len({block.condition.provider for block in blocks}) == 1
    every = [row for block in blocks for row in _rows(block, len(blocks) > 1, one_provider)]
    if not any(row.ratio for row in every):
        return None
    rows = every[:MOST_ROWS]
    text = "; ".join(f"{row.label}: {row.verdict} {ratio(row.ratio[0])}" for row in rows if row.ratio)
    cut = f" (the first {len(rows)} of {len(every)} rows)" if len(every) > len(rows) else ""
    picture = draw(
        lambda figure: _paint_ratios(figure.add_subplot(), rows),
        height=66 + 22 * len(rows), title=f"Speed-up against the baseline{cut}", text=text, key=key,
    )  # fmt: skip
    seen = [f"{SHAPES[verdict]}: {verdict}" for verdict in STYLES if any(row.verdict == verdict for row in rows)]
    caption = (
        f"With joint 95 % intervals. {', '.join(seen)}. Band around 1: differences that this run cannot claim, from "
        "the baseline timed against itself."
    )
    return picture, caption


def _rows(block: Block, heading: bool, one_provider: bool) -> list[_Row]:
    band = max(0.0, block.floor.noise_floor or 0.0)
    found = []
    for label, result in block.named():
        verdict, speedup = verdict_of(result), triple(result.speedup, "value")
        if verdict and speedup:
            found.append(_Row(clean(label, 20), speedup, verdict, band))
    where = condition_text(block.condition)
    where = where.removeprefix(f"{block.condition.provider}, ") if one_provider else where
    return [_Row(clean(where, 26), None, "", band)] * bool(heading and found) + found


def _paint_ratios(axes: Axes, rows: Sequence[_Row]) -> None:
    ends = [end for row in rows if row.ratio for end in row.ratio]
    ends += [end for row in rows for end in (1 + 1.5 * row.floor, 1 / (1 + 1.5 * row.floor))]
    low, high = min([*ends, 0.995]), max([*ends, 1.005])
    margin = 0.04 * (high - low)
    scaled_axis(axes, "x", max(low - margin, 0.9 * low), high + margin, lambda value: f"{value:.4g}x")
    axes.axvline(1, color=MUTED, linewidth=1)
    for at, row in enumerate(rows):
        band = ([at - 0.5, at + 0.5], 1 / (1 + row.floor), 1 + row.floor)
        axes.fill_betweenx(*band, color=BASE, alpha=0.25, linewidth=0)
        if row.ratio is not None:
            _paint_ratio(axes, at, row.ratio, row.verdict)
    for tick, row in zip(rows_axis(axes, [row.label for row in rows]), rows, strict=True):
        tick.label1.set_color(MUTED if row.ratio else INK)
    axes.set_xlabel("baseline latency over the model's")


def _paint_ratio(axes: Axes, at: int, triple: Triple, verdict: str) -> None:
    marker, color = STYLES[verdict]
    value, low, high = triple
    axes.plot([low, high], [at, at], color=color, linewidth=1.6, solid_capstyle="butt")
    face = "none" if verdict == "not resolved" else color
    axes.plot(value, at, marker, color=color, markerfacecolor=face, markersize=6, markeredgewidth=1.2)
    shown = speed_text(Speedup(value=value, low=low, high=high)).partition(" (")[0]
    axes.text(1.02, at, shown, transform=axes.get_yaxis_transform(), va="center", color=color, fontsize=11)


# Devices.


@dataclass(frozen=True)
class Spot:
    """The latency of one model on one device: (value, low, high) milliseconds."""

    model: str
    device: str
    latency: Triple


def devices_picture(spots: Sequence[Spot], *, key: str, title: str) -> tuple[Picture, str] | None:
    """A row a model, a mark a device, on one axis of latency. None where fewer than two devices have something."""
    devices = list(dict.fromkeys(spot.device for spot in spots))
    if len(devices) < 2:
        return None
    models = list(dict.fromkeys(spot.model for spot in spots))[:MOST_ROWS]
    shown = [spot for spot in spots if spot.model in models]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for position, device in enumerate(devices):
            style: Any = {**series_style(position), "linestyle": "none"}
            mine = [spot for spot in shown if spot.device == device]
            rows = [models.index(spot.model) + 0.5 * (position + 0.5) / len(devices) - 0.25 for spot in mine]
            values, spread = [spot.latency[0] for spot in mine], _bars([spot.latency for spot in mine])
            axes.errorbar(values, rows, xerr=spread, fmt="none", ecolor=style["color"], elinewidth=1.4)
            axes.plot(values, rows, markersize=6, markeredgewidth=0, label=clean(device, 44), **style)
        low, high = min(s.latency[1] for s in shown), max(s.latency[2] for s in shown)
        scaled_axis(axes, "x", low / 1.15, high * 1.15)
        axes.set_xlabel(f"latency of one call, median, {one_unit(axes, 'x', high, TIMES)}")
        rows_axis(axes, [clean(model, 20) for model in models], grid=True)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.2)

    text = "; ".join(f"{s.model} on {s.device}: {duration(s.latency[0])}" for s in shown)
    caption = "Medians with 95 % intervals, lower is better. Each device was measured by itself."
    height = 72 + 24 * len(models) + 19 * len(devices)
    return draw(paint, height=height, title=title, text=text, key=key), caption
