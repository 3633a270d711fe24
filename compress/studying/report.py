"""What a study says at its end: the laws it asked for, fitted to its finished trials, and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.files import hash_of, write_json
from compress.status import Status, silent
from compress.studying.records import FINISHED
from evaluate.errors import EvaluateError

if TYPE_CHECKING:
    from compress.study import Outcome

__all__ = ["Told", "report"]

LAWS = "laws.json"
PAGE = "report.html"


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
    key = hash_of("laws", [r["id"] for r in outcome.found], [r["created"] for r in outcome.found], outcome.plan.laws)
    page = outcome.folder / PAGE
    known = _known(outcome.folder, key)
    if known is not None and page.exists():
        return Told(known["laws"], known["sentences"], page)
    from evaluate.showing.page import write_page

    laws, sentences = [], []
    for number, wish in enumerate(outcome.plan.laws):
        status(f"laws: {' '.join(wish['x'])}", number, len(outcome.plan.laws))
        law, sentence = _fit(outcome.folder, wish)
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


def _fit(folder: Path, wish: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """One law with its headline, or the reason why there is none."""
    from compress.law_fit import Asked, FitRequest, run_fit
    from evaluate.record_files import plain
    from evaluate.report import one_line

    x = [wish["x"]] if isinstance(wish["x"], str) else list(wish["x"])
    asked = Asked(solve=wish["solve"], against=wish["against"])
    request = FitRequest(
        path=folder, x=x, y=wish["y"], law=wish["law"], where=wish["where"], group=wish["group"], asked=asked
    )
    warnings: list[str] = []
    about = f"{wish['y']} along {', '.join(x)}{' where ' + ', '.join(wish['where']) if wish['where'] else ''}"
    try:
        stored = run_fit(request, warnings.append, silent).stored
    except EvaluateError as error:
        return None, f"{about}: no law: {error}"
    law = plain({"schema": 1, "kind": "law", **stored})
    return law, f"{about}: {one_line(law)}"
