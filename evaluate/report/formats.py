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
    cpu = record.environment.cpu if record.environment else None
    return {
        "name": record.name,
        "created": record.created,
        "task": record.task.name if record.task else None,
        "machine": cpu.name if cpu else None,
        **_accuracy(base.accuracy if base else None, "baseline_"),
        **_accuracy(comp.accuracy if comp else None, "compressed_"),
        **_drop(record.drop, comp.accuracy if comp else None),
        **_latency(base.latency if base else None, "baseline_"),
        **_latency(comp.latency if comp else None, "compressed_"),
        **_speedup(record.speedup),
        **_sizes(base.sizes if base else None, "baseline_"),
        **_sizes(comp.sizes if comp else None, "compressed_"),
        "passes": " ".join(entry.kind or "?" for entry in record.passes),
        "goals_missed": " ".join(goal.goal or "?" for goal in record.goals if goal.status == "missed"),
        "seconds": record.seconds,
        "id": record.id,
    }


def _bench(record: BenchRecord) -> Iterator[Row]:
    cpu = record.environment.cpu if record.environment else None
    for result in record.results:
        latency = result.latency
        yield {
            "benchmark": record.name,
            "created": record.created,
            "machine": cpu.name if cpu else None,
            "model": result.name,
            "baseline": result.baseline,
            "provider": latency.provider if latency else None,
            "threads": latency.threads if latency else None,
            "batch": latency.batch if latency else None,
            **_latency(latency, ""),
            "p90_ms": latency.p90 if latency else None,
            "p99_ms": latency.p99 if latency else None,
            **_speedup(result.speedup),
            "noise_floor": result.noise_floor,
            **_accuracy(result.accuracy, ""),
            **_drop(result.drop, result.accuracy),
            "bytes": result.sizes.bytes if result.sizes else None,
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
        **_sizes(record.sizes, ""),
        **_accuracy(record.accuracy, ""),
        "error": record.error,
        "loss": record.loss,
        **_drop(record.drop, record.accuracy),
        "seconds": record.seconds,
        "id": record.id,
    }


def _accuracy(known: Accuracy | None, prefix: str) -> Row:
    known = known or Accuracy()
    values = {"metric": known.metric, "value": known.value, "low": known.low, "high": known.high, "n": known.n}
    return {f"{prefix}{key}": value for key, value in values.items()}


def _drop(known: Drop | None, accuracy: Accuracy | None) -> Row:
    known = known or Drop()
    values = {"value": known.value, "low": known.low, "high": known.high}
    verdict = (
        drop_verdict(values, metric_of({"metric": accuracy.metric})) if accuracy and known.value is not None else ""
    )
    return {"drop": known.value, "drop_low": known.low, "drop_high": known.high, "drop_verdict": verdict or None}


def _latency(known: Latency | None, prefix: str) -> Row:
    known = known or Latency()
    return {
        f"{prefix}median_ms": known.median_ms,
        f"{prefix}latency_low": known.low,
        f"{prefix}latency_high": known.high,
    }


def _speedup(known: Speedup | None) -> Row:
    known = known or Speedup()
    values = {"speedup": known.value, "speedup_low": known.low, "speedup_high": known.high}
    return {**values, "speedup_verdict": known.verdict}


def _sizes(known: Sizes | None, prefix: str) -> Row:
    known = known or Sizes()
    return {f"{prefix}{key}": getattr(known, key) for key in SIZES}


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
