"""The trace that ONNX Runtime's profiler writes, as times per call and node.

An event is a JSON object on a line of its own: `cat` (Session, Node, or Kernel for work on a GPU), `name`, `ts` and
`dur` in whole microseconds, `args`. Names are not escaped there, so a line is mended where it has to be.

From times per call and kernel to what a profile says: corrected for the profiler, by operator and by layer.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.profiling.node_names import Names, Place

Event = Mapping[str, Any]
Floats = NDArray[np.float64]
_SUFFIX = "_kernel_time"
_NAMED = re.compile(r'^(.*?"name"\s*:\s*")(.*)("\s*,\s*"args"\s*:\s*\{.*)$')
# The runtime drops the fraction of a microsecond: on average half of one.
_DROPPED_MS = 0.0005


class TraceNode(NamedTuple):
    """A node as the runtime ran it. shape: of its first output; dtype: of its first input, the runtime's word;
    events: kernels of that name in one call."""

    name: str
    op: str
    provider: str
    shape: tuple[int, ...] | None
    dtype: str
    events: float


class Trace(NamedTuple):
    """calls_ms (calls,): whole calls; ms (calls, nodes): time inside each node's kernels, nested ones taken out once;
    on_device: whether times of nodes on a GPU are the GPU's own, not those of launching."""

    calls_ms: Floats
    nodes: list[TraceNode]
    ms: Floats
    on_device: bool


def parse_trace(text: str, calls: int) -> Trace | None:
    """The last `calls` calls of a trace, or all where it holds fewer; None where it holds none."""
    events = _events(text)
    runs = _runs(events)
    if not runs:
        return None
    hosts = _placed(events, [start for start, _ in runs], [start + length for start, length in runs])
    device = _device(events, hosts)
    kept = range(max(0, len(runs) - calls), len(runs))
    nodes, ms = _table(hosts, device, kept)
    return Trace(np.array([runs[run][1] / 1e3 for run in kept]), nodes, ms, bool(device))


def _events(text: str) -> list[Event]:
    try:
        found = json.loads(text)
    except ValueError:
        found = [_mended(line.strip().rstrip(",")) for line in text.splitlines()]
    return [e for e in found if isinstance(e, dict) and isinstance(e.get("ts"), int) and isinstance(e.get("dur"), int)]


def _mended(line: str) -> Any:
    """The event on one line, its name escaped as it should have been; None where it is none."""
    match = _NAMED.match(line)
    for attempt in (line, match and match[1] + json.dumps(match[2])[1:-1] + match[3]):
        try:
            return json.loads(attempt or "")
        except ValueError:
            continue
    return None


def _runs(events: Iterable[Event]) -> list[tuple[int, int]]:
    """(start, length) of each call in microseconds, in order."""
    found = {
        name: sorted((e["ts"], e["dur"]) for e in events if e.get("cat") == "Session" and e.get("name") == name)
        for name in ("model_run", "SequentialExecutor::Execute")
    }
    return found["model_run"] or found["SequentialExecutor::Execute"]


class _Host(NamedTuple):
    """A node's kernel seen from the host: `own` microseconds without those of kernels inside it."""

    run: int
    node: str
    own: int
    event: Event


def _placed(events: Iterable[Event], starts: list[int], ends: list[int]) -> list[_Host]:
    """Kernel events with the call each belongs to, by time; those outside any call are left out."""
    by_run: dict[int, list[Event]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_SUFFIX):
            run = bisect.bisect_right(starts, event["ts"]) - 1
            if run >= 0 and event["ts"] <= ends[run]:
                by_run.setdefault(run, []).append(event)
    return [host for run, inside in by_run.items() for host in _own_times(run, inside)]


def _own_times(run: int, events: list[Event]) -> list[_Host]:
    """A node that holds a graph of its own (If, Loop) encloses that graph's kernels: its own time is the rest."""
    own: list[int] = []
    ordered = sorted(events, key=lambda e: (e["ts"], -e["dur"]))
    open_: list[int] = []
    for place, event in enumerate(ordered):
        while open_ and ordered[open_[-1]]["ts"] + ordered[open_[-1]]["dur"] <= event["ts"]:
            open_.pop()
        if open_:
            own[open_[-1]] -= event["dur"]
        own.append(event["dur"])
        open_.append(place)
    return [_Host(run, e["name"][: -len(_SUFFIX)], max(0, mine), e) for e, mine in zip(ordered, own)]


def _device(events: Iterable[Event], hosts: Iterable[_Host]) -> dict[tuple[int, str], float]:
    """(call, node) -> milliseconds on the GPU. A GPU's event names its parent and stands behind it in the trace."""
    run_of = {id(host.event): host.run for host in hosts}
    latest: dict[str, int] = {}
    found: dict[tuple[int, str], float] = {}
    run = -1
    for event in events:
        if event.get("cat") == "Node" and id(event) in run_of:
            run = latest[event["name"]] = run_of[id(event)]
        elif event.get("cat") == "Kernel":
            parent = str(_args(event).get("parent_name", ""))
            node = parent[: -len(_SUFFIX)] if parent.endswith(_SUFFIX) else f"({event.get('name', 'kernel')})"
            key = (latest.get(parent, run), node)
            found[key] = found.get(key, 0.0) + event["dur"] / 1e3 + _DROPPED_MS
    return found


def _table(
    hosts: Iterable[_Host], device: Mapping[tuple[int, str], float], kept: range
) -> tuple[list[TraceNode], Floats]:
    """Nodes in the order first run, and their times (calls, nodes) in milliseconds."""
    inside = [host for host in hosts if host.run in kept]
    known: dict[str, Event] = {}
    times: dict[str, Floats] = {}
    counts: dict[str, int] = {}
    for host in inside:
        known.setdefault(host.node, host.event)
        counts[host.node] = counts.get(host.node, 0) + 1
        column = times.setdefault(host.node, np.zeros(len(kept)))
        if not device or _provider(host.event) == "cpu":
            column[host.run - kept.start] += host.own / 1e3
    for (run, node), spent in device.items():
        if run in kept:
            known.setdefault(node, {"args": {"op_name": "Kernel", "provider": "gpu"}})
            times.setdefault(node, np.zeros(len(kept)))[run - kept.start] += spent
    nodes = [_node(name, event, counts.get(name, len(kept)) / len(kept)) for name, event in known.items()]
    return nodes, np.array(list(times.values()), dtype=np.float64).reshape(len(nodes), len(kept)).T


def _node(name: str, event: Event, events: float) -> TraceNode:
    args = _args(event)
    dtype, _ = _tensor(args.get("input_type_shape"))
    _, shape = _tensor(args.get("output_type_shape"))
    return TraceNode(name, str(args.get("op_name", "?")), _provider(event), shape, dtype, events)


def _provider(event: Event) -> str:
    name = str(_args(event).get("provider", ""))
    return (name[: -len("ExecutionProvider")] if name.endswith("ExecutionProvider") else name).lower() or "?"


def _args(event: Event) -> Mapping[str, Any]:
    args = event.get("args")
    return args if isinstance(args, dict) else {}


def _tensor(listed: Any) -> tuple[str, tuple[int, ...] | None]:
    """(dtype, shape) of the first tensor in `[{"float": [1, 8]}, ...]`; ("", None) where there is none."""
    if isinstance(listed, list) and listed and isinstance(listed[0], dict) and listed[0]:
        dtype, shape = next(iter(listed[0].items()))
        if isinstance(shape, list) and all(isinstance(d, int) for d in shape):
            return str(dtype), tuple(shape)
    return "", None


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
