"""How a Record is put into words: verdicts taken from intervals, and sentences made from verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evaluate.core.text import (
    clean,
    decimals_for,
    duration,
    finite,
    interval_text,
    ratio,
    ratio_decimals,
    signed,
)
from evaluate.core.units import show_amount, size_labels
from evaluate.metrics import base
from evaluate.metrics.base import Metric

RecordLike = Mapping[str, Any]
# Rounding of float32 gives 100 dB and more, of integers some 47; products that saturate in int8 about 29.
SAME_SQNR_DB = 40.0
MANY_DIFFER = 0.02  # of the answers


def latency_text(latency: Mapping[str, Any] | None) -> str:
    """`964 us (951 to 978)`: the interval in the unit of the median."""
    median = (latency or {}).get("median_ms")
    if latency is None or not finite(median) or median <= 0:
        return "-"
    if not (finite(latency.get("low")) and finite(latency.get("high"))):
        return duration(median)
    unit = duration(median).split(" ")[-1]
    scale = {"s": 1e-3, "ms": 1.0, "us": 1e3}.get(unit, 1.0)
    value, low, high = (latency[key] * scale for key in ("median_ms", "low", "high"))
    decimals = decimals_for(low, high, least=max(0, 2 - math.floor(math.log10(value))), most=3, parts=1)
    return f"{value:.{decimals}f} {unit} ({low:.{decimals}f} to {high:.{decimals}f})"


def metric_of(record: RecordLike) -> Metric:
    """The metric this record is about."""
    return base.metric_of((record.get("baseline") or {}).get("accuracy"))


def drop_verdict(drop: Mapping[str, Any] | None, metric: Metric) -> str:
    """`lost`, `gained` or `not resolved`, by the paired interval alone; empty where no drop was measured.

    The drop is baseline minus compressed, so for a metric where lower is better a positive drop is a gain.
    """
    if not drop or not (finite(drop.get("low")) and finite(drop.get("high"))):
        return ""
    _, low, high = metric.as_loss({"value": 0.0, **drop})
    if low > 0 and high > 0:
        return "lost"
    return "gained" if low < 0 and high < 0 else "not resolved"


def speed_verdict(speedup: Mapping[str, Any] | None) -> str:
    """The verdict the measurement gave: `faster`, `slower` or `not resolved`; empty where no latency was measured."""
    if not speedup or not finite(speedup.get("value")):
        return ""
    verdict = speedup.get("verdict")
    return str(verdict) if verdict in ("faster", "slower") else "not resolved"


def drop_text(drop: Mapping[str, Any], metric: Metric) -> str:
    """`-0.02 (-0.15 to +0.11)`: a drop and its interval, with their signs."""
    low, high, decimals = drop.get("low"), drop.get("high"), metric.drop_decimals(drop)
    ends = f" ({signed(low, decimals)} to {signed(high, decimals)})" if finite(low) and finite(high) else ""
    return f"{signed(drop['value'], decimals)}{ends}"


def drop_sentence(record: RecordLike) -> str:
    """What happened to the metric: `accuracy lost 0.34 points (0.12 to 0.56)`, or that nothing was resolved."""
    drop, metric = record.get("drop"), metric_of(record)
    name = clean(metric.label, 20)
    verdict = drop_verdict(drop, metric)
    if not drop or not verdict:
        return f"change in {name} not measured"
    if verdict == "not resolved":
        value, _, ends = drop_text(drop, metric).partition(" (")
        return f"{name} not resolved to differ (drop {value}{metric.points}, {ends}"
    decimals = metric.drop_decimals(drop)
    low, value, high = sorted(abs(drop[key]) for key in ("low", "value", "high"))
    text = f"{value:.{decimals}f}{metric.points} ({low:.{decimals}f} to {high:.{decimals}f})"
    if metric.share:
        return f"{name} {verdict} {text}"
    return f"{name} {verdict}: {'down' if drop['value'] > 0 else 'up'} by {text}"


def speed_text(speedup: Mapping[str, Any]) -> str:
    """`1.58x (1.56 to 1.59)`: a speed-up and its interval."""
    low, high = speedup.get("low"), speedup.get("high")
    return interval_text(speedup.get("value"), low, high, ratio_decimals(low, high), unit="x")


def speed_sentence(record: RecordLike) -> str:
    """What happened to the latency: `1.60x faster (1.58 to 1.62)`; the word only where the verdict says so."""
    speedup = record.get("speedup")
    verdict = speed_verdict(speedup)
    if not speedup or not verdict:
        return "latency not measured"
    value, _, ends = speed_text(speedup).partition(" (")
    ends = f" ({ends}" if ends else ""
    if verdict == "not resolved":
        return f"speed not resolved to differ ({value}{ends.replace(' (', ', ') or ')'}"
    return f"{value} faster{ends}" if verdict == "faster" else f"slower: {value} the speed{ends}"


def size_change(baseline: Any, compressed: Any) -> str:
    """`3.15x smaller`, `1.20x larger` or `the same size` (within half a per cent), of two sizes in bytes."""
    if not (finite(baseline) and finite(compressed) and baseline > 0 and compressed > 0):
        return "size not known"
    if abs(compressed / baseline - 1) < 0.005:
        return "the same size"
    return (
        f"{ratio(baseline / compressed)} smaller" if compressed < baseline else f"{ratio(compressed / baseline)} larger"
    )


def headline(record: RecordLike) -> str:
    """The verdict in one sentence, by rule from sizes and intervals, without the record's name."""
    before, after = (((record.get(side) or {}).get("sizes") or {}).get("bytes") for side in ("baseline", "compressed"))
    return f"{size_change(before, after)}, {speed_sentence(record)}, {drop_sentence(record)}"


