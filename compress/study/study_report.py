"""What a study says at its end: its table, the laws it asked for, fitted to its finished trials, and report.html."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import __version__
from compress.core.files import hash_of, write_json
from compress.core.progress import Status, silent
from compress.study.trial_records import FAILED, FINISHED
from evaluate.core.errors import LeanfitError
from evaluate.core.journal import JOURNAL
from evaluate.core.text import count, size
from evaluate.metrics.base import metric_of

if TYPE_CHECKING:
    from compress.study.run_study import StudyResult


LAWS = "laws.json"
PAGE = "report.html"
Fitted = tuple[dict[str, Any] | None, str]


@dataclass(frozen=True)
class StudyReport:
    """The laws of a study as JSON, a sentence for each, and the page; None where there is nothing to show yet."""

    laws: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    page: Path | None = None

    def summary(self) -> dict[str, Any]:
        """The laws and the page as JSON-able data."""
        return {"laws": self.laws, "told": self.sentences, "report": str(self.page) if self.page else None}

    def text(self) -> str:
        """For a terminal."""
        page = [f"\nto read    {self.page}"] if self.page else []
        return "\n".join(["", *self.sentences, *page])


def report(outcome: StudyResult, status: Status = silent) -> StudyReport:
    """Fit the laws that the study asks for and write the page; found again where no Record is new since.

    A law that cannot be fitted yet is a sentence, not an error: the Records are what was paid for.
    """
    found = [record for record in outcome.found if record["status"] == FINISHED]
    if not found:
        return StudyReport()
    key = hash_of(
        "laws", __version__, [r["id"] for r in outcome.found], [r["created"] for r in outcome.found], outcome.plan.laws
    )
    page = outcome.folder / PAGE
    known = _known(outcome.folder, key)
    if known is not None and page.exists():
        return StudyReport(known["laws"], known["sentences"], page)
    from evaluate.report.html.pages import write_page

    laws, sentences = [], []
    for number, spec in enumerate(outcome.plan.laws):
        status(f"laws: {' '.join(spec['x'])}", number, len(outcome.plan.laws))
        law, sentence = _fit(outcome.folder, found, spec)
        laws += [law] if law else []
        sentences.append(sentence)
    write_page([*outcome.found, *laws], page)
    write_json(outcome.folder / LAWS, {"key": key, "laws": laws, "sentences": sentences})
    return StudyReport(laws, sentences, page)


def _known(folder: Path, key: str) -> dict[str, Any] | None:
    try:
        stored: dict[str, Any] = json.loads((folder / LAWS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if stored.get("key") == key else None


def _fit(folder: Path, records: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> Fitted:
    """One law with its headline, or the reason why there is none.

    It is of these Records alone: the folder may hold others, of levels or trainings that the study had before.
    """
    x = [spec["x"]] if isinstance(spec["x"], str) else list(spec["x"])
    about = f"{spec['y']} along {', '.join(x)}{' where ' + ', '.join(spec['where']) if spec['where'] else ''}"
    with tempfile.TemporaryDirectory() as place:
        points = Path(place) / JOURNAL
        points.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        try:
            stored = _fitted(points, x, spec)
        except LeanfitError as error:
            return None, f"{about}: no law: {str(error).replace(str(points), str(folder))}"
    law = {"schema": 1, "kind": "law", **stored, "points": {**stored["points"], "source": str(folder)}}
    return law, f"{about}: {_headline(law)}"


def _fitted(points: Path, x: list[str], spec: Mapping[str, Any]) -> dict[str, Any]:
    from compress.study.law_fit import FitRequest, Query, run_fit

    query = Query(solve=spec["solve"], against=spec["against"])
    request = FitRequest(
        path=points, x=x, y=spec["y"], law=spec["law"], where=spec["where"], group=spec["group"], query=query
    )
    return run_fit(request, lambda _: None, silent).stored


def _headline(law: Mapping[str, Any]) -> str:
    from evaluate.report.text.run_table import one_line

    return one_line(law)


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
    scale = 100 if metric_of(row["metric"]).share else 1
    spread, loss = row["spread"], row["loss"]
    return (
        _pairs(row["size"]), _level(row), row["role"], str(row["seeds"]), count(row["params"]), size(row["bytes"]),
        f"{scale * row['error']:.4g}", "" if spread is None else f"{scale * spread:.2g}",
        "" if loss is None else f"{loss:.4g}", f"{row['retained']:.3f}",
    )  # fmt: skip
