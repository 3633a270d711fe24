"""Records as types: what one run, comparison, trial or law says of itself, and the one tolerant reader of them.

A Record is one JSON object. The dataclasses here are its schema (`leanfit schema record` prints it): a field is a key
of the same name. The reader never raises: what has another type than expected is None (or empty), with a sentence that
says where; keys it does not know are kept in `extra`. So a file of an older leanfit, or one edited by hand, is shown as
far as it can be, and what a field holds is of its type: numbers are finite, texts have no control characters. Raw
samples alone are kept as they came; `sample_table` reads them.

Records in JSON files: one Record, or a list of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from evaluate.core.bench_parts import Failure, Floor, Machine, Profile, Result, Scenario
from evaluate.core.blocks import RAW, Block, as_block, define_block, misshapen, read_block
from evaluate.core.errors import MachineError
from evaluate.core.record_parts import (
    Accuracy,
    ClassDrop,
    Drop,
    Environment,
    Goal,
    HeadEntry,
    PassEntry,
    Side,
    Sizes,
    Speedup,
    TaskEntry,
)
from evaluate.core.whole_files import is_special, plain, write_whole

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
    task: TaskEntry = field(default_factory=TaskEntry)
    artifact: str | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)
    baseline: Side = field(default_factory=Side)
    compressed: Side = field(default_factory=Side)
    passes: tuple[PassEntry, ...] = ()
    drop: Drop = field(default_factory=Drop)
    per_class_drop: tuple[ClassDrop, ...] = ()
    heads: tuple[HeadEntry, ...] = ()
    speedup: Speedup = field(default_factory=Speedup)
    noise_floor: float | None = None
    samples: Any = field(default=None, metadata=RAW)
    goals: tuple[Goal, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float | None = None

    def own_warnings(self) -> list[str]:
        """The warnings that none of its passes gave."""
        given = {text for entry in self.passes for text in entry.warnings}
        return [text for text in self.warnings if text not in given]


@dataclass(frozen=True)
class BenchRecord(Record):
    """One comparison, profile or load scenario: kind "bench"."""

    environment: Environment = field(default_factory=Environment)
    machine: Machine = field(default_factory=Machine)
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
    task: TaskEntry = field(default_factory=TaskEntry)
    sizes: Sizes = field(default_factory=Sizes)
    baseline: dict[str, Any] = field(default_factory=dict)
    retained: dict[str, float] = field(default_factory=dict)
    accuracy: Accuracy = field(default_factory=Accuracy)
    error: float | None = None
    loss: float | None = None
    drop: Drop = field(default_factory=Drop)
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


def as_record(value: Mapping[str, Any] | Record) -> Record:
    """A Record to show: one without a kind that is known here as a run, as far as it is one. Never raises."""
    return value if isinstance(value, Record) else dataclasses.replace(as_block(_kind(value), value), raw=value)


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


def holds_records(path: Path) -> bool:
    """Whether a JSON file may hold Records: it has the words "schema" and "kind", and can be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return b'"schema"' in data and b'"kind"' in data


def read_json_records(path: Path, *, quiet: bool = False) -> tuple[list[dict[str, Any]], list[str]] | None:
    """The Records in a JSON file, and a sentence for each one that cannot be used; None where it holds JSON lines.

    quiet : say nothing of objects that are no Records, as in a folder that holds other people's JSON.
    Raises OSError where the file cannot be read.
    """
    data = path.read_bytes()
    value = _parsed(data)
    if value is None:
        torn = f"{path}: this file is not whole JSON (was it cut off?); it was skipped: copy or write it again"
        return None if _parsed(data.partition(b"\n")[0]) is not None else ([], [torn])
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, item in enumerate(value if isinstance(value, list) else [value], start=1):
        where = f"{path}: record {number}" if isinstance(value, list) else f"{path}: this record"
        if not _is_record(item):
            said = f'{where} has no "schema" and "kind": it is no Record of leanfit; it was skipped'
            problems += [] if quiet else [said]
            continue
        record, fault = repaired(item)
        problems += [f"{where} {fault}"] if fault else []
        found += [record] if record is not None else []
    return found, problems


def _parsed(data: bytes) -> Any:
    """The JSON value; None for what is no JSON (and for null)."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_record(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("schema"), int) and isinstance(item.get("kind"), str)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one Record as a JSON file: whole, or not at all; numbers that are not finite become null.

    Raises MachineError where it cannot be written.
    """
    write_whole(path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n")


def require_writable(path: Path, option: str) -> None:
    """Raise MachineError, before anything is measured, where a Record could not be written to `path` afterwards.

    A file that is there and holds something else than Records is left alone. option : the flag that names it.
    """
    if is_special(path):
        return
    folder = path.parent
    if path.is_dir():
        raise MachineError(f"{path} is a folder; {option} takes the name of a file, as {path / 'out.json'}")
    if not folder.is_dir():
        raise MachineError(f"there is no folder {folder} for {option}; make it, or choose another place")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise MachineError(f"{path} may not be written; choose another place for {option}, or change its rights")
    if path.exists() and path.stat().st_size:
        held = read_json_records(path, quiet=True)
        if held is None or not held[0]:
            raise MachineError(f"{path} is there and holds no Record; it was left alone: name another file by {option}")
