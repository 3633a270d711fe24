"""A law as plain data and as a JSON file: out, whole or not at all, and back, checked to the last number.

Reading runs nothing that a file names: a law of one's own is found where its module is imported already, or allowed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from evaluate.core.components import only_allowed
from evaluate.core.errors import ArtifactError, UsageError
from evaluate.core.record_files import write_record
from evaluate.scaling.fit.fitted import NO_DATA, Edges, ErrorModel, FittedLaw, Settings
from evaluate.scaling.forms.form import Form, LawKind, Loss, component_of
from evaluate.scaling.select.selection import holdout_of
from evaluate.scaling.uncertainty.prediction_interval import errors_of

SCHEMA = 1
AGAIN = "write it again with `leanfit fit ... --out`"
T = TypeVar("T")


def plain(law: FittedLaw) -> dict[str, Any]:
    """Everything that is needed to predict again, as plain data: the JSON law."""
    component, form, settings, model = component_of(law.name), law.form, law.settings, errors_of(law)
    kind: LawKind = component.facts["kind"]
    options = {name: list(value) for name, value in settings.options.items() if form.members}
    return {
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
            **{name: list(values) for name, values in asdict(model.edges).items()},
        },
        "draws": [[float(f"{value:.8g}") for value in row] for row in law.draws.tolist()],
        "settings": {
            **asdict(settings.loss), "confidence": settings.confidence, "bootstrap": settings.bootstrap,
            "seed": settings.seed, "fixed": dict(settings.fixed), "force": settings.force, **options,
            **({"goodness": law.goodness} if law.goodness else {}), **kind.saved(form),
            **({"theta": law.theta.tolist()} if form.members else {}),
        },
    }  # fmt: skip


def write_plain(path: str | Path, stored: Mapping[str, Any]) -> None:
    """Write the JSON of a law as one file. Raises MachineError where it cannot be written."""
    write_record(Path(path), stored)


# Back from plain data.


class _Part:
    """A part of a law's JSON and where it lies; everything taken from it is checked, and named where it is wrong."""

    def __init__(self, data: Any, place: str = "") -> None:
        if not isinstance(data, Mapping):
            raise ValueError(f"{place or 'the law'} is {_kind(data)}, an object was expected")
        self.data, self.place = data, place

    def get(self, name: str, read: Callable[[Any], T], default: Any = None) -> T:
        """One entry, read. Raises ValueError that names its place."""
        place = f"{self.place}.{name}" if self.place else name
        if name not in self.data and default is None:
            raise ValueError(f"{place} is missing")
        try:
            return read(self.data.get(name, default))
        except (TypeError, ValueError, OverflowError, LookupError) as error:
            raise ValueError(f"{place}: {error}") from error

    def part(self, name: str) -> _Part:
        """An object inside."""
        return _Part(self.data.get(name), f"{self.place}.{name}" if self.place else name)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__} ({str(value)[:40]!r})"


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{_kind(value)}, a number was expected")
    return float(value)


def _finite(value: Any) -> float:
    if not math.isfinite(_real(value)):
        raise ValueError(f"{value}, a finite number was expected")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_kind(value)}, a whole number was expected")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_kind(value)}, true or false was expected")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_kind(value)}, text was expected")
    return value


def _list(read: Callable[[Any], T], count: int | None = None) -> Callable[[Any], list[T]]:
    def of(value: Any) -> list[T]:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(f"{_kind(value)}, a list was expected")
        if count is not None and len(value) != count:
            raise ValueError(f"a list of {len(value)}, {count} were expected")
        return [read(one) for one in value]

    return of


def _table(read: Callable[[Any], T], names: Sequence[str] | None = None) -> Callable[[Any], dict[str, T]]:
    def of(value: Any) -> dict[str, T]:
        data = _Part(value, "it").data
        missing = [name for name in names or () if name not in data]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return {str(name): read(one) for name, one in data.items()}

    return of


