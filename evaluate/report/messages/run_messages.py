"""How the Record of a run is put into words: verdicts taken from intervals, and sentences made from verdicts."""

from __future__ import annotations

import math
from typing import Any

from evaluate.core.bench_parts import Agreement
from evaluate.core.record_parts import Drop, Goal, Latency, PassEntry, Speedup
from evaluate.core.records import CompressRecord
from evaluate.core.text import clean, decimals_for, duration, interval_text, ratio, ratio_decimals, signed
from evaluate.core.units import known_units, show_amount, size_labels
from evaluate.metrics import base
from evaluate.metrics.base import Metric

# Rounding of float32 gives 100 dB and more, of integers some 47; products that saturate in int8 about 29.
SAME_SQNR_DB = 40.0
MANY_DIFFER = 0.02  # of the answers


def latency_text(latency: Latency) -> str:
    """`964 us (951 to 978)`: the interval in the unit of the median."""
    median, low, high = latency.median_ms, latency.low, latency.high
    if median is None or median <= 0:
        return "-"
    if low is None or high is None:
        return duration(median)
    unit = duration(median).split(" ")[-1]
    scale = {"s": 1e-3, "ms": 1.0, "us": 1e3}.get(unit, 1.0)
    value, low, high = median * scale, low * scale, high * scale
    decimals = decimals_for(low, high, least=max(0, 2 - math.floor(math.log10(value))), most=3, parts=1)
    return f"{value:.{decimals}f} {unit} ({low:.{decimals}f} to {high:.{decimals}f})"


def metric_of(record: CompressRecord) -> Metric:
    """The metric this record is about."""
    return base.metric_of(record.baseline.accuracy)


def drop_verdict(drop: Drop, metric: Metric) -> str:
    """`lost`, `gained` or `not resolved`, by the paired interval alone; empty where no drop was measured.

    The drop is baseline minus compressed, so for a metric where lower is better a positive drop is a gain.
    """
    if drop.low is None or drop.high is None:
        return ""
    _, low, high = metric.as_loss(0.0, drop.low, drop.high)
    if low > 0 and high > 0:
        return "lost"
    return "gained" if low < 0 and high < 0 else "not resolved"


def speed_verdict(speedup: Speedup) -> str:
    """The verdict the measurement gave: `faster`, `slower` or `not resolved`; empty where no latency was measured."""
    if speedup.value is None:
        return ""
    return speedup.verdict if speedup.verdict in ("faster", "slower") else "not resolved"


def drop_text(drop: Drop, metric: Metric) -> str:
    """`-0.02 (-0.15 to +0.11)`: a drop and its interval, with their signs; `-` where none was measured."""
    if drop.value is None:
        return "-"
    decimals = metric.drop_decimals(drop.value, drop.low, drop.high)
    known = drop.low is not None and drop.high is not None
    ends = f" ({signed(drop.low or 0.0, decimals)} to {signed(drop.high or 0.0, decimals)})" if known else ""
    return f"{signed(drop.value, decimals)}{ends}"


def change_text(drop: Drop, metric: Metric) -> str:
    """`+0.02 (-0.11 to +0.15)`: what compression did to the metric, which is the drop turned round."""
    if drop.value is None:
        return ""
    ends = [None if end is None else -end for end in (drop.value, drop.high, drop.low)]
    return drop_text(Drop(value=ends[0], low=ends[1], high=ends[2]), metric)


def drop_sentence(record: CompressRecord) -> str:
    """What happened to the metric: `accuracy lost 0.34 points (0.12 to 0.56)`, or that nothing was resolved."""
    drop, metric = record.drop, metric_of(record)
    name = clean(metric.label, 20)
    verdict = drop_verdict(drop, metric)
    if not verdict or drop.value is None:
        return f"change in {name} not measured"
    if verdict == "not resolved":
        value, _, ends = drop_text(drop, metric).partition(" (")
        return f"{name} not resolved to differ (drop {value}{metric.points}, {ends}"
    decimals = metric.drop_decimals(drop.value, drop.low, drop.high)
    low, value, high = (
        f"{end:.{decimals}f}" for end in sorted(abs(x or 0.0) for x in (drop.low, drop.value, drop.high))
    )
    text = f"{value}{metric.points} ({low} to {high})"
    if metric.share:
        return f"{name} {verdict} {text}"
    return f"{name} {verdict}: {'down' if drop.value > 0 else 'up'} by {text}"


