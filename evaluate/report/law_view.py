"""A law as pictures and tables see it: what its JSON says, what predicts, and the points it is shown with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError
from evaluate.core.text import clean, finite

Floats = NDArray[np.float64]
Ends = tuple[float, float]
INTERVAL = 0.9


@dataclass(frozen=True)
class Floor:
    """The limit of a law: the parameter's name, its value and its interval (an end is NaN where it is not known)."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Sample:
    """Points as they are drawn: x (n, k) in the order of the law's variables (numbers, or names of levels), y (n,)."""

    x: NDArray[Any]
    y: Floats

    def __len__(self) -> int:
        return len(self.y)

    def kept(self, mask: NDArray[np.bool_]) -> Sample:
        """The points of a mask (n,)."""
        return Sample(self.x[mask], self.y[mask])

    def numbers(self, column: int) -> Floats:
        """A column (n,) as numbers; names become 1, 2, ... in their order."""
        found = self.x[:, column]
        if any(isinstance(value, str) for value in found):
            return np.asarray(np.unique(found.astype(str), return_inverse=True)[1].ravel() + 1, dtype=np.float64)
        return np.asarray(found, dtype=np.float64)

    def places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(first row of each place, place of each row (n,)): points with one x are seeds of one design."""
        codes = np.stack([self.numbers(i) for i in range(self.x.shape[1])], axis=1)
        _, first, place = np.unique(codes, axis=0, return_index=True, return_inverse=True)
        return first, place.ravel()

    def means(self) -> Sample:
        """One point for each place: the mean of its y."""
        first, place = self.places()
        return Sample(self.x[first], np.bincount(place, self.y) / np.bincount(place))


@dataclass(frozen=True)
class View:
    """A fitted law: `stored` is its JSON, `law` predicts."""

    stored: Mapping[str, Any]
    law: Any
    target: str

    @property
    def name(self) -> str:
        """The law's name in the registry."""
        return clean(self.stored.get("law", "law"), 40)

    @property
    def title(self) -> str:
        """The law in words."""
        return clean(self.stored.get("title") or getattr(self._form, "title", "") or self.name, 80)

    @property
    def formula(self) -> str:
        """Its formula; empty where it has none."""
        return clean(self.stored.get("formula") or getattr(self._form, "formula", ""), 200)

    @property
    def source(self) -> str:
        """Where the form is from."""
        return clean(getattr(self._form, "source", ""), 200)

    @property
    def _form(self) -> Any:
        own = getattr(self.law, "form_", None) or getattr(self.law, "form", None)
        return own or registered(str(self.stored.get("law")))

    def domain(self, column: int) -> Ends | None:
        """The closed range of a variable, where it is not all positive numbers."""
        names, domains = getattr(self._form, "variables", ()), getattr(self._form, "domains", {})
        found = domains.get(names[column]) if column < len(names) else None
        return None if found is None else (float(found[0]), float(found[1]))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of its variables, in order."""
        return tuple(str(name) for name in self.stored.get("variables") or ())

    @property
    def confidence(self) -> float:
        """Of the parameters' intervals."""
        level = (self.stored.get("settings") or {}).get("confidence")
        return float(level) if finite(level) else 0.95

    @property
    def floor(self) -> Floor | None:
        """The floor with its interval; None for a law that tends to nothing or to 0."""
        name = self.stored.get("floor") or getattr(self._form, "floor", None)
        value = (self.stored.get("params") or {}).get(name)
        if not finite(value):
            return None
        return Floor(str(name), float(value), *self.ends(str(name)))

    def ends(self, parameter: str) -> Ends:
        """The interval of a parameter; NaN where an end is not known."""
        found: Sequence[Any] = (self.stored.get("intervals") or {}).get(parameter) or (None, None)
        low, high = (float(end) if finite(end) else float("nan") for end in tuple(found)[:2])
        return low, high

    def span(self, variable: str) -> Ends | None:
        """The range of the fitted points in a variable; None where it was not kept."""
        ends: Sequence[Any] = (self.stored.get("range") or {}).get(variable) or ()
        return (float(ends[0]), float(ends[1])) if len(ends) == 2 and all(map(finite, ends)) else None

    def levels(self, variable: str) -> tuple[str, ...]:
        """The values of a variable that are names of levels; empty where they are numbers."""
        names: Sequence[Any] = (self.stored.get("range") or {}).get(variable) or ()
        return tuple(clean(name, 24) for name in names) if any(isinstance(name, str) for name in names) else ()

    @property
    def reference(self) -> str:
        """The level that is not compressed; empty for a law without levels."""
        return clean((self.stored.get("settings") or {}).get("reference") or "", 24)

    def rows(self, fixed: Sequence[Any], moving: Mapping[int, Floats]) -> NDArray[Any]:
        """x (n, k): the columns `moving` (place -> (n,)) as given, the others held at `fixed` (k,)."""
        count = len(next(iter(moving.values())))
        parts = [moving.get(i, np.array([value] * count)) for i, value in enumerate(fixed)]
        kind = object if any(part.dtype.kind in "OU" for part in parts) else np.float64
        table = np.empty((count, len(parts)), dtype=kind)
        for i, part in enumerate(parts):
            table[:, i] = part
        return table

    def predict(self, x: NDArray[Any]) -> Floats:
        """(n,) for x (n, k)."""
        return np.asarray(self.law.predict(x), dtype=np.float64)

    def band(self, x: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
        """Prediction and the ends of its 90 % interval, (n,) each, for x (n, k)."""
        y, low, high = (np.asarray(a, dtype=np.float64) for a in self.law.predict(x, interval=INTERVAL))
        return y, low, high

    @property
    def answers(self) -> list[Mapping[str, Any]]:
        """What `solve` was asked, with its answers."""
        found = self.stored.get("solve") or []
        return [found] if isinstance(found, Mapping) else [a for a in found if isinstance(a, Mapping)]


def view_of(law: Any, target: str | None = None) -> View:
    """The view of a law, of its JSON, or of a view; `target` is the name of y, where the JSON does not say it.

    Raises DataError for a JSON that is no law.
    """
    if isinstance(law, View):
        return law
    if isinstance(law, Mapping):
        if not isinstance(law.get("params"), Mapping) or "law" not in law:
            raise DataError(
                "this is no law: a law's JSON has the names law, variables and params (`leanfit fit` writes it)"
            )
        from evaluate.scaling.law import Law

        return View(law, Law.from_dict(law), target or _target(law))
    stored = law.to_dict()
    return View(stored, law, target or _target(stored))


def registered(name: str) -> Any:
    """The form of a law by its name; None for a law without one, and for a name that is not known."""
    from evaluate.scaling.forms.form import LAWS

    known = LAWS.all().get(name.rpartition(":")[2])
    return known.facts["kind"].form if known else None


def _target(stored: Mapping[str, Any]) -> str:
    for name in ("target", "y"):
        if isinstance(stored.get(name), str):
            return clean(stored[name], 40)
    return "y"


def sample_of(view: View, points: Any) -> Sample | None:
    """The finite, positive rows of these points in the law's variables and target; None without any.

    points : `Points`, or a mapping name -> numbers (n,), or (x (n, k), y (n,)).
    Raises DataError where a column is missing.
    """
    if points is None:
        return None
    if isinstance(points, tuple):
        x, y = np.asarray(points[0]), np.asarray(points[1], dtype=np.float64)
        x = x.reshape(len(y), -1)
    else:
        x, y = _table(view, getattr(points, "columns", points))
    good = np.isfinite(y) & (y > 0)
    for i in range(x.shape[1]):
        good &= _usable(x[:, i], view.domain(i))
    return Sample(x[good], y[good]) if good.any() else None


def _table(view: View, columns: Mapping[str, Any]) -> tuple[NDArray[Any], Floats]:
    needed = [*view.variables, view.target]
    missing = [name for name in needed if name not in columns]
    if missing:
        have = ", ".join(map(str, columns))
        raise DataError(f"the points have no column {', '.join(missing)}, which the law needs; they have {have}")
    moving = {i: np.asarray(columns[name]) for i, name in enumerate(view.variables)}
    return view.rows(view.variables, moving), np.asarray(columns[view.target], dtype=np.float64)


def _usable(column: NDArray[Any], domain: Ends | None) -> NDArray[np.bool_]:
    """Which values a law can take; names of levels always."""
    if any(isinstance(value, str) for value in column):
        return np.array([value not in ("", None) for value in column])
    numbers = np.asarray(column, dtype=np.float64)
    low, high = domain or (0.0, np.inf)
    return np.isfinite(numbers) & ((numbers >= low) & (numbers <= high) if domain else numbers > 0)
