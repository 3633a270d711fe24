"""From times per call and kernel to what a profile says: corrected for the profiler, by operator and by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.profiling.node_names import Names, Place
from evaluate.profiling.trace import Trace, TraceNode

Floats = NDArray[np.float64]
# Of a normal distribution: interquartile range over standard deviation, and error of a median over that of a mean.
_IQR, _MEDIAN = 1.349, 1.2533


class Timed(NamedTuple):
    """Milliseconds. plain, profiled (rounds, n): whole calls; ms (rounds, n, nodes): the trace's kernels in them."""

    plain: Floats
    profiled: Floats
    trace: Trace
    ms: Floats


class Cost(NamedTuple):
    """event_ms: what the profiler adds to one kernel's time; idle_ms: what a call costs before any kernel runs."""

    event_ms: float
    idle_ms: float


def midmean(values: ArrayLike, axis: int = 0) -> Floats:
    """The mean of the middle half: as robust as a median, and finer than the clock where values are whole ticks."""
    ordered: Floats = np.sort(np.asarray(values, dtype=np.float64), axis=axis)
    n = ordered.shape[axis]
    kept = np.take(ordered, range(n // 4, n - n // 4), axis=axis)
    return np.asarray(kept.mean(axis=axis), dtype=np.float64)


def event_cost(chain: Timed, single: Timed, length: int) -> Cost:
    """The profiler's cost, from a chain of `length` operators that do next to nothing and from one of them alone.

    What one of them really takes is the slope between the two, timed without the profiler. Zero where the runtime
    dropped some of the chain.
    """
    if len(chain.trace.nodes) != length or len(single.trace.nodes) != 1:
        return Cost(0.0, 0.0)
    alone = float(np.median(single.plain))
    slope = max(0.0, (float(np.median(chain.plain)) - alone) / (length - 1))
    seen = float(midmean(chain.ms.reshape(-1, length)).mean())
    return Cost(max(0.0, seen - slope), max(0.0, alone - slope))


def summed(timed: Timed, cost: Cost, names: Names) -> dict[str, Any]:
    """The figures of one model's profile; see `evaluate.profiling.profile.profiles`."""
    call, profiled = float(np.median(timed.plain)), float(np.median(timed.profiled))
    rounds, calls, count = timed.ms.shape
    flat = timed.ms.reshape(rounds * calls, count)
    events = np.array([node.events for node in timed.trace.nodes], dtype=np.float64)
    seen = midmean(flat)
    event = _event_ms(seen, events, cost, call)
    ms = np.maximum(0.0, seen - event * events)
    nodes = _nodes(timed.trace.nodes, names, ms, _iqr(flat), _error(midmean(timed.ms, axis=1)))
    total = float(sum(node["ms"] for node in nodes))
    return {
        "calls": rounds * calls,
        "rounds": rounds,
        "call_ms": call,
        "call_error_ms": float(_error(np.median(timed.plain, axis=1)[:, None])[0]),
        "profiled_ms": profiled,
        "overhead": profiled / call if call > 0 else 1.0,
        "event_ms": event,
        "kernels_ms": total,
        "outside_ms": max(0.0, call - total),
        "operators": _operators(nodes, total),
        "nodes": [{key: value for key, value in node.items() if key != "place"} for node in nodes],
        "layers": _layers(nodes, total),
        "warnings": _warnings(timed.trace),
    }


def _event_ms(seen: Floats, events: Floats, cost: Cost, call: float) -> float:
    """The profiler's share in one kernel's time, for this model.

    The chain's is the least: its names are short and its data stay in the caches. Where kernels then add up to more
    than the call had room for, the rest is the profiler's as well.
    """
    room = max(0.0, call - cost.idle_ms)
    low, high = cost.event_ms, max(cost.event_ms, float(np.max(seen / np.maximum(events, 1e-9), initial=0.0)))
    if cost.event_ms <= 0 or _left(seen, events, low) <= room:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _left(seen, events, middle) > room else (low, middle)
    return high


def _left(seen: Floats, events: Floats, event: float) -> float:
    return float(np.maximum(0.0, seen - event * events).sum())


def _iqr(values: Floats) -> Floats:
    low, high = np.percentile(values, (25, 75), axis=0)
    return np.asarray(high - low, dtype=np.float64)


def _error(by_round: Floats) -> Floats:
    """Standard error of the median over rounds (rounds, n) -> (n,): rounds differ by more than calls inside them do."""
    return np.asarray(_MEDIAN / _IQR * _iqr(by_round) / np.sqrt(len(by_round)), dtype=np.float64)


def _nodes(nodes: Sequence[TraceNode], names: Names, ms: Floats, spread: Floats, error: Floats) -> list[dict[str, Any]]:
    total = float(ms.sum()) or 1.0
    found = []
    for position, node in enumerate(nodes):
        place = names.place(node.name, node.op)
        found.append(
            {
                "node": node.name,
                "op": node.op,
                "layer": place.layer,
                "ms": float(ms[position]),
                "share": float(ms[position]) / total,
                "shape": list(node.shape) if node.shape is not None else None,
                "provider": node.provider,
                "dtype": node.dtype,
                "helper": place.helper,
                "count": node.events,
                "iqr_ms": float(spread[position]),
                "error_ms": float(error[position]),
                "place": place,
            }
        )
    return found


def _operators(nodes: Sequence[dict[str, Any]], total: float) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for node in nodes:
        entry = found.setdefault(node["op"], {"op": node["op"], "ms": 0.0, "share": 0.0, "count": 0.0, "error_ms": 0.0})
        for key in ("ms", "count", "error_ms"):  # errors of one run go together, so they add up
            entry[key] += node[key]
    return sorted(_shared(list(found.values()), total), key=lambda entry: -entry["ms"])


def _layers(nodes: Sequence[dict[str, Any]], total: float) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for node in nodes:
        place: Place = node["place"]
        empty = {"layer": place.layer, "ms": 0.0, "share": 0.0, "ops": {}, "parts": [], "weights": None}
        entry = found.setdefault(place.layer, {**empty, "count": 0.0, "error_ms": 0.0})
        for key in ("ms", "count", "error_ms"):
            entry[key] += node[key]
        entry["ops"][node["op"]] = entry["ops"].get(node["op"], 0.0) + node["ms"]
        entry["parts"] += [part for part in place.parts if part not in entry["parts"]]
        entry["weights"] = entry["weights"] or (list(place.weights) if place.weights else None)
    return _shared(list(found.values()), total)


def _shared(entries: list[dict[str, Any]], total: float) -> list[dict[str, Any]]:
    for entry in entries:
        entry["share"] = entry["ms"] / total if total > 0 else 0.0
    return entries


def _warnings(trace: Trace) -> list[str]:
    gpu = sorted({node.provider for node in trace.nodes} - {"cpu", "?"})
    if not gpu or trace.on_device:
        return []
    return [
        f"this onnxruntime cannot read the GPU's own clock: times of nodes on {' and '.join(gpu)} are those of "
        "launching them, not of running them"
    ]
