"""A law as a JSON file: out, whole or not at all, and back, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.errors import ArtifactError, UsageError
from evaluate.core.record_files import write_record
from evaluate.scaling.forms.law_registry import LAWS, law_class
from evaluate.scaling.law import SCHEMA

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


def restore(data: Mapping[str, Any]) -> Law:
    """A fitted law, ready to predict. Raises ArtifactError for data that is no law, or of another version."""
    if not isinstance(data, Mapping) or data.get("kind") != "law":
        raise ArtifactError(
            'this is no law of leanfit (it has no "kind": "law"); write one with `leanfit fit ... --out`'
        )
    if data.get("schema") != SCHEMA:
        raise ArtifactError(
            f"this law has schema {data.get('schema')!r}, and this leanfit reads {SCHEMA}; update leanfit"
        )
    if data.get("law") not in LAWS:
        raise ArtifactError(
            f"this file holds a law {data.get('law')!r}, which this leanfit does not know; update leanfit"
        )
    kind = law_class(str(data["law"]))
    try:
        return kind._restored(data)
    except (LookupError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ArtifactError(
            f"this law is damaged ({type(error).__name__}: {error}); write it again with `leanfit fit ... --out`"
        ) from error


def fill(law: Law, data: Mapping[str, Any]) -> None:
    """Give a law the attributes that a fit would have given it."""
    from evaluate.scaling.uncertainty.prediction_interval import Spread

    law.variables = tuple(map(str, data["variables"]))
    law.params_ = {str(name): float(value) for name, value in data["params"].items()}
    law.intervals_ = {
        str(name): (_end(low, -math.inf), _end(high, math.inf)) for name, (low, high) in data["intervals"].items()
    }
    law.objective_ = float(data["objective"])
    law.agreed_ = (int(data["agreed"][0]), int(data["agreed"][1]))
    law.warnings_ = [str(text) for text in data["warnings"]]
    law.n_ = int(data["n"])
    law.range_ = {str(name): _ends(law, str(name), pair) for name, pair in data["range"].items()}
    law.criteria_ = {str(name): float(value) for name, value in data["criteria"].items()}
    law.residuals_ = np.asarray(data["residuals"], dtype=float)
    law.draws_ = np.asarray(data["draws"], dtype=float).reshape(-1, len(law.params_))
    law.theta_ = np.array([law.params_[name] for name in law.form_.names])
    law._spread = Spread.from_dict(data["spread"])
    law._holdout = dict(data["holdout"])
    if not np.isfinite(law.theta_).all():
        raise ValueError("a parameter is no number")


def _end(value: Any, open_: float) -> float:
    """The end of an interval; JSON has null for one that is infinite."""
    return open_ if value is None else float(value)


def _ends(law: Law, name: str, pair: Any) -> tuple[float, float]:
    """The range of a variable; of one whose values are names, that of their codes."""
    if law.names_of(name):
        return 0.0, float(len(law.names_of(name)) - 1)
    low, high = pair
    return float(low), float(high)
