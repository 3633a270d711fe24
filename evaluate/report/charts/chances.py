"""The chart of a size: the chance of keeping the target against the cost, a line a family, the answer marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.text import clean
from evaluate.report.charts.law_charts import legend_above, legend_height, log_axis, padded
from evaluate.report.charts.svg import ACCENT, MUTED, Picture, draw, series_style
from evaluate.report.messages.sizing_messages import next_sentence, sizing_sentence
from evaluate.scaling.points.scale import Scale
from evaluate.scaling.query.sizing import Option, Sizing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_FAMILIES = 7


def chances_picture(found: Sizing, y: str, scale: Scale, asked: str = "", key: str = "chances") -> Picture:
    """The chance of each measured model against its cost (logarithmic), joined by family; at most seven families, those
    with the best chances. The confidence that was asked for is a dashed line, the answer a ring, the next a cross."""
    families: dict[str, list[Option]] = {}
    for one in found.options:
        families.setdefault(one.family, []).append(one)
    ranked = sorted(families, key=lambda name: -max(one.chance for one in families[name]))
    shown = [name for name in families if name in ranked[:MOST_FAMILIES]]
    costs = [one.cost for name in shown for one in families[name]]
    costs += [found.following.cost] if found.following else []

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        log_axis(axes, "x", found.cost, *padded(np.array(costs), 0.05))
        axes.set(ylim=(-4, 104), ylabel="chance of keeping the target, %", yticks=range(0, 101, 25))
        axes.axhline(100 * found.confidence, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for place, name in enumerate(shown):
            style: dict[str, Any] = dict(series_style(place))
            models = families[name]
            axes.plot(
                [one.cost for one in models], [100 * one.chance for one in models], label=clean(name, 40),
                markersize=6, markeredgewidth=0, linewidth=1.4, zorder=3, **style,
            )  # fmt: skip
        rings: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "color": ACCENT, "zorder": 5}
        if found.best is not None:
            axes.plot(
                [found.best.cost], [100 * found.best.chance], "o", markersize=13, markeredgewidth=2,
                label="the answer", **rings,
            )  # fmt: skip
        if found.following is not None:
            axes.plot(
                [found.following.cost], [100 * found.following.chance], "X", markersize=10, markeredgewidth=1.6,
                label="to measure next", **rings,
            )  # fmt: skip
        legend_above(axes)

    cut = "" if len(shown) == len(families) else f" ({len(shown)} of {len(families)} families)"
    text = ". ".join(filter(None, [sizing_sentence(found, y, scale, asked), next_sentence(found)]))
    height = 270 + legend_height(len(shown) + 2)
    title = f"Chance of keeping the target, by size{cut}"
    caption = f"A mark is a model of that size; the dashed line is the chance asked for, {100 * found.confidence:g} %."
    return draw(paint, height=height, title=title, text=text, caption=caption, key=key)
