"""Several runs beside each other: one table a task, and trade-off pictures that mix only what can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from evaluate.core.text import clean, finite, interval_text, ratio, size
from evaluate.metrics import base
from evaluate.metrics.base import Metric
from evaluate.report.charts.intervals import Point, tradeoff_picture
from evaluate.report.charts.svg import Picture
from evaluate.report.html.markup import Verdict, plural, rendered
from evaluate.report.messages.run_messages import (
    RecordLike,
    drop_text,
    drop_verdict,
    latency_text,
    metric_of,
    speed_text,
    speed_verdict,
)

MOST_DRAWN = 100  # of the runs of a task, the newest, in one picture
Drawn = tuple[Picture | None, str]
Numbered = tuple[str, RecordLike]


def overview(records: Sequence[RecordLike]) -> Markup:
    """A section for each task: its runs and baselines in one table, then the pictures."""
    numbered = [(str(number), record) for number, record in enumerate(records, start=1)]
    groups = _grouped(numbered, _task_key).values()
    return Markup("\n").join(_task(group, f"task{n}") for n, group in enumerate(groups, start=1))


def _grouped(numbered: Sequence[Numbered], key: Callable[[RecordLike], Any]) -> dict[Any, list[Numbered]]:
    groups: dict[Any, list[Numbered]] = {}
    for number, record in numbered:
        groups.setdefault(key(record), []).append((number, record))
    return groups


def _task_key(record: RecordLike) -> tuple[str, str, Metric]:
    task = record.get("task") or {}
    return str(task.get("name", "task")), str(task.get("fingerprint", "")), metric_of(record)


def _machine_key(record: RecordLike) -> tuple[str, ...]:
    """What must be equal for two latencies to stand in one picture."""
    latency = (record.get("compressed") or {}).get("latency") or {}
    machine = (record.get("environment") or {}).get("machine_id", "unknown")
    return str(machine), *(str(latency.get(k, "?")) for k in ("provider", "threads", "batch"))


def _baseline_key(record: RecordLike) -> str:
    return str((record.get("hashes") or {}).get("baseline/model.onnx") or record.get("id"))


def _task(group: Sequence[Numbered], key: str) -> Markup:
    name, fingerprint, metric = _task_key(group[0][1])
    value = clean(metric.heading if metric.unit else metric.label, 40)
    names = _baseline_names(group)
    return rendered(
        "task.html",
        name=name,
        count=plural(len(group), "run"),
        mark=clean(fingerprint)[:8],
        head=["", "run", value, "drop", "bytes", "ratio", "latency", "speed-up"],
        body=[line for base, runs in _grouped(group, _baseline_key).items() for line in _lines(runs, names[base])],
        label=f"runs of {clean(name)}",
        drawn=_pictures(group, key, {number: number for number, _ in group}),
    )


def _baseline_names(group: Sequence[Numbered]) -> dict[str, str]:
    bases = list(_grouped(group, _baseline_key))
    return {base: "baseline" if len(bases) == 1 else f"b{n}" for n, base in enumerate(bases, start=1)}


def _lines(runs: Sequence[Numbered], name: str) -> list[list[object]]:
    """A baseline's line, then those of the runs that started from it."""
    base = runs[0][1].get("baseline") or {}
    size_text = size((base.get("sizes") or {}).get("bytes"))
    cells = ["", size_text, "1", latency_text(base.get("latency")), ""]
    first: list[object] = [name if name != "baseline" else "", "baseline", _metric(base), *cells]
    return [first, *(_line(number, record) for number, record in runs)]


