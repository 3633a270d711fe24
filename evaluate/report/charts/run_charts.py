"""The pictures of a report: accuracy against bytes and latency, widths, change per class, latency samples.

Each function takes plain data from Records and gives a `Picture`, or None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.text import clean, duration, finite, numbers_in, signed, size
from evaluate.metrics.base import Metric
from evaluate.report.charts.axes import BYTES, TIMES, one_unit
from evaluate.report.charts.svg import ACCENT, BASE, GAINED, INK, LOST, MUTED, Picture, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


MOST_LAYERS = 80
MOST_CLASSES = 30
MOST_LABELS = 40


@dataclass(frozen=True)
class Point:
    """One model in a trade-off picture: a name, and (value, low, high) of the horizontal quantity and of the metric."""

    label: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    baseline: bool = False


def tradeoff_picture(points: Sequence[Point], *, quantity: str, metric: Metric, key: str) -> Picture | None:
    """The metric against what it costs, each point with both of its 95 % intervals.

    quantity : "bytes" (x in bytes, exact) or "latency" (x in milliseconds).
    """
    if not points:
        return None
    unit = size if quantity == "bytes" else duration
    name = clean(metric.label, 20)
    named = name.upper() if len(name) < 5 else name.capitalize()
    kind = metric.unit or name
    text = "; ".join(f"{clean(p.label, 40)}: {p.y[0]:.4g} {kind} at {unit(p.x[0])}" for p in points[:MOST_LABELS])

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for point in points:
            _draw_point(axes, point)
        _tradeoff_axes(axes, points, quantity, metric)
        figure.draw_without_rendering()
        _place_labels(axes, points)

    return draw(paint, height=290, title=f"{named} against {quantity}", text=text, key=key)


def _draw_point(axes: Axes, point: Point) -> None:
    color, marker = (BASE, "s") if point.baseline else (ACCENT, "o")
    spread = [[[max(v - low, 0)], [max(high - v, 0)]] for v, low, high in (point.x, point.y)]
    bars = {"fmt": "none", "color": color, "ecolor": color, "elinewidth": 1.2, "capsize": 2.5}
    axes.errorbar(point.x[0], point.y[0], xerr=spread[0], yerr=spread[1], **bars)  # type: ignore[arg-type]
    axes.plot(point.x[0], point.y[0], marker, color=color, markersize=7, markeredgewidth=0)


def _tradeoff_axes(axes: Axes, points: Sequence[Point], quantity: str, metric: Metric) -> None:
    right, left = max(max(p.x) for p in points), min(p.x[0] for p in points)
    if 0 < left * 30 < right:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, right * 1.12)
    unit = one_unit(axes, "x", right, BYTES if quantity == "bytes" else TIMES)
    axes.margins(y=0.15)
    axes.set_xlabel(f"{'size of the deployed file' if quantity == 'bytes' else 'latency of one call, median'}, {unit}")
    axes.set_ylabel(clean(metric.heading, 40))


def _place_labels(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside their points, each at the side where it hides least of what is drawn already."""
    spots = [tuple(axes.transData.transform((p.x[0], p.y[0]))) for p in points]
    frame = axes.get_window_extent()
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    scale = axes.figure.dpi / 72
    for point, (x, y) in list(zip(points, spots, strict=True))[:MOST_LABELS]:
        name = clean(point.label, 22)
        if not name:
            continue
        wide, high = 7 * len(name) * scale, 13 * scale
        sides = [(a, b) for r in (8, 20) for a, b in ((r, r), (-r - wide, r), (r, -r - high), (-r - wide, -r - high))]
        boxes = [(x + a, y + b, x + a + wide, y + b + high) for a, b in sides]
        outside = (frame.x0, frame.y0, frame.x1, frame.y1)
        box = min(boxes, key=lambda b: _hidden(b, taken) + _sticking_out(b, outside))
        taken.append(box)
        place = ((box[0] - x) / scale, (box[1] - y) / scale)
        color = BASE if point.baseline else ACCENT
        axes.annotate(name, (point.x[0], point.y[0]), place, textcoords="offset points", color=color, in_layout=False)


