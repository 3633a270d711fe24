"""A law of two variables over its plane: curves of equal performance, the points, and what a budget buys best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import UsageError
from evaluate.report.law_axes import legend_above, legend_height, log_axis, padded, sized
from evaluate.report.law_saving import LawPicture, drawn
from evaluate.report.law_slice import middle_of
from evaluate.report.law_view import Floats, Sample, View, sample_of, view_of
from evaluate.report.law_words import interval_figure, named, plain_figure, quantity, span_text
from evaluate.report.svg import ACCENT, BASE, GAINED, INK, LOST, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


GRID = 90
LEVELS = 7
BUDGETS = 40
FARTHEST = 1e4  # times beyond the points, where an interval is cut


@dataclass(frozen=True)
class Budget:
    """A budget: cost of name -> values (n,), its amount, its name ("6*N*D"), the best split.

    best : variable -> (value, low, high) of the best split; empty where it is not known.
    """

    cost: Callable[[Mapping[str, Any]], Any]
    amount: float
    name: str = "cost"
    best: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plane:
    """The part of the plane that is drawn: edges of both axes, the law's values on a grid (GRID, GRID)."""

    view: View
    pair: tuple[int, int]
    fixed: list[Any]
    across: Floats
    up: Floats
    values: Floats

    def rows(self, first: Floats, second: Floats) -> NDArray[Any]:
        """x (n, k) of the law for values of both variables."""
        return self.view.rows(self.fixed, {self.pair[0]: first.ravel(), self.pair[1]: second.ravel()})

    def costs(self, budget: Budget, first: Floats, second: Floats) -> Floats:
        rows = self.rows(first, second)
        values = {name: rows[:, i] for i, name in enumerate(self.view.variables)}
        return np.asarray(budget.cost(values), dtype=np.float64).reshape(first.shape)


def plane_picture(
    law: Any,
    points: Any = None,
    *,
    target: str | None = None,
    pair: tuple[str, str] | None = None,
    budget: Budget | None = None,
    key: str = "law-plane",
) -> LawPicture:
    """Curves of equal performance over two variables of a law, both axes logarithmic, with the points.

    pair   : the two variables; the first two by default. Others stand at the middle of their points.
    budget : draws the line of its cost, the path of the best splits, and the best split with its intervals.
    Raises UsageError for a law of one variable.
    """
    view = view_of(law, target)
    if len(view.variables) < 2:
        raise UsageError(f"{view.name} has one variable, {view.variables[0]}; a plane needs two: draw its curve")
    names = pair or (view.variables[0], view.variables[1])
    sample = sample_of(view, points)
    plane = _plane(view, names, sample, budget)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        log_axis(axes, "x", names[0], plane.across[0], plane.across[-1])
        log_axis(axes, "y", names[1], plane.up[0], plane.up[-1])
        _paint_range(axes, plane)
        _paint_levels(axes, plane)
        if sample is not None:
            size = sized(len(sample.y))
            axes.plot(
                sample.numbers(plane.pair[0]), sample.numbers(plane.pair[1]), "o", color=BASE, label="point", **size
            )
        if budget is not None:
            _paint_budget(axes, plane, budget)
        legend_above(axes)

    caption = _caption(plane, budget)
    title = f"Equal {named(view.target)} over {named(names[0])} and {named(names[1])}"
    height = 330 + legend_height(5 if budget else 2)
    return drawn(paint, height=height, title=title, text=f"{view.title}. {caption}", caption=caption, key=key)


def _plane(view: View, names: tuple[str, str], sample: Sample | None, budget: Budget | None) -> _Plane:
    pair = (view.variables.index(names[0]), view.variables.index(names[1]))
    fixed = [_common(view, i, sample) for i in range(len(view.variables))]
    edges = [_edge(view, i, sample, budget.best.get(view.variables[i], ()) if budget else ()) for i in pair]
    first, second = np.meshgrid(*edges)
    plane = _Plane(view, pair, fixed, edges[0], edges[1], first)
    return replace(plane, values=view.predict(plane.rows(first, second)).reshape(first.shape))


def _edge(view: View, column: int, sample: Sample | None, best: Sequence[float]) -> Floats:
    """What is drawn of a variable (GRID,): its points and the best split, with some room."""
    span = view.span(view.variables[column]) or ()
    ends = [*span, *(v for v in best if np.isfinite(v) and (not span or v < FARTHEST * span[1]))]
    ends += sample.numbers(column).tolist() if sample is not None else []
    bottom, top = view.domain(column) or (0.0, np.inf)
    if min(ends, default=1.0) <= 0:
        return np.linspace(0.0, min(1.1 * max(ends), top), GRID)
    low, high = padded(ends or [1.0, 10.0], 0.1)
    return np.geomspace(max(low, bottom), min(high, top), GRID)


def _common(view: View, column: int, sample: Sample | None) -> Any:
    """The value of a variable that most points have; without points, the middle of its range."""
    if sample is not None:
        rows = sample.x[:, column].tolist()
        return max(sorted(set(rows)), key=rows.count)
    return middle_of(view, view.variables[column])


