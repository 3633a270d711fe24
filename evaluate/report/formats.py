"""Records as tables for other programs: CSV, Markdown and JSON, a row a run, a measured model, a trial or a law.

The rows are the same in every format: raw numbers in the units of the Record (bytes, milliseconds, points), a verdict
where one was given, nothing where a Record holds nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from evaluate.core.blocks import Block
from evaluate.core.errors import UsageError, did_you_mean
from evaluate.core.record_parts import Accuracy, Drop, Latency, Sizes, Speedup
from evaluate.core.records import BenchRecord, CompressRecord, LawRecord, Record, TrialRecord, read_record
from evaluate.metrics.base import metric_of
from evaluate.report.messages.run_messages import drop_verdict

Row = dict[str, Any]
Tables = dict[str, list[Row]]
SIZES = ("params", "nonzero", "macs", "bytes", "packed_bytes", "bits")


def tables(records: Iterable[Mapping[str, Any] | Record]) -> Tables:
    """{"runs", "benchmarks", "trials", "laws"} -> rows with the same keys in all; only tables that have rows."""
    found: Tables = {name: [] for name in ("runs", "benchmarks", "trials", "laws")}
    for one in records:
        record = one if isinstance(one, Record) else read_record(one)
        if isinstance(record, CompressRecord):
            found["runs"].append(_run(record))
        elif isinstance(record, BenchRecord):
            found["benchmarks"] += _bench(record)
        elif isinstance(record, TrialRecord):
            found["trials"].append(_trial(record))
        elif isinstance(record, LawRecord):
            found["laws"].append({"name": record.name, "law": record.law, "target": record.target, **record.params})
    return {name: _squared(rows) for name, rows in found.items() if rows}


def _squared(rows: Sequence[Row]) -> list[Row]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


def _run(record: CompressRecord) -> Row:
    base, comp = record.baseline, record.compressed
    return {
        "name": record.name,
        "created": record.created,
        "task": record.task.name,
        "machine": _machine(record),
        **_accuracy(base.accuracy, "baseline_"),
        **_accuracy(comp.accuracy, "compressed_"),
        **_drop(record.drop, comp.accuracy),
        **_latency(base.latency, "baseline_"),
        **_latency(comp.latency, "compressed_"),
        **_speedup(record.speedup),
        **_sizes(base.sizes, "baseline_"),
        **_sizes(comp.sizes, "compressed_"),
        "passes": " ".join(entry.kind or "?" for entry in record.passes),
        "goals_missed": " ".join(goal.goal or "?" for goal in record.goals if goal.status == "missed"),
        "seconds": record.seconds,
        "id": record.id,
    }


def _machine(record: CompressRecord | BenchRecord) -> str | None:
    return record.environment.cpu.name


def _bench(record: BenchRecord) -> Iterator[Row]:
    for result in record.results:
        latency = result.latency
        yield {
            "benchmark": record.name,
            "created": record.created,
            "machine": _machine(record),
            "model": result.name,
            "baseline": result.baseline,
            "provider": latency.provider,
            "threads": latency.threads,
            "batch": latency.batch,
            **_latency(latency),
            "p90_ms": latency.p90,
            "p99_ms": latency.p99,
            **_speedup(result.speedup),
            "noise_floor": result.noise_floor,
            **_accuracy(result.accuracy),
            **_drop(result.drop, result.accuracy),
            "bytes": result.sizes.bytes,
            "sha256": result.sha256,
        }


def _trial(record: TrialRecord) -> Row:
    return {
        "study": record.study,
        "role": record.role,
        **{f"size_{key}": value for key, value in record.size.items()},
        "level": record.level.get("name"),
        "seed": record.seed,
        "status": record.status,
        **_sizes(record.sizes),
        **_accuracy(record.accuracy),
        "error": record.error,
        "loss": record.loss,
        **_drop(record.drop, record.accuracy),
        "seconds": record.seconds,
        "id": record.id,
    }


def _fields(known: Block, names: Sequence[str], prefix: str = "") -> Row:
    """Fields of a part of a Record under names of their own."""
    return {f"{prefix}{name}": getattr(known, name) for name in names}


def _accuracy(known: Accuracy, prefix: str = "") -> Row:
    return _fields(known, ("metric", "value", "low", "high", "n"), prefix)


def _sizes(known: Sizes, prefix: str = "") -> Row:
    return _fields(known, SIZES, prefix)


def _latency(known: Latency, prefix: str = "") -> Row:
    return {**_fields(known, ("median_ms",), prefix), **_fields(known, ("low", "high"), f"{prefix}latency_")}


def _speedup(known: Speedup) -> Row:
    return {"speedup": known.value, **_fields(known, ("low", "high", "verdict"), "speedup_")}


def _drop(known: Drop, accuracy: Accuracy) -> Row:
    verdict = drop_verdict(known, metric_of(accuracy)) if known.value is not None and accuracy else ""
    return {"drop": known.value, "drop_low": known.low, "drop_high": known.high, "drop_verdict": verdict or None}


def as_csv(found: Tables) -> str:
    """All rows under one head, the first column naming their table. Text that a spreadsheet would run is quoted."""
    heads = dict.fromkeys(key for rows in found.values() for key in rows[0])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", *heads])
    for name, rows in found.items():
        writer.writerows([name, *(_csv_cell(row.get(key)) for key in heads)] for row in rows)
    return out.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return "" if value is None else value


def as_markdown(found: Tables) -> str:
    """A table a kind; columns in which nothing stands are left out."""
    parts = []
    for name, rows in found.items():
        keys = [key for key in rows[0] if any(row[key] not in (None, "") for row in rows)]
        lines = [f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
        lines += [f"| {' | '.join(_md_cell(row[key]) for key in keys)} |" for row in rows]
        parts.append(f"## {name}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _md_cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if value is None else str(value)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def as_json(found: Tables) -> str:
    """{"runs": [...], ...}: one object."""
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Tables], str]] = {"csv": as_csv, "md": as_markdown, "json": as_json}


def exported(records: Iterable[Mapping[str, Any] | Record], kind: str) -> str:
    """The tables of these Records in a format of FORMATS. Raises UsageError for another one."""
    if kind not in FORMATS:
        raise UsageError(
            f"there is no format {kind!r}{did_you_mean(kind, FORMATS)}; formats: html, {', '.join(FORMATS)}"
        )
    return FORMATS[kind](tables(records))
