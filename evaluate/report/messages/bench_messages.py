"""A Record of kind "bench" taken apart, and what it says: figures as cells, verdicts, what is open, what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from evaluate.core.bench_parts import BatchRate, Floor, Result, Scenario
from evaluate.core.record_parts import Latency
from evaluate.core.records import BenchRecord
from evaluate.core.text import clean, duration, interval_text, rate_text, ratio_decimals
from evaluate.metrics.base import metric_of
from evaluate.report.messages.run_messages import (
    drop_text,
    drop_verdict,
    latency_text,
    speed_text,
    speed_verdict,
)

Triple = tuple[float, float, float]  # value, low, high
T = TypeVar("T")
UNREADABLE = "(an entry of this record is not as leanfit writes it, and is not shown)"


class Condition(NamedTuple):
    """Under what a latency was taken; a number that is not known is `?`."""

    provider: str
    io: str
    threads: Any
    batch: Any


class Block(NamedTuple):
    """One condition: its results, the baseline's first, what they are called, and its A/A run (empty without one)."""

    condition: Condition
    results: list[Result]
    labels: list[str]
    floor: Floor

    def named(self) -> Iterable[tuple[str, Result]]:
        """Each result under what it is called here."""
        return zip(self.labels, self.results)


def name_of(result: Any, limit: int = 0) -> str:
    """What a model is called: its name, else its path."""
    return clean(result.name or getattr(result, "path", None) or "?", limit)


def blocks(record: BenchRecord) -> list[Block]:
    """The results by condition, in the order of the record.

    A model with a fixed batch, or on a provider of its own (`model.onnx@cuda`), belongs to the condition that it was
    measured in: results are told apart by turn (each model once a condition) where the A/A runs agree in number.
    """
    turns: dict[int, list[Result]] = {}
    seen: dict[str, int] = {}
    for result in record.results:
        turn = seen[name_of(result)] = seen.get(name_of(result), -1) + 1
        turns.setdefault(turn, []).append(result)
    if len(turns) == len(record.floors):
        return [_block(group, floor) for group, floor in zip(turns.values(), record.floors)]
    groups: dict[Condition, list[Result]] = {}
    for result in record.results:
        groups.setdefault(_own(result.latency), []).append(result)
    floors = {_own(floor)[2:]: floor for floor in reversed(record.floors)}
    return [_block(group, floors.get(own[2:], Floor())) for own, group in groups.items()]


def _own(known: Latency | Floor) -> Condition:
    """What a result's latency, or an A/A run, says of its own condition."""
    threads, batch = ("?" if value is None else value for value in (known.threads, known.batch))
    return Condition(clean(known.provider or "", 20), clean(getattr(known, "io", None) or "", 20), threads, batch)


def _block(group: Sequence[Result], floor: Floor) -> Block:
    ordered = sorted(group, key=lambda result: not result.baseline)
    owns = [_own(result.latency) for result in ordered]
    providers = list(dict.fromkeys(own.provider or "?" for own in owns))
    known = owns[0] if floor.batch is None else _own(floor)
    condition = Condition(" and ".join(providers), owns[0].io, known.threads, known.batch)
    marks = [f" @{own.provider}" if len(providers) > 1 else "" for own in owns]
    return Block(condition, ordered, [name_of(one) + mark for one, mark in zip(ordered, marks)], floor)


def condition_text(condition: Condition) -> str:
    """`cpu, 1 thread, batch 8`; for a GPU also where inputs and outputs lie."""
    threads = f"{condition.threads} thread{'' if condition.threads == 1 else 's'}"
    text = f"{condition.provider}, {threads}, batch {condition.batch}"
    ends = {"device": ", inputs and outputs on the device", "host": ", transfers included"}
    return text if condition.provider.startswith("cpu") else text + ends.get(condition.io, "")


def percent(share: float | None) -> str:
    """A share as per cent with two digits: 0.004 is `0.4 %`."""
    if share is None:
        return "-"
    text = f"{100 * share:.2g}" if abs(share) < 0.995 else f"{100 * share:.0f}"
    return f"{text} %"


def latency_cell(result: Result) -> str:
    """`964 us (951 to 978)`: the median with its interval."""
    return latency_text(result.latency)


