"""Profiles as text: what two of them mean, in sentences that their spread carries, and all of them side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.text import a_few, clean, duration, ratio
from evaluate.profiling import costs
from evaluate.profiling.costs import (
    TICK_MS,
    Amount,
    Group,
    amount_of,
    families,
    groups,
    interleaved,
    resolved,
    time_text,
)
from evaluate.report.text.text_columns import aligned, columns_of, fits, speakable, widths_of, wrapped

Profile = Mapping[str, Any]
Pair = tuple[Group, Amount, Amount]
MOST_KINDS = 5
# From here on a layer that is not resolved to be faster is said to gain nothing.
NO_GAIN = 0.9
_OTHERS_SENTENCE = ("quantize", "layout", "copies")


def explain(base: Profile, other: Profile) -> list[str]:
    """Sentences on what changed from one profile to the other and why, by `evaluate.profiling.profile.profiles`.

    Differences and shares that the errors over rounds, the clock's resolution and the place in memory do not carry are
    left out; so profiles that did not take turns in one run need larger ones. Only the first sentence speaks of the
    whole call; its verdict is the benchmark's to give. Profiles of different conditions are not compared.
    """
    apart = [key for key in ("provider", "threads", "batch") if base[key] != other[key]]
    if apart:
        sides = (", ".join(f"{key} {side[key]}" for key in apart) for side in (base, other))
        names = f"{costs.name_of(base)} and {costs.name_of(other)}"
        return [f"{names} ran under different conditions: {' against '.join(sides)}."]
    together = interleaved([base, other])
    if base["warnings"] or other["warnings"]:  # times of launching say nothing about layers
        return [_total(base, other, together), *costs.copies_text(other), *_warned(base, other)]
    found = groups([base, other])
    pairs = [(g, g.amounts[0], g.amounts[1]) for g in found if g.amounts[0] is not None and g.amounts[1] is not None]
    return [
        _total(base, other, together),
        *_gains(base, other, together),
        *_quantizing(base, other, pairs, together),
        *_slower(base, other, pairs, together),
        *_pruned(base, pairs, together),
        *([] if costs.has_integer_layers(base) else costs.stayed_float_text(other)),
        *costs.layout_text([base, other]),
        *costs.copies_text(other),
        *costs.outside_text(other),
    ]


def remarks(profile: Profile) -> list[str]:
    """Sentences on one profile alone: copies, layouts, what lies outside kernels, and what could not be measured."""
    if profile["warnings"]:
        return [*costs.copies_text(profile), *_warned(profile)]
    return [*costs.layout_text([profile]), *costs.copies_text(profile), *costs.outside_text(profile)]


def _warned(*profiles: Profile) -> list[str]:
    texts = dict.fromkeys(text for profile in profiles for text in profile["warnings"])
    return [f"{text[:1].upper()}{text[1:]}." for text in texts]


def _total(base: Profile, other: Profile, together: bool) -> str:
    one, two = (Amount(p["call_ms"], p["call_error_ms"], 0.0) for p in (base, other))
    times = f"{duration(one.ms)} in {costs.name_of(base)} and {duration(two.ms)} in {costs.name_of(other)}"
    if resolved(one, two, together):
        return f"One call takes {times}: {ratio(two.ms / one.ms)} the time."
    return f"One call takes {times}: a difference that this profile does not resolve."


def _gains(base: Profile, other: Profile, together: bool) -> list[str]:
    """Kinds of operators that got faster or slower, those with the largest change first."""
    found: list[tuple[float, str]] = []
    for name, (before, after) in families([base, other]).items():
        one, two = amount_of(before), amount_of(after)
        large = abs(two.ms - one.ms) >= costs.WORTH_SAYING * base["call_ms"]
        if large and resolved(one, two, together) and not name.startswith(_OTHERS_SENTENCE):
            found.append((abs(two.ms - one.ms), f"{name[:1].upper()}{name[1:]}: {_change(one, two)}."))
    return [text for _, text in sorted(found, key=lambda item: -item[0])][:MOST_KINDS]


def _change(before: Amount, after: Amount) -> str:
    """`1.26 ms -> 0.71 ms, 0.56x the time`; without the ratio where one of them is too short for it."""
    if not before.kernels or not after.kernels:
        return " -> ".join(time_text(side.ms) if side.kernels else "none" for side in (before, after))
    coarse = any(side.ms < 4 * TICK_MS * side.kernels for side in (before, after))
    share = "" if coarse else f", {ratio(after.ms / before.ms)} the time"
    return f"{time_text(before.ms)} -> {time_text(after.ms)}{share}"


def _quantizing(base: Profile, other: Profile, pairs: Sequence[Pair], together: bool) -> list[str]:
    """What converting to and from integers takes, and the layers that gain nothing by it."""
    nodes = costs.quantizers(other)
    if not nodes:
        return []
    served = {node["layer"] for node in nodes}
    slow = [pair for pair in pairs if _gains_nothing(pair, together)]
    idle = [pair for pair in slow if served & {str(layer["layer"]) for layer in pair[0].layers[1]}]
    text = costs.quantizing_text(other, nodes)
    if not idle:
        return [f"{text}."]
    names = a_few([clean(group.name, 40) for group, _, _ in sorted(idle, key=lambda pair: -pair[2].ms)])
    those = "this layer" if len(idle) == 1 else f"these {len(idle)} layers"
    return [f"{text}: {costs.name_of(other)} gains nothing over {costs.name_of(base)} in {those}: {names}."]


def _gains_nothing(pair: Pair, together: bool) -> bool:
    """Whether the second takes about as long as the first, or longer: not only that a gain is not resolved."""
    _, one, two = pair
    return two.ms > NO_GAIN * one.ms and not (two.ms < one.ms and resolved(one, two, together))


def _slower(base: Profile, other: Profile, pairs: Sequence[Pair], together: bool) -> list[str]:
    """Layers that lost, the largest loss first."""
    lost = [(g, one, two) for g, one, two in pairs if two.ms > one.ms and resolved(one, two, together)]
    if not lost:
        return []
    lost.sort(key=lambda pair: pair[1].ms - pair[2].ms)
    told = a_few([f"{clean(group.name, 40)} {_change(one, two)}" for group, one, two in lost], between="; ")
    are = "1 layer is" if len(lost) == 1 else f"{len(lost)} layers are"
    return [f"{are} slower in {costs.name_of(other)} than in {costs.name_of(base)}: {told}."]


def _pruned(base: Profile, pairs: Sequence[Pair], together: bool) -> list[str]:
    """Layers that lost weights and gained no time."""
    told = []
    for pair in pairs:
        group, one, two = pair
        before, after = _weights(group, 0), _weights(group, 1)
        smaller = before and after and math.prod(after) < math.prod(before)
        if smaller and one.ms >= costs.WORTH_SAYING * base["kernels_ms"] and _gains_nothing(pair, together):
            shapes = " -> ".join("x".join(map(str, shape)) for shape in (before, after))
            told.append(f"{clean(group.name, 40)} ({shapes}) {time_text(one.ms)} -> {time_text(two.ms)}")
    if not told:
        return []
    count = "1 layer" if len(told) == 1 else f"{len(told)} layers"
    return [f"{count} lost weights and gained no time: {a_few(told, between='; ')}."]


def _weights(group: Group, side: int) -> list[int]:
    """The shape of the first layer with weights on one side; [] without."""
    return next((list(layer["weights"]) for layer in group.layers[side] if layer.get("weights")), [])


# The table.


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
