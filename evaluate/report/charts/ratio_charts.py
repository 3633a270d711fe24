"""Pictures of ratios and of devices: speed-ups against what the run can claim, latencies of devices side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluate.core.text import clean, duration, finite, ratio
from evaluate.report.charts.axes import TIMES, one_unit, scaled_axis, series_style
from evaluate.report.charts.svg import BASE, GAINED, INK, LOST, MUTED, Picture, draw
from evaluate.report.messages.bench_blocks import Block, condition_text, part, verdict_of
from evaluate.report.messages.run_messages import speed_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_ROWS = 60
STYLES = {"faster": ("o", GAINED), "slower": ("s", LOST), "not resolved": ("D", MUTED)}
SHAPES = {"faster": "Dot", "slower": "Square", "not resolved": "Open diamond"}


@dataclass(frozen=True)
class _Row:
    """One line of the picture of ratios: a heading, or a model with its speed-up (value, low, high)."""

    label: str
    ratio: tuple[float, float, float] | None
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

    def paint(figure: Figure) -> None:
        _paint_ratios(figure.add_subplot(), rows)

    cut = f" (the first {len(rows)} of {len(every)} rows)" if len(every) > len(rows) else ""
    picture = draw(paint, height=66 + 22 * len(rows), title=f"Speed-up against the baseline{cut}", text=text, key=key)
    seen = [f"{SHAPES[verdict]}: {verdict}" for verdict in STYLES if any(row.verdict == verdict for row in rows)]
    caption = (
        f"With joint 95 % intervals. {', '.join(seen)}. Band around 1: differences that this run cannot claim, from "
        "the baseline timed against itself."
    )
    return picture, caption


def _rows(block: Block, heading: bool, one_provider: bool) -> list[_Row]:
    floor = block.floor.get("noise_floor")
    band = float(floor) if finite(floor) and floor > 0 else 0.0
    found = []
    for label, entry in zip(block.labels, block.entries, strict=True):
        known, verdict = part(entry, "speedup"), verdict_of(entry)
        if verdict and known["value"] > 0:
            value = float(known["value"])
            low, high = (float(known[k]) if finite(known.get(k)) and known[k] > 0 else value for k in ("low", "high"))
            found.append(_Row(clean(label, 20), (value, low, high), verdict, band))
    where = condition_text(block.condition)
    where = where.removeprefix(f"{block.condition.provider}, ") if one_provider else where
    head = [_Row(clean(where, 26), None, "", band)] if heading and found else []
    return head + found


def _paint_ratios(axes: Axes, rows: Sequence[_Row]) -> None:
    ends = [end for row in rows if row.ratio for end in row.ratio]
    ends += [end for row in rows for end in (1 + 1.5 * row.floor, 1 / (1 + 1.5 * row.floor))]
    low, high = min([*ends, 0.995]), max([*ends, 1.005])
    margin = 0.04 * (high - low)
    scaled_axis(axes, "x", max(low - margin, 0.9 * low), high + margin, lambda value: f"{value:.4g}x")
    axes.axvline(1, color=MUTED, linewidth=1)
    for at, row in enumerate(rows):
        axes.fill_betweenx(
            [at - 0.5, at + 0.5], 1 / (1 + row.floor), 1 + row.floor, color=BASE, alpha=0.25, linewidth=0
        )
        _paint_ratio(axes, at, row)
    labels = axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=11)
    for tick, row in zip(labels, rows, strict=True):
        tick.label1.set_color(MUTED if row.ratio else INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("baseline latency over the model's")


def _paint_ratio(axes: Axes, at: int, row: _Row) -> None:
    if row.ratio is None:
        return
    marker, color = STYLES[row.verdict]
    value, low, high = row.ratio
    axes.plot([low, high], [at, at], color=color, linewidth=1.6, solid_capstyle="butt")
    face = "none" if row.verdict == "not resolved" else color
    axes.plot(value, at, marker, color=color, markerfacecolor=face, markersize=6, markeredgewidth=1.2)
    shown = speed_text({"value": value, "low": low, "high": high}).partition(" (")[0]
    axes.text(1.02, at, shown, transform=axes.get_yaxis_transform(), va="center", color=color, fontsize=11)


@dataclass(frozen=True)
class Spot:
    """The latency of one model on one device: (value, low, high) milliseconds."""

    model: str
    device: str
    latency: tuple[float, float, float]


def devices_picture(spots: Sequence[Spot], *, key: str, title: str) -> tuple[Picture, str] | None:
    """A row a model, a mark a device, on one axis of latency. None where fewer than two devices have something."""
    models, devices = (list(dict.fromkeys(names)) for names in ([s.model for s in spots], [s.device for s in spots]))
    if len(devices) < 2:
        return None
    shown = [spot for spot in spots if spot.model in models[:MOST_ROWS]]
    text = "; ".join(f"{s.model} on {s.device}: {duration(s.latency[0])}" for s in shown)

    def paint(figure: Figure) -> None:
        _paint_spots(figure.add_subplot(), shown, models[:MOST_ROWS], devices)

    height = 72 + 24 * len(models[:MOST_ROWS]) + 19 * len(devices)
    caption = "Medians with 95 % intervals, lower is better. Each device was measured by itself."
    return draw(paint, height=height, title=title, text=text, key=key), caption


def _paint_spots(axes: Axes, spots: Sequence[Spot], models: Sequence[str], devices: Sequence[str]) -> None:
    for position, device in enumerate(devices):
        style = {**series_style(position), "linestyle": "none"}
        mine = [spot for spot in spots if spot.device == device]
        rows = [models.index(spot.model) + 0.5 * (position + 0.5) / len(devices) - 0.25 for spot in mine]
        values = [spot.latency[0] for spot in mine]
        ends = [(max(0.0, v - low), max(0.0, high - v)) for v, low, high in (spot.latency for spot in mine)]
        spread = [[below for below, _ in ends], [above for _, above in ends]]
        bars = {"fmt": "none", "ecolor": style["color"], "elinewidth": 1.4}
        axes.errorbar(values, rows, xerr=spread, **bars)  # type: ignore[arg-type]
        axes.plot(values, rows, markersize=6, markeredgewidth=0, label=clean(device, 44), **style)  # type: ignore[arg-type]
    low, high = min(s.latency[1] for s in spots), max(s.latency[2] for s in spots)
    scaled_axis(axes, "x", low / 1.15, high * 1.15)
    axes.set_xlabel(f"latency of one call, median, {one_unit(axes, 'x', high, TIMES)}")
    axes.set_yticks(range(len(models)), [clean(model, 20) for model in models], fontsize=11)
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.2)
