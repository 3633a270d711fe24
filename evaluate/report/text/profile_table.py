"""Profiles as a text table: operators and layers of all models side by side, then what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.text import clean, duration
from evaluate.profiling.operator_groups import Amount, amount_of, families, groups, time_text
from evaluate.report.messages.profile_messages import explain, remarks
from evaluate.report.text.text_columns import aligned, columns_of, fits, speakable, widths_of, wrapped

Profile = Mapping[str, Any]
Rows = list[list[str]]
MOST_OPERATORS, MOST_LAYERS = 14, 12
CELL = 14  # letters of a time with its share


def profile_table(profiles: Sequence[Profile], width: int | None = None, color: bool = False) -> str:
    """Where the time goes in each of these models, in at most `width` columns; then sentences against the first one.

    profiles : dicts of `evaluate.profiling.profile.profiles`, the baseline first; "" without any.
    width    : columns to use; None takes the terminal's, at most 100.
    """
    return speakable(profile_text(profiles, width, color))


def profile_text(profiles: Sequence[Profile], width: int | None = None, color: bool = False) -> str:
    """The same with all letters of all names, whatever the terminal can show: for a page."""
    if not profiles:
        return ""
    columns = columns_of(width)
    lines = [
        *_titled("operator", _operator_rows(profiles, _label(columns)), profiles, columns, color),
        "",
        *_titled("layer", _layer_rows(profiles, _label(columns)), profiles, columns, color),
        "",
        *wrapped(_note(profiles), columns, "", "  "),
        *_sentences(profiles, columns),
    ]
    return "\n".join(lines)


def _label(width: int) -> int:
    """The most letters of a row's name: so that two models stand beside it, where that leaves enough."""
    return max(12, min(44, width - 2 * (CELL + 2)))


def _titled(title: str, rows: Rows, profiles: Sequence[Profile], width: int, color: bool) -> list[str]:
    """The table; its models in several blocks, the baseline in each, where they do not fit beside each other."""
    head = [title, *(clean(profile["name"], CELL if width < 80 else 24) for profile in profiles)]
    shown = 1
    while shown < len(profiles) and fits(
        widths_of([[*line[:2], *line[2 : 2 + shown]] for line in [head, *rows]]), width
    ):
        shown += 1
    lines: list[str] = []
    for start in range(2, max(3, len(head)), max(1, shown - 1)):
        block = [[*line[:2], *line[start : start + max(1, shown - 1)]] for line in [head, *rows]]
        lines += [*([""] if lines else []), *aligned(block[0], block[1:], width, color)]
    return lines


def _operator_rows(profiles: Sequence[Profile], label: int) -> Rows:
    """One row for each kind of operator, the largest first, then what all kernels and the rest of the call take."""
    found = families(profiles)
    shown = list(found.items())[:MOST_OPERATORS]
    rows = [[_operators(name, sides, label), *_cells(sides, profiles)] for name, sides in shown]
    rest = list(found.values())[MOST_OPERATORS:]
    if rest:
        sides = [[node for family in rest for node in family[place]] for place in range(len(profiles))]
        rows.append([f"{len(rest)} more kinds", *_cells(sides, profiles)])
    return [
        *rows,
        ["outside kernels", *(f"{time_text(p['outside_ms']):>7}" for p in profiles)],
        ["one call", *(f"{duration(p['call_ms']):>7}" for p in profiles)],
    ]


def _operators(name: str, sides: Sequence[Sequence[Mapping[str, Any]]], label: int) -> str:
    """`Conv, QLinearConv`: the types of operators that are in it, or what they are called together."""
    types = ", ".join(dict.fromkeys(str(node["op"]) for nodes in sides for node in nodes))
    return clean(types if len(types) <= label else name, label)


def _cells(sides: Sequence[Sequence[Mapping[str, Any]]], profiles: Sequence[Profile]) -> list[str]:
    return [_cell(amount_of(nodes) if nodes else None, p) for nodes, p in zip(sides, profiles)]


def _cell(amount: Amount | None, profile: Profile) -> str:
    """`412 us  87 %`: time, and share of the kernels' time."""
    if amount is None:
        return f"{'-':>7}"
    share = 100 * amount.ms / profile["kernels_ms"] if profile["kernels_ms"] > 0 else 0.0
    return f"{time_text(amount.ms):>7} {share:3.0f} %"


def _layer_rows(profiles: Sequence[Profile], label: int) -> Rows:
    """The layers that take most time in any model, longest first."""
    found = groups(profiles)
    longest = sorted(found, key=lambda group: -max(amount.ms for amount in group.amounts if amount))
    shown = longest[:MOST_LAYERS]
    rows = [[clean(g.name, label), *(_cell(a, p) for a, p in zip(g.amounts, profiles))] for g in shown]
    rest = longest[MOST_LAYERS:]
    if rest:
        sides = [[layer for group in rest for layer in group.layers[place]] for place in range(len(profiles))]
        rows.append([f"{len(rest)} more", *_cells(sides, profiles)])
    return rows


def _sentences(profiles: Sequence[Profile], width: int) -> list[str]:
    """What it means: each model against the first."""
    base = profiles[0]
    told = [(f"{clean(p['name'], 40)} against {clean(base['name'], 40)}", explain(base, p)) for p in profiles[1:]]
    lines: list[str] = []
    for title, texts in told or [("", remarks(base))]:
        if texts:
            lines += ["", *wrapped(title, width), *(x for text in texts for x in wrapped(text, width, "- "))]
    return lines


def _note(profiles: Sequence[Profile]) -> str:
    """Under which conditions, and how exact."""
    first = profiles[0]
    calls = min(p["calls"] for p in profiles)
    cost = max(p["event_ms"] for p in profiles)
    taken = f"; up to {time_text(cost)} a kernel, the profiler's own, are taken off" if cost > 0 else ""
    return (
        f"{first['provider']}, threads {first['threads']}, batch {first['batch']}; mean of the middle half of at least "
        f"{calls} calls; a kernel is known to about 0.5 us{taken}"
    )