def verdict_of(result: Result) -> str:
    """`faster`, `slower`, `not resolved`; empty for the baseline and for a model measured alone."""
    return speed_verdict(result.speedup)


def speed_cell(result: Result) -> str:
    """The speed-up with its joint interval; `baseline` for the baseline."""
    return "baseline" if result.baseline else speed_text(result.speedup)


def triple(known: Any, key: str) -> Triple | None:
    """(value, low, high) of a figure above 0; the ends are the value itself where there is no interval."""
    value = getattr(known, key)
    if value is None or value <= 0:
        return None
    low, high = (float(end) if end is not None and end > 0 else float(value) for end in (known.low, known.high))
    return float(value), low, high


def accuracy_text(result: Result) -> str:
    """`91.73 % (91.17 to 92.25)`, or the metric's name with its value; empty where nothing was measured."""
    known = result.accuracy
    if known.value is None:
        return ""
    metric = metric_of(known)
    if metric.share:
        return interval_text(known.value, known.low, known.high, 2, f" {metric.unit}")
    whole = known.low is not None and known.high is not None
    return f"{clean(metric.label, 20)} {known.value:.4g}{f' ({known.low:.4g} to {known.high:.4g})' if whole else ''}"


def drop_cell(result: Result) -> tuple[str, str]:
    """The paired drop against the baseline and its verdict: (`+0.30 (+0.10 to +0.50)`, `lost`); empty without one."""
    metric = metric_of(result.accuracy)
    return (
        ("", "") if result.drop.value is None else (drop_text(result.drop, metric), drop_verdict(result.drop, metric))
    )


def agreement_text(result: Result) -> str:
    """`199 of 200 as packed`: on how many samples the answer is the one packed with them; empty where none was."""
    same, n = result.agreement.same, result.agreement.n
    return "" if same is None or n is None else f"{same} of {n} as packed"


def safely(make: Callable[[], T], otherwise: T) -> T:
    """What `make` gives, or `otherwise` where a profile lacks what it should hold: Records can be edited, or newer."""
    try:
        return make()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return otherwise


def profiles_of(record: BenchRecord) -> list[Mapping[str, Any]]:
    """The profiles of a Record, as `evaluate.profiling.profile.profiles` gives them."""
    return [profile.to_json() for profile in record.profiles]


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
    known = [floor.noise_floor, *(result.noise_floor for result in block.results)]
    share = next((value for value in known if value is not None), None)
    if share is None:
        return ""
    who = "the baseline" if any(result.speedup for result in block.results) else "the model"
    decimals = max(3, ratio_decimals(floor.low, floor.high))
    whole = floor.low is not None and floor.high is not None
    ends = f" ({who} against itself: {floor.low:.{decimals}f}x to {floor.high:.{decimals}f}x)" if whole else ""
    return f"smallest difference this run can claim: {percent(share)}{ends}"


def failures(record: BenchRecord) -> list[tuple[str, str, str]]:
    """(name, kind, reason) of every candidate that could not be measured."""
    return [
        (name_of(one, 60), clean(one.kind or "failed", 40), clean(one.reason or "no reason recorded"))
        for one in record.failed
    ]


def warnings_of(record: BenchRecord) -> list[str]:
    """The record's warnings, then each model's own with its name; every sentence once."""
    found = blocks(record)
    given = [clean(text) for text in record.warnings]
    for block in found:
        where = f" ({condition_text(block.condition)})" if len(found) > 1 else ""
        for label, result in block.named():
            own = [clean(text) for text in result.warnings]
            own += [] if any("drift" in text.lower() for text in own) else _drift(result)
            names = [word for word in (clean(result.path or ""), name_of(result)) if word]
            alone = [any(name in text for name in names) for text in own]  # it says itself what it is about
            given += [text if known else f"{clean(label, 40)}{where}: {text}" for text, known in zip(own, alone)]
    return list(dict.fromkeys(given))


def _drift(result: Result) -> list[str]:
    drift = result.drift
    if not drift.drifts or drift.ratio is None:
        return []
    change = interval_text(drift.ratio, drift.low, drift.high, ratio_decimals(drift.low, drift.high), "x")
    return [f"drift: the last third of the samples took {change} the first third's time"]


