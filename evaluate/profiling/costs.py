"""Sentences on what a profile spends beside its layers: conversions, layouts, copies, and outside any kernel.

Two or more profiles side by side: layers that compute the same, operators of one kind, and what is resolved.

One runtime fuses an addition into the convolution before it and another does not, so layers are compared in the
smallest groups that cover the same part of the network in every profile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from evaluate.core.text import a_few, clean, duration
from evaluate.profiling.node_names import COPIES, LAYOUT, QUANTIZING, is_integer, kind

# A claim about one layer of fifty, at 95 % together (Bonferroni).
Z = 3.3
# What a clock of whole microseconds and the uneven cost of the profiler leave open for each kernel.
TICK_MS = 0.0005
# Two sessions of one file differ by so much for as long as they are open; and on another occasion by so much.
_SESSIONS, _OCCASIONS = 0.05, 0.25
_FAMILIES = {
    "Conv": "convolutions",
    "ConvTranspose": "convolutions",
    "Gemm": "matrix products",
    "MatMul": "matrix products",
    **dict.fromkeys(QUANTIZING, "quantize, dequantize"),
    **dict.fromkeys(COPIES, "copies to and from the GPU"),
    **dict.fromkeys(LAYOUT, "layout changes"),
}


class Amount(NamedTuple):
    """Milliseconds of one call with their standard error, spent in so many kernels."""

    ms: float
    error_ms: float
    kernels: float


class Group(NamedTuple):
    """The same part of the network in several profiles.

    name    : its layer with weights, else its first one.
    amounts : one for each profile, None where a profile lacks it.
    layers  : the entries of each profile that are in it.
    """

    name: str
    amounts: tuple[Amount | None, ...]
    layers: tuple[tuple[Mapping[str, Any], ...], ...]


def amount_of(entries: Iterable[Mapping[str, Any]]) -> Amount:
    """The sum of nodes, operators or layers. Their errors add up: what disturbs a call disturbs all of it."""
    listed = list(entries)
    return Amount(*(float(sum(entry[key] for entry in listed)) for key in ("ms", "error_ms", "count")))


def time_text(milliseconds: float) -> str:
    """A kernel's time, with no more digits than a clock of whole microseconds carries: `0.4 us`, `12 us`, `1.48 ms`."""
    if milliseconds < 0.00995:
        return f"{1e3 * milliseconds:.1f} us"
    return f"{1e3 * milliseconds:.0f} us" if milliseconds < 0.0995 else duration(milliseconds)


def interleaved(profiles: Sequence[Profile]) -> bool:
    """Whether these profiles come from one run, in which they took turns."""
    return len({profile.get("run") or id(profile) for profile in profiles}) == 1


def resolved(one: Amount, other: Amount, together: bool) -> bool:
    """Whether two times differ by more than their errors, the runtime's clock and the place in memory explain."""
    noise = Z * math.hypot(one.error_ms, other.error_ms) + TICK_MS * (one.kernels + other.kernels)
    return abs(one.ms - other.ms) > noise + (_SESSIONS if together else _OCCASIONS) * max(one.ms, other.ms)


def family(node: Mapping[str, Any]) -> str:
    """The kind of work a node does, under the name that is shown. A Transpose of the model is its own kind."""
    op = str(node["op"])
    return op if op in (*LAYOUT, "Cast") and not node.get("helper") else _FAMILIES.get(kind(op), kind(op))


def families(profiles: Sequence[Profile]) -> dict[str, list[list[Mapping[str, Any]]]]:
    """Family -> the nodes of it in each profile; the families that take most time in any profile first."""
    found: dict[str, list[list[Mapping[str, Any]]]] = {}
    for place, profile in enumerate(profiles):
        for node in profile["nodes"]:
            found.setdefault(family(node), [[] for _ in profiles])[place].append(node)
    most = {name: max(amount_of(nodes).ms for nodes in sides) for name, sides in found.items()}
    return dict(sorted(found.items(), key=lambda item: -most[item[0]]))