def _paint_range(axes: Axes, plane: _Plane) -> None:
    """The box of the points: outside of it the law extrapolates, and its curves are drawn dashed."""
    spans = [plane.view.span(plane.view.variables[i]) for i in plane.pair]
    if all(spans):
        (a, b), (c, d) = (span for span in spans if span)
        box = ([a, b, b, a, a], [c, c, d, d, c])
        axes.plot(*box, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="range of the points", zorder=1.5)


def _paint_levels(axes: Axes, plane: _Plane) -> None:
    """Curves of equal performance, evenly spread over the plane, each named where it runs."""
    good = plane.values[np.isfinite(plane.values) & (plane.values > 0)]
    if good.size < 4 or np.ptp(good) <= 1e-12 * good.max():
        return
    levels = np.unique([float(f"{v:.2g}") for v in np.quantile(good, np.linspace(0.06, 0.94, LEVELS))])
    if len(levels) < LEVELS - 2:
        levels = np.unique([float(f"{v:.3g}") for v in np.quantile(good, np.linspace(0.06, 0.94, LEVELS))])
    drawn_curves = axes.contour(plane.across, plane.up, plane.values, levels=levels, colors=[ACCENT], linewidths=1.3)
    name = plane.view.target
    axes.clabel(
        drawn_curves, fmt=lambda v: quantity(name, float(f"{v:.4g}")), fontsize=11, colors=[INK], inline_spacing=4
    )


def _paint_budget(axes: Axes, plane: _Plane, budget: Budget) -> None:
    first, second = np.meshgrid(plane.across, plane.up)
    costs = plane.costs(budget, first, second)
    axes.contour(
        plane.across,
        plane.up,
        np.log(costs),
        levels=[np.log(budget.amount)],
        colors=[LOST],
        linewidths=1.6,
        linestyles="dashed",
    )
    axes.plot([], [], color=LOST, linewidth=1.6, linestyle="--", label=f"{budget.name} = {plain_figure(budget.amount)}")
    path = _frontier(plane, costs)
    if len(path):
        axes.plot(path[:, 0], path[:, 1], color=GAINED, linewidth=2, label="best splits")
    names = [plane.view.variables[i] for i in plane.pair]
    if set(names) <= set(budget.best):
        (x, x_low, x_high), (y, y_low, y_high) = (budget.best[name] for name in names)
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()  # an end that is not known is far away
        axes.hlines(y, max(left, np.nan_to_num(x_low)), np.nanmin([right, x_high]), color=GAINED, linewidth=3)
        axes.vlines(x, max(bottom, np.nan_to_num(y_low)), np.nanmin([top, y_high]), color=GAINED, linewidth=3)
        axes.plot([x], [y], "D", color=GAINED, markersize=9, markeredgewidth=0, label="best, with intervals", zorder=4)


def _frontier(plane: _Plane, costs: Floats) -> Floats:
    """The best split of each of a row of budgets (n, 2); those at an edge of the plane are left out."""
    found: list[tuple[float, float]] = []
    if plane.across[0] <= 0 or plane.up[0] <= 0:
        return np.empty((0, 2))
    for amount in np.geomspace(np.nanmin(costs) * 1.05, np.nanmax(costs) / 1.05, BUDGETS):
        across, up = _along(plane, costs, amount)
        if len(across) < 5:
            continue
        values = plane.view.predict(plane.rows(across, up))
        best = int(np.argmin(values))
        if 1 < best < len(across) - 2:
            found.append((float(across[best]), float(up[best])))
    return np.array(found).reshape(-1, 2)


def _along(plane: _Plane, costs: Floats, amount: float) -> tuple[Floats, Floats]:
    """Where the cost is this amount: for every value across (made fine), the one up, where there is one."""
    logs, up = np.log(costs), np.log(plane.up)
    at = [np.interp(np.log(amount), logs[:, i], up, left=np.nan, right=np.nan) for i in range(len(plane.across))]
    fine = np.geomspace(plane.across[0], plane.across[-1], 8 * GRID)
    there = np.exp(np.interp(np.log(fine), np.log(plane.across), at))
    good = np.isfinite(there)
    return fine[good], there[good]


def _caption(plane: _Plane, budget: Budget | None) -> str:
    view = plane.view
    spans = [span_text(view.variables[i], s) for i in plane.pair if (s := view.span(view.variables[i]))]
    parts = [f"Each curve joins sizes of equal {named(view.target)}."]
    parts += [f"Outside of the dotted box ({', '.join(spans)}) the law is extrapolated."] if spans else []
    others = [i for i in range(len(view.variables)) if i not in plane.pair]
    held = ", ".join(f"{named(view.variables[i])} {_amount(view.variables[i], plane.fixed[i])}" for i in others)
    parts += [f"Held: {held}."] if held else []
    if budget is not None and budget.best:
        told = [f"{named(name)} {interval_figure(name, *triple)}" for name, triple in budget.best.items()]
        parts.append(f"Best for {budget.name} = {plain_figure(budget.amount)}: {', '.join(told)}.")
    return " ".join(parts)


def _amount(name: str, value: Any) -> str:
    return value if isinstance(value, str) else quantity(name, float(value))