def notes(record: BenchRecord) -> list[str]:
    """What the table leaves open, and why: percentiles that need more samples, memory, energy that cannot be read."""
    results = record.results
    found = [text for text in (_needs(results, key) for key in TAILS) if text]
    loops = {name_of(one, 40): one.latency.loops or 0 for one in results}
    if means := [name for name, count in loops.items() if count > 1]:
        found.append(f"P90 to P99 of {_joined(means)}: not known, since a sample is the mean of several calls")
    found += _reasons("memory", [(one, one.memory.why, one.memory.peak_rss_mb) for one in results])
    return found + _reasons("energy", [(one, one.energy.why, one.energy.joules_per_call) for one in results])


def _needs(results: Sequence[Result], key: str) -> str:
    missing = (one.latency.needs.get(key, 0) for one in results)
    known = sorted({round(value) for value in missing if value > 0})
    if not known:
        return ""
    count = f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}"
    return f"{key.upper()} needs {count} more sample{'' if known == [1] else 's'}"


def _reasons(what: str, found: Sequence[tuple[Result, str | None, float | None]]) -> list[str]:
    """`energy: not available: <why>`, once for all models that have the same reason."""
    reasons: dict[str, list[str]] = {}
    for result, why, value in found:
        if why:
            missing = "" if value is not None else "not available: "
            reasons.setdefault(f"{missing}{clean(why)}", []).append(name_of(result, 40))
    everyone = {name_of(result, 40) for result, _, _ in found}
    return [
        f"{what}{'' if set(names) == everyone else f' of {_joined(dict.fromkeys(names))}'}: {text}"
        for text, names in reasons.items()
    ]