def groups(profiles: Sequence[Profile]) -> list[Group]:
    """The layers of all profiles in comparable groups, in the running order of the first; [] without profiles."""
    owner: dict[str, int] = {}
    members: dict[int, list[tuple[int, Mapping[str, Any]]]] = {}
    for place, profile in enumerate(profiles):
        for layer in profile["layers"]:
            keys = [*layer["parts"]] or [f"the runtime's {layer['layer']}"]
            joined = sorted({owner[key] for key in keys if key in owner}) or [len(members)]
            first = joined[0]
            for later in joined[1:]:
                members[first] = members.get(first, []) + members.get(later, [])
                members[later] = []
            owner.update({key: first for key, at in owner.items() if at in joined})
            owner.update(dict.fromkeys(keys, first))
            members.setdefault(first, []).append((place, layer))
    return [_group(listed, len(profiles)) for listed in members.values() if listed]


def _group(listed: Sequence[tuple[int, Mapping[str, Any]]], count: int) -> Group:
    sides = tuple(tuple(layer for at, layer in listed if at == place) for place in range(count))
    weighted = [layer["layer"] for _, layer in listed if layer.get("weights")]
    name = weighted[0] if weighted else listed[0][1]["layer"]
    return Group(str(name), tuple(amount_of(side) if side else None for side in sides), sides)


Profile = Mapping[str, Any]
Nodes = Sequence[Mapping[str, Any]]
MOST_NAMED = 5
WORTH_SAYING = 0.02  # of a call
MUCH_OUTSIDE = 0.2


def name_of(profile: Profile) -> str:
    """The model's name, as it is printed."""
    return clean(profile["name"], 40)


def quantizers(profile: Profile) -> Nodes:
    """The nodes that convert between float and integers, where they take enough to speak of; else none."""
    nodes = _helpers(profile, QUANTIZING)
    return nodes if _worth(amount_of(nodes), profile) else []


def quantizing_text(profile: Profile, nodes: Nodes) -> str:
    """`QuantizeLinear and DequantizeLinear around Add take 31 % (140 us) of int8's kernel time`."""
    share, types = _share(amount_of(nodes), profile), _types(nodes)
    return f"{types}{_around(profile, nodes)} {_verb(types, 'take')} {share} of {name_of(profile)}'s kernel time"


def stayed_float_text(profile: Profile) -> list[str]:
    """What still runs in float beside layers that run on integers; [] where none of those does."""
    if not has_integer_layers(profile):
        return []
    rest = [n for n in profile["nodes"] if not n["helper"] and not is_integer(n["op"], n["dtype"])]
    layers = sorted(filter(_weighted, rest), key=lambda n: -n["ms"])
    others = [n for n in rest if not _weighted(n)]
    told = []
    if _worth(amount_of(layers), profile):
        names = a_few(list(dict.fromkeys(clean(n["layer"], 40) for n in layers)))
        stay = "1 layer stays" if len(layers) == 1 else f"{len(layers)} layers stay"
        told.append(f"{stay} in float in {name_of(profile)}, {_share(amount_of(layers), profile)}: {names}.")
    if _worth(amount_of(others), profile):
        ops = _joined(_main_types(others)[:MOST_NAMED])
        share = _share(amount_of(others), profile)
        told.append(f"{ops} {_verb(ops, 'run')} in float in {name_of(profile)}: {share}.")
    return told


def has_integer_layers(profile: Profile) -> bool:
    """Whether any layer with weights runs on integers."""
    return any(_weighted(n) and is_integer(n["op"], n["dtype"]) for n in profile["nodes"])


