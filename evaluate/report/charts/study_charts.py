"""Charts of a study: compressed models against native ones of their size, and what compressed params are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.text import clean, finite
from evaluate.report.charts.law_charts import legend_above, legend_height, log_axis, padded
from evaluate.report.charts.svg import ACCENT, BASE, LOST, MUTED, Picture, draw, series_style
from evaluate.report.messages.law_messages import axis_label, interval_figure, named, quantity
from evaluate.report.messages.law_view import Floats, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_CURVES = 24
MOST_NAMED = 6
REACH = 4.0  # times beyond the values, where their intervals are cut
SIZE = "params"


@dataclass(frozen=True)
class Curve:
    """One way to models of many sizes: points x, y (n,), seeds included.

    native : trained small from the start; else a large model, compressed further and further.
    size, level : what was compressed, and how.
    design : (n,) what points share that differ in their seed alone; without it, points of one x are alike.
    """

    name: str
    x: Floats
    y: Floats
    native: bool = False
    size: str = ""
    level: str = ""
    design: Any = field(default=None, compare=False)

    def means(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(x, mean, lowest, highest) for each design, by rising x; pruning ends a little differently in each seed."""
        _, place = np.unique(self.x if self.design is None else self.design, return_inverse=True)
        groups = [place.ravel() == i for i in range(place.max() + 1)]
        at = np.array([float(np.mean(self.x[g])) for g in groups])
        rising = np.argsort(at, kind="stable")
        mean, low, high = (np.array([float(of(self.y[g])) for g in groups]) for of in (np.mean, np.min, np.max))
        return at[rising], mean[rising], low[rising], high[rising]


def study_curves(points: Any, *, x: str = SIZE, y: str = "error") -> list[Curve]:
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
    sizes = _sizes_of(columns, len(role))
    level = np.array([clean(v, 24) for v in columns.get("level", ["compressed"] * len(role))], dtype=object)
    alike = columns.get("design")
    alike = np.asarray([f"{s} {d}" for s, d in zip(sizes, alike)]) if alike is not None else None
    small, made = good & (role == "native"), good & (role == "compressed")
    small = small if small.any() else good & (role == "dense")
    if x != "bytes" and "bits" in columns:  # fewer bits change no other size: those curves would lie on one another
        bits = np.asarray(columns["bits"], dtype=np.float64)
        widest = made & (bits == np.max(bits, where=made & np.isfinite(bits), initial=0.0))
        made = widest if len(np.unique(across[widest])) > 1 else made

    def curve(name: str, rows: Any, **more: Any) -> Curve:
        return Curve(name, across[rows], up[rows], design=None if alike is None else alike[rows], **more)

    found = [curve("native, trained small", small, native=True)] if small.any() else []
    for size, name in dict.fromkeys(zip(sizes[made], level[made])):
        mine = good & (sizes == size) & ((role == "dense") | (made & (level == name)))
        if len(np.unique(across[mine])) > 1:
            found.append(curve(f"{size}, {name}".lstrip(", "), mine, size=str(size), level=str(name)))
    return sorted(found, key=lambda c: (not c.native, -float(c.x.max())))


def _sizes_of(columns: Mapping[str, Any], count: int) -> NDArray[Any]:
    """(n,) the size of each row in words: `width 16, depth 8`."""

    def words(name: str, value: Any) -> str:
        if isinstance(value, (float, np.floating)):
            return f"{name} {value:g}" if np.isfinite(value) else ""
        return f"{name} {clean(value, 20)}" if value not in (None, "") else ""

    parts = [[words(name, value) for value in columns[name]] for name in ("width", "depth") if name in columns]
    rows = [", ".join(filter(None, row)) for row in zip(*parts)] if parts else ["large"] * count
    return np.array(rows, dtype=object)