def _joined(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def bench_headline(record: BenchRecord) -> str:
    """The verdict in one sentence: `int8 1.58x faster than fp32 (1.56 to 1.59); pruned not resolved to differ`."""
    candidates = [result for result in record.results if verdict_of(result)]
    if not record.results:
        text = scenario_headline(record) or "nothing could be measured"
    elif not candidates:
        text = _alone(record.results)
    elif len(candidates) <= MOST_NAMED and len(blocks(record)) == 1:
        text = "; ".join(_against(result, _baseline(record)) for result in candidates)
    else:
        text = _counted(record, candidates)
    failed = len(record.failed)
    return text + (f"; {failed} candidate{'' if failed == 1 else 's'} failed" if failed else "")


def _baseline(record: BenchRecord) -> str:
    first = next((name_of(result, 40) for result in record.results if result.baseline), "")
    return first or clean(record.baseline or "the baseline", 40)


def _alone(results: Sequence[Result]) -> str:
    """The latency of a model that was measured without another one; its range over several conditions."""
    name = name_of(results[0], 40)
    medians = [one.latency.median_ms for one in results if one.latency.median_ms is not None]
    if len(results) == 1 or not medians:
        return f"{name}: latency {latency_cell(results[0])}"
    return f"{name}: latency {duration(min(medians))} to {duration(max(medians))} under {len(results)} conditions"


def _against(result: Result, baseline: str) -> str:
    name, verdict = name_of(result, 40), verdict_of(result)
    value, _, ends = speed_text(result.speedup).partition(" (")
    interval = f" ({ends}" if ends else ""
    if verdict == "not resolved":
        return f"{name} not resolved to differ from {baseline} ({value}{interval.replace(' (', ', ') or ')'}"
    if verdict == "faster":
        return f"{name} {value} faster than {baseline}{interval}"
    return f"{name} {value} than {baseline}{interval}"


def _counted(record: BenchRecord, candidates: Sequence[Result]) -> str:
    """`int8 faster than fp32 in all 6 conditions`, or counts of comparisons where there are many models."""
    names = list(dict.fromkeys(name_of(result, 40) for result in candidates))
    conditions = len(blocks(record))
    if conditions > 1 and len(names) <= MOST_NAMED:
        by_name = [(name, [one for one in candidates if name_of(one, 40) == name]) for name in names]
        return "; ".join(f"{name} {_tally(group, _baseline(record))}" for name, group in by_name)
    verdicts = [verdict_of(result) for result in candidates]
    counts = [f"{n} {word}" for word in ("faster", "slower", "not resolved") if (n := verdicts.count(word))]
    what = "comparisons" if conditions > 1 else "models"
    return f"against {_baseline(record)}, of {len(candidates)} {what}: {_joined(counts)}"


def _tally(group: Sequence[Result], baseline: str) -> str:
    """`faster than fp32 in all 6 conditions`, `faster in 4 and not resolved in 2 of 6 conditions`."""
    verdicts = [verdict_of(result) for result in group]
    seen = [word for word in ("faster", "slower", "not resolved") if word in verdicts]
    if len(seen) == 1:
        against = f"to differ from {baseline}" if seen[0] == "not resolved" else f"than {baseline}"
        return f"{seen[0]} {against} in {'both' if len(group) == 2 else f'all {len(group)}'} conditions"
    return f"{_joined(f'{word} in {verdicts.count(word)}' for word in seen)} of {len(group)} conditions"


def bench_conditions(record: BenchRecord) -> str:
    """Where and how it was measured: machine, runtime, inputs, session runs, seconds."""
    cpu, cores = record.environment.cpu, record.environment.cpu.usable_cores
    texts = [clean(cpu.name or "a machine without a name", 60), *gpu_names(record)]
    texts += [f"{cores} usable core{'' if cores == 1 else 's'}"] if cores is not None else []
    texts += [f"{name} {clean(v, 20)}" for name, v in record.environment.versions.items() if "onnxruntime" in name]
    texts += [f"{clean(record.settings['inputs'], 20)} inputs"] if record.settings.get("inputs") else []
    sittings = [one.latency.sittings for one in record.results if one.latency.sittings is not None]
    texts += [f"{max(sittings)} sittings"] if sittings else []
    texts += [duration(1e3 * record.seconds)] if record.seconds is not None else []
    return ", ".join(texts)


def gpu_names(record: BenchRecord) -> list[str]:
    """What the GPUs of the machine are called."""
    return [clean(gpu["name"], 40) for gpu in record.environment.gpu if gpu.get("name")]


def scenario_headline(record: BenchRecord) -> str:
    """What the scenarios found, in one sentence: `server, P99 within 50 ms: fp32 61.2 queries/s`; empty without any."""
    found: dict[str, list[str]] = {}
    for one in record.scenarios:
        asked, answer = _asked(one)
        found.setdefault(asked, []).append(f"{name_of(one, 40)} {answer}")
    return "; ".join(f"{asked}: {', '.join(answers)}" for asked, answers in found.items())


def _asked(one: Scenario) -> tuple[str, str]:
    """What was asked of a scenario, and what it found."""
    kind = clean(one.scenario or "?", 40)
    if kind == "offline":
        return kind, f"{rate_text(one.samples_per_s)} samples/s at batch {one.batch}"
    if kind == "single-stream":
        return kind, f"median {duration(one.median_ms)}"
    if one.bound_ms is None:
        return f"{kind} at {rate_text(one.rate)} queries/s", f"median {duration(one.p50_ms)}"
    asked = f"{kind}, {bound_text(one)}"
    return asked, "no rate found" if one.rate is None else f"{rate_text(one.rate)} queries/s"


def bound_text(one: Scenario) -> str:
    """`P99 within 50 ms`."""
    return f"P{99 if one.percentile is None else one.percentile:g} within {duration(one.bound_ms)}"


def counted(value: float | None) -> str:
    """A count with its thousands; `-` where it is not known."""
    return "-" if value is None else f"{value:,}"


def proof_text(one: Scenario) -> str:
    """How far a rate is confirmed: on both sides, or below only, where the server was busy all the time."""
    if not one.confirmed:
        return "not confirmed"
    broken = one.above.met is False
    return "confirmed at 10 % below and above" if broken else "confirmed at 10 % below; above, the server is saturated"


def rate_ends(one: Scenario | BatchRate) -> str:
    """` (58.1 to 63.0)`: the interval of a rate; empty without one."""
    return "" if one.low is None or one.high is None else f" ({rate_text(one.low)} to {rate_text(one.high)})"
