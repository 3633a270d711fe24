"""Records as points: what each trial of a study, and each run of `leanfit compress`, says about size and performance.

Columns: role (dense, compressed, native), level, study, task, run (what shares a baseline: size, data and seed), the
sizes params, nonzero, macs, bytes, packed_bytes, bits; density, retained_macs, retained_bytes (over the baseline's, 0
to 1); error and accuracy as fractions 0 to 1; loss; samples (of training data); compute (MACs of training); seconds;
seed; and every value of the size (width, depth) and of the level. A name that is taken gets "level_" before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.metrics.base import metric_of

Row = dict[str, Any]
NAMES = ("role", "level", "study", "task", "run", "data")
"""Columns that hold names, in every trial."""
SIZES = ("params", "nonzero", "macs", "bytes", "packed_bytes", "bits")


def is_record(row: Mapping[str, Any]) -> bool:
    """Whether a row of JSON is a Record of leanfit, not a point."""
    return isinstance(row.get("kind"), str) and isinstance(row.get("schema"), int)


def rows_of_records(records: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[str], list[str]]:
    """(rows, what each is called, problems). A Record with the id of an earlier one takes its place."""
    unique = {_identity(record, number): record for number, record in enumerate(records)}
    rows: list[Row] = []
    labels: list[str] = []
    failed: list[str] = []
    for record in unique.values():
        name = str(record.get("id") or record.get("name") or "unnamed")[:12]
        if record.get("kind") == "trial" and record.get("status", "finished") != "finished":
            failed.append(f"{name} ({_reason(record)})")
        found = _rows(record)
        rows += found
        labels += [f"{record.get('kind')} {name}" if len(found) == 1 else f"{name} {row['role']}" for row in found]
    problems = []
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        count = f"{len(failed)} trials failed and are no points" if failed[1:] else "1 trial failed and is no point"
        problems.append(f"{count}: {', '.join(failed[:3])}{more}")
    return rows, labels, problems


def _identity(record: Mapping[str, Any], number: int) -> str | int:
    """What tells a Record from others: its id, which in a stranger's file may be anything; else its place."""
    found = record.get("id")
    return found if isinstance(found, str) and found else number


def _reason(record: Mapping[str, Any]) -> str:
    reason = record.get("reason")
    words = reason.get("message") or reason.get("kind") if isinstance(reason, Mapping) else reason
    return str(words or "no reason given").splitlines()[0][:80]


def _rows(record: Mapping[str, Any]) -> list[Row]:
    if record.get("kind") == "trial" and record.get("status", "finished") == "finished":
        return [_trial(record)]
    if record.get("kind") == "compress":
        return _run(record)
    return []


def _trial(record: Mapping[str, Any]) -> Row:
    size, level, retained = _block(record, "size"), _block(record, "level"), _block(record, "retained")
    sizes = _block(record, "sizes")
    row: Row = {
        "role": record.get("role"), "level": level.get("name"), "study": record.get("study"),
        "task": _block(record, "task").get("name"),
        "run": _run_name({**size, **_block(record, "data")}, record.get("seed")),
        **{name: sizes.get(name) for name in SIZES},
        "density": retained.get("params"), "retained_macs": retained.get("macs"),
        "retained_bytes": retained.get("bytes"),
        **_performance(_block(record, "accuracy"), record.get("error"), record.get("loss")),
        "data": _data_name(_block(record, "data")), "samples": record.get("train_samples"),
        "compute": record.get("train_macs"), "seconds": record.get("seconds"), "seed": record.get("seed"),
    }  # fmt: skip
    for name, value in [*size.items(), *((n, v) for n, v in level.items() if n != "name")]:
        row.setdefault(name if name not in row else f"level_{name}", value)
    return row


def _data_name(data: Mapping[str, Any]) -> str:
    """What a trial had less of, as "samples 100, epochs 108"; "full" for one that had all."""
    return ", ".join(f"{name} {value}" for name, value in data.items()) or "full"


def _run(record: Mapping[str, Any]) -> list[Row]:
    """The baseline of a run and what it was made into."""
    recipe = _block(record, "recipe")
    model, base = _block(recipe, "model"), _block(_block(record, "baseline"), "sizes")
    size = {name: value for name, value in model.items() if _is_number(value)}
    rows = []
    for role, side in (("dense", "baseline"), ("compressed", "compressed")):
        sizes = _block(_block(record, side), "sizes")
        row: Row = {
            "role": role, "level": "dense" if side == "baseline" else record.get("name"),
            "task": _block(record, "task").get("name"), "run": _run_name(size, recipe.get("seed")),
            **{name: sizes.get(name) for name in SIZES},
            "density": _ratio(sizes, base, "params"), "retained_macs": _ratio(sizes, base, "macs"),
            "retained_bytes": _ratio(sizes, base, "bytes"),
            **_performance(_block(_block(record, side), "accuracy"), None, None),
            "samples": _block(_block(record, "task"), "splits").get("train"), "seed": recipe.get("seed"),
        }  # fmt: skip
        rows.append({**size, **row})
    return rows


def _performance(accuracy: Mapping[str, Any], error: Any, loss: Any) -> Row:
    """Fractions; a metric that is no share of right answers (mse) is the loss."""
    value = accuracy.get("value")
    if value is not None and _is_number(value) and metric_of(accuracy).share:
        return {"error": 1 - value / 100 if error is None else error, "accuracy": value / 100, "loss": loss}
    return {"error": error, "accuracy": None, "loss": value if loss is None and _is_number(value) else loss}


def _ratio(sizes: Mapping[str, Any], base: Mapping[str, Any], name: str) -> Any:
    part: Any = sizes.get(name)
    whole: Any = base.get(name)
    return part / whole if _is_number(part) and _is_number(whole) and whole else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _run_name(size: Mapping[str, Any], seed: Any) -> str:
    return ", ".join([*(f"{name} {value}" for name, value in size.items()), f"seed {seed}"])


def _block(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a Record; empty where it is missing or of another kind."""
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}
