"""A law against one of its variables, log-log: points, law, interval, floor, answers, and what lies beyond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.text import clean, finite
from evaluate.report.charts.law_charts import hatched, legend_above, legend_height, log_axis, padded, sized
from evaluate.report.charts.svg import ACCENT, BASE, GAINED, INK, LOST, MUTED, Picture, draw
from evaluate.report.messages.law_messages import (
    answer_sentence,
    crossing_figure,
    interval_figure,
    named,
    quantity,
    span_text,
)
from evaluate.report.messages.law_view import Answer, BreakEven, Ends, Floats, Sample, View, sample_of, view_of
from evaluate.scaling.forms.form import LAWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


NEAR = 0.02  # of a value: a point that stands on a slice
GRID = 160
AHEAD, BEHIND = 0.3, 0.06  # of the logarithmic range of the points, drawn beyond them
FARTHEST = 1e4  # times beyond the points, where an interval of an answer is cut


@dataclass(frozen=True)
class Slice:
    """A law along one variable, the others held: `fixed` (k,), of which place `column` is replaced.

    sample : the points that are drawn; moved: whether they stand elsewhere and were moved along the law.
    """

    view: View
    column: int
    fixed: list[Any]
    sample: Sample | None
    moved: bool = False

    @property
    def variable(self) -> str:
        """What it lies along."""
        return self.view.variables[self.column]

    @property
    def held(self) -> dict[str, Any]:
        """The other variables, as they are held."""
        return {n: v for i, (n, v) in enumerate(zip(self.view.variables, self.fixed)) if i != self.column}

    @property
    def given(self) -> str:
        """The others in words: `N 1.02 G, D 20 G`; empty for a law of one variable."""
        return ", ".join(f"{named(name)} {quantity(name, value)}" for name, value in self.held.items())

    @property
    def span(self) -> Ends:
        """The range of the fitted points, else of those drawn."""
        drawn_x = self.sample.numbers(self.column) if self.sample is not None else np.array([1.0, 10.0])
        return self.view.span(self.variable) or (float(drawn_x.min()), float(drawn_x.max()))

    def rows(self, values: Floats) -> NDArray[Any]:
        """x (n, k) of the law for values (n,) of the variable."""
        return self.view.rows(self.fixed, {self.column: values})

    def answers(self) -> list[Answer]:
        """What was asked of this very slice."""
        mine = [a for a in self.view.answers if a.variable == self.variable]
        return [a for a in mine if all(_same(a.given.get(name, value), value) for name, value in self.held.items())]

    def crossing(self) -> BreakEven | None:
        """The break-even point in its variable; None where none was asked for."""
        found = self.view.break_even
        return found if found is not None and found.variable == self.variable else None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return str(one) == str(other)
    return abs(float(one) - float(other)) <= NEAR * abs(float(other))


def slice_of(view: View, sample: Sample | None, variable: str, given: Mapping[str, Any]) -> Slice:
    """The slice along `variable`, with the points that stand on it, or with all of them, moved along the law.

    given : values of the others; else those of the first question about the variable, else those most points share.
    """
    asked = next((a.given for a in view.answers if a.variable == variable and a.given), {})
    column = view.variables.index(variable)
    fixed = [(given or asked).get(name) for name in view.variables]
    fixed[column] = 1.0
    for i, name in enumerate(view.variables):
        if fixed[i] is None:
            fixed[i] = view.middle(name) if sample is None else _shared(sample, fixed, i, column)
    cut = Slice(view, column, fixed, sample)
    if sample is None or len(fixed) == 1:
        return cut
    on = sample.kept(_near(sample, fixed, column))
    if len(on) and len(np.unique(on.numbers(column))) >= 3:
        return replace(cut, sample=on)
    there = view.predict(cut.rows(sample.numbers(column)))
    return replace(cut, sample=Sample(sample.x, sample.y * there / view.predict(sample.x)), moved=True)


def _near(sample: Sample, fixed: Sequence[Any], but: int) -> NDArray[np.bool_]:
    """Which points stand at the values that are held (those not yet known are None)."""
    mask = np.ones(len(sample), dtype=bool)
    for i, value in enumerate(fixed):
        if isinstance(value, str):
            mask &= sample.x[:, i].astype(str) == value
        elif i != but and value is not None:
            mask &= np.abs(sample.numbers(i) - value) <= NEAR * abs(value)
    return mask


def _shared(sample: Sample, fixed: Sequence[Any], column: int, but: int) -> Any:
    """The value of a column that most points share, of several such the middle one, among the points at `fixed`."""
    rows = sample.kept(_near(sample, fixed, but)).x[:, column]
    found = sorted(set(rows.tolist() if len(rows) else sample.x[:, column].tolist()))
    counts = [int(np.sum(rows == value)) for value in found]
    most = [value for value, count in zip(found, counts) if count >= 0.9 * max(counts)]
    return most[len(most) // 2]


def curve_picture(
    law: Any,
    points: Any = None,
    *,
    variable: str | None = None,
    given: Mapping[str, float] | None = None,
    key: str = "law-curve",
) -> Picture:
    """A law of one variable, or a slice of a law of several, over its points.

    law      : a fitted law, or its JSON.
    points   : `Points`, or a mapping name -> (n,); without them the law is drawn alone.
    variable : what stands on the horizontal axis; the first one by default.
    given    : values of the other variables, see `slice_of`. Points within 2 % of them are drawn; where that leaves
               fewer than three places, all points are, moved along the law to the slice.
    """
    view = view_of(law)
    cut = slice_of(view, sample_of(view, points), variable or view.variables[0], given or {})
    answers, crossing = cut.answers(), cut.crossing()
    left, right = _window(cut, [*answers, *([crossing] if crossing else [])])
    grid = np.geomspace(left, right, GRID) if left > 0 else np.linspace(left, right, GRID)
    band = view.band(cut.rows(grid))
    heights = _heights(cut, band, answers)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        log_axis(axes, "x", cut.variable, grid[0], grid[-1])
        log_axis(axes, "y", view.y, *heights)
        hatched(axes, grid[0], cut.span[0])
        hatched(axes, cut.span[1], grid[-1])
        for end in cut.span:
            axes.axvline(end, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0.6)
        _paint_floor(axes, view)
        _paint_law(axes, cut, grid, band)
        _paint_points(axes, cut)
        _paint_answers(axes, answers)
        if crossing is not None:
            _paint_crossing(axes, crossing, grid, _other_curve(crossing, cut, grid))
        legend_above(axes)

    title = f"{named(view.y).capitalize()} against {named(cut.variable)}"
    title += f" at {cut.given}" if cut.given else ""
    caption = " ".join(_caption(cut, answers, crossing, heights[0]))
    height = 270 + legend_height((6 if answers else 5) + (2 if crossing else 0))
    return draw(paint, height=height, title=title, text=f"{view.title}. {caption}", caption=caption, key=key)


def _window(cut: Slice, answers: Sequence[Answer]) -> Ends:
    """What is drawn of x: the points, the answers with their intervals, and a stretch beyond towards larger values."""
    low, high = cut.span
    bottom, top = cut.view.domain(cut.column) or (0.0, np.inf)
    if low <= 0:
        return low, min(high + AHEAD * (high - low), top)
    wide = max(high / low, 1.5)
    ends = [end for a in answers for end in (a.value, a.low, a.high) if finite(end)]
    ends = [end for end in ends if low / FARTHEST < end < high * FARTHEST]
    left = min([low / wide**BEHIND, *(end / wide**0.04 for end in ends)])
    right = max([high * wide**AHEAD, *(end * wide**0.04 for end in ends)])
    return max(left, bottom), min(right, top)


def _heights(cut: Slice, band: tuple[Floats, ...], answers: Sequence[Answer]) -> Ends:
    """What is drawn of y: all of the points, the law and its answers; the band as far as half as much again."""
    seen = [v for v in band[0] if np.isfinite(v) and v > 0]
    seen += cut.sample.y.tolist() if cut.sample is not None else []
    seen += [a.target for a in answers if finite(a.target) and a.target > 0]
    low, high = padded(seen or [0.1, 1.0], 0.06)
    room = max((high / low) ** 0.35, 1.05)
    ends = [v for side in band[1:] for v in side if np.isfinite(v) and v > 0]
    bottom, top = max(min([low, *ends]), low / room), min(max([high, *ends]), high * room)
    # Of the floor's interval, as much as does not press the points together.
    limits = [v for v in (cut.view.floor or ("",))[1:] if np.isfinite(v) and v > 0]
    bottom = min([bottom, *(v / 1.05 for v in limits if v > low / (high / low))])
    return bottom / 1.01, max([top, *(v * 1.05 for v in limits if v < high * room)]) * 1.01


def _paint_floor(axes: Axes, view: View) -> None:
    bottom, _ = axes.get_ylim()
    if view.floor is None or _top(view.floor) <= bottom:
        return
    _, value, low, high = view.floor
    ends = [max(end, bottom / 2) for end in (low if finite(low) else bottom, high if finite(high) else value)]
    axes.axhspan(
        *ends,
        color=LOST,
        alpha=0.18,
        linewidth=0,
        zorder=0.8,
        label=f"{'ceiling' if view.scale.higher else 'floor'}, with interval",
    )
    axes.axhline(max(value, bottom / 2), color=LOST, linewidth=1.2, linestyle="-.", zorder=1.5)


def _top(floor: tuple[str, float, float, float]) -> float:
    return max(floor[1], floor[3]) if finite(floor[3]) else floor[1]


def _paint_law(axes: Axes, cut: Slice, grid: Floats, band: tuple[Floats, ...]) -> None:
    value, low, high = band
    first, last = cut.span
    axes.fill_between(grid, low, high, color=ACCENT, alpha=0.2, linewidth=0, label="90 % of new points", zorder=1)
    inside = (grid >= first * 0.999) & (grid <= last * 1.001)
    style: Any = {"color": ACCENT, "linewidth": 1.8, "zorder": 2.2}
    axes.plot(grid[inside], value[inside], label="law", **style)
    for side in (grid <= grid[inside][0], grid >= grid[inside][-1]) if inside.any() else (grid > 0,):
        axes.plot(grid[side], value[side], linestyle=(0, (3, 2)), **style)


def _paint_points(axes: Axes, cut: Slice) -> None:
    sample = cut.sample
    if sample is None or not len(sample):
        return
    means, size = sample.means(), sized(len(sample))
    seeds = len(means) < len(sample)
    label = "one seed" if seeds else "point, moved" if cut.moved else "point"
    size["markersize"] += 0 if seeds else 1.4
    axes.plot(sample.numbers(cut.column), sample.y, "o", color=BASE, label=label, zorder=3, **size)
    if seeds:
        style: Any = {"color": INK, "markersize": 6.5, "markeredgewidth": 1.4, "markerfacecolor": "none"}
        axes.plot(means.numbers(cut.column), means.y, "s", label="mean of seeds", zorder=3.2, **style)


def _paint_answers(axes: Axes, answers: Sequence[Answer]) -> None:
    """Each answer as a diamond with its interval, and its value on the axis; one out of reach as a line alone."""
    for number, answer in enumerate(answers):
        if finite(answer.target) and answer.target > 0:
            axes.axhline(answer.target, color=GAINED, linewidth=1, linestyle=":", zorder=1.6)
            if answer.found:
                label = "answer, with interval" if not number else None
                axes.hlines(answer.target, *_ends(axes, answer), color=GAINED, linewidth=3, zorder=3.4)
                style: Any = {"color": GAINED, "markersize": 8, "markeredgewidth": 0, "zorder": 3.6}
                axes.plot([answer.value], [answer.target], "D", label=label, **style)
                bottom = axes.get_ylim()[0]
                axes.vlines(answer.value, bottom, answer.target, color=GAINED, linewidth=1, linestyle=":", zorder=1.6)
                told = quantity(answer.variable, answer.value)
                style = {"textcoords": "offset points", "color": GAINED, "fontsize": 11, "va": "bottom"}
                axes.annotate(f" {told}", (answer.value, bottom), (0, 2 + 13 * number), **style)


def _ends(axes: Axes, answer: Answer) -> Ends:
    """Its interval as far as it lies inside of the axes; an end that is not known is far away."""
    left, right = axes.get_xlim()
    low, high = answer.low, answer.high
    return max(low, left) if finite(low) else left, min(high, right) if finite(high) else right


def _other_curve(crossing: BreakEven, cut: Slice, grid: Floats) -> Floats | None:
    """What the other law predicts along the grid; None where neither its curve nor all its parameters are kept."""
    x, sampled, params = cut.rows(grid), crossing.other.get("curve"), crossing.other.get("params")
    if sampled and x.shape[1] == 1 and all(finite(v) and v > 0 for side in sampled for v in side):
        across, up = (np.log(np.asarray(side, dtype=np.float64)) for side in sampled)
        return np.asarray(np.exp(np.interp(np.log(grid), across, up)), dtype=np.float64)
    known = LAWS.all().get(str(crossing.other.get("law")).rpartition(":")[2])
    form = known.facts["kind"].form if known else None
    if form is None or not isinstance(params, Mapping) or set(form.names) != set(params) or x.dtype.kind not in "fiu":
        return None
    return np.asarray(form.predict(x, form.vector(params)), dtype=np.float64)


def _paint_crossing(axes: Axes, crossing: BreakEven, grid: Floats, other: Floats | None) -> None:
    """The other curve as far as it lies inside of the axes, and the point where they cross, with its interval."""
    if other is not None:
        bottom, top = axes.get_ylim()
        shown = np.where((other >= bottom) & (other <= top), other, np.nan)
        style: Any = {"color": LOST, "linewidth": 1.8, "linestyle": (0, (5, 2, 1, 2))}
        axes.plot(grid, shown, label="the other curve", zorder=2.1, **style)
    y = float(np.interp(crossing.value, grid, other)) if other is not None and not finite(crossing.y) else crossing.y
    if crossing.found and finite(y):
        axes.hlines(y, *_ends(axes, crossing), color=INK, linewidth=3, zorder=4)
        style = {"color": INK, "markersize": 14, "markeredgewidth": 0, "label": "break-even", "zorder": 4.2}
        axes.plot([crossing.value], [y], "*", **style)


def _caption(cut: Slice, answers: Sequence[Answer], crossing: BreakEven | None, bottom: float) -> list[str]:
    view, sample, parts = cut.view, cut.sample, []
    if sample is not None and cut.moved:
        parts.append(f"Points stand elsewhere in the other variables; each was moved along the law to {cut.given}.")
    elif sample is not None:
        places = len(sample.means())
        seeds = f" at {places} places; squares are the means of their seeds" if places < len(sample) else ""
        parts.append(f"{len(sample)} points{seeds}.")
    if view.floor is not None:
        name, *triple = view.floor
        joint = "" if len(view.variables) == 1 else ", where everything grows"
        below = "" if _top(view.floor) > bottom else ", below the picture"
        parts.append(
            f"{'Ceiling' if view.scale.higher else 'Floor'} {name}{joint}{below}: {interval_figure(view.y, *triple)}."
        )
    parts.append(f"Hatched and dashed: beyond the points ({span_text(cut.variable, cut.span)}).")
    sentences = [answer_sentence(answer, view.y, doubts=False) for answer in answers]
    parts += [f"{text[:1].upper()}{text[1:]}." for text in sentences]
    if crossing is not None:
        against = f" against {clean(crossing.against, 200)}" if crossing.against else ""
        why = clean(crossing.reason, 200).partition(";")[0]
        none = f"No break-even{against}{': ' + why if why else ''}."
        place = f"Break-even{against} (star): {named(cut.variable)} {crossing_figure(view, crossing)}."
        parts.append(place if crossing.found else none)
    return parts
