"""Two or more profiles side by side: layers that compute the same, operators of one kind, and what is resolved.

One runtime fuses an addition into the convolution before it and another does not, so layers are compared in the
smallest groups that cover the same part of the network in every profile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from evaluate.core.text import duration
from evaluate.profiling.node_names import COPIES, LAYOUT, QUANTIZING, kind

Profile = Mapping[str, Any]
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
