"""A law against one of its variables, log-log: points, law, interval, floor, answers, and what lies beyond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.text import finite
from evaluate.report.law_axes import (
    hatched,
    legend_above,
    legend_height,
    log_axis,
    padded,
    range_marks,
    sized,
    steps_between,
)
from evaluate.report.law_crossing import crossing_of, crossing_sentences, other_curve, paint_crossing
from evaluate.report.law_saving import LawPicture, drawn
from evaluate.report.law_slice import Slice, asked, fits, slice_of, span_of
from evaluate.report.law_view import Floats, Floor, View, sample_of, view_of
from evaluate.report.law_words import answer_sentence, interval_figure, named, span_text
from evaluate.report.svg import ACCENT, BASE, GAINED, INK, LOST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


GRID = 160
AHEAD, BEHIND = 0.3, 0.06  # of the logarithmic range of the points, drawn beyond them
FARTHEST = 1e4  # times beyond the points, where an interval of an answer is cut
MEAN: dict[str, Any] = {"color": INK, "markersize": 6.5, "markeredgewidth": 1.4, "markerfacecolor": "none"}


def curve_picture(
    law: Any,
    points: Any = None,
    *,
    target: str | None = None,
    variable: str | None = None,
    given: Mapping[str, float] | None = None,
    key: str = "law-curve",
) -> LawPicture:
    """A law of one variable, or a slice of a law of several, over its points.

    law      : a fitted law, or its JSON.
    points   : `Points`, a mapping name -> (n,), or (x (n, k), y (n,)); without them the law is drawn alone.
    variable : what stands on the horizontal axis; the first one by default.
    given    : values of the other variables; by default those of an answer of `solve` for this variable, else those
               that most points share. Points within 2 % of them are drawn; where that leaves fewer than three places,
               all points are, moved along the law to the slice.
    """
    view = view_of(law, target)
    name = variable or view.variables[0]
    cut = slice_of(view, sample_of(view, points), name, dict(given or asked(view, name)))
    answers = [a for a in view.answers if fits(a, cut)]
    crossings = [view.stored["break_even"]] if crossing_of(view, name) is not None else []
    left, right = _window(cut, [*answers, *crossings])
    grid = steps_between(left, right, GRID)
    band = view.band(cut.rows(grid))
    crossing = crossing_of(view, cut.variable)
    heights = _heights(cut, band, answers)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _frame(axes, cut, grid, heights)
        _paint_floor(axes, view)
        _paint_law(axes, cut, grid, band)
        _paint_points(axes, cut)
        _paint_answers(axes, cut, answers)
        if crossing is not None:
            paint_crossing(axes, crossing, grid, other_curve(view, cut.rows(grid)))
        legend_above(axes)

    title = f"{named(view.target).capitalize()} against {named(cut.variable)}" + (
        f" at {cut.given}" if cut.given else ""
    )
    caption = " ".join([_caption(cut, answers, heights[0]), *crossing_sentences(view, cut.variable)])
    height = 270 + legend_height((6 if answers else 5) + (2 if crossing else 0))
    return drawn(paint, height=height, title=title, text=f"{view.title}. {caption}", caption=caption, key=key)


def _wanted(answer: Mapping[str, Any]) -> float | None:
    value = answer.get("target", answer.get("y"))
    return float(value) if finite(value) and value > 0 else None


def _window(cut: Slice, answers: list[Mapping[str, Any]]) -> tuple[float, float]:
    """What is drawn of x: the points, the answers with their intervals, and a stretch beyond towards larger values."""
    low, high = span_of(cut)
    if low <= 0:
        return low, min(high + AHEAD * (high - low), (cut.view.domain(cut.column) or (0.0, np.inf))[1])
    wide = max(high / low, 1.5)
    left, right = low / wide**BEHIND, high * wide**AHEAD
    for answer in answers:
        ends = [float(answer[k]) for k in ("value", "low", "high") if finite(answer.get(k)) and answer[k] > 0]
        ends = [end for end in ends if low / FARTHEST < end < high * FARTHEST]
        left, right = (
            min([left, *(end / wide**0.04 for end in ends)]),
            max([right, *(end * wide**0.04 for end in ends)]),
        )
    bottom, top = cut.view.domain(cut.column) or (0.0, np.inf)
    return max(left, bottom), min(right, top)


def _heights(cut: Slice, band: tuple[Floats, ...], answers: list[Mapping[str, Any]]) -> tuple[float, float]:
    """What is drawn of y: all of the points, the law and its answers; the band as far as half as much again."""
    seen = [v for v in band[0] if np.isfinite(v) and v > 0]
    seen += cut.sample.y.tolist() if cut.sample is not None else []
    seen += [w for a in answers if (w := _wanted(a)) is not None]
    low, high = padded(seen or [0.1, 1.0], 0.06)
    room = max((high / low) ** 0.35, 1.05)
    ends = [v for side in band[1:] for v in side if np.isfinite(v) and v > 0]
    bottom, top = max(min([low, *ends]), low / room), min(max([high, *ends]), high * room)
    floor = cut.view.floor
    if floor is not None:  # as much of its interval as does not press the points together
        limits = [v for v in (floor.low, floor.value, floor.high) if np.isfinite(v) and v > 0]
        bottom = min([bottom, *(v / 1.05 for v in limits if v > low / (high / low))])
        top = max([top, *(v * 1.05 for v in limits if v < high * room)])
    return bottom / 1.01, top * 1.01


def _frame(axes: Axes, cut: Slice, grid: Floats, heights: tuple[float, float]) -> None:
    log_axis(axes, "x", cut.variable, grid[0], grid[-1])
    log_axis(axes, "y", cut.view.target, *heights)
    first, last = span_of(cut)
    hatched(axes, grid[0], first)
    hatched(axes, last, grid[-1])
    range_marks(axes, (first, last))


def _paint_floor(axes: Axes, view: View) -> None:
    floor = view.floor
    bottom, _ = axes.get_ylim()
    if floor is None or _top(floor) <= bottom:
        return
    low = floor.low if np.isfinite(floor.low) else bottom
    high = floor.high if np.isfinite(floor.high) else floor.value
    ends = [max(end, bottom / 2) for end in (low, high)]
    axes.axhspan(*ends, color=LOST, alpha=0.18, linewidth=0, zorder=0.8, label="floor, with interval")
    axes.axhline(max(floor.value, bottom / 2), color=LOST, linewidth=1.2, linestyle="-.", zorder=1.5)


def _top(floor: Floor) -> float:
    return max(floor.value, floor.high) if np.isfinite(floor.high) else floor.value


def _paint_law(axes: Axes, cut: Slice, grid: Floats, band: tuple[Floats, ...]) -> None:
    value, low, high = band
    first, last = span_of(cut)
    axes.fill_between(grid, low, high, color=ACCENT, alpha=0.2, linewidth=0, label="90 % of new points", zorder=1)
    inside = (grid >= first * 0.999) & (grid <= last * 1.001)
    axes.plot(grid[inside], value[inside], color=ACCENT, linewidth=1.8, label="law", zorder=2.2)
    for side in (grid <= grid[inside][0], grid >= grid[inside][-1]) if inside.any() else (grid > 0,):
        axes.plot(grid[side], value[side], color=ACCENT, linewidth=1.8, linestyle=(0, (3, 2)), zorder=2.2)


def _paint_points(axes: Axes, cut: Slice) -> None:
    sample = cut.sample
    if sample is None or not len(sample):
        return
    means = sample.means()
    label = "point" if not cut.moved else "point, moved"
    seeds = len(means) < len(sample)
    size = sized(len(sample))
    size = size if seeds else {**size, "markersize": size["markersize"] + 1.4}
    axes.plot(
        sample.numbers(cut.column), sample.y, "o", color=BASE, label="one seed" if seeds else label, zorder=3, **size
    )
    if seeds:
        axes.plot(means.numbers(cut.column), means.y, "s", label="mean of seeds", zorder=3.2, **MEAN)


def _paint_answers(axes: Axes, cut: Slice, answers: list[Mapping[str, Any]]) -> None:
    """Each answer as a diamond with its interval; a target that is out of reach as a line alone."""
    left, right = axes.get_xlim()
    for number, answer in enumerate(answers):
        wanted = _wanted(answer)
        if wanted is None:
            continue
        axes.axhline(wanted, color=GAINED, linewidth=1, linestyle=":", zorder=1.6)
        value = answer.get("value")
        if not finite(value) or not answer.get("reachable", True):
            continue
        low, high = (float(answer[k]) if finite(answer.get(k)) else end for k, end in (("low", left), ("high", right)))
        label = "answer, with interval" if not number else None
        axes.hlines(wanted, max(low, left), min(high, right), color=GAINED, linewidth=3, zorder=3.4)
        axes.plot([value], [wanted], "D", color=GAINED, markersize=8, markeredgewidth=0, label=label, zorder=3.6)


def _caption(cut: Slice, answers: list[Mapping[str, Any]], bottom: float) -> str:
    view, sample = cut.view, cut.sample
    parts = []
    if sample is not None and cut.moved:
        parts.append(f"Points stand elsewhere in the other variables; each was moved along the law to {cut.given}.")
    elif sample is not None and len(sample.means()) < len(sample):
        parts.append(f"{len(sample)} points at {len(sample.means())} places; squares are the means of their seeds.")
    elif sample is not None:
        parts.append(f"{len(sample)} points.")
    if view.floor is not None:
        floor = view.floor
        text = interval_figure(view.target, floor.value, floor.low, floor.high)  # never without its interval
        joint = "" if len(view.variables) == 1 else ", where everything grows"
        below = "" if _top(floor) > bottom else ", below the picture"
        parts.append(f"Floor {floor.name}{joint}{below}: {text}.")
    parts.append(f"Hatched and dashed: beyond the points ({span_text(cut.variable, span_of(cut))}).")
    parts += [_sentence(answer, view.target) for answer in answers]
    return " ".join(parts)


def _sentence(answer: Mapping[str, Any], target: str) -> str:
    text = answer_sentence(answer, target, doubts=False)
    return f"{text[:1].upper()}{text[1:]}."