def native_picture(
    curves: Sequence[Curve], *, x: str = SIZE, y: str = "error", key: str = "law-native"
) -> Picture | None:
    """y against x (log-log): the native models, and a curve for each large model that was compressed, the larger the
    darker, told apart by their marks and lines where levels differ.

    None where there is no curve; more than MOST_CURVES are not drawn, and the title says so.
    """
    shown = [c for c in curves if len(c.x)][:MOST_CURVES]
    if not shown:
        return None
    made = [c for c in shown if not c.native]
    sizes, levels = (list(dict.fromkeys(of)) for of in ([c.size for c in made], [c.level for c in made]))
    shades = {size: 1.0 - 0.72 * place / max(len(sizes) - 1, 1) for place, size in enumerate(sizes)}
    named_alone = len(made) <= MOST_NAMED  # few curves: each by its own name
    entries = len(shown) if named_alone else 1 + len(sizes) + len(levels)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        log_axis(axes, "x", x, *padded(np.concatenate([c.x for c in shown]), 0.05))
        log_axis(axes, "y", y, *padded(np.concatenate([c.y for c in shown])))
        for curve in shown:
            label = clean(curve.name, 44) if named_alone or curve.native else None
            _paint_curve(axes, curve, shades.get(curve.size, 1.0), _mark(levels, curve.level), label)
        if not named_alone:
            for level in levels:
                axes.plot([], [], color=MUTED, linewidth=1.5, label=clean(level, 30), **_mark(levels, level))
            for size in sizes:
                axes.plot([], [], color=ACCENT, alpha=shades[size], linewidth=4, label=clean(size or "large", 30))
        legend_above(axes, columns=1 if named_alone else 2)

    cut = "" if len(shown) == len(curves) else f" ({len(shown)} of {len(curves)} curves)"
    title = f"Compressed against native, by {named(x)}{cut}"
    caption = "Large marks are means of seeds, small ones single models, strokes their range. The darker, the larger."
    height = 270 + legend_height(entries, columns=1 if named_alone else 2)
    return draw(paint, height=height, title=title, text=caption, caption=caption, key=key)


def _mark(levels: Sequence[str], level: str) -> dict[str, Any]:
    """The marker and line of a level."""
    place = levels.index(level) if level in levels else 0
    return {"marker": series_style(place + 1)["marker"], "linestyle": ("-", "--", ":", "-.")[place % 4]}


def _paint_curve(axes: Axes, curve: Curve, shade: float, mark: dict[str, Any], label: str | None) -> None:
    """Means of the seeds with their range, joined by straight lines."""
    at, mean, low, high = curve.means()
    style: dict[str, Any] = {"color": ACCENT, "alpha": shade, **mark}
    marks: Any = {"markersize": 6, "markeredgewidth": 0, "zorder": 3}
    if curve.native:  # hollow and on top: a compressed size begins at its own dense model
        style = {"color": BASE, "marker": "s", "linestyle": "-"}
        marks = {"markersize": 9, "markeredgewidth": 1.8, "markerfacecolor": "none", "zorder": 5}
    color = {"color": style["color"], "alpha": style.get("alpha", 1.0)}
    axes.vlines(at, low, high, linewidth=1.2, zorder=2, **color)
    axes.plot(curve.x, curve.y, style["marker"], markersize=2.6, markeredgewidth=0, zorder=2.4, **color)
    axes.plot(at, mean, label=label, linewidth=1.5, **marks, **style)


# What compressed params are worth.


@dataclass(frozen=True)
class Level:
    """A compression level: its name, its place on the axis (NaN for a name alone), its efficiency with interval."""

    name: str
    at: float
    value: float
    low: float
    high: float


