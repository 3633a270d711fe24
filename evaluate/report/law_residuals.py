"""What a law leaves unexplained: log residuals against the prediction or a variable, groups told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.text import clean
from evaluate.report.axes import series_style
from evaluate.report.law_axes import LEGEND_LINE, legend_above, log_axis, padded, sized
from evaluate.report.law_saving import LawPicture, drawn
from evaluate.report.law_view import Floats, sample_of, view_of
from evaluate.report.law_words import axis_label, named
from evaluate.report.svg import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_GROUPS = 8
BINS = 8


def residuals_picture(
    law: Any,
    points: Any,
    *,
    target: str | None = None,
    against: str | None = None,
    groups: Sequence[Any] | None = None,
    key: str = "law-residuals",
) -> LawPicture | None:
    """log(point / prediction) in per cent; None without points.

    against : a variable of the law; None for the prediction.
    groups  : (n,) labels, each with a mark of its own; more than eight are not told apart.
    """
    view = view_of(law, target)
    sample = sample_of(view, points)
    if sample is None:
        return None
    predicted = view.predict(sample.x)
    off = 100 * np.log(sample.y / predicted)
    place = predicted if against is None else sample.numbers(view.variables.index(against))
    labels = _labels(groups, len(off))
    spread = float(np.sqrt(np.mean(off**2)))
    quantity = view.target if against is None else against

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _paint_groups(axes, place, off, labels)
        _paint_middle(axes, place, off)
        _finish(axes, place, off, quantity, against is None)
        legend_above(axes)

    worst = int(np.argmax(np.abs(off)))
    caption = (
        f"Point over prediction, as log difference in %; 0 is the law. Root mean square {spread:.2g} %, the largest "
        f"{off[worst]:+.2g} %."
    )
    if _bins(off):
        caption += " The line is the mean of neighbours: where it leaves 0, the form misses something."
    names = len(set(labels)) if labels is not None else 0
    what = "the prediction" if against is None else named(against)
    height = 250 + LEGEND_LINE * -(-names // 2)
    text = f"{view.title}. {caption}"
    return drawn(paint, height=height, title=f"Residuals against {what}", text=text, caption=caption, key=key)


def _labels(groups: Sequence[Any] | None, count: int) -> list[str] | None:
    """Groups as text, rarer ones as one; None where there is nothing to tell apart."""
    if groups is None or len(groups) != count:
        return None
    words = [f"{g:.4g}" if isinstance(g, (float, np.floating)) else clean(g, 18) for g in groups]
    found = sorted(set(words), key=words.count, reverse=True)
    if len(found) < 2:
        return None
    kept = found if len(found) <= MOST_GROUPS else found[: MOST_GROUPS - 1]
    return [word if word in kept else "others" for word in words]


def _paint_groups(axes: Axes, place: Floats, off: Floats, labels: list[str] | None) -> None:
    size = sized(len(off))
    if labels is None:
        axes.plot(place, off, **{**series_style(0), **size, "linestyle": "none", "marker": "o"})
        return
    for number, name in enumerate(dict.fromkeys(labels)):
        mine = np.array([label == name for label in labels])
        style = {**series_style(number), **size, "linestyle": "none", "markersize": size["markersize"] + 1}
        axes.plot(place[mine], off[mine], label=name, **style)


def _paint_middle(axes: Axes, place: Floats, off: Floats) -> None:
    """Means of neighbours, where there are enough points for four of them."""
    axes.axhline(0, color=MUTED, linewidth=1, zorder=1.5)
    if not _bins(off):
        return
    order = np.array_split(np.argsort(place, kind="stable"), _bins(off))
    axes.plot(
        [float(np.exp(np.mean(np.log(place[part])))) for part in order],
        [float(np.mean(off[part])) for part in order],
        color=INK,
        linewidth=1.6,
        zorder=3,
    )


def _bins(off: Floats) -> int:
    """How many means of neighbours there are; 0 with too few points."""
    return min(BINS, len(off) // 5) if len(off) >= 20 else 0


def _finish(axes: Axes, place: Floats, off: Floats, quantity: str, predicted: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    log_axis(axes, "x", quantity, *padded(place, 0.04))
    axes.set_xlabel(("predicted " if predicted else "") + axis_label(quantity))
    reach = 1.12 * max(float(np.max(np.abs(off))), 0.1)
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_ylabel("point over prediction, log %")
