"""The table at the end of a study: one row for every size and level, means over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.study.trial_records import FAILED, FINISHED
from evaluate.core.text import count, size

Record = Mapping[str, Any]
HEADS = ("size", "level", "role", "seeds", "params", "bytes", "error %", "spread", "loss", "retained")
WORDS = 3  # columns of it


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Finished trials by size, level and data: means over the seeds, smallest models first; JSON-able.

    error : mean of the error (for accuracy a fraction 0 to 1); spread: its standard deviation over the seeds, or None.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["status"] == FINISHED:
            groups.setdefault(str([record[k] for k in ("size", "level", "data", "role")]), []).append(record)
    return sorted((_row(group) for group in groups.values()), key=_order)


def _row(group: Sequence[Record]) -> dict[str, Any]:
    first = group[0]
    errors = [float(record["error"]) for record in group]
    mean = sum(errors) / len(errors)
    losses = [record["loss"] for record in group if record["loss"] is not None]
    square = sum((error - mean) ** 2 for error in errors)
    return {
        **{key: first[key] for key in ("size", "level", "data", "role")},
        "metric": first["accuracy"]["metric"],
        "seeds": len(group),
        "params": _mean([record["sizes"]["params"] for record in group]),
        "bytes": _mean([record["sizes"]["bytes"] for record in group]),
        "error": mean,
        "spread": (square / (len(errors) - 1)) ** 0.5 if len(errors) > 1 else None,
        "loss": sum(losses) / len(losses) if losses else None,
        "retained": sum(record["retained"]["params"] for record in group) / len(group),
    }


def _mean(values: Sequence[float]) -> int:
    return round(sum(values) / len(values))


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return str(row["data"]), row["level"]["name"] == "native", -row["params"], str(row["level"])


def table(records: Sequence[Record]) -> str:
    """The rows as text, and a line for every failed trial."""
    found = rows(records)
    lines = [HEADS, *(_cells(row) for row in found)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(HEADS))]
    text = [_aligned(line, widths) for line in lines]
    failed = [record for record in records if record["status"] == FAILED]
    return "\n".join([*text, *(f"failed: {words(r)}: {r['reason']['message']}" for r in failed)])


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, figures to the right."""
    padded = [c.ljust(w) if n < WORDS else c.rjust(w) for n, (c, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()


def words(record: Record) -> str:
    """What a trial was: `width 8, pruned density 0.5, seed 0`."""
    return f"{_pairs(record['size'])}, {_level(record)}, seed {record['seed']}"


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key} {value}" for key, value in values.items())


def _level(row: Mapping[str, Any]) -> str:
    values = _pairs({k: v for k, v in row["level"].items() if k not in ("name", "bits")})
    data = f" ({_pairs(row['data'])})" if row["data"] else ""
    return f"{row['level']['name']} {values}".strip() + data


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    scale = 100 if row["metric"] == "accuracy" else 1
    spread, loss = row["spread"], row["loss"]
    return (
        _pairs(row["size"]), _level(row), row["role"], str(row["seeds"]), count(row["params"]), size(row["bytes"]),
        f"{scale * row['error']:.4g}", "" if spread is None else f"{scale * spread:.2g}",
        "" if loss is None else f"{loss:.4g}", f"{row['retained']:.3f}",
    )  # fmt: skip
