"""A Record of kind "bench" taken apart: its conditions, its entries, and each figure as the text of one cell.

Read from the Record alone; what is missing, null or of another type in it stays out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from evaluate.core.text import clean, finite, interval_text
from evaluate.metrics.base import metric_of
from evaluate.report.messages.run_messages import (
    RecordLike,
    drop_text,
    drop_verdict,
    latency_text,
    speed_text,
    speed_verdict,
)

Entry = Mapping[str, Any]
T = TypeVar("T")
UNREADABLE = "(an entry of this record is not as leanfit writes it, and is not shown)"


class Condition(NamedTuple):
    """Under what a latency was taken. `threads` and `batch` are numbers, or text where a record has anything else."""

    provider: str
    io: str
    threads: Any
    batch: Any


class Block(NamedTuple):
    """One condition: its entries, the baseline's first, what they are called, and its A/A run ({} without one)."""

    condition: Condition
    entries: list[Entry]
    labels: list[str]
    floor: Entry


def is_bench(record: RecordLike) -> bool:
    """Whether this is a Record of a benchmark."""
    return record.get("kind") == "bench"


def entries(record: RecordLike) -> list[Entry]:
    """The measured (model, condition) pairs of a bench Record."""
    return listed(record, "results")


def listed(record: RecordLike, key: str) -> list[Entry]:
    """The objects in the list `record[key]`; [] where there is none."""
    value = record.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, (list, tuple)) else []


def part(entry: Entry, key: str) -> Entry:
    """The object `entry[key]`; {} where there is none."""
    value = entry.get(key)
    return value if isinstance(value, Mapping) else {}


def texts_of(entry: Entry, key: str) -> list[str]:
    """The texts in the list `entry[key]`, safe to print; [] where there is none."""
    value = entry.get(key)
    return [clean(text) for text in value if isinstance(text, str)] if isinstance(value, (list, tuple)) else []


def name_of(entry: Entry, limit: int = 0) -> str:
    """What a model is called: its name, else its path."""
    return clean(entry.get("name") or entry.get("path") or "?", limit)


def _number(value: Any) -> Any:
    return value if finite(value) else clean(value if value is not None else "?", 20)


def blocks(record: RecordLike) -> list[Block]:
    """The entries by condition, in the order of the record.

    A model with a fixed batch, or on a provider of its own (`model.onnx@cuda`), belongs to the condition that it was
    measured in: entries are told apart by turn (each model once a condition) where the A/A runs agree in number.
    """
    found, floors = entries(record), listed(record, "floors")
    turns: dict[Any, list[Entry]] = {}
    seen: dict[str, int] = {}
    for entry in found:
        turn = seen[name_of(entry)] = seen.get(name_of(entry), -1) + 1
        turns.setdefault(turn, []).append(entry)
    if len(turns) == len(floors):
        return [_block(group, floor) for group, floor in zip(turns.values(), floors)]
    groups: dict[Any, list[Entry]] = {}
    for entry in found:
        groups.setdefault(_own(entry), []).append(entry)
    return [_block(group, next((f for f in floors if _own(f)[2:] == own[2:]), {})) for own, group in groups.items()]


def _own(entry: Entry) -> Condition:
    """What an entry, or an A/A run, says of its own condition."""
    known = part(entry, "latency") or entry
    texts = [clean(known.get(key) or "", 20) for key in ("provider", "io")]
    return Condition(texts[0], texts[1], _number(known.get("threads")), _number(known.get("batch")))


def _block(group: Sequence[Entry], floor: Entry) -> Block:
    ordered = sorted(group, key=lambda entry: not entry.get("baseline"))
    owns = [_own(entry) for entry in ordered]
    providers = list(dict.fromkeys(own.provider or "?" for own in owns))
    known = owns[0] if _own(floor).batch == "?" else _own(floor)
    condition = Condition(" and ".join(providers), owns[0].io, known.threads, known.batch)
    marks = [f" @{own.provider}" if len(providers) > 1 else "" for own in owns]
    return Block(condition, ordered, [name_of(e) + mark for e, mark in zip(ordered, marks)], floor)


