"""Figures by name: how each candidate predicted what was held out, and what compressed params are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.text import clean, finite
from evaluate.report.law_axes import log_axis, padded
from evaluate.report.law_saving import LawPicture, drawn
from evaluate.report.law_words import axis_label, interval_figure, named
from evaluate.report.svg import ACCENT, BASE, INK, LOST, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


ROW = 24
REACH = 4.0


@dataclass(frozen=True)
class Candidate:
    """One form that was tried: its error on held-out points (root mean square of the log, as a fraction), its criteria.

    reason : why it was not fitted, where it was not; weight : its share in an average.
    """

    name: str
    error: float
    chosen: bool = False
    aic: float = float("nan")
    bic: float = float("nan")
    weight: float = float("nan")
    reason: str = ""


@dataclass(frozen=True)
class Level:
    """A compression level: its name, its place on the axis (NaN for a name alone), its efficiency with interval."""

    name: str
    at: float
    value: float
    low: float
    high: float


def candidates_picture(candidates: Sequence[Candidate], *, key: str = "law-candidates") -> LawPicture | None:
    """The hold-out error of each form as a bar, best first, the chosen one marked; None with fewer than two."""
    known = sorted((c for c in candidates if finite(c.error)), key=lambda c: c.error)
    if len(known) < 2:
        return None
    failed = [c for c in candidates if not finite(c.error)]
    text = "; ".join(f"{c.name} {_percent(c.error)}{' (chosen)' if c.chosen else ''}" for c in known)

    def paint(figure: Figure) -> None:
        _paint_bars(figure.add_subplot(), known)

    caption = (
        "How far each form, fitted to the smaller points, was off on the larger ones that it had not seen. "
        "This chooses; AIC and BIC do not."
    )
    if failed:
        caption += f" Not fitted: {', '.join(c.name for c in failed)}."
    return drawn(
        paint, height=64 + ROW * len(known), title="Candidates on held-out points", text=text, caption=caption, key=key
    )


def _percent(error: float) -> str:
    return f"{100 * error:.3g} %"


def _paint_bars(axes: Axes, known: Sequence[Candidate]) -> None:
    worst = sorted(c.error for c in known)[-1]
    best = known[0].error
    top = min(worst, 12 * best) if best > 0 else worst  # one that runs away must not flatten the others
    for row, c in enumerate(known):
        axes.barh(
            row, min(c.error, top), height=0.66, color=ACCENT if c.chosen else BASE, alpha=1.0 if c.chosen else 0.55
        )
        more = " →" if c.error > top else ""
        axes.text(
            min(c.error, top) + 0.015 * top, row, f"{_percent(c.error)}{more}", va="center", color=INK, fontsize=11
        )
    names = [f"{c.name} (chosen)" if c.chosen else c.name for c in known]
    axes.set_yticks(range(len(known)), [clean(name, 26) for name in names], fontsize=11)
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * top or 1.0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("error on held-out points, log %")


def effective_picture(
    levels: Sequence[Level],
    *,
    variable: str = "level",
    reference: Callable[[float], float] | None = None,
    reference_name: str = "",
    label: str = "effective params over params",
    title: str = "",
    key: str = "law-effective",
) -> LawPicture | None:
    """What a compressed parameter is worth in dense ones, against the compression level, each with its interval.

    variable  : the name of the level ("bits", "density"); levels that are no numbers stand beside each other.
    reference : the efficiency that storage alone would suggest, as bits / 16; drawn as a line.
    """
    shown = [level for level in levels if finite(level.value) and level.value > 0]
    if not shown:
        return None
    numeric = all(finite(level.at) and level.at > 0 for level in shown) and len({level.at for level in shown}) > 1
    shown = sorted(shown, key=lambda level: level.at) if numeric else shown

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        at = np.array([level.at for level in shown]) if numeric else np.arange(float(len(shown)))
        _effective_axes(axes, shown, at, variable if numeric else "", label)
        _paint_levels(axes, shown, at)
        if reference is not None and numeric:
            grid = np.geomspace(at[0], at[-1], 60)
            axes.plot(grid, [reference(float(v)) for v in grid], color=MUTED, linewidth=1.2, linestyle=(0, (3, 3)))

    text = "; ".join(f"{level.name}: {interval_figure('', level.value, level.low, level.high)}" for level in shown)
    caption = (
        f"{label[:1].upper()}{label[1:]}: 1 (solid line) is as good as dense. Strokes are the intervals of the law."
    )
    if reference is not None and numeric:
        caption += f" Dashed: {reference_name or 'what storage alone would give'}; above it, what is stored does more."
    title = title or f"Effective size against {named(variable)}"
    return drawn(paint, height=280, title=title, text=text, caption=caption, key=key)


def _effective_axes(axes: Axes, shown: Sequence[Level], at: Any, variable: str, label: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = [1.0, *(level.value for level in shown)]
    least, most = min(values) / REACH, max(values) * REACH  # an interval without end must not press all together
    ends = [v for level in shown for v in (level.low, level.high) if finite(v) and v > 0]
    log_axis(axes, "y", "", *padded([*values, *(min(max(v, least), most) for v in ends)], 0.08), label=False)
    axes.set_ylabel(label)
    if variable:
        log_axis(axes, "x", variable, *padded(at, 0.08))
    else:
        axes.set_xlim(-0.6, len(shown) - 0.4)
    if variable not in ("density", "retained_bytes"):  # a tick where something was measured
        axes.xaxis.set_major_locator(FixedLocator(list(at)))
        axes.xaxis.set_minor_locator(NullLocator())
        names = {float(a): clean(level.name, 14) for a, level in zip(at, shown)}
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: names.get(float(value), "")))
        axes.set_xlabel(axis_label(variable) if variable else "compression level")


def _paint_levels(axes: Axes, shown: Sequence[Level], at: Any) -> None:
    bottom, top = axes.get_ylim()
    axes.axhline(1.0, color=MUTED, linewidth=1.2)
    for x, level in zip(at, shown):
        low = max(level.low, bottom) if finite(level.low) else bottom
        high = min(level.high, top) if finite(level.high) else top
        for end, mark in ((low, "v"), (high, "^")):  # the interval goes on
            if not bottom < end < top:
                axes.plot([x], [end], mark, color=LOST, markersize=8, markeredgewidth=0, clip_on=False)
        axes.vlines(x, low, high, color=ACCENT, linewidth=2)
        axes.plot([x], [level.value], "o", color=ACCENT, markersize=7, markeredgewidth=0)
