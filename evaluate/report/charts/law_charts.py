"""Charts of a law: logarithmic axes in the units of their quantities, residuals, and the plane."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import UsageError
from evaluate.core.text import clean
from evaluate.report.charts.svg import (
    ACCENT,
    BASE,
    GAINED,
    INK,
    LEGEND_LINE,
    LINE,
    LOST,
    MUTED,
    Picture,
    draw,
    scaled_axis,
    series_style,
    strokes,
)
from evaluate.report.messages.law_messages import axis_label, interval_figure, named, plain_figure, quantity, span_text
from evaluate.report.messages.law_view import Floats, Sample, View, sample_of, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


GROUPS, BINS = 8, 8  # of residuals: at most told apart, means of neighbours
GRID, CONTOURS, BUDGETS = 90, 7, 40  # of a plane
FARTHEST = 1e4  # times beyond the points, where an interval is cut


def log_axis(axes: Axes, side: str, name: str, low: float, high: float, label: bool = True) -> None:
    """A logarithmic axis for a quantity: limits, at most five labelled ticks, and its name with the unit.

    Linear where it begins at 0, as a sparsity may.
    """
    scaled_axis(axes, side, low, high, partial(_bare, name), wide=1.0)
    if label:
        axes.set(**{f"{side}label": axis_label(name)})


def _bare(name: str, value: float) -> str:
    """A tick's text; the unit of a share stands in the label."""
    text = quantity(name, float(f"{value:.6g}")).replace(" %", "")
    return re.sub(r"(\.\d*?)0+(?=\D|$)", lambda m: m[1].rstrip("."), text) if "e" not in text else text


def padded(values: Any, share: float = 0.06) -> tuple[float, float]:
    """The ends of positive values with some room on a logarithmic axis."""
    low, high = float(np.min(values)), float(np.max(values))
    room = max((high / low) ** share, 1.02)
    return low / room, high * room


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


def legend_above(axes: Axes, columns: int = 2) -> None:
    """A legend above the axes, where it hides nothing."""
    if axes.get_legend_handles_labels()[0]:
        place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(**place, ncols=columns, handlelength=2.2, columnspacing=1.4)


def legend_height(entries: int, columns: int = 2) -> int:
    """What a legend above adds to the height of a picture."""
    return LEGEND_LINE * math.ceil(entries / columns)


def sized(rows: int) -> dict[str, Any]:
    """Marker sizes for n points: smaller where there are many."""
    return {"markersize": 3.2 if rows <= 120 else 2.4 if rows <= 600 else 1.6, "markeredgewidth": 0}


# Residuals.