def conditions(record: RecordLike) -> str:
    """Under what the figures hold: task, samples, provider, threads, batch and sittings."""
    task = clean((record.get("task") or {}).get("name", "task"))
    accuracy = (record.get("compressed") or {}).get("accuracy") or {}
    samples = f", {accuracy['n']:,} test samples" if finite(accuracy.get("n")) else ""
    latency = (record.get("compressed") or {}).get("latency")
    if not latency:
        return f"{task}{samples}; latency not measured"
    threads, sittings = latency.get("threads", "?"), latency.get("sittings")
    where = f"{latency.get('provider', '?')}, {threads} thread{'' if threads == 1 else 's'}"
    interleaved = f", {sittings} sittings of interleaved rounds" if finite(sittings) else ""
    floor = record.get("noise_floor")
    least = f", which tell differences from {100 * floor:.2g} % on" if finite(floor) else ""
    return clean(f"{task}{samples}; latency on {where}, batch {latency.get('batch', '?')}{interleaved}{least}")


def _moved(points: float, decimals: int) -> str:
    amount = signed(abs(points), decimals, plus=False)
    return amount if points >= 0 or not round(points, decimals) else f"gained {amount}"


def worst_class(record: RecordLike) -> str:
    """The class that lost most, where it beats the average: `cat lost 1.2 points, the average class 0.3`.

    Empty where no class lost more than the average one. One sample's share is given, since a class can be small.
    """
    entries = [e for e in record.get("per_class_drop") or () if finite(e.get("drop"))]
    if len(entries) < 2:
        return ""
    worst = max(entries, key=lambda e: float(e["drop"]))
    mean = sum(float(e["drop"]) for e in entries) / len(entries)
    if worst["drop"] <= 0 or worst["drop"] <= mean + 1e-9:
        return ""
    average = _moved(mean, 1)
    name = clean(worst["class"], 40)
    one = (
        f"; one sample of {name} is {100 / worst['n']:.2g} points" if finite(worst.get("n")) and worst["n"] > 0 else ""
    )
    return f"{name} lost {worst['drop']:.1f} points, the average class {average}{one}"


def _goal_amount(name: str, value: Any, absolute: bool, metric: Metric) -> str:
    if not finite(value):
        return clean(value) if isinstance(value, str) else "-"
    if "drop" in name:
        return (
            f"{signed(value, 2, plus=False)}{metric.points}"
            if metric.share
            else f"{value:.4g} of {clean(metric.label, 20)}"
        )
    if not absolute:
        return ratio(value)
    return show_amount(name.removeprefix("max_"), value)


def goal_sentence(goal: Mapping[str, Any], record: RecordLike) -> str:
    """`bytes at most 0.35x: 0.32x`; the status (`met`, `missed`, `not resolved`) is shown beside it.

    A limit that is a text (`"2MB"`, `"5ms"`) is absolute, and so is its value, in bytes, seconds or a count; a number
    is a ratio of the baseline.
    """
    name, metric = clean(goal.get("goal", "goal")), metric_of(record)
    absolute = isinstance(goal.get("limit"), str)
    limit, value = (_goal_amount(name, goal.get(key), absolute, metric) for key in ("limit", "value"))
    return f"{name.removeprefix('max_').replace('_', ' ')} at most {limit}: {value}"


def pass_sentence(entry: Mapping[str, Any]) -> str:
    """What one pass did to the sizes: `params 272 k -> 130 k, bits 32 -> 8.1; 21 changes`."""
    before, after = entry.get("sizes_before") or {}, entry.get("sizes_after") or {}
    moved = []
    for key, label in size_labels(before, after).items():
        old, new = before.get(key), after.get(key)
        if finite(old) and finite(new) and abs(new - old) > 1e-9 * abs(old):
            moved.append(f"{label} {show_amount(key, old)} -> {show_amount(key, new)}")
    changes = len(entry.get("changes") or ())
    noted = f"; {changes} change{'' if changes == 1 else 's'}" if changes else ""
    return (", ".join(moved) or "no size changed") + noted


def agreement_sentence(agreement: Mapping[str, Any] | None, int8_path: str | None = None) -> str:
    """A warning where a machine computes something else than the one that packed the model; empty where it does not.

    int8_path : how this machine multiplies int8, as in `environment`, where the model is an int8 one: it may saturate.
    """
    known = agreement or {}
    n, same, sqnr = known.get("n"), known.get("same"), known.get("sqnr_db")
    differ = n - same if finite(n) and finite(same) else 0
    many = finite(n) and differ > MANY_DIFFER * n
    if not many and not (finite(sqnr) and sqnr < SAME_SQNR_DB):
        return ""
    figures = [f"{differ} of {n} answers differ"] if differ else []
    figures += [f"the largest difference is {known['max_abs']:.3g}"] if finite(known.get("max_abs")) else []
    figures += [f"SQNR {sqnr:.0f} dB, where rounding leaves {SAME_SQNR_DB:.0f} or more"] if finite(sqnr) else []
    text = f"it computes something else here than where it was packed: {', '.join(figures)}"
    if int8_path not in ("avx2", "avx512"):
        return text
    return f"{text}. Without int8 dot products ({int8_path}) int8 sums can saturate: quantize it with reduce_range"