def layout_text(profiles: Sequence[Profile]) -> list[str]:
    """What reordering data for blocked or channels-last kernels takes; [] where it is little in all of these."""
    sides = [_helpers(profile, LAYOUT) for profile in profiles]
    spent = [amount_of(nodes) for nodes in sides]
    worth = [place for place, profile in enumerate(profiles) if _worth(spent[place], profile)]
    if not worth:
        return []
    most = max(worth, key=lambda place: spent[place].ms)
    each = [
        f"{_share(amount, profile) if amount.kernels else 'nothing'} in {name_of(profile)}"
        for amount, profile in zip(spent, profiles)
    ]
    return [f"Layout changes ({_types(sides[most])}){_around(profiles[most], sides[most])} take {_joined(each)}."]


def copies_text(profile: Profile) -> list[str]:
    """What copies between a GPU and the CPU take, and for the sake of which operators."""
    nodes = _helpers(profile, COPIES)
    spent = amount_of(nodes)
    if not _worth(spent, profile):
        return []
    host = [n for n in profile["nodes"] if n["provider"] == "cpu" and not n["helper"]]
    why = f", because {_types(host)} {_verb(_types(host), 'run')} on the CPU" if host else ""
    copies = f"{round(spent.kernels)} copies between GPU and CPU ({_types(nodes)})"
    return [f"{copies} take {_share(spent, profile)} of {name_of(profile)}'s kernel time{why}."]


def outside_text(profile: Profile) -> list[str]:
    """The part of a call that no kernel can make shorter, where it is much of it."""
    call, outside = profile["call_ms"], profile["outside_ms"]
    noise = Z * (profile["call_error_ms"] + amount_of(profile["nodes"]).error_ms)
    if outside <= noise or outside < MUCH_OUTSIDE * call:
        return []
    share = f"{time_text(outside)} ({100 * outside / call:.0f} %)"
    return [
        f"At {duration(call)} a call, {share} are outside any kernel in {name_of(profile)}: smaller layers cannot help "
        "there."
    ]


def _worth(amount: Amount, profile: Profile) -> bool:
    """Whether a time is more than its error and the clock's resolution, and not a trifle."""
    certain = amount.ms > Z * amount.error_ms + TICK_MS * amount.kernels
    return certain and amount.ms >= WORTH_SAYING * profile["kernels_ms"]


def _share(amount: Amount, profile: Profile) -> str:
    whole = profile["kernels_ms"]  # 0 where all kernels are shorter than what the profiler takes
    return f"{100 * amount.ms / whole if whole > 0 else 0:.0f} % ({time_text(amount.ms)})"


def _helpers(profile: Profile, ops: Sequence[str]) -> Nodes:
    return [node for node in profile["nodes"] if node["op"] in ops and node["helper"]]


def _weighted(node: Mapping[str, Any]) -> bool:
    """Whether a node is a convolution or a matrix product."""
    return kind(node["op"]) in ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _verb(subjects: str, verb: str) -> str:
    return verb if " and " in subjects else f"{verb}s"


def _types(nodes: Nodes) -> str:
    return _joined(list(dict.fromkeys(str(node["op"]) for node in nodes))[:MOST_NAMED])


def _main_types(nodes: Nodes) -> list[str]:
    """The types that take at least a tenth of these nodes' time, the costliest first."""
    spent: dict[str, float] = {}
    for node in nodes:
        spent[str(node["op"])] = spent.get(str(node["op"]), 0.0) + node["ms"]
    return sorted((op for op in spent if spent[op] >= 0.1 * sum(spent.values())), key=lambda op: -spent[op])


def _around(profile: Profile, helpers: Nodes) -> str:
    """` around Add and Pad`: the operators that helpers work for, the costliest first."""
    spent: dict[str, float] = {}
    ops = {node["layer"]: kind(node["op"]) for node in reversed(profile["nodes"]) if not node["helper"]}
    for node in helpers:
        if node["layer"] in ops:
            spent[ops[node["layer"]]] = spent.get(ops[node["layer"]], 0.0) + node["ms"]
    words = sorted(spent, key=lambda op: -spent[op])[:3]
    return f" around {_joined(words)}" if words else ""