def residuals_picture(
    view: View, points: Any, *, groups: Sequence[Any] | None = None, key: str = "law-residuals"
) -> Picture | None:
    """log(point / prediction) in per cent against the prediction; None without points.

    groups : (n,) labels, each with a mark of its own; more than eight are not told apart.
    """
    sample = sample_of(view, points)
    if sample is None:
        return None
    predicted = view.predict(sample.x)
    off = 100 * np.log(sample.y / predicted)
    labels = _labels(groups, len(off))
    order = np.array_split(np.argsort(predicted, kind="stable"), min(BINS, len(off) // 5)) if len(off) >= 20 else []

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        _paint_groups(axes, predicted, off, labels)
        axes.axhline(0, color=MUTED, linewidth=1, zorder=1.5)
        if order:
            at, mean = [np.exp(np.mean(np.log(predicted[p]))) for p in order], [np.mean(off[p]) for p in order]
            axes.plot(at, mean, color=INK, linewidth=1.6, zorder=3)
        log_axis(axes, "x", view.y, *padded(predicted, 0.04))
        axes.set_xlabel(f"predicted {axis_label(view.y)}")
        reach = 1.12 * max(float(np.max(np.abs(off))), 0.1)
        axes.set_ylim(-reach, reach)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_ylabel("point over prediction, log %")
        legend_above(axes)

    caption = (
        f"Point over prediction, as log difference in %; 0 is the law. Root mean square {np.sqrt(np.mean(off**2)):.2g} "
        f"%, the largest {off[np.argmax(np.abs(off))]:+.2g} %."
    )
    if order:
        caption += " The line is the mean of neighbours: where it leaves 0, the form misses something."
    height = 250 + legend_height(len(set(labels or ())))
    title, text = "Residuals against the prediction", f"{view.title}. {caption}"
    return draw(paint, height=height, title=title, text=text, caption=caption, key=key)


def _labels(groups: Sequence[Any] | None, count: int) -> list[str] | None:
    """Groups as text, rarer ones as one; None where there is nothing to tell apart."""
    if groups is None or len(groups) != count:
        return None
    words = [f"{g:.4g}" if isinstance(g, (float, np.floating)) else clean(g, 18) for g in groups]
    found = sorted(set(words), key=words.count, reverse=True)
    kept = found if len(found) <= GROUPS else found[: GROUPS - 1]
    return [word if word in kept else "others" for word in words] if len(found) > 1 else None


def _paint_groups(axes: Axes, place: Floats, off: Floats, labels: list[str] | None) -> None:
    size: Any = {**sized(len(off)), "linestyle": "none"}
    if labels is None:
        axes.plot(place, off, **{**series_style(0), **size, "marker": "o"})
        return
    size["markersize"] += 1
    for number, name in enumerate(dict.fromkeys(labels)):
        mine = np.array([label == name for label in labels])
        axes.plot(place[mine], off[mine], label=name, **{**series_style(number), **size})


# The plane.


@dataclass(frozen=True)
class Budget:
    """A budget: cost of name -> values (n,), its amount, its name ("6*N*D"), the best split.

    best : variable -> (value, low, high) of the best split; empty where it is not known.
    """

    cost: Callable[[Mapping[str, Any]], Any]
    amount: float
    name: str = "cost"
    best: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """`6*N*D = 1e+20`."""
        return f"{self.name} = {plain_figure(self.amount)}"


@dataclass(frozen=True)
class Plane:
    """The part of the plane of two variables that is drawn: the edges of both axes (GRID,), the others held."""

    view: View
    names: tuple[str, str]
    fixed: list[Any]
    across: Floats
    up: Floats

    def rows(self, first: Floats, second: Floats) -> NDArray[Any]:
        """x (n, k) of the law for values of both variables."""
        one, other = (self.view.variables.index(name) for name in self.names)
        return self.view.rows(self.fixed, {one: first.ravel(), other: second.ravel()})

    def grid(self) -> NDArray[Any]:
        """x (GRID * GRID, k) of all of it."""
        first, second = np.meshgrid(self.across, self.up)
        return self.rows(first, second)

    def costs(self, budget: Budget) -> Floats:
        """What a budget's cost is, (GRID, GRID)."""
        values = {name: self.grid()[:, i] for i, name in enumerate(self.view.variables)}
        return np.asarray(budget.cost(values), dtype=np.float64).reshape(len(self.up), len(self.across))


def plane_picture(
    law: Any,
    points: Any = None,
    *,
    pair: tuple[str, str] | None = None,
    budget: Budget | None = None,
    key: str = "law-plane",
) -> Picture:
    """Curves of equal performance over two variables of a law, both axes logarithmic, with the points.

    pair   : the two variables; the first two by default. Others stand at the value that most points have.
    budget : draws the line of its cost, the path of the best splits, and the best split with its intervals.
    Raises UsageError for a law of one variable.
    """
    view = view_of(law)
    if len(view.variables) < 2:
        raise UsageError(f"{view.name} has one variable, {view.variables[0]}; a plane needs two: draw its curve")
    names = pair or (view.variables[0], view.variables[1])
    sample = sample_of(view, points)
    plane = plane_of(view, names, sample, budget)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        log_axis(axes, "x", names[0], plane.across[0], plane.across[-1])
        log_axis(axes, "y", names[1], plane.up[0], plane.up[-1])
        _paint_contours(axes, plane)
        if sample is not None:
            at = [sample.numbers(view.variables.index(name)) for name in names]
            axes.plot(*at, "o", color=BASE, label="point", **sized(len(sample)))
        if budget is not None:
            _paint_budget(axes, plane, budget)
        legend_above(axes)

    caption = _plane_caption(plane, budget)
    title = f"Equal {named(view.y)} over {named(names[0])} and {named(names[1])}"
    height, text = 330 + legend_height(5 if budget else 2), f"{view.title}. {caption}"
    return draw(paint, height=height, title=title, text=text, caption=caption, key=key)


def plane_of(view: View, names: tuple[str, str], sample: Sample | None, budget: Budget | None) -> Plane:
    """The plane of two variables, as wide as the points and the best split need it."""
    fixed: list[Any] = [view.middle(name) for name in view.variables]
    if sample is not None:
        rows = [sample.x[:, i].tolist() for i in range(len(fixed))]
        fixed = [max(sorted(set(column)), key=column.count) for column in rows]
    edges = [_edge(view, name, sample, budget.best.get(name, ()) if budget else ()) for name in names]
    return Plane(view, names, fixed, edges[0], edges[1])


def _edge(view: View, name: str, sample: Sample | None, best: Sequence[float]) -> Floats:
    """What is drawn of a variable (GRID,): its points and the best split, with some room."""
    span, column = view.span(name) or (), view.variables.index(name)
    ends = [*span, *(v for v in best if np.isfinite(v) and (not span or v < FARTHEST * span[1]))]
    ends += sample.numbers(column).tolist() if sample is not None else []
    bottom, top = view.domain(column) or (0.0, np.inf)
    if min(ends, default=1.0) <= 0:
        return np.linspace(0.0, min(1.1 * max(ends), top), GRID)
    low, high = padded(ends or [1.0, 10.0], 0.1)
    return np.geomspace(max(low, bottom), min(high, top), GRID)


def _paint_contours(axes: Axes, plane: Plane) -> None:
    """Curves of equal performance, evenly spread and named where they run; a box about the points."""
    spans = [plane.view.span(name) for name in plane.names]
    if all(spans):
        (a, b), (c, d) = (span for span in spans if span)
        style: Any = {"linewidth": 1, "linestyle": (0, (1, 2)), "label": "range of the points", "zorder": 1.5}
        axes.plot([a, b, b, a, a], [c, c, d, d, c], color=MUTED, **style)
    values = plane.view.predict(plane.grid()).reshape(len(plane.up), len(plane.across))
    good = values[np.isfinite(values) & (values > 0)]
    if good.size < 4 or np.ptp(good) <= 1e-12 * good.max():
        return
    spread = np.quantile(good, np.linspace(0.06, 0.94, CONTOURS))
    levels = np.unique([float(f"{v:.2g}") for v in spread])
    if len(levels) < CONTOURS - 2:
        levels = np.unique([float(f"{v:.3g}") for v in spread])
    curves = axes.contour(plane.across, plane.up, values, levels=levels, colors=[ACCENT], linewidths=1.3)
    name = plane.view.y
    style = {"fontsize": 11, "colors": [INK], "inline_spacing": 4}
    axes.clabel(curves, fmt=lambda v: quantity(name, float(f"{v:.4g}")), **style)


def _paint_budget(axes: Axes, plane: Plane, budget: Budget) -> None:
    logs = np.log(plane.costs(budget))
    style: Any = {"levels": [np.log(budget.amount)], "colors": [LOST], "linewidths": 1.6, "linestyles": "dashed"}
    axes.contour(plane.across, plane.up, logs, **style)
    axes.plot([], [], color=LOST, linewidth=1.6, linestyle="--", label=budget.text)
    path = frontier(plane, budget)
    if len(path):
        axes.plot(path[:, 0], path[:, 1], color=GAINED, linewidth=2, label="best splits")
    if set(plane.names) <= set(budget.best):
        (x, x_low, x_high), (y, y_low, y_high) = (budget.best[name] for name in plane.names)
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()  # an end that is not known is far away
        axes.hlines(y, max(left, np.nan_to_num(x_low)), np.nanmin([right, x_high]), color=GAINED, linewidth=3)
        axes.vlines(x, max(bottom, np.nan_to_num(y_low)), np.nanmin([top, y_high]), color=GAINED, linewidth=3)
        axes.plot([x], [y], "D", color=GAINED, markersize=9, markeredgewidth=0, label="best, with intervals", zorder=4)


def frontier(plane: Plane, budget: Budget) -> Floats:
    """The best split of each of a row of budgets (n, 2); those at an edge of the plane are left out."""
    if plane.across[0] <= 0 or plane.up[0] <= 0:
        return np.empty((0, 2))
    costs, found = plane.costs(budget), []
    logs, up = np.log(costs), np.log(plane.up)
    fine = np.geomspace(plane.across[0], plane.across[-1], 8 * GRID)
    for amount in np.geomspace(np.nanmin(costs) * 1.05, np.nanmax(costs) / 1.05, BUDGETS):
        at = [np.interp(np.log(amount), logs[:, i], up, left=np.nan, right=np.nan) for i in range(len(plane.across))]
        there = np.exp(np.interp(np.log(fine), np.log(plane.across), at))
        good = np.isfinite(there)
        if good.sum() < 5:
            continue
        best = int(np.argmin(plane.view.predict(plane.rows(fine[good], there[good]))))
        if 1 < best < good.sum() - 2:
            found.append((float(fine[good][best]), float(there[good][best])))
    return np.array(found).reshape(-1, 2)


def _plane_caption(plane: Plane, budget: Budget | None) -> str:
    view = plane.view
    spans = [span_text(name, span) for name in plane.names if (span := view.span(name))]
    parts = [f"Each curve joins sizes of equal {named(view.y)}."]
    parts += [f"Outside of the dotted box ({', '.join(spans)}) the law is extrapolated."] if spans else []
    others = [(n, value) for n, value in zip(view.variables, plane.fixed) if n not in plane.names]
    held = ", ".join(f"{named(name)} {quantity(name, value)}" for name, value in others)
    parts += [f"Held: {held}."] if held else []
    if budget is not None and budget.best:
        best = [f"{named(name)} {interval_figure(name, *triple)}" for name, triple in budget.best.items()]
        parts.append(f"Best for {budget.text}: {', '.join(best)}.")
    return " ".join(parts)
