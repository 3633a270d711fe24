"""Records as types: what one run, comparison, trial or law says of itself, and the one tolerant reader of them.

A Record is one JSON object. The dataclasses here are its schema (`leanfit schema record` prints it): a field is a key
of the same name. The reader never raises: what has another type than expected is None (or empty), with a sentence that
says where; keys it does not know are kept in `extra`. So a file of an older leanfit, or one edited by hand, is shown as
far as it can be, and what a field holds is of its type: numbers are finite, texts have no control characters. Raw
samples alone are kept as they came; `sample_table` reads them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evaluate.core.bench_parts import Failure, Floor, Machine, Profile, Result, Scenario
from evaluate.core.blocks import RAW, Block, define_block, misshapen, read_block
from evaluate.core.record_parts import (
    Accuracy,
    ClassDrop,
    Drop,
    Environment,
    Goal,
    PassEntry,
    Side,
    Sizes,
    Speedup,
    TaskEntry,
)
from evaluate.core.whole_files import plain

SCHEMA = 1
R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Record(Block):
    """What every kind of Record has. `raw` is the JSON object it was read from, or will be written as."""

    schema: float | None = None
    kind: str | None = None
    id: str | None = None
    created: str | None = None
    name: str | None = None
    leanfit: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, metadata={"json": None})

    @classmethod
    def of(cls: type[R], entries: Mapping[str, Any]) -> R:
        """The Record of these entries: how all are made. `raw` is what is written.

        Raises TypeError, a bug of ours, for an entry that has another type than this Record.
        """
        written, problems = plain(entries), list[str]()
        record = read_block(cls, written, "", problems)
        if problems:
            raise TypeError(f"a Record of kind {entries.get('kind')} was made wrong: {problems[0]}")
        return dataclasses.replace(record, raw=written)


@dataclass(frozen=True)
class CompressRecord(Record):
    """One run of a recipe: kind "compress"."""

    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_hash: str | None = None
    task: TaskEntry | None = None
    artifact: str | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    environment: Environment | None = None
    baseline: Side | None = None
    compressed: Side | None = None
    passes: tuple[PassEntry, ...] = ()
    drop: Drop | None = None
    per_class_drop: tuple[ClassDrop, ...] = ()
    speedup: Speedup | None = None
    noise_floor: float | None = None
    samples: Any = field(default=None, metadata=RAW)
    goals: tuple[Goal, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class BenchRecord(Record):
    """One comparison, profile or load scenario: kind "bench"."""

    environment: Environment | None = None
    machine: Machine | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    results: tuple[Result, ...] = ()
    floors: tuple[Floor, ...] = ()
    failed: tuple[Failure, ...] = ()
    profiles: tuple[Profile, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class TrialRecord(Record):
    """One trial of a study: kind "trial"."""

    study: str | None = None
    role: str | None = None
    size: dict[str, Any] = field(default_factory=dict)
    level: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    seed: float | None = None
    native: Any = None
    recipe_hash: str | None = None
    status: str | None = None
    reason: dict[str, Any] = field(default_factory=dict)
    task: TaskEntry | None = None
    sizes: Sizes | None = None
    baseline: dict[str, Any] = field(default_factory=dict)
    retained: dict[str, float] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    error: float | None = None
    loss: float | None = None
    drop: Drop | None = None
    train_samples: float | None = None
    train_macs: float | None = None
    seconds: float | None = None
    stages: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LawRecord(Record):
    """A fitted law as a report shows it: kind "law". `evaluate.scaling` reads the law itself from `raw`."""

    law: str | None = None
    variables: tuple[str, ...] = ()
    target: str | None = None
    params: dict[str, float] = field(default_factory=dict)
    points: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageLine(Record):
    """A finished stage of a run: kind "stage"."""

    key: str | None = None
    seconds: float | None = None
    ended: float | None = None


KINDS: dict[str, type[Record]] = {
    "compress": CompressRecord,
    "bench": BenchRecord,
    "trial": TrialRecord,
    "law": LawRecord,
    "stage": StageLine,
}

_RUN_PARTS = {one.name for one in dataclasses.fields(CompressRecord)} - {one.name for one in dataclasses.fields(Record)}


def read_record(value: Any, problems: list[str] | None = None) -> Record | None:
    """The Record in a JSON value; None where it is none at all. Never raises.

    problems : gets a sentence for each part that is not of its type, at most MOST_PROBLEMS of them.
    """
    told = problems if problems is not None else []
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        told.append('this is no Record: it is not an object with a text "kind"')
        return None
    if fault := _other_schema(value):
        told.append(f"this Record {fault}")
        return None
    return dataclasses.replace(read_block(_kind(value), value, "", told), raw=value)


def repaired(value: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """A line of a journal as its type has it, and what is wrong with it, as the end of a sentence; None to skip it.

    What a wrong entry holds becomes null or empty; an object without a kind is judged where it has parts of a run.
    """
    if fault := _other_schema(value):
        return None, f"{fault}; it was skipped"
    if not isinstance(value.get("kind"), str) and _RUN_PARTS.isdisjoint(value):
        return dict(value), ""
    kind, problems = _kind(value), list[str]()
    if wrong := misshapen(kind, value):
        return None, f"has another {', '.join(wrong)} than leanfit writes; it was skipped"
    record = read_block(kind, value, "", problems)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return (record.to_json(), f"is not whole: {problems[0]}{more}; it was left out") if problems else (dict(value), "")


def _kind(value: Mapping[str, Any]) -> type[Record]:
    """One without a kind that is known here is shown as a run, as far as it is one."""
    kind = value.get("kind")
    return KINDS.get(kind, CompressRecord) if isinstance(kind, str) else CompressRecord


def _other_schema(value: Mapping[str, Any]) -> str:
    """That a Record is of another schema, as the end of a sentence; empty where it is not."""
    given = value.get("schema", SCHEMA)
    if given == SCHEMA and not isinstance(given, bool):
        return ""
    shown = given if isinstance(given, (int, str)) and len(str(given)[:50]) < 10 else "unknown"
    return f"has schema {shown!r}, and this leanfit reads {SCHEMA} (update leanfit)"


def sample_table(value: Any) -> list[list[list[float]]]:
    """Raw samples (session runs, rounds, n) in seconds, where they are such; [] otherwise."""
    try:
        table = [[[float(x) for x in calls] for calls in rounds] for rounds in value]
    except (TypeError, ValueError, OverflowError):
        return []
    return table if all(math.isfinite(x) for rounds in table for calls in rounds for x in calls) else []


def record_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of every kind of Record."""
    definitions: dict[str, Any] = {}
    for name, kind in KINDS.items():
        define_block(kind, definitions)
        definitions[kind.__name__]["properties"]["kind"] = {"const": name}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "leanfit Record",
        "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in KINDS.values()],
        "$defs": dict(sorted(definitions.items())),
    }