def _line(number: str, record: RecordLike) -> list[object]:
    base, comp = record.get("baseline") or {}, record.get("compressed") or {}
    drop, speedup = record.get("drop") or {}, record.get("speedup") or {}
    before, after = ((side.get("sizes") or {}).get("bytes") for side in (base, comp))
    lost, quick = drop_verdict(drop, metric_of(record)), speed_verdict(speedup)
    return [
        number,
        clean(record.get("name", "run"), 40),
        _metric(comp),
        [drop_text(drop, metric_of(record)) if lost else "-", Verdict(lost)],
        size(after),
        ratio(after / before) if finite(before) and finite(after) and before else "-",
        latency_text(comp.get("latency")),
        [speed_text(speedup) if quick else "-", Verdict(quick)],
    ]


def _metric(side: Any) -> str:
    accuracy = side.get("accuracy") or {}
    if not base.metric_of(accuracy).share:
        return f"{accuracy['value']:.4g}" if finite(accuracy.get("value")) else "-"
    return interval_text(accuracy.get("value"), accuracy.get("low"), accuracy.get("high"), 2)


def tradeoffs(records: Sequence[RecordLike], key: str) -> list[Drawn]:
    """The trade-off pictures of one run, its own models named in full."""
    numbered = [(str(n), r) for n, r in enumerate(records, start=1)]
    return _pictures(numbered, key, {number: "compressed" for number, _ in numbered})


def _pictures(every: Sequence[Numbered], key: str, names: dict[str, str]) -> list[Drawn]:
    group = every[-MOST_DRAWN:]
    metric = metric_of(group[0][1])
    bases = _baseline_names(group)
    points = _points(group, names, bases, "bytes")
    caption = "Bars are each model's own 95 % interval; the paired interval of the drop is narrower."
    drawn = [(tradeoff_picture(points, quantity="bytes", metric=metric, key=f"{key}-bytes"), caption)]
    machines = _grouped([(n, r) for n, r in group if _spread(r, "compressed", "latency")], _machine_key)
    for count, runs in enumerate(machines.values(), start=1):
        points = _points(runs, names, bases, "latency")
        picture = tradeoff_picture(points, quantity="latency", metric=metric, key=f"{key}-latency{count}")
        drawn.append((picture, _machine_caption(runs[0][1], len(machines), count)))
    return drawn


def _machine_caption(record: RecordLike, many: int, count: int) -> str:
    name, provider, threads, batch = (clean(part, 24) for part in _machine_key(record))
    cpu = ((record.get("environment") or {}).get("cpu") or {}).get("name")
    machine = f"{clean(cpu, 48)} ({name})" if cpu else f"Machine {name}"
    where = f"{machine}, {provider}, threads {threads}, batch {batch}."
    if many == 1:
        return where
    return f"{where} Picture {count} of {many}: latencies of different machines or settings are not drawn together."


def _points(group: Sequence[Numbered], names: dict[str, str], bases: dict[str, str], quantity: str) -> list[Point]:
    """Each baseline once by size, once a run by latency (only its first is named); then the compressed models."""
    found, seen = [], set()
    for number, record in group:
        base = _baseline_key(record)
        if quantity == "latency" or base not in seen:
            found.append(_point("" if base in seen else bases[base], record, "baseline", quantity))
            seen.add(base)
        found.append(_point(names[number], record, "compressed", quantity))
    return [point for point in found if point is not None]


def _point(label: str, record: RecordLike, side: str, quantity: str) -> Point | None:
    x, y = _spread(record, side, quantity), _spread(record, side, "accuracy")
    return None if x is None or y is None else Point(label, x, y, baseline=side == "baseline")


def _spread(record: RecordLike, side: str, quantity: str) -> tuple[float, float, float] | None:
    """(value, low, high) of one side; the ends are the value itself where there is no interval."""
    known = record.get(side) or {}
    entry = {"value": (known.get("sizes") or {}).get("bytes")} if quantity == "bytes" else known.get(quantity) or {}
    value = entry.get("median_ms" if quantity == "latency" else "value")
    if not finite(value):
        return None
    low, high = entry.get("low"), entry.get("high")
    return float(value), float(low) if finite(low) else value, float(high) if finite(high) else value