def effective_picture(
    levels: Sequence[Level],
    *,
    variable: str = "level",
    reference: Callable[[float], float] | None = None,
    reference_name: str = "what storage alone would give",
    label: str = "effective params over params",
    title: str = "",
    key: str = "law-effective",
) -> Picture | None:
    """What a compressed parameter is worth in dense ones, against the compression level, each with its interval.

    variable  : the name of the level ("bits", "density"); levels that are no numbers stand beside each other.
    reference : the efficiency that storage alone would suggest, as bits / 16; drawn as a line.
    """
    shown = [level for level in levels if finite(level.value) and level.value > 0]
    if not shown:
        return None
    numeric = all(finite(level.at) and level.at > 0 for level in shown) and len({level.at for level in shown}) > 1
    shown = sorted(shown, key=lambda level: level.at) if numeric else shown
    at = np.array([level.at for level in shown]) if numeric else np.arange(float(len(shown)))
    reference = reference if numeric else None

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _effective_axes(axes, shown, at, variable if numeric else "", label)
        _paint_levels(axes, shown, at)
        if reference is not None:
            grid = np.geomspace(at[0], at[-1], 60)
            axes.plot(grid, [reference(float(v)) for v in grid], color=MUTED, linewidth=1.2, linestyle=(0, (3, 3)))

    text = "; ".join(f"{level.name}: {interval_figure('', level.value, level.low, level.high)}" for level in shown)
    caption = (
        f"{label[:1].upper()}{label[1:]}: 1 (solid line) is as good as dense. Strokes are the intervals of the law."
    )
    if reference is not None:
        caption += f" Dashed: {reference_name}; above it, what is stored does more."
    title = title or f"Effective size against {named(variable)}"
    return draw(paint, height=280, title=title, text=text, caption=caption, key=key)


def _effective_axes(axes: Axes, shown: Sequence[Level], at: Floats, variable: str, label: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = [1.0, *(level.value for level in shown)]
    least, most = min(values) / REACH, max(values) * REACH  # an interval without end must not press all together
    ends = [min(max(v, least), most) for level in shown for v in (level.low, level.high) if finite(v) and v > 0]
    log_axis(axes, "y", "", *padded([*values, *ends], 0.08), label=False)
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


def _paint_levels(axes: Axes, shown: Sequence[Level], at: Floats) -> None:
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


def worth_picture(view: View, points: Any, *, key: str = "law-worth") -> Picture | None:
    """Effective size over the dense model's, against the bytes that were kept, for the largest size compressed.

    view   : a law of dense models in params alone. points : of the study's trials, `Points` or name -> (n,).
    None where the law is another, or where nothing compressed can be placed on it.
    """
    if view.variables != (SIZE,):
        return None
    size, levels = effective_levels(view, getattr(points, "columns", points))
    if len(levels) < 2:
        return None
    return effective_picture(
        levels, variable="retained_bytes", label="effective over dense params", reference=lambda kept: kept,
        reference_name="what the bytes alone would give", title=f"What compression leaves of {size}", key=key,
    )  # fmt: skip


def effective_levels(view: View, columns: Mapping[str, Any]) -> tuple[str, list[Level]]:
    """(the largest size that was compressed, its levels): bytes kept, effective over dense params with interval.

    Levels whose mean is better than any dense model of the law, or worse than all, have no effective size and are left
    out.
    """
    from evaluate.scaling.query.crossing import effective_size

    needed = ("role", SIZE, "retained_bytes", view.target)
    if any(name not in columns for name in needed):
        return "", []
    role = np.asarray(columns["role"]).astype(str)
    params, kept, y = (np.asarray(columns[name], dtype=np.float64) for name in needed[1:])
    sizes = _sizes_of(columns, len(role))
    dense = {s: float(np.mean(params[(sizes == s) & (role == "dense")])) for s in set(sizes[role == "dense"])}
    good = np.isfinite(kept) & np.isfinite(y) & (y > 0) & (kept > 0)
    made = good & (role == "compressed") & np.isin(sizes, list(dense))
    if not made.any():
        return "", []
    size = max(set(sizes[made]), key=lambda s: (dense[s], s))
    names = [clean(v, 24) for v in columns.get("level", [""] * len(y))]
    groups: dict[tuple[str, float], list[int]] = {}  # a level's seeds
    for row in np.flatnonzero(made & (sizes == size)):
        groups.setdefault((names[row], params[row]), []).append(int(row))
    means = [(name, float(np.mean(kept[rows])), float(np.mean(y[rows]))) for (name, _), rows in groups.items()]
    found = effective_size(view.law, [mean for _, _, mean in means])
    shares = [side / dense[size] for side in (found.size, found.low, found.high)]
    return size, [
        Level(f"{name} {quantity('retained_bytes', part)}", part, *(float(end) for end in ends))
        for (name, part, _), *ends in zip(means, *shares)
        if np.isfinite(ends[0])
    ]
