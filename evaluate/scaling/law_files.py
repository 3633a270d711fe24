"""A law as plain data and as a JSON file: out, whole or not at all, and back, checked to the last number.

Reading runs nothing that a file names: a law of one's own is found where its module is imported already, or allowed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluate.core import whole_files
from evaluate.core.components import only_allowed
from evaluate.core.errors import ArtifactError, UsageError
from evaluate.core.records import write_record
from evaluate.scaling.fit.fitted import NO_DATA, Edges, ErrorModel, FittedLaw, Settings, loss_of
from evaluate.scaling.forms.form import LAWS, Form, LawKind, Loss
from evaluate.scaling.points.measured import Cells
from evaluate.scaling.points.scale import PLAIN, Scale
from evaluate.scaling.select.selection import holdout_of
from evaluate.scaling.uncertainty.prediction_interval import errors_of

SCHEMA = 1
AGAIN = "write it again with `leanfit fit ... --out`"


def plain(law: FittedLaw) -> dict[str, Any]:
    """Everything that is needed to predict again, as plain data: the JSON law. What is not finite is None."""
    component, form, settings, model = LAWS.get(law.name), law.form, law.settings, errors_of(law)
    kind: LawKind = component.facts["kind"]
    other = law.other_end
    options = {name: list(value) for name, value in settings.options.items() if form.members}
    stored = {
        "schema": SCHEMA,
        "kind": "law",
        "law": component.address,
        "formula": form.formula,
        "variables": list(law.variables),
        "params": law.params,
        "intervals": {name: list(pair) for name, pair in law.intervals.items()},
        "objective": law.objective,
        "holdout": holdout_of(law),
        "warnings": list(law.warnings),
        "solve": [],
        "agreed": list(law.agreed),
        "n": law.n,
        "range": {name: list(law.names_of(name) or pair) for name, pair in law.range.items()},
        "criteria": law.criteria,
        "residuals": np.round(law.residuals, 9).tolist(),
        "spread": {
            **{name: getattr(model, name) for name in ("noise", "drift", "degrees", "trials", "space")},
            **{name: list(ends) for name, ends in asdict(model.edges).items() if ends},
        },
        **({"cells": law.cells.plain()} if law.cells is not None else {}),
        **({"scale": settings.scale.plain()} if settings.scale != PLAIN else {}),
        **({"x_scales": [scale.plain() for scale in law.x_scales]} if set(law.x_scales) != {PLAIN} else {}),
        **({"end": settings.end} if settings.end != "high" else {}),
        **({"other_end": plain(replace(other, other_end=None))} if other is not None and other.form != form else {}),
        "draws": [[float(f"{value:.8g}") for value in row] for row in law.draws.tolist()],
        "settings": {
            **asdict(settings.loss), "confidence": settings.confidence, "bootstrap": settings.bootstrap,
            "seed": settings.seed, "fixed": dict(settings.fixed), "force": settings.force, **options,
            **({"goodness": law.goodness} if law.goodness else {}), **kind.saved(form),
            **({"theta": law.theta.tolist()} if form.members else {}),
        },
    }  # fmt: skip
    return dict(whole_files.plain(stored))


def write_plain(path: str | Path, stored: Mapping[str, Any]) -> None:
    """Write the JSON of a law as one file. Raises MachineError where it cannot be written."""
    write_record(Path(path), stored)


# Back from plain data.


class Maybe(NamedTuple):
    """What may also be null, as an end of an interval that is infinite."""

    inner: Any


OPEN = Maybe(float)
SHAPE: dict[str, Any] = {
    "law": str, "variables": [str], "params": {str: float}, "intervals": {str: [OPEN]}, "objective": float,
    "holdout": {"error": OPEN, "rule": str, "candidates": [dict]}, "warnings": [str], "agreed": [int], "n": int,
    "range": {str: list}, "criteria": {str: float}, "residuals": [OPEN], "draws": [[OPEN]],
    "spread": {
        "noise": float, "drift": float, "degrees": float, "trials": int, "space": str, "low": [float],
        "high": [float], "logs": [bool],
    },
    "settings": {
        "kind": str, "delta": float, "space": str, "confidence": float, "bootstrap": int, "seed": int,
        "fixed": {str: float}, "force": bool,
    },
}  # fmt: skip
"""The JSON of a law: a type, [type] for a list, {str: type} for a table, {"key": ...} for an object."""
WORDS = {
    str: "text", float: "a number", int: "a whole number", bool: "true or false", list: "a list", dict: "an object",
}  # fmt: skip


def _check(shape: Any, value: Any, place: str) -> None:
    """Raise ValueError, with the place, for a value of another shape; numbers must be finite."""
    kind: type = type(shape) if isinstance(shape, (list, dict)) else shape
    if isinstance(shape, Maybe):
        return None if value is None else _check(shape.inner, value, place)
    numeric = kind is float and isinstance(value, int) and abs(value) < 2**1000
    if not (isinstance(value, kind) or numeric) or (isinstance(value, bool) and kind is not bool):
        shown = "nothing" if value is None else f"a {type(value).__name__} ({str(value)[:40]!r})"
        raise ValueError(f"{place}: {shown}, {WORDS[kind]} was expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: {value}, a finite number was expected")
    if isinstance(shape, list):
        for one in value:
            _check(shape[0], one, place)
    elif isinstance(shape, dict):
        for name, inner in dict.fromkeys(value, shape[str]).items() if str in shape else shape.items():
            if name not in value:
                raise ValueError(f"{place}.{name} is missing".lstrip("."))
            _check(inner, value[name], f"{place}.{name}".lstrip("."))
    return None


def _count(values: Sequence[Any], wanted: int, place: str) -> None:
    if len(values) != wanted:
        raise ValueError(f"{place}: a list of {len(values)}, {wanted} were expected")


def restored(data: Any, allow: Sequence[str] = ()) -> FittedLaw:
    """A fitted law, ready to predict. Raises ArtifactError for data that is no law, or of another version.

    allow : modules that the law may be found in; nothing else is imported.
    """
    if not isinstance(data, Mapping) or data.get("kind") != "law":
        raise ArtifactError(
            f'this is no law of leanfit (it has no "kind": "law"); {AGAIN.replace(" it again", " one")}'
        )
    if data.get("schema") != SCHEMA or isinstance(data.get("schema"), bool):
        shown = repr(data.get("schema"))[:40]
        raise ArtifactError(f"this law has schema {shown}, and this leanfit reads {SCHEMA}; update leanfit")
    name = data.get("law")
    with only_allowed(allow):
        try:
            kind: LawKind = LAWS.get(name if isinstance(name, str) else "").facts["kind"]
        except UsageError as error:
            unknown = f"this file holds a law {str(name)[:80]!r}, which this leanfit does not know; update leanfit"
            raise ArtifactError(str(error) if ":" in str(name) else unknown) from error
        try:
            _check(SHAPE, dict(data), "")
            law = _law(data, kind)
            _check_numbers(law)
            other = data.get("other_end")
            law.other_end = None if other is None else _other_end(other, law, allow)
            return law
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            StopIteration,
            UsageError,
        ) as error:
            raise ArtifactError(f"this law is damaged ({str(error)[:300]}); {AGAIN}") from error


def _other_end(data: Any, law: FittedLaw, allow: Sequence[str]) -> FittedLaw:
    """The law of the same points as it is fitted for their other end. Raises ValueError, ArtifactError."""
    if not isinstance(data, Mapping) or "other_end" in data:
        raise ValueError("other_end: a law of its own was expected")
    found = restored(data, allow)
    if found.variables != law.variables or found.settings.end == law.settings.end:
        raise ValueError("other_end: a law of the same variables and of the other end was expected")
    return found


def _law(data: Mapping[str, Any], kind: LawKind) -> FittedLaw:
    """From data of the right shape. Raises ValueError, LookupError or TypeError where its parts do not fit together."""
    stored, spread = data["settings"], data["spread"]
    form = kind.restored(stored)
    names, variables = [member.label for member in form.members] or list(form.names), tuple(data["variables"])
    _count(variables, len(form.variables), "variables")
    for part, wanted in (("params", names), ("intervals", names), ("range", variables)):
        missing = [name for name in wanted if name not in data[part]]
        if missing:
            raise ValueError(f"{part}: {missing[0]} is missing")
    theta = stored["theta"] if form.members else [data["params"][name] for name in names]
    _count(theta, len(form.names), "settings.theta")
    _count(data["agreed"], 2, "agreed")
    for row in data["draws"]:
        _count(row, len(form.names), "draws")
    for part in ("low", "high", "logs"):
        _count(spread[part], len(variables), f"spread.{part}")
    _check([float], theta, "theta")
    goodness = stored.get("goodness", {})
    _check({str: float}, goodness, "settings.goodness")
    loss = loss_of(Loss(), stored["kind"], stored["delta"], stored["space"])
    end = data.get("end", "high")
    if end not in ("high", "low"):
        raise ValueError(f"end: {str(end)[:40]!r}, high or low was expected")
    scales = tuple(Scale.of(one) for one in data.get("x_scales", [PLAIN.plain()] * len(variables)))
    _count(scales, len(variables), "x_scales")
    model = {name: spread[name] for name in ("noise", "drift", "degrees", "trials", "space")}
    return FittedLaw(
        form, variables, NO_DATA,
        Settings(
            loss, stored["confidence"], stored["bootstrap"], stored["seed"], stored["fixed"], stored["force"],
            {name: stored[name] for name in kind.options if name in stored},
            Scale.of(data.get("scale", {})), end,
        ),
        scales,
        theta=np.array(theta, dtype=float), params=dict(data["params"]), objective=data["objective"],
        agreed=tuple(data["agreed"]), residuals=np.array(data["residuals"], dtype=float), n=data["n"],
        range={name: _range(form, name == variables[-1], pair) for name, pair in data["range"].items()},
        criteria=dict(data["criteria"]), goodness=dict(goodness),
        draws=np.array(data["draws"], dtype=float).reshape(-1, len(form.names)),
        intervals={name: _ends(pair) for name, pair in data["intervals"].items()}, warnings=list(data["warnings"]),
        errors=ErrorModel(**model, edges=_edges(spread)),
        holdout=dict(data["holdout"]),
        cells=Cells.read(data["cells"], len(variables)) if "cells" in data else None,
    )  # fmt: skip


def _edges(spread: Mapping[str, Any]) -> Edges:
    size = tuple(spread.get("size") or ())
    _check([float], list(size), "spread.size")
    if len(size) not in (0, 2):
        raise ValueError("spread.size: two ends were expected")
    return Edges(tuple(spread["low"]), tuple(spread["high"]), tuple(spread["logs"]), size)


def _check_numbers(law: FittedLaw) -> None:
    """Raise ValueError where the parameters give no number at the ends of the law's own range."""
    ends = np.array(
        [[end if math.isfinite(end) else 1.0 for end in pair] for pair in law.range.values()], dtype=float
    ).T
    with np.errstate(all="ignore"):
        predicted = law.form.predict(law.scaled(ends), law.theta)
    if np.isnan(predicted).any():
        raise ValueError("params: they give no number within the law's own range")


def _ends(pair: Sequence[Any]) -> tuple[float, float]:
    """Of an interval; JSON has null for one that is infinite."""
    _count(pair, 2, "intervals")
    return -math.inf if pair[0] is None else float(pair[0]), math.inf if pair[1] is None else float(pair[1])


def _range(form: Form, last: bool, pair: Sequence[Any]) -> tuple[float, float]:
    """The range of a variable; of one whose values are names, that of their codes."""
    if form.levels and last:
        return 0.0, float(len(form.levels) - 1)
    _check([OPEN], pair, "range")
    return _ends(pair)


# Files.


def read_stored(path: str | Path, allow: Sequence[str] = ()) -> tuple[FittedLaw, dict[str, Any]]:
    """(law, its JSON). Raises ArtifactError for a file that is missing, damaged, of another kind or version."""
    place = Path(path)
    data = _data(place)
    try:
        return restored(data, allow), data
    except ArtifactError as error:
        raise ArtifactError(f"{place}: {error}") from error


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