def _ends(value: Any) -> tuple[float, float]:
    """Of an interval; JSON has null for one that is infinite."""
    low, high = _list(lambda end: end, 2)(value)
    return -math.inf if low is None else _real(low), math.inf if high is None else _real(high)


def _maybe(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else read(value)


def _one_of(*known: str) -> Callable[[Any], str]:
    def of(value: Any) -> str:
        if _text(value) not in known:
            raise ValueError(f"{value[:40]!r}, one of {', '.join(known)} was expected")
        return str(value)

    return of


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
            kind: LawKind = component_of(_text(name)).facts["kind"]
        except (UsageError, ValueError) as error:
            unknown = f"this file holds a law {str(name)[:80]!r}, which this leanfit does not know; update leanfit"
            raise ArtifactError(str(error) if ":" in str(name) else unknown) from error
        try:
            return _law(_Part(data), kind)
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


def _law(data: _Part, kind: LawKind) -> FittedLaw:
    stored = data.part("settings")
    loss = Loss(
        stored.get("kind", _one_of("huber", "squares")), stored.get("delta", _finite),
        stored.get("space", _one_of("log", "raw", "relative")),
    )  # fmt: skip
    form = kind.restored(stored.data)
    variables = tuple(data.get("variables", _list(_text, len(form.variables))))
    names = [member.label for member in form.members] or list(form.names)
    options = {name: stored.data.get(name) for name in kind.options if name in stored.data}
    settings = Settings(
        loss, stored.get("confidence", _finite), stored.get("bootstrap", _whole), stored.get("seed", _whole),
        stored.get("fixed", _table(_finite)), stored.get("force", _truth), options,
    )  # fmt: skip
    params = data.get("params", _table(_finite, names))
    theta = stored.get("theta", _list(_finite, len(form.names))) if form.members else [params[name] for name in names]
    draws = np.array(data.get("draws", _list(_list(_maybe(_real), len(form.names)))), dtype=float)
    agreed = data.get("agreed", _list(_whole, 2))
    return FittedLaw(
        form, variables, NO_DATA, settings,
        theta=np.array(theta), params=params, objective=data.get("objective", _real), agreed=(agreed[0], agreed[1]),
        residuals=np.array(data.get("residuals", _list(_maybe(_real))), dtype=float), n=data.get("n", _whole),
        range=_range(data, form, variables), criteria=data.get("criteria", _table(_real)),
        goodness=stored.get("goodness", _table(_real), {}),
        draws=draws.reshape(-1, len(form.names)),
        intervals=data.get("intervals", _table(_ends, names)), warnings=data.get("warnings", _list(_text)),
        errors=_errors(data.part("spread"), len(variables)), holdout=_holdout(data.part("holdout")),
    )  # fmt: skip


def _range(data: _Part, form: Form, variables: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The range of the variables; of one whose values are names, that of their codes."""
    found: dict[str, tuple[float, float]] = {}
    for name, pair in data.get("range", _table(lambda pair: pair, variables)).items():
        named = form.levels and name == variables[-1]
        found[name] = (0.0, float(len(form.levels) - 1)) if named else _ends(pair)
    return found


def _errors(spread: _Part, columns: int) -> ErrorModel:
    low, high = (tuple(spread.get(side, _list(_real, columns))) for side in ("low", "high"))
    edges = Edges(low, high, tuple(spread.get("logs", _list(_truth, columns))))
    noise, drift, degrees = (spread.get(name, _finite) for name in ("noise", "drift", "degrees"))
    return ErrorModel(noise, drift, degrees, spread.get("trials", _whole), spread.get("space", _text), edges)


def _holdout(holdout: _Part) -> dict[str, Any]:
    holdout.get("error", _maybe(_real), 0.0)
    holdout.get("rule", _text, "")
    holdout.get("candidates", _list(_Part), [])
    return dict(holdout.data)


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
