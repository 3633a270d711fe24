"""Sentences on what a profile spends beside its layers: conversions, layouts, copies, and outside any kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.text import a_few, clean, duration
from evaluate.profiling.node_names import COPIES, LAYOUT, QUANTIZING, is_integer, kind
from evaluate.profiling.operator_groups import TICK_MS, Amount, Z, amount_of, time_text

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