def speed_text(speedup: Speedup) -> str:
    """`1.58x (1.56 to 1.59)`: a speed-up and its interval; `1.30x slower (1.28 to 1.33)` where that is the verdict."""
    value, low, high = speedup.value, speedup.low, speedup.high
    if speedup.verdict == "slower" and value and low and high:
        value, low, high = 1 / value, 1 / high, 1 / low
        return interval_text(value, low, high, ratio_decimals(low, high), unit="x").replace("x", "x slower", 1)
    return interval_text(value, low, high, ratio_decimals(low, high), unit="x")


def speed_sentence(speedup: Speedup) -> str:
    """What happened to the latency: `1.60x faster (1.58 to 1.62)`; the word only where the verdict says so."""
    verdict = speed_verdict(speedup)
    if not verdict:
        return "latency not measured"
    value, _, ends = speed_text(speedup).partition(" (")
    ends = f" ({ends}" if ends else ""
    if verdict == "not resolved":
        return f"speed not resolved to differ ({value}{ends.replace(' (', ', ') or ')'}"
    return f"{value} faster{ends}" if verdict == "faster" else f"{value}{ends}"


def size_change(baseline: float | None, compressed: float | None) -> str:
    """`3.15x smaller`, `1.20x larger` or `the same size` (within half a per cent), of two sizes in bytes."""
    if baseline is None or compressed is None or baseline <= 0 or compressed <= 0:
        return "size not known"
    if abs(compressed / baseline - 1) < 0.005:
        return "the same size"
    smaller = compressed < baseline
    return f"{ratio(baseline / compressed)} smaller" if smaller else f"{ratio(compressed / baseline)} larger"


def headline(record: CompressRecord) -> str:
    """The verdict in one sentence, by rule from sizes and intervals, without the record's name."""
    sizes = size_change(record.baseline.sizes.bytes, record.compressed.sizes.bytes)
    return f"{sizes}, {speed_sentence(record.speedup)}, {drop_sentence(record)}"


def conditions(record: CompressRecord) -> str:
    """Under what the figures hold: task, samples, provider, threads, batch and session runs."""
    latency, n = record.compressed.latency, record.compressed.accuracy.n
    about = clean(record.task.name or "task") + (f", {n:,} test samples" if n is not None else "")
    if not latency:
        return f"{about}; latency not measured"
    threads, batch = (value_text(value) for value in (latency.threads, latency.batch))
    where = f"{latency.provider or '?'}, {threads} thread{'' if threads == '1' else 's'}"
    runs, floor = latency.sittings, record.noise_floor
    interleaved = f", {runs} sittings of interleaved rounds" if runs is not None else ""
    least = f", which tell differences from {100 * floor:.2g} % on" if floor is not None else ""
    return clean(f"{about}; latency on {where}, batch {batch}{interleaved}{least}")


def value_text(value: Any) -> str:
    """A value as text; `?` where it is not known."""
    return "?" if value is None else clean(value, 20)


def _moved(points: float, decimals: int) -> str:
    amount = signed(abs(points), decimals, plus=False)
    return amount if points >= 0 or not round(points, decimals) else f"gained {amount}"


def worst_class(record: CompressRecord) -> str:
    """The class that lost most, where it beats the average: `cat lost 1.2 points, the average class 0.3`.

    Empty where no class lost more than the average one. One sample's share is given, since a class can be small.
    """
    drops = [(entry.drop, entry) for entry in record.per_class_drop if entry.drop is not None]
    if len(drops) < 2:
        return ""
    points, worst = max(drops, key=lambda pair: pair[0])
    mean = sum(drop for drop, _ in drops) / len(drops)
    if points <= 0 or points <= mean + 1e-9:
        return ""
    name = f"class {clean(worst.label, 40)!r}"
    one = f"; one sample of {name} is {100 / worst.n:.2g} points" if worst.n else ""
    return f"{name} lost {points:.1f} points, the average class {_moved(mean, 1)}{one}"


def _goal_amount(name: str, value: Any, absolute: bool, metric: Metric) -> str:
    if not isinstance(value, (int, float)):
        return clean(value) if isinstance(value, str) else "-"
    if "drop" in name:
        share = f"{signed(value, 2, plus=False)}{metric.points}"
        return share if metric.share else f"{value:.4g} of {clean(metric.label, 20)}"
    return show_amount(name.removeprefix("max_"), value) if absolute else ratio(value)