def condition_text(condition: Condition) -> str:
    """`cpu, 1 thread, batch 8`; for a GPU also where inputs and outputs lie."""
    threads = f"{condition.threads} thread{'' if condition.threads == 1 else 's'}"
    text = f"{condition.provider}, {threads}, batch {condition.batch}"
    ends = {"device": ", inputs and outputs on the device", "host": ", transfers included"}
    return text if condition.provider.startswith("cpu") else text + ends.get(condition.io, "")


def percent(share: Any) -> str:
    """A share as per cent with two digits: 0.004 is `0.4 %`."""
    if not finite(share):
        return "-"
    text = f"{100 * share:.2g}" if abs(share) < 0.995 else f"{100 * share:.0f}"
    return f"{text} %"


def latency_cell(entry: Entry) -> str:
    """`964 us (951 to 978)`: the median with its interval."""
    known = part(entry, "latency")
    return latency_text(known) if finite(known.get("median_ms")) and known["median_ms"] > 0 else "-"


def verdict_of(entry: Entry) -> str:
    """`faster`, `slower`, `not resolved`; empty for the baseline and for a model measured alone."""
    return speed_verdict(part(entry, "speedup"))


def speed_cell(entry: Entry) -> str:
    """The speed-up with its joint interval; `baseline` for the baseline."""
    speedup = part(entry, "speedup")
    if entry.get("baseline") or not finite(speedup.get("value")):
        return "baseline" if entry.get("baseline") else "-"
    return speed_text(speedup)


def figure(entry: Entry, block: str, key: str, said: Callable[[float], str]) -> str:
    """A figure of a part of an entry, as `said` puts it; empty where it is not known."""
    value = part(entry, block).get(key)
    return said(value) if finite(value) else ""


def accuracy_text(entry: Entry) -> str:
    """`91.73 % (91.17 to 92.25)`, or the metric's name with its value; empty where nothing was measured."""
    known = part(entry, "accuracy")
    if not finite(known.get("value")):
        return ""
    metric = metric_of(known)
    if metric.share:
        return interval_text(known["value"], known.get("low"), known.get("high"), 2, f" {metric.unit}")
    ends = (
        f" ({known['low']:.4g} to {known['high']:.4g})"
        if finite(known.get("low")) and finite(known.get("high"))
        else ""
    )
    return f"{clean(metric.label, 20)} {known['value']:.4g}{ends}"


def drop_cell(entry: Entry) -> tuple[str, str]:
    """The paired drop against the baseline and its verdict: (`+0.30 (+0.10 to +0.50)`, `lost`); empty without one."""
    drop = part(entry, "drop")
    if not finite(drop.get("value")):
        return "", ""
    metric = metric_of(part(entry, "accuracy"))
    return drop_text(drop, metric), drop_verdict(drop, metric)


def agreement_text(entry: Entry) -> str:
    """`199 of 200 as packed`: on how many samples the answer is the one packed with them; empty where none was."""
    known = part(entry, "agreement")
    same, n = known.get("same"), known.get("n")
    return f"{same} of {n} as packed" if finite(same) and finite(n) else ""


def safely(make: Callable[[], T], otherwise: T) -> T:
    """What `make` gives, or `otherwise` where an entry lacks what it should hold: Records can be edited, or newer."""
    try:
        return make()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return otherwise


def _cleaned(value: Any, depth: int = 40) -> Any:
    """A copy whose texts are safe to print and to draw; without what lies deeper than any writer of ours goes."""
    if not depth:
        return None
    if isinstance(value, Mapping):
        return {clean(key): _cleaned(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item, depth - 1) for item in value]
    return clean(value) if isinstance(value, str) else value


def scenarios_of(record: RecordLike) -> list[Entry]:
    """The scenarios of a Record, by `evaluate.load_test.scenarios`, each with the `name` of its model."""
    return [_cleaned(entry) for entry in listed(record, "scenarios")]


def profiles_of(record: RecordLike) -> list[Entry]:
    """The profiles of a Record, by `evaluate.profiling.profile.profiles`."""
    return [_cleaned(entry) for entry in listed(record, "profiles")]