Box = tuple[float, float, float, float]


def _hidden(box: Box, taken: Sequence[Box]) -> float:
    return sum(
        max(0.0, min(box[2], t[2]) - max(box[0], t[0])) * max(0.0, min(box[3], t[3]) - max(box[1], t[1])) for t in taken
    )


def _sticking_out(box: Box, frame: Box) -> float:
    beyond = (frame[0] - box[0], frame[1] - box[1], box[2] - frame[2], box[3] - frame[3])
    return 100 * sum(max(0.0, side) for side in beyond)


def widths_picture(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], *, key: str
) -> Picture | None:
    """Channels per layer: the compressed model's bars over the baseline's outlines. None where no width changed."""
    old, new = ({str(w["layer"]): w["channels"] for w in side if finite(w.get("channels"))} for side in (before, after))
    layers = list(dict.fromkeys([*old, *new]))
    changed = [name for name in layers if old.get(name) != new.get(name)]
    if not changed:
        return None
    shown = layers if len(layers) <= MOST_LAYERS else changed[:MOST_LAYERS]
    text = "; ".join(f"{clean(n, 40)}: {old.get(n, 0)} to {new.get(n, 0)}" for n in shown)

    def paint(figure: Figure) -> None:
        _paint_widths(figure.add_subplot(), [(n, old.get(n), new.get(n)) for n in shown])

    title = "Channels per layer" + ("" if shown is layers else f" ({len(shown)} of {len(changed)} layers that changed)")
    return draw(paint, height=64 + 18 * len(shown), title=title, text=text, key=key)


def _paint_widths(axes: Axes, layers: Sequence[tuple[str, int | None, int | None]]) -> None:
    rows = range(len(layers))
    old, new = [a or 0 for _, a, _ in layers], [b or 0 for _, _, b in layers]
    axes.barh(rows, new, height=0.62, color=ACCENT)
    axes.barh(rows, old, height=0.82, facecolor="none", edgecolor=BASE, linewidth=1)
    widest = max([*old, *new, 1])
    for row, (_, a, b) in enumerate(layers):
        label = f"{a}" if a == b else f"{'-' if a is None else a} → {'-' if b is None else b}"
        end = max(a or 0, b or 0)
        axes.text(end + 0.015 * widest, row, label, va="center", color=MUTED if a == b else INK, fontsize=11)
    axes.set_yticks(list(rows), [clean(name, 24) for name, _, _ in layers], fontsize=11)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, widest * 1.24)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("channels (outline: baseline)")


def classes_picture(changes: Sequence[Mapping[str, Any]], *, key: str) -> Picture | None:
    """The change of each class in points, sorted, worst first. None where there are no classes."""
    known = sorted((e for e in changes if finite(e.get("drop"))), key=lambda e: -float(e["drop"]))
    if not known:
        return None
    shown = known if len(known) <= MOST_CLASSES else [*known[: MOST_CLASSES - 10], *known[-10:]]
    mean = -sum(float(e["drop"]) for e in known) / len(known)
    moves = [(clean(e["class"], 22), -float(e["drop"])) for e in shown]
    text = f"average {signed(mean, 1)} points; " + "; ".join(f"{name}: {signed(m, 1)}" for name, m in moves)

    def paint(figure: Figure) -> None:
        _paint_classes(figure.add_subplot(), moves, mean)

    cut = (
        ""
        if shown is known
        else f" (the {MOST_CLASSES - 10} that lost most and the 10 that gained most of {len(known)})"
    )
    return draw(paint, height=70 + 19 * len(shown), title=f"Change per class{cut}", text=text, key=key)


