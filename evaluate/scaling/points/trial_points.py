"""Records as points: what each trial of a study, and each run of `leanfit compress`, says about size and performance.

Columns: role (dense, compressed, native), level, study, task, run (what shares a baseline: size, data and seed), the
sizes params, nonzero, macs, bytes, packed_bytes, bits; density, retained_macs, retained_bytes (over the baseline's, 0
to 1); error and accuracy as fractions 0 to 1; loss; samples (of training data); compute (MACs of training); seconds;
seed; and every value of the size (width, depth) and of the level. A name that is taken gets "level_" before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.record_parts import Accuracy, Side, Sizes
from evaluate.core.records import CompressRecord, Record, TrialRecord, read_record
from evaluate.core.text import a_few
from evaluate.metrics.base import metric_of

Row = dict[str, Any]
NAMES = ("role", "level", "study", "task", "run", "data")
"""Columns that hold names, in every trial."""
SIZES = ("params", "nonzero", "macs", "bytes", "packed_bytes", "bits")
FINISHED = "finished"


def is_record(row: Mapping[str, Any]) -> bool:
    """Whether a row of JSON is a Record of leanfit, not a point."""
    return isinstance(row.get("kind"), str) and isinstance(row.get("schema"), int)


def rows_of_records(records: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[str], list[str]]:
    """(rows, what each is called, problems). A Record with the id of an earlier one takes its place."""
    rows: list[Row] = []
    labels: list[str] = []
    failed: list[str] = []
    problems: list[str] = []
    known = []
    for value in records:
        told: list[str] = []
        record = read_record(value, told)
        if record is None:
            problems += told[:1]
        else:
            known.append(record)
    for record in {record.id or number: record for number, record in enumerate(known)}.values():
        name = (record.id or record.name or "unnamed")[:12]
        if isinstance(record, TrialRecord) and (record.status or FINISHED) != FINISHED:
            failed.append(f"{name} ({_reason(record)})")
        found = _rows(record)
        rows += found
        labels += [f"{record.kind} {name}" if len(found) == 1 else f"{name} {row['role']}" for row in found]
    if failed:
        count = f"{len(failed)} trials failed and are no points" if failed[1:] else "1 trial failed and is no point"
        problems.append(f"{count}: {a_few(failed, 3)}")
    return rows, labels, problems


def _reason(record: TrialRecord) -> str:
    written = record.raw.get("reason")
    words = record.reason.get("message") or record.reason.get("kind") or (written if isinstance(written, str) else "")
    return str(words or "no reason given").splitlines()[0][:80]


def _rows(record: Record) -> list[Row]:
    if isinstance(record, TrialRecord):
        return [_trial(record)] if (record.status or FINISHED) == FINISHED else []
    if isinstance(record, CompressRecord):
        base = record.baseline
        return [_side(record, "dense", base, base), _side(record, "compressed", record.compressed, base)]
    return []


def _trial(record: TrialRecord) -> Row:
    retained = record.retained
    row: Row = {
        "role": record.role, "level": record.level.get("name"), "study": record.study,
        "task": record.task.name,
        "run": _run_name({**record.size, **record.data}, record.seed), **_sizes(record.sizes),
        "density": retained.get("params"), "retained_macs": retained.get("macs"),
        "retained_bytes": retained.get("bytes"), **_performance(record.accuracy, record.error, record.loss),
        "data": ", ".join(f"{name} {value}" for name, value in record.data.items()) or "full",
        "samples": record.train_samples, "compute": record.train_macs, "seconds": record.seconds, "seed": record.seed,
    }  # fmt: skip
    for name, value in [*record.size.items(), *((n, v) for n, v in record.level.items() if n != "name")]:
        row.setdefault(name if name not in row else f"level_{name}", value)
    return row


def _side(record: CompressRecord, role: str, side: Side, base: Side) -> Row:
    """The baseline of a run, or what it was made into."""
    model, seed, whole = record.recipe.get("model"), record.recipe.get("seed"), base.sizes
    size = {name: value for name, value in model.items() if _is_number(value)} if isinstance(model, Mapping) else {}
    task, sizes = record.task, side.sizes
    return {
        **size, "role": role, "level": "dense" if role == "dense" else record.name, "task": task.name,
        "run": _run_name(size, seed), **_sizes(sizes), "density": _ratio(sizes.params, whole.params),
        "retained_macs": _ratio(sizes.macs, whole.macs), "retained_bytes": _ratio(sizes.bytes, whole.bytes),
        **_performance(side.accuracy, None, None), "samples": task.splits.get("train"), "seed": seed,
    }  # fmt: skip


def _sizes(sizes: Sizes) -> Row:
    return {name: getattr(sizes, name) for name in SIZES}


def _performance(accuracy: Accuracy, error: float | None, loss: float | None) -> Row:
    """Fractions; a metric that is no share of right answers (mse) is the loss."""
    value = accuracy.value
    if value is not None and metric_of(accuracy).share:
        return {"error": 1 - value / 100 if error is None else error, "accuracy": value / 100, "loss": loss}
    return {"error": error, "accuracy": None, "loss": value if loss is None else loss}


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _run_name(size: Mapping[str, Any], seed: Any) -> str:
    return ", ".join([*(f"{name} {value}" for name, value in size.items()), f"seed {seed}"])
