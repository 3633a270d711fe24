"""Is a large model, compressed, better than a native one of the same size? Both as curves, and where they cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.text import clean, finite
from evaluate.report.axes import series_style
from evaluate.report.law_axes import legend_above, legend_height, log_axis, padded
from evaluate.report.law_saving import LawPicture, drawn
from evaluate.report.law_view import Floats, view_of
from evaluate.report.law_words import interval_figure, named, quantity
from evaluate.report.svg import BASE, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_CURVES = 7


@dataclass(frozen=True)
class Curve:
    """One way to models of many sizes: points x, y (n,), seeds included, and a law of one variable where there is one.

    native : trained small from the start; else a large model, compressed further and further.
    design : (n,) what points share that differ in their seed alone; without it, points of one x are alike.
    """

    name: str
    x: Floats
    y: Floats
    law: Any = field(default=None, compare=False)
    native: bool = False
    design: Any = field(default=None, compare=False)

    def means(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(x, mean, lowest, highest) for each design, by rising x; pruning ends a little differently in each seed."""
        alike = self.x if self.design is None else self.design
        _, place = np.unique(alike, return_inverse=True)
        groups = [place.ravel() == i for i in range(place.max() + 1)]
        at = np.array([float(np.mean(self.x[g])) for g in groups])
        mean, low, high = (np.array([float(of(self.y[g])) for g in groups]) for of in (np.mean, np.min, np.max))
        rising = np.argsort(at, kind="stable")
        return at[rising], mean[rising], low[rising], high[rising]


@dataclass(frozen=True)
class BreakEven:
    """Where two curves cross: x with its interval, and y there. `reachable` is False where they do not."""

    value: float
    low: float
    high: float
    y: float
    name: str = ""
    reason: str = ""


def study_curves(points: Any, *, x: str = "params", y: str = "error") -> list[Curve]:
    """The curves of a study: the native models, and one for each size and level that was compressed.

    points : `Points` of trials, with the columns role, x and y, and where it has them width, depth, level, data and
    design. Without native models the dense ones stand for them. Trials with less data or training are left out. A
    curve of compressed models begins at their dense model; where all of it has one x, it is no curve. Along sizes that
    bits do not change, only the levels with the most bits are shown.
    """
    columns: Mapping[str, Any] = getattr(points, "columns", points)
    role = np.asarray(columns["role"]).astype(str)
    across, up = (np.asarray(columns[name], dtype=np.float64) for name in (x, y))
    good = np.isfinite(across) & np.isfinite(up) & (across > 0) & (up > 0)
    if "data" in columns:
        good &= np.asarray(columns["data"]).astype(str) == "full"
    sizes = sizes_of(columns, len(role))
    level = np.array([clean(v, 24) for v in columns.get("level", ["compressed"] * len(role))], dtype=object)
    alike = columns.get("design")
    alike = np.asarray([f"{s} {d}" for s, d in zip(sizes, alike)]) if alike is not None else None
    small, made = good & (role == "native"), good & (role == "compressed")
    small = small if small.any() else good & (role == "dense")
    if x != "bytes" and "bits" in columns:  # fewer bits change no other size: those curves would lie on one another
        bits = np.asarray(columns["bits"], dtype=np.float64)
        widest = made & (bits == np.max(bits, where=made & np.isfinite(bits), initial=0.0))
        made = widest if len(np.unique(across[widest])) > 1 else made

    def curve(name: str, rows: Any, native: bool = False) -> Curve:
        return Curve(name, across[rows], up[rows], native=native, design=None if alike is None else alike[rows])

    found = [curve("native, trained small", small, native=True)] if small.any() else []
    for size, name in dict.fromkeys(zip(sizes[made], level[made])):
        mine = good & (sizes == size) & ((role == "dense") | (made & (level == name)))
        if len(np.unique(across[mine])) > 1:
            found.append(curve(f"{size}, {name}".lstrip(", "), mine))
    return sorted(found, key=lambda c: (not c.native, -float(c.x.max())))


def sizes_of(columns: Mapping[str, Any], count: int) -> Any:
    """(n,) the size of each row in words: `width 16, depth 8`."""
    parts = []
    for name in ("width", "depth"):
        if name in columns:
            parts.append([f"{name} {_told(v)}" if _told(v) else "" for v in columns[name]])
    return np.array(
        [", ".join(p for p in row if p) for row in zip(*parts)] if parts else ["large"] * count, dtype=object
    )


