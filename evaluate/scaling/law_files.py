"""A law as a JSON file: out, whole or not at all, and back, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluate.core.errors import ArtifactError
from evaluate.core.record_files import write_record

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


def write_law(path: str | Path, law: Law | Mapping[str, Any]) -> None:
    """Write a law, or its JSON with more keys, as one file. Raises MachineError where it cannot be written."""
    stored = law if isinstance(law, Mapping) else law.to_dict()
    write_record(Path(path), stored)


def load_law(path: str | Path) -> Law:
    """The law of a file, ready to predict and to be solved. Raises ArtifactError."""
    return read_law(path)[0]


def read_law(path: str | Path) -> tuple[Law, dict[str, Any]]:
    """(law, its JSON). Raises ArtifactError for a file that is missing, damaged, of another kind or version."""
    from evaluate.scaling.law import Law

    place = Path(path)
    data = _data(place)
    try:
        law = Law.from_dict(data)
    except ArtifactError as error:
        raise ArtifactError(f"{place}: {error}") from error
    missing = [name for name in law.variables if name not in law.range_]
    missing += [name for name in law.params_ if name not in law.intervals_]
    if missing:
        raise ArtifactError(
            f"{place}: this law is damaged (no range or interval of {missing[0]}); write it again with `leanfit fit "
            "... --out`"
        )
    return law, data


def is_law_file(path: Path) -> bool:
    """Whether a file is JSON that says it is a law."""
    try:
        return _data(path).get("kind") == "law"
    except ArtifactError:
        return False


def _data(place: Path) -> dict[str, Any]:
    """The JSON object in a file, or in the law.json of a folder. Raises ArtifactError."""
    if (place / "law.json").is_file():
        place = place / "law.json"
    try:
        text = place.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(
            f"there is no {place}; `leanfit fit POINTS --x NAME --y NAME --out {place}` writes one"
        ) from None
    except OSError as error:
        raise ArtifactError(
            f"{place} cannot be read: {error.strerror or error}; give the JSON file of a law"
        ) from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "is empty" if not text.strip() else f"is no whole JSON ({error})"
        raise ArtifactError(f"{place} {why}; a law that `leanfit fit ... --out` wrote was expected") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{place} holds a {type(value).__name__}, one JSON object of a law was expected")
    if isinstance(value.get("error"), dict):
        raise ArtifactError(f"{place} is the answer of a fit that failed ({value['error'].get('message')}); fit again")
    return value
