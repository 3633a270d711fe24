"""What a study has come to, and what it says at its end: its table, its laws, and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress import __version__
from compress.core.files import hash_of, write_json
from compress.core.progress import Status, silent
from compress.study.forecast import Estimate
from compress.study.trial import FAILED, FINISHED, Plan, Trial
from evaluate.core.errors import LeanfitError
from evaluate.core.text import a_few, count, size
from evaluate.core.whole_files import plain
from evaluate.metrics.base import metric_of
from evaluate.report.html.notebook import framed

LAWS = "laws.json"
PAGE = "report.html"
Record = Mapping[str, Any]
HEADS = ("size", "level", "role", "seeds", "params", "bytes", "error %", "spread", "loss", "retained")
WORDS = 3  # columns of it
ROLES = ("dense", "native", "compressed")


@dataclass(frozen=True)
class StudyResult:
    """What a study has come to.

    trials   : all that are known, the most useful first. records: those that there are, by id.
    made     : how many this run has done. problems: lines of the journal that could not be read.
    """

    folder: Path
    plan: Plan
    records: dict[str, dict[str, Any]]
    made: int = 0
    problems: tuple[str, ...] = ()

    @property
    def trials(self) -> list[Trial]:
        """All trials that are known, the most useful first."""
        return self.plan.trials

    @property
    def found(self) -> list[dict[str, Any]]:
        """The Records of this study's trials."""
        return [self.records[trial.id] for trial in self.trials if trial.id in self.records]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The Records of failed trials."""
        return [record for record in self.found if record["status"] == FAILED]

    @property
    def left(self) -> int:
        """How many trials are not done."""
        return len(self.trials) - len(self.found)

    def seconds_left(self) -> float | None:
        """About how many seconds of work are left, for one worker; None while nothing is known."""
        rest = [trial for trial in self.trials if trial.id not in self.records]
        return Estimate(self.trials, self.records).remaining(rest)

    def table(self) -> str:
        """One row for every size and level."""
        return table(self.found)

    def __repr__(self) -> str:
        return f"<Study {self.plan.name}: {len(self.found)} of {len(self.trials)} trials, {self.folder}>"

    def _repr_html_(self) -> str:
        return framed(self.folder / PAGE, f"{self!r}\n{self.table() if self.found else ''}")

    def summary(self) -> dict[str, Any]:
        """The study as JSON-able data."""
        finished = sum(record["status"] == FINISHED for record in self.found)
        failed = [{"id": r["id"], "reason": r["reason"]} for r in self.failed]
        return {
            "study": self.plan.name, "out": str(self.folder), "trials": len(self.trials), "finished": finished,
            "failed": failed, "left": self.left, "made": self.made, "rows": rows(self.found),
        }  # fmt: skip


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


def report(result: StudyResult, status: Status = silent) -> StudyReport:
    """Fit the laws that the study asks for and write the page; found again where no Record is new since.

    A law that cannot be fitted yet is a sentence, not an error: the Records are what was paid for.
    """
    found, specs = result.found, result.plan.laws
    if not any(record["status"] == FINISHED for record in found):
        return StudyReport()
    key = hash_of("laws", __version__, [r["id"] for r in found], [r["created"] for r in found], specs)
    page = result.folder / PAGE
    known = _known(result.folder, key)
    if known is not None and page.exists():
        return StudyReport(known["laws"], known["sentences"], page)
    from evaluate.report.html.pages import write_page

    fitted = []
    for number, spec in enumerate(specs):
        status(f"laws: {', '.join(_along(spec))}", number, len(specs))
        fitted.append(_fit(result, spec))
    laws, sentences = [law for law, _ in fitted if law], [sentence for _, sentence in fitted]
    write_page([*found, *laws], page)
    write_json(result.folder / LAWS, {"key": key, "laws": laws, "sentences": sentences})
    return StudyReport(laws, sentences, page)


def _known(folder: Path, key: str) -> dict[str, Any] | None:
    try:
        stored = json.loads((folder / LAWS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) and stored.get("key") == key else None


LAW = ("y", "law", "where", "group", "pool")  # older plans lack the last


def _along(spec: Mapping[str, Any]) -> list[str]:
    return [spec["x"]] if isinstance(spec["x"], str) else list(spec["x"])


def _fit(result: StudyResult, spec: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """One law with its headline, or the reason why there is none.

    It is of these Records alone: the folder may hold others, of levels or trainings that the study had before.
    """
    from compress.study.law_fit import FitRequest, Query, run_fit
    from evaluate.report.text.run_table import lines_of
    from evaluate.scaling.points.point_files import from_records

    x = _along(spec)
    about = f"{spec['y']} along {', '.join(x)}{' where ' + ', '.join(spec['where']) if spec['where'] else ''}"
    query = Query(solve=spec["solve"], against=spec["against"])
    try:
        points = from_records([r for r in result.found if r["status"] == FINISHED], str(result.folder))
        options: dict[str, Any] = {name: spec.get(name) for name in LAW}
        found = run_fit(FitRequest(points=points, x=x, **options, query=query), lambda _: None, silent)
        law: dict[str, Any] = plain(found.stored)  # an answer without an end is null, as in a law's file
    except LeanfitError as error:
        return None, f"{about}: no law: {error}"
    return law, f"{about}: {lines_of([law])[0]}"


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
    text = [
        "  ".join(c.ljust(w) if n < WORDS else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    failed = [
        f"failed: {_pairs(r['size'])}, {_level(r)}, seed {r['seed']}: {r['reason']['message']}"
        for r in records
        if r["status"] == FAILED
    ]
    return "\n".join([*(line.rstrip() for line in text), *failed])


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


def grid_of(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """(head, body): a row for each kind of model, with its sizes, how many seeds, how many trials."""
    kinds: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        values = [f"{k} {v}" for k, v in {**trial.level, **trial.data}.items() if k not in ("name", "bits")]
        kinds.setdefault((trial.role, " ".join([trial.level["name"], *values])), []).append(trial)
    body = []
    for (_, level), group in sorted(kinds.items(), key=lambda item: (ROLES.index(item[0][0]), -len(item[1]))):
        sizes: dict[str, list[Any]] = {}
        for trial in sorted(group, key=lambda one: one.params):
            for name, value in trial.size.items():
                if value not in sizes.setdefault(name, []):
                    sizes[name].append(value)
        shown = "; ".join(f"{name} {a_few([str(v) for v in values], 6)}" for name, values in sizes.items())
        span = [count(trial.params) for trial in (min(group, key=_params), max(group, key=_params))]
        seeds = len({trial.seed for trial in group})
        body.append([level, shown, " to ".join(dict.fromkeys(span)), str(seeds), str(len(group))])
    return ["level", "sizes", "params", "seeds", "trials"], body


def _params(trial: Trial) -> int:
    return trial.params