def goal_sentence(goal: Goal, metric: Metric) -> str:
    """`bytes at least 2.86x smaller: 3.12x smaller`; the status (`met`, `missed`, `not resolved`) is shown beside it.

    A limit that is a text (`"2MB"`, `"5ms"`) is absolute, and so is its value, in bytes, seconds or a count; a number
    is a ratio of the baseline.
    """
    name, absolute = clean(goal.goal or "goal"), isinstance(goal.limit, str)
    shown = name.removeprefix("max_").replace("_", " ")
    limit, value = (_goal_amount(name, amount, absolute, metric) for amount in (goal.limit, goal.value))
    if "drop" in name and metric.share:
        head = clean(name.partition(" of ")[2], 20)
        return f"at most {limit} lost{f' of {head}' if head else ''}: {value}"
    if absolute or "drop" in name or not isinstance(goal.limit, (int, float)) or not goal.limit > 0 or not goal.value:
        return f"{shown} at most {limit}: {value}"
    least = ratio(1 / goal.limit)
    unit = known_units().get(name)
    # Whether a time is resolved to be shorter is for its status to say.
    less, more = ("smaller", "larger") if unit is None or unit.is_size else ("lower", "higher")
    found = f"{ratio(1 / goal.value)} {less}" if goal.value <= 1 else f"{ratio(goal.value)} {more}"
    return f"{shown} at least {least} {less}: {found}"


def pass_sentence(entry: PassEntry) -> str:
    """What one pass did to the sizes: `params 272 k -> 130 k, bits 32 -> 8.1; 21 changes`."""
    before, after = entry.sizes_before.amounts(), entry.sizes_after.amounts()
    moved = [
        f"{label} {show_amount(key, before[key])} -> {show_amount(key, after[key])}"
        for key, label in size_labels(before, after).items()
        if key in before and key in after and abs(after[key] - before[key]) > 1e-9 * abs(before[key])
    ]
    changes = len(entry.changes)
    noted = f"; {changes} change{'' if changes == 1 else 's'}" if changes else ""
    return (", ".join(moved) or "no size changed") + noted


def candidate_table(entry: PassEntry) -> list[list[str]]:
    """The files that a pass chose among, heads first: speed over what came in, bytes, points lost on validation."""
    if not entry.candidates:
        return []
    judged = any(one.lost.value is not None for one in entry.candidates)
    rows = [["candidate", "speed", "bytes", *(["lost"] if judged else []), ""]]
    for one in entry.candidates:
        speed = "1" if one.speedup.value is None else speed_text(one.speedup)
        size = "-" if one.bytes is None else show_amount("bytes", one.bytes)
        ends = (one.lost.value, one.lost.low, one.lost.high)
        known = [f"{end:.3g}" for end in ends if end is not None]
        lost = [f"{known[0]} ({known[1]} to {known[2]})" if len(known) == 3 else "-"] if judged else []
        rows.append([clean(one.name or "?", 40), speed, size, *lost, "chosen" if one.chosen else ""])
    return rows


def agreement_sentence(agreement: Agreement, int8_path: str | None = None) -> str:
    """A warning where a machine computes something else than the one that packed the model; empty where it does not.

    int8_path : how this machine multiplies int8, as in `environment`, where the model is an int8 one: it may saturate.
    """
    n, same, sqnr = agreement.n, agreement.same, agreement.sqnr_db
    differ = n - same if n is not None and same is not None else 0
    many = n is not None and differ > MANY_DIFFER * n
    if not many and not (sqnr is not None and sqnr < SAME_SQNR_DB):
        return ""
    figures = [f"{differ} of {n} answers differ"] if differ else []
    figures += [f"the largest difference is {agreement.max_abs:.3g}"] if agreement.max_abs is not None else []
    figures += [f"SQNR {sqnr:.0f} dB, where rounding leaves {SAME_SQNR_DB:.0f} or more"] if sqnr is not None else []
    text = f"it computes something else here than where it was packed: {', '.join(figures)}"
    if int8_path not in ("avx2", "avx512"):
        return text
    return f"{text}. Without int8 dot products ({int8_path}) int8 sums can saturate: quantize it with reduce_range"
