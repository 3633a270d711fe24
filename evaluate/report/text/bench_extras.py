"""Scenarios and profiles inside a bench Record, made safe to show: they come from their own rooms, or from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from evaluate.core.text import clean, duration
from evaluate.load_test.rate_result import rate_text
from evaluate.report.messages.bench_blocks import Entry, listed, name_of
from evaluate.report.messages.run_messages import RecordLike
from evaluate.report.text.profile_table import profile_table
from evaluate.report.text.scenario_table import scenario_table

T = TypeVar("T")
UNREADABLE = "(an entry of this record is not as leanfit writes it, and is not shown)"


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


def extra_lines(record: RecordLike, width: int, color: bool) -> list[str]:
    """Scenarios and profiles as the lines of a text table; [] where there are none."""
    lines: list[str] = []
    for entry in scenarios_of(record):
        lines += ["", *safely(partial(scenario_table, [entry], width, color), UNREADABLE).split("\n")]
    profiles = profiles_of(record)
    if profiles:
        shown = safely(partial(profile_table, profiles, width, color), UNREADABLE)
        lines += ["", "where the time goes", *shown.split("\n")]
    return lines


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
