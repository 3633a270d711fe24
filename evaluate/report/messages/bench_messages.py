"""A Record of kind "bench" taken apart, and what it says: figures as cells, verdicts, what is left open, what failed.

Read from the Record alone; what is missing, null or of another type in it stays out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from evaluate.core.text import clean, duration, finite, interval_text, ratio_decimals
from evaluate.load_test.rate_result import rate_text
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
Triple = tuple[float, float, float]  # value, low, high
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


def triple(known: Entry, key: str) -> Triple | None:
    """(value, low, high) of a figure above 0; the ends are the value itself where there is no interval."""
    value = known.get(key)
    if not finite(value) or value <= 0:
        return None
    ends = (known.get("low"), known.get("high"))
    low, high = (float(end) if finite(end) and end > 0 else float(value) for end in ends)
    return float(value), low, high


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


# Sentences.


TAILS = ("p90", "p95", "p99")
MOST_NAMED = 3
_LATENCY = "latency: median of one call, with its 95 % interval"
_SPEED = "speed-up: baseline over model in interleaved rounds, its 95 % intervals hold jointly"
# What the figures are: of a model alone, and of a comparison.
LEGENDS = {False: _LATENCY, True: f"{_LATENCY}; {_SPEED}"}


def floor_text(block: Block) -> str:
    """`smallest difference this run can claim: 0.4 % (the baseline against itself: 0.999x to 1.004x)`."""
    floor = block.floor
    known = [floor.get("noise_floor"), *(entry.get("noise_floor") for entry in block.entries)]
    share = next((value for value in known if finite(value)), None)
    if share is None:
        return ""
    low, high = floor.get("low"), floor.get("high")
    who = "the baseline" if any(part(e, "speedup") for e in block.entries) else "the model"
    decimals = max(3, ratio_decimals(low, high))
    ends = (
        f" ({who} against itself: {low:.{decimals}f}x to {high:.{decimals}f}x)" if finite(low) and finite(high) else ""
    )
    return f"smallest difference this run can claim: {percent(share)}{ends}"


def failures(record: RecordLike) -> list[tuple[str, str, str]]:
    """(name, kind, reason) of every candidate that could not be measured."""
    return [
        (
            name_of(entry, 60),
            clean(entry.get("kind") or "failed", 40),
            clean(entry.get("reason") or "no reason recorded"),
        )
        for entry in listed(record, "failed")
    ]


def warnings_of(record: RecordLike) -> list[str]:
    """The record's warnings, then each model's own with its name; every sentence once."""
    said, found = texts_of(record, "warnings"), blocks(record)
    for block in found:
        where = f" ({condition_text(block.condition)})" if len(found) > 1 else ""
        for label, entry in zip(block.labels, block.entries):
            own = texts_of(entry, "warnings")
            told = any("drift" in text.lower() for text in own)
            for text in own if told else [*own, *_drift(entry)]:
                said.append(text if _names(text, entry) else f"{clean(label, 40)}{where}: {text}")
    return list(dict.fromkeys(said))


def _names(text: str, entry: Entry) -> bool:
    """Whether a sentence says by itself which model it is about."""
    return any(word and word in text for word in (clean(entry.get("path") or ""), name_of(entry)))


def _drift(entry: Entry) -> list[str]:
    drift = part(entry, "drift")
    if drift.get("drifts") is not True or not finite(drift.get("ratio")):
        return []
    low, high = drift.get("low"), drift.get("high")
    change = interval_text(drift["ratio"], low, high, ratio_decimals(low, high), "x")
    return [f"drift: the last third of the samples took {change} the first third's time"]


def notes(record: RecordLike) -> list[str]:
    """What the table leaves open, and why: percentiles that need more samples, memory, energy that cannot be read."""
    found = [text for text in (_needs(entries(record), key) for key in TAILS) if text]
    found += _means(entries(record))
    for key, value in (("memory", "peak_rss_mb"), ("energy", "joules_per_call")):
        found += _reasons(entries(record), key, value)
    return found


def _needs(group: Sequence[Entry], key: str) -> str:
    missing = [part(part(entry, "latency"), "needs").get(key) for entry in group]
    known = sorted({round(value) for value in missing if finite(value) and value > 0})
    if not known:
        return ""
    count = f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}"
    return f"{key.upper()} needs {count} more sample{'' if known == [1] else 's'}"


def _means(group: Sequence[Entry]) -> list[str]:
    """Says why very short calls have no percentiles."""
    loops = {name_of(entry, 40): part(entry, "latency").get("loops") for entry in group}
    names = [name for name, count in loops.items() if finite(count) and count > 1]
    return [f"P90 to P99 of {_joined(names)}: not known, since a sample is the mean of several calls"] if names else []


def _reasons(group: Sequence[Entry], key: str, value: str) -> list[str]:
    """`energy: not available: <why>`, once for all models that have the same reason."""
    found: dict[str, list[str]] = {}
    for entry in group:
        why = part(entry, key).get("why")
        if why and isinstance(why, str):
            missing = "" if finite(part(entry, key).get(value)) else "not available: "
            found.setdefault(f"{missing}{clean(why)}", []).append(name_of(entry, 40))
    everyone = {name_of(entry, 40) for entry in group}
    return [
        f"{key}{'' if set(names) == everyone else f' of {_joined(dict.fromkeys(names))}'}: {text}"
        for text, names in found.items()
    ]


def _joined(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def bench_headline(record: RecordLike) -> str:
    """The verdict in one sentence: `int8 1.58x faster than fp32 (1.56 to 1.59); pruned not resolved to differ`."""
    found = entries(record)
    candidates = [entry for entry in found if verdict_of(entry)]
    served = scenario_headline(record)
    if not found:
        text = served or "nothing could be measured"
    elif not candidates:
        text = _alone(found)
    elif len(candidates) <= MOST_NAMED and len(blocks(record)) == 1:
        text = "; ".join(_said(entry, _baseline(record)) for entry in candidates)
    else:
        text = _counted(record, candidates)
    failed = len(failures(record))
    return text + (f"; {failed} candidate{'' if failed == 1 else 's'} failed" if failed else "")


def _baseline(record: RecordLike) -> str:
    first = next((name_of(entry, 40) for entry in entries(record) if entry.get("baseline")), "")
    return first or clean(record.get("baseline") if isinstance(record.get("baseline"), str) else "the baseline", 40)


def _alone(found: Sequence[Entry]) -> str:
    """The latency of a model that was measured without another one; its range over several conditions."""
    name = name_of(found[0], 40)
    medians = [part(e, "latency").get("median_ms") for e in found]
    known = [median for median in medians if finite(median)]
    if len(found) == 1 or not known:
        return f"{name}: latency {latency_cell(found[0])}"
    return f"{name}: latency {duration(min(known))} to {duration(max(known))} under {len(found)} conditions"


def _said(entry: Entry, baseline: str) -> str:
    name = name_of(entry, 40)
    value, _, ends = speed_text(part(entry, "speedup")).partition(" (")
    verdict = verdict_of(entry)
    interval = f" ({ends}" if ends else ""
    if verdict == "not resolved":
        return f"{name} not resolved to differ from {baseline} ({value}{interval.replace(' (', ', ') or ')'}"
    if verdict == "faster":
        return f"{name} {value} faster than {baseline}{interval}"
    return f"{name} slower than {baseline}: {value} the speed{interval}"


def _counted(record: RecordLike, candidates: Sequence[Entry]) -> str:
    """`int8 faster than fp32 in all 6 conditions`, or counts of comparisons where there are many models."""
    names = list(dict.fromkeys(name_of(entry, 40) for entry in candidates))
    conditions = len(blocks(record))
    if conditions > 1 and len(names) <= MOST_NAMED:
        by_name = [(name, [e for e in candidates if name_of(e, 40) == name]) for name in names]
        return "; ".join(f"{name} {_tally(group, _baseline(record), 'conditions')}" for name, group in by_name)
    what = "comparisons" if conditions > 1 else "models"
    return f"against {_baseline(record)}, of {len(candidates)} {what}: {_joined(_verdicts(candidates))}"


def _verdicts(group: Sequence[Entry]) -> list[str]:
    verdicts = [verdict_of(entry) for entry in group]
    return [f"{n} {word}" for word in ("faster", "slower", "not resolved") if (n := verdicts.count(word))]


def _tally(group: Sequence[Entry], baseline: str, what: str) -> str:
    """`faster than fp32 in all 6 conditions`, `faster in 4 and not resolved in 2 of 6 conditions`."""
    verdicts = [verdict_of(entry) for entry in group]
    seen = [word for word in ("faster", "slower", "not resolved") if word in verdicts]
    if len(seen) == 1:
        against = f"to differ from {baseline}" if seen[0] == "not resolved" else f"than {baseline}"
        return f"{seen[0]} {against} in {'both' if len(group) == 2 else f'all {len(group)}'} {what}"
    return f"{_joined(f'{word} in {verdicts.count(word)}' for word in seen)} of {len(group)} {what}"


def bench_conditions(record: RecordLike) -> str:
    """Where and how it was measured: machine, runtime, inputs, sittings, seconds."""
    environment, settings = part(record, "environment"), part(record, "settings")
    cpu = part(environment, "cpu")
    texts = [clean(cpu.get("name") or "a machine without a name", 60)]
    texts += [clean(gpu.get("name"), 40) for gpu in listed(environment, "gpu") if gpu.get("name")]
    cores = cpu.get("usable_cores")
    texts += [f"{cores} usable core{'' if cores == 1 else 's'}"] if finite(cores) else []
    texts += [f"{name} {clean(v, 20)}" for name, v in part(environment, "versions").items() if "onnxruntime" in name]
    texts += [f"{clean(settings['inputs'], 20)} inputs"] if settings.get("inputs") else []
    sittings = [part(entry, "latency").get("sittings") for entry in entries(record)]
    texts += [f"{max(known)} sittings"] if (known := [n for n in sittings if finite(n)]) else []
    texts += [duration(1e3 * record["seconds"])] if finite(record.get("seconds")) else []
    return ", ".join(texts)


def scenario_headline(record: RecordLike) -> str:
    """What the scenarios found, in one sentence: `server, P99 within 50 ms: fp32 61.2 queries/s`; empty without any."""
    found: dict[str, list[str]] = {}
    for entry in scenarios_of(record):
        asked, answer = safely(partial(_told, entry), ("", ""))
        if asked:
            found.setdefault(asked, []).append(f"{name_of(entry, 40)} {answer}")
    return "; ".join(f"{asked}: {', '.join(answers)}" for asked, answers in found.items())


def _told(entry: Entry) -> tuple[str, str]:
    """What was asked of a scenario, and what it found."""
    kind = str(entry["scenario"])
    if kind == "offline":
        return kind, f"{rate_text(entry['samples_per_s'])} samples/s at batch {entry['batch']}"
    if kind == "single-stream":
        return kind, f"median {duration(entry['median_ms'])}"
    if "bound_ms" not in entry:
        return f"{kind} at {rate_text(entry['rate'])} queries/s", f"median {duration(entry['p50_ms'])}"
    asked = f"{kind}, P{entry['percentile']:g} within {duration(entry['bound_ms'])}"
    return asked, "no rate found" if entry["rate"] is None else f"{rate_text(entry['rate'])} queries/s"
