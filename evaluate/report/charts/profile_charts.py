"""The pictures of profiles: time by kind of operator and by layer, models beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evaluate.core.text import clean
from evaluate.profiling.operator_groups import Amount, Group, amount_of, families, groups, time_text
from evaluate.report.charts.svg import ACCENT, BASE, GAINED, INK, LOST, MUTED, Picture, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Profile = Mapping[str, Any]
Bars = list[tuple[str, list[Amount | None]]]
COLORS = (BASE, ACCENT, GAINED, LOST)
MOST_KINDS, MOST_LAYERS = 9, 20
# Kinds and layers that take less of every model's call are left to the sentence under the picture.
LEAST = 0.003


def operators_picture(profiles: Sequence[Profile], *, key: str) -> Picture | None:
    """Time of one call by kind of operator, a bar for each model, what lies outside kernels below them.

    profiles : dicts of `profiling.profile.profiles`, the baseline first; at most four are drawn. None without any.
    """
    shown = profiles[: len(COLORS)]
    if not shown:
        return None
    bars: Bars = [
        (_shortest(name), [amount_of(nodes) if nodes else None for nodes in sides])
        for name, sides in families(shown).items()
    ]
    bars = _large(bars, shown)[:MOST_KINDS]
    bars.append(("outside kernels", [Amount(p["outside_ms"], 0.0, 0.0) for p in shown]))
    return _picture(bars, shown, key, "Time by operator")


def layers_picture(profiles: Sequence[Profile], *, key: str) -> Picture | None:
    """Time of one call by layer in running order, the longest ones; None where no layer takes any time."""
    shown = profiles[: len(COLORS)]
    found = groups(shown)
    if not found:
        return None
    longest = sorted(found, key=lambda group: -_most(group.amounts))[:MOST_LAYERS]
    kept = [group for group in found if group in longest]
    bars = _large([(_label(group), list(group.amounts)) for group in kept], shown)
    cut = f" (the {len(bars)} longest of {len(found)})" if len(bars) < len(found) else ""
    return _picture(bars, shown, key, f"Time by layer{cut}") if bars else None


def _label(group: Group) -> str:
    return clean(group.name, 24)


def _shortest(name: str) -> str:
    return {"copies to and from the GPU": "GPU copies"}.get(name, name)


def _most(amounts: Sequence[Amount | None]) -> float:
    return max((amount.ms for amount in amounts if amount), default=0.0)


def _large(bars: Bars, profiles: Sequence[Profile]) -> Bars:
    least = LEAST * max(p["call_ms"] for p in profiles)
    return [bar for bar in bars if _most(bar[1]) >= least and _most(bar[1]) > 0]


def _picture(bars: Bars, profiles: Sequence[Profile], key: str, title: str) -> Picture:
    names = [clean(profile["name"], 20) for profile in profiles]
    text = "; ".join(f"{label}: {', '.join(map(_said, amounts))}" for label, amounts in bars)
    height = 60 + 17 * _legend_rows(names) + len(bars) * (9 + 13 * len(profiles))
    return draw(_painter(bars, names), height=height, title=title, text=f"{', '.join(names)}: {text}", key=key)


def _legend_rows(names: Sequence[str]) -> int:
    """One row where the names fit beside each other, else a row each; none for a single model."""
    if len(names) < 2:
        return 0
    return 1 if sum(len(name) + 5 for name in names) <= 42 else len(names)


def _said(amount: Amount | None) -> str:
    return time_text(amount.ms) if amount else "none"


def _painter(bars: Bars, names: Sequence[str]) -> Callable[[Figure], None]:
    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _paint_bars(axes, bars, names)
        if len(names) > 1:
            columns = 1 if _legend_rows(names) > 1 else len(names)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.2)

    return paint


def _paint_bars(axes: Axes, bars: Bars, names: Sequence[str]) -> None:
    widest = max([_most(amounts) for _, amounts in bars], default=0.0) or 1.0
    thick = 0.84 / len(names)
    for place, name in enumerate(names):
        rows = [row - 0.42 + thick * (place + 0.5) for row in range(len(bars))]
        sides = [amounts[place] for _, amounts in bars]
        axes.barh(rows, [side.ms if side else 0.0 for side in sides], 0.9 * thick, color=COLORS[place], label=name)
        for row, side in zip(rows, sides, strict=True):
            end = (side.ms if side else 0.0) + 0.015 * widest
            axes.text(end, row, _said(side), va="center", fontsize=10, color=INK if side else MUTED)
    axes.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=11)
    axes.set_ylim(len(bars) - 0.45, -0.55)
    axes.set_xlim(0, widest * 1.24)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("time in one call")
