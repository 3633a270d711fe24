"""Bars, a row each: widths of layers, change by class, time by operator and layer, errors of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evaluate.core.record_parts import ClassDrop, Width
from evaluate.core.text import clean, finite, signed
from evaluate.profiling.costs import Amount, amount_of, families, groups, time_text
from evaluate.report.charts.svg import ACCENT, BASE, GAINED, INK, LOST, MUTED, Picture, draw, rows_axis
from evaluate.report.messages.law_view import Candidate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_WIDTHS, MOST_CLASSES, MOST_KINDS, MOST_LAYERS = 80, 30, 9, 20
COLORS = (BASE, ACCENT, GAINED, LOST)  # of the models of a profile
# Kinds and layers that take less of every model's call are left to the sentence under the picture.
LEAST = 0.003
ROW = 24  # a candidate's height

Profile = Mapping[str, Any]
Times = list[tuple[str, list["Amount | None"]]]


def widths_picture(before: Sequence[Width], after: Sequence[Width], *, key: str) -> Picture | None:
    """Channels per layer: the compressed model's bars over the baseline's outlines. None where no width changed."""
    old, new = ({str(w.layer): w.channels for w in side if w.channels is not None} for side in (before, after))
    layers = list(dict.fromkeys([*old, *new]))
    changed = [name for name in layers if old.get(name) != new.get(name)]
    if not changed:
        return None
    shown = layers if len(layers) <= MOST_WIDTHS else changed[:MOST_WIDTHS]
    sides = [(old.get(name, 0), new.get(name, 0)) for name in shown]
    widest = max(1, *(width for side in sides for width in side))

    def paint(figure: Figure) -> None:
        axes, rows = figure.add_subplot(), range(len(shown))
        axes.barh(rows, [b for _, b in sides], height=0.62, color=ACCENT)
        axes.barh(rows, [a for a, _ in sides], height=0.82, facecolor="none", edgecolor=BASE, linewidth=1)
        for row, name in enumerate(shown):
            a, b = old.get(name, "-"), new.get(name, "-")
            at, color = max(sides[row]) + 0.015 * widest, MUTED if a == b else INK
            axes.text(at, row, f"{a}" if a == b else f"{a} → {b}", va="center", color=color, fontsize=11)
        rows_axis(axes, [clean(name, 24) for name in shown])
        axes.set_xlim(0, widest * 1.24)
        axes.set_xlabel("channels (outline: baseline)")

    text = "; ".join(f"{clean(name, 40)}: {a} to {b}" for name, (a, b) in zip(shown, sides))
    title = "Channels per layer" + ("" if shown is layers else f" ({len(shown)} of {len(changed)} layers that changed)")
    return draw(paint, height=64 + 18 * len(shown), title=title, text=text, key=key)


def classes_picture(changes: Sequence[ClassDrop], *, key: str) -> Picture | None:
    """The change of each class in points, sorted, worst first. None where there are no classes."""
    known = sorted((-e.drop, clean(e.label, 22)) for e in changes if e.drop is not None)
    if not known:
        return None
    shown = known if len(known) <= MOST_CLASSES else [*known[: MOST_CLASSES - 10], *known[-10:]]
    mean = sum(move for move, _ in known) / len(known)
    moves, names = zip(*shown)
    reach = max([*map(abs, moves), abs(mean), 0.1])

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.barh(range(len(moves)), moves, height=0.68, color=[LOST if m < 0 else GAINED for m in moves])
        for row, move in enumerate(moves):
            side, ha = (-1, "right") if move < 0 else (1, "left")
            axes.text(move + side * 0.03 * reach, row, signed(move, 1), va="center", ha=ha, fontsize=11)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.plot(mean, -0.6, "v", color=INK, markersize=7, markeredgewidth=0, clip_on=False)
        axes.set_xlim(min(0.0, *moves) - 0.28 * reach, max(0.0, *moves) + 0.28 * reach)
        rows_axis(axes, names)
        axes.set_xlabel("change in points (triangle: average class)")

    text = f"average {signed(mean, 1)} points; " + "; ".join(f"{n}: {signed(m, 1)}" for n, m in zip(names, moves))
    parts = f" (the {MOST_CLASSES - 10} that lost most and the 10 that gained most of {len(known)})"
    title = "Change per class" + ("" if shown is known else parts)
    return draw(paint, height=70 + 19 * len(shown), title=title, text=text, key=key)


def candidates_picture(candidates: Sequence[Candidate], *, key: str = "law-candidates") -> Picture | None:
    """The hold-out error of each form as a bar, best first, the chosen one marked; None with fewer than two."""
    known = sorted((c for c in candidates if finite(c.error)), key=lambda c: c.error)
    if len(known) < 2:
        return None
    best, worst = known[0].error, known[-1].error
    top = min(worst, 12 * best) if best > 0 else worst  # one that runs away must not flatten the others

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, c in enumerate(known):
            style: Any = {"color": ACCENT, "alpha": 1.0} if c.chosen else {"color": BASE, "alpha": 0.55}
            axes.barh(row, min(c.error, top), height=0.66, **style)
            told = f"{100 * c.error:.3g} %{' →' if c.error > top else ''}"
            axes.text(min(c.error, top) + 0.015 * top, row, told, va="center", color=INK, fontsize=11)
        names = [f"{clean(c.law, 40)} (chosen)" if c.chosen else clean(c.law, 40) for c in known]
        rows_axis(axes, [clean(name, 26) for name in names])
        axes.set_xlim(0, 1.25 * top or 1.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
        axes.set_xlabel("error on held-out points, log %")

    caption = (
        "How far each form, fitted to the smaller points, was off on the larger ones that it had not seen. "
        "This chooses; AIC and BIC do not."
    )
    if failed := [clean(c.law, 40) for c in candidates if not finite(c.error)]:
        caption += f" Not fitted: {', '.join(failed)}."
    text = "; ".join(f"{clean(c.law, 40)} {100 * c.error:.3g} %{' (chosen)' if c.chosen else ''}" for c in known)
    title, height = "Candidates on held-out points", 64 + ROW * len(known)
    return draw(paint, height=height, title=title, text=text, caption=caption, key=key)


def operators_picture(profiles: Sequence[Profile], *, key: str) -> Picture | None:
    """Time of one call by kind of operator, a bar for each model, what lies outside kernels below them.

    profiles : dicts of `profiling.profile.profiles`, the baseline first; at most four are drawn. None without any.
    """
    shown = profiles[: len(COLORS)]
    if not shown:
        return None
    shorter = {"copies to and from the GPU": "GPU copies"}
    bars: Times = [
        (shorter.get(name, name), [amount_of(nodes) if nodes else None for nodes in sides])
        for name, sides in families(shown).items()
    ]
    outside: Times = [("outside kernels", [Amount(p["outside_ms"], 0.0, 0.0) for p in shown])]
    return _times([*_large(bars, shown)[:MOST_KINDS], *outside], shown, key, "Time by operator")


def layers_picture(profiles: Sequence[Profile], *, key: str) -> Picture | None:
    """Time of one call by layer in running order, the longest ones; None where no layer takes any time."""
    shown = profiles[: len(COLORS)]
    found = groups(shown)
    longest = sorted(found, key=lambda group: -_most(group.amounts))[:MOST_LAYERS]
    bars: Times = [(clean(group.name, 24), list(group.amounts)) for group in found if group in longest]
    bars = _large(bars, shown) if bars else []
    cut = f" (the {len(bars)} longest of {len(found)})" if len(bars) < len(found) else ""
    return _times(bars, shown, key, f"Time by layer{cut}") if bars else None


def _most(amounts: Sequence[Amount | None]) -> float:
    return max((amount.ms for amount in amounts if amount), default=0.0)


def _large(bars: Times, profiles: Sequence[Profile]) -> Times:
    least = LEAST * max(p["call_ms"] for p in profiles)
    return [bar for bar in bars if _most(bar[1]) >= least and _most(bar[1]) > 0]


def _times(bars: Times, profiles: Sequence[Profile], key: str, title: str) -> Picture:
    """A group of bars for each (label, a time for each model)."""
    names = [clean(profile["name"], 20) for profile in profiles]
    widest = max([_most(amounts) for _, amounts in bars], default=0.0) or 1.0
    thick = 0.84 / len(names)
    beside = sum(len(name) + 5 for name in names) <= 42  # the names of the legend
    legend = 0 if len(names) < 2 else 1 if beside else len(names)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, name in enumerate(names):
            rows = [row - 0.42 + thick * (place + 0.5) for row in range(len(bars))]
            sides = [amounts[place] for _, amounts in bars]
            axes.barh(rows, [side.ms if side else 0.0 for side in sides], 0.9 * thick, color=COLORS[place], label=name)
            for row, side in zip(rows, sides, strict=True):
                end = (side.ms if side else 0.0) + 0.015 * widest
                axes.text(end, row, _said(side), va="center", fontsize=10, color=INK if side else MUTED)
        rows_axis(axes, [label for label, _ in bars], room=0.55)
        axes.set_xlim(0, widest * 1.24)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(True)  # where the bars begin, since there is no line of zero
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel("time in one call")
        if legend:
            columns = len(names) if beside else 1
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.2)

    text = "; ".join(f"{label}: {', '.join(map(_said, amounts))}" for label, amounts in bars)
    height = 60 + 17 * legend + len(bars) * (9 + 13 * len(profiles))
    return draw(paint, height=height, title=title, text=f"{', '.join(names)}: {text}", key=key)


def _said(amount: Amount | None) -> str:
    return time_text(amount.ms) if amount else "none"