def _told(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:g}" if np.isfinite(value) else ""
    return clean(value, 20) if value not in (None, "") else ""


def native_picture(
    curves: Sequence[Curve],
    *,
    x: str = "params",
    y: str = "error",
    break_even: Sequence[BreakEven] = (),
    key: str = "law-native",
) -> LawPicture | None:
    """y against x (log-log): the native models with their law, and a curve for each large model that was compressed.

    break_even : where a compressed model stops to be better than a native one, with its interval.
    None where there is no curve; more than seven curves are not drawn, and the title says so.
    """
    shown = [c for c in curves if len(c.x)][:MOST_CURVES]
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        log_axis(axes, "x", x, *padded(np.concatenate([c.x for c in shown] + [_reach(break_even)]), 0.05))
        log_axis(axes, "y", y, *padded(np.concatenate([c.y for c in shown])))
        for position, curve in enumerate(shown):
            _paint_curve(axes, curve, position)
        for crossing in break_even:
            _paint_crossing(axes, crossing)
        legend_above(axes, columns=1)

    cut = "" if len(shown) == len(curves) else f" ({len(shown)} of {len(curves)} curves)"
    caption = _caption(shown, break_even, x, y)
    height = 270 + legend_height(len(shown) + bool(break_even), columns=1)
    return drawn(
        paint,
        height=height,
        title=f"Compressed against native, by {named(x)}{cut}",
        text=caption,
        caption=caption,
        key=key,
    )


def _reach(crossings: Sequence[BreakEven]) -> Floats:
    return np.array([v for c in crossings for v in (c.value, c.low, c.high) if finite(v) and v > 0])


def _paint_curve(axes: Axes, curve: Curve, position: int) -> None:
    """Means of the seeds with their range; joined by the law where there is one, else by straight lines."""
    at, mean, low, high = curve.means()
    style: dict[str, Any] = dict(series_style(position))
    if curve.native:
        style.update(color=BASE, marker="s", linestyle="-")
    joint = style.pop("linestyle") if position else "-"
    axes.vlines(at, low, high, color=style["color"], linewidth=1.2, zorder=2)
    axes.plot(curve.x, curve.y, style["marker"], color=style["color"], markersize=2.6, markeredgewidth=0, zorder=2.4)
    style["linestyle"] = "none" if curve.law is not None else joint
    marks: Any = {"markersize": 6, "markeredgewidth": 0, "zorder": 3}
    if curve.native:  # hollow and on top: a compressed size begins at its own dense model
        marks = {"markersize": 9, "markeredgewidth": 1.8, "markerfacecolor": "none", "zorder": 5}
    axes.plot(at, mean, label=clean(curve.name, 44), linewidth=1.5, **marks, **style)
    if curve.law is None:
        return
    grid = np.geomspace(at[0], at[-1], 80)
    value, bottom, top = view_of(curve.law).band(grid[:, None])
    axes.fill_between(grid, bottom, top, color=style["color"], alpha=0.15, linewidth=0, zorder=1)
    axes.plot(grid, value, color=style["color"], linewidth=1.6, linestyle=joint, zorder=2.6)


def _paint_crossing(axes: Axes, crossing: BreakEven) -> None:
    if not (finite(crossing.value) and finite(crossing.y)):
        return
    left, right = axes.get_xlim()
    low = max(crossing.low, left) if finite(crossing.low) else left
    high = min(crossing.high, right) if finite(crossing.high) else right
    known = axes.get_legend_handles_labels()[1]
    label = None if "break-even, with interval" in known else "break-even, with interval"
    axes.hlines(crossing.y, low, high, color=INK, linewidth=3, zorder=6)
    style: Any = {"color": INK, "markersize": 15, "markeredgewidth": 0, "label": label}
    axes.plot([crossing.value], [crossing.y], "*", zorder=6.2, **style)


def _caption(curves: Sequence[Curve], crossings: Sequence[BreakEven], x: str, y: str) -> str:
    parts = ["Large marks are means of seeds, small ones single models, strokes their range."]
    if any(c.law is not None for c in curves):
        parts.append("Bands: 90 % of new points.")
    for c in crossings:
        name = f" of {c.name}" if c.name else ""
        if finite(c.value):
            told = interval_figure(x, c.value, c.low, c.high)
            parts.append(f"Break-even{name}: {named(x)} {told}, {named(y)} {quantity(y, c.y)}.")
        else:
            parts.append(f"No break-even{name}{': ' + clean(c.reason) if c.reason else ''}.")
    return " ".join(parts)