def _paint_classes(axes: Axes, moves: Sequence[tuple[str, float]], mean: float) -> None:
    reach = max([abs(m) for _, m in moves] + [abs(mean), 0.1])
    axes.barh(
        range(len(moves)), [m for _, m in moves], height=0.68, color=[LOST if m < 0 else GAINED for _, m in moves]
    )
    for row, (_, move) in enumerate(moves):
        side = -1 if move < 0 else 1
        axes.text(
            move + side * 0.03 * reach,
            row,
            signed(move, 1),
            va="center",
            ha="right" if side < 0 else "left",
            fontsize=11,
        )
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.plot(mean, -0.6, "v", color=INK, markersize=7, markeredgewidth=0, clip_on=False)
    left, right = min(0.0, *(m for _, m in moves)), max(0.0, *(m for _, m in moves))
    axes.set_xlim(left - 0.28 * reach, right + 0.28 * reach)
    axes.set_yticks(range(len(moves)), [name for name, _ in moves], fontsize=11)
    axes.set_ylim(len(moves) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("change in points (triangle: average class)")


def latency_picture(samples: Mapping[str, Sequence[Any]], *, key: str) -> Picture | None:
    """Raw latency samples of both candidates: each sitting's median with its middle 80 %, and all calls together.

    samples : name -> sittings of seconds, each a number or a nested list of numbers. None where there are no samples.
    """
    sittings = {name: _sittings(values) for name, values in samples.items()}
    sittings = {name: values for name, values in sittings.items() if values}
    if not sittings:
        return None
    text = "; ".join(f"{clean(name, 40)}: {_said(values)}" for name, values in sittings.items())

    def paint(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, height_ratios=(3, 2))
        _paint_sittings(above, sittings)
        _paint_distribution(below, sittings)

    return draw(paint, height=360, title="Latency samples", text=text, key=key)


def _said(values: list[NDArray[np.float64]]) -> str:
    calls = np.concatenate(values)
    return f"{len(values)} sittings, {calls.size} calls, median {duration(float(np.median(calls)))}"


def _sittings(values: Sequence[Any]) -> list[NDArray[np.float64]]:
    """Sittings of milliseconds, without empty ones and without what is no time."""
    sittings = [np.array(numbers_in(sitting), dtype=np.float64) * 1e3 for sitting in values]
    return [sitting for sitting in sittings if sitting.size]


def _color(position: int) -> str:
    return (BASE, ACCENT, GAINED, LOST)[position % 4]


def _paint_sittings(axes: Axes, sittings: Mapping[str, list[NDArray[np.float64]]]) -> None:
    for position, (name, values) in enumerate(sittings.items()):
        color, at = _color(position), np.arange(1, len(values) + 1)
        low, middle, high = np.array([np.percentile(v, (10, 50, 90)) for v in values]).T
        axes.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(at, middle, color=color, linewidth=1.4, marker="o", markersize=2.6, label=clean(name, 20))
    top = _ceiling(sittings)
    axes.set_ylim(0, top)
    axes.set_ylabel(f"latency, {one_unit(axes, 'y', top, TIMES)}")
    axes.set_xlabel("sitting (line: median, band: middle 80 %)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(sittings), borderaxespad=0, handlelength=1.4)


def _ceiling(sittings: Mapping[str, list[NDArray[np.float64]]]) -> float:
    """The top of the picture: all sittings' medians, but not beyond three times the slowest candidate's median."""
    typical = max(float(np.median(np.concatenate(r))) for r in sittings.values())
    highest = max(float(np.percentile(v, 90)) for r in sittings.values() for v in r)
    return min(highest * 1.06, 3 * typical) or 1.0


def _paint_distribution(axes: Axes, sittings: Mapping[str, list[NDArray[np.float64]]]) -> None:
    calls = [np.concatenate(values) for values in sittings.values()]
    low, high = min(float(c.min()) for c in calls), max(float(np.percentile(c, 98)) for c in calls)
    edges = np.linspace(low, high if high > low else low + 1e-3, 49)
    for position, values in enumerate(calls):
        share = 100 * np.histogram(values, edges)[0] / values.size
        axes.stairs(share, edges, fill=True, color=_color(position), alpha=0.35)
        axes.stairs(share, edges, color=_color(position), linewidth=1.2)
        axes.axvline(float(np.median(values)), color=_color(position), linewidth=1, linestyle=(0, (3, 3)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% of calls")
    axes.set_xlabel(f"latency of one call, {one_unit(axes, 'x', high, TIMES)} (dashed: median)")
    axes.grid(visible=False, axis="x")
