"""What a study says at its end: the laws it asked for, fitted to its finished trials, and report.html."""

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
from compress.study.trial_records import FINISHED
from evaluate.core.errors import LeanfitError
from evaluate.core.journal import JOURNAL

if TYPE_CHECKING:
    from compress.study.run_study import Outcome


LAWS = "laws.json"
PAGE = "report.html"
Fitted = tuple[dict[str, Any] | None, str]


@dataclass(frozen=True)
class Told:
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


def report(outcome: Outcome, status: Status = silent) -> Told:
    """Fit the laws that the study wishes for and write the page; found again where no Record is new since.

    A law that cannot be fitted yet is a sentence, not an error: the Records are what was paid for.
    """
    found = [record for record in outcome.found if record["status"] == FINISHED]
    if not found:
        return Told()
    key = hash_of(
        "laws", __version__, [r["id"] for r in outcome.found], [r["created"] for r in outcome.found], outcome.plan.laws
    )
    page = outcome.folder / PAGE
    known = _known(outcome.folder, key)
    if known is not None and page.exists():
        return Told(known["laws"], known["sentences"], page)
    from evaluate.report.compress_page import write_page

    laws, sentences = [], []
    for number, wish in enumerate(outcome.plan.laws):
        status(f"laws: {' '.join(wish['x'])}", number, len(outcome.plan.laws))
        law, sentence = _fit(outcome.folder, found, wish)
        laws += [law] if law else []
        sentences.append(sentence)
    write_page([*outcome.found, *laws], page)
    write_json(outcome.folder / LAWS, {"key": key, "laws": laws, "sentences": sentences})
    return Told(laws, sentences, page)


def _known(folder: Path, key: str) -> dict[str, Any] | None:
    try:
        stored: dict[str, Any] = json.loads((folder / LAWS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if stored.get("key") == key else None


def _fit(folder: Path, records: Sequence[Mapping[str, Any]], wish: Mapping[str, Any]) -> Fitted:
    """One law with its headline, or the reason why there is none.

    It is of these Records alone: the folder may hold others, of levels or trainings that the study had before.
    """
    x = [wish["x"]] if isinstance(wish["x"], str) else list(wish["x"])
    about = f"{wish['y']} along {', '.join(x)}{' where ' + ', '.join(wish['where']) if wish['where'] else ''}"
    with tempfile.TemporaryDirectory() as place:
        points = Path(place) / JOURNAL
        points.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        try:
            stored = _fitted(points, x, wish)
        except LeanfitError as error:
            return None, f"{about}: no law: {str(error).replace(str(points), str(folder))}"
    law = {"schema": 1, "kind": "law", **stored, "points": {**stored["points"], "source": str(folder)}}
    return law, f"{about}: {_headline(law)}"


def _fitted(points: Path, x: list[str], wish: Mapping[str, Any]) -> dict[str, Any]:
    from compress.study.law_fit import Asked, FitRequest, run_fit

    asked = Asked(solve=wish["solve"], against=wish["against"])
    request = FitRequest(
        path=points, x=x, y=wish["y"], law=wish["law"], where=wish["where"], group=wish["group"], asked=asked
    )
    return run_fit(request, lambda _: None, silent).stored


def _headline(law: Mapping[str, Any]) -> str:
    from evaluate.report.write import one_line

    return one_line(law)
