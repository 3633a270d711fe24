"""Where the curve of a law crosses that of another: the other curve, the break-even point and its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.text import clean, finite
from evaluate.report.law_native import BreakEven
from evaluate.report.law_view import Floats, View, registered
from evaluate.report.law_words import interval_figure, named, quantity
from evaluate.report.svg import INK, LOST

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def break_even_of(stored: Mapping[str, Any]) -> BreakEven | None:
    """The break-even point that was asked for; its value is NaN where the curves do not cross."""
    found = stored.get("break_even")
    if not isinstance(found, Mapping):
        return None
    value, low, high, y = (float(found[k]) if finite(found.get(k)) else np.nan for k in ("value", "low", "high", "y"))
    there = value if found.get("reachable", True) else np.nan
    reason, against = (clean(found.get(k) or "", 200) for k in ("reason", "against"))
    return BreakEven(there, low, high, y, against, reason)


def crossing_of(view: View, variable: str) -> BreakEven | None:
    """The break-even point in this variable; None where none was asked for."""
    crossing = break_even_of(view.stored)
    if crossing is None or str(view.stored["break_even"].get("variable") or variable) != variable:
        return None
    return crossing


def other_curve(view: View, x: NDArray[Any]) -> Floats | None:
    """What the other law predicts at x (n, k); None where neither its curve nor all its parameters are kept."""
    told = view.stored["break_even"].get("other")
    sampled = told.get("curve") if isinstance(told, Mapping) else None
    if sampled and x.shape[1] == 1 and all(finite(v) and v > 0 for part in sampled for v in part):
        across, up = (np.log(np.asarray(part, dtype=np.float64)) for part in sampled)
        return np.asarray(np.exp(np.interp(np.log(x[:, 0]), across, up)), dtype=np.float64)
    form = registered(str(told.get("law"))) if isinstance(told, Mapping) else None
    params = told.get("params") if isinstance(told, Mapping) else None
    if form is None or not isinstance(params, Mapping) or set(form.names) != set(params) or x.dtype.kind not in "fiu":
        return None
    return np.asarray(form.predict(x, form.vector(params)), dtype=np.float64)


def paint_crossing(axes: Axes, crossing: BreakEven, grid: Floats, other: Floats | None) -> None:
    """The other curve as far as it lies inside of the axes, and the point where they cross, with its interval."""
    if other is not None:
        bottom, top = axes.get_ylim()
        shown = np.where((other >= bottom) & (other <= top), other, np.nan)
        style: Any = {"color": LOST, "linewidth": 1.8, "linestyle": (0, (5, 2, 1, 2))}
        axes.plot(grid, shown, label="the other curve", zorder=2.1, **style)
    if not finite(crossing.value):
        return
    y = crossing.y
    if not finite(y) and other is not None:
        y = float(np.interp(crossing.value, grid, other))
    if not finite(y):
        return
    left, right = axes.get_xlim()
    low = max(crossing.low, left) if finite(crossing.low) else left
    high = min(crossing.high, right) if finite(crossing.high) else right
    axes.hlines(y, low, high, color=INK, linewidth=3, zorder=4)
    axes.plot([crossing.value], [y], "*", color=INK, markersize=14, markeredgewidth=0, label="break-even", zorder=4.2)


def crossing_sentences(view: View, variable: str) -> list[str]:
    """What a caption says about it."""
    crossing = crossing_of(view, variable)
    if crossing is None:
        return []
    against = f" against {crossing.name}" if crossing.name else ""
    if not finite(crossing.value):
        why = crossing.reason.partition(";")[0]
        return [f"No break-even{against}{': ' + why if why else ''}."]
    at = f", {named(view.target)} {quantity(view.target, crossing.y)}" if finite(crossing.y) else ""
    told = interval_figure(variable, crossing.value, crossing.low, crossing.high)
    return [f"Break-even{against} (star): {named(variable)} {told}{at}."]
