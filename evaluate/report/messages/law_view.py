"""A law as what shows it sees it: the fitted law, what it was asked, typed, and the points that it is shown with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluate.core.blocks import Block, read_block
from evaluate.core.errors import DataError
from evaluate.core.text import clean, finite
from evaluate.scaling.fit.fitted import FittedLaw
from evaluate.scaling.law_files import restored
from evaluate.scaling.points.scale import Scale
from evaluate.scaling.uncertainty.prediction_interval import forecast, prediction_interval

Floats = NDArray[np.float64]
Ends = tuple[float, float]
B = TypeVar("B", bound=Block)
INTERVAL = 0.9
PER_CENT = ", %"  # after the name of a quantity whose values are in per cent as they stand
NAN = float("nan")


@dataclass(frozen=True)
class Answer(Block):
    """Where the law reaches a target: the value of `variable`, the others as `given`; out of reach, why.

    asked : how the target was asked for, where that was not by its value, as "keep 98% of the dense model".
    """

    variable: str = "x"
    target: float = NAN
    value: float = NAN
    low: float = NAN
    high: float = NAN
    reachable: bool = True
    reason: str = ""
    beyond: float = NAN
    given: dict[str, Any] = field(default_factory=dict)
    asked: str = ""

    @property
    def found(self) -> bool:
        """Whether there is a value."""
        return self.reachable and finite(self.value)


@dataclass(frozen=True)
class BreakEven(Answer):
    """Where the law crosses another curve, `against`; y there, and which is better `below`: "first" or "second"."""

    y: float = NAN
    below: str = ""
    against: str = ""
    other: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Optimum(Block):
    """The best split of a budget of `compute`, a formula: each variable with the ends of its interval, and y there."""

    compute: str = ""
    budget: float = NAN
    values: dict[str, float] = field(default_factory=dict)
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    y: float = NAN
    y_low: float = NAN
    y_high: float = NAN
    reason: str = ""
    beyond: float = NAN

    @property
    def best(self) -> dict[str, tuple[float, float, float]]:
        """Variable -> (value, low, high); NaN where an end is not known."""
        return {name: (v, self.low.get(name, NAN), self.high.get(name, NAN)) for name, v in self.values.items()}


@dataclass(frozen=True)
class Candidate(Block):
    """One form that was tried: its error on held-out points (root mean square of the log, as a fraction), its criteria.

    reason : why it was not fitted, where it was not; weight : its share in an average.
    """

    law: str = "?"
    error: float = NAN
    aic: float = NAN
    bic: float = NAN
    weight: float = NAN
    reason: str = ""
    chosen: bool = False


def part(kind: type[B], data: Mapping[str, Any]) -> B:
    """One of the above from its JSON; what is missing or of the wrong type is as if it had not been said."""
    read = read_block(kind, data, "", [])
    unsaid: dict[str, Any] = {f.name: f.default for f in fields(kind) if getattr(read, f.name) is None}
    return replace(read, **unsaid)


@dataclass(frozen=True)
class View:
    """A fitted law, the name of its y, and its JSON, in which there is what it was asked."""

    law: FittedLaw
    target: str
    stored: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The law's name in the registry."""
        return clean(self.stored["law"], 40)

    @property
    def title(self) -> str:
        """The law in words."""
        return clean(self.law.form.title or self.name, 80)

    @property
    def formula(self) -> str:
        """Its formula; empty where it has none."""
        return clean(self.stored.get("formula") or self.law.form.formula, 200)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of its variables, in order."""
        return self.law.variables

    @property
    def y(self) -> str:
        """The target with the unit of its values."""
        return in_unit(self.target, self.scale)

    @property
    def scale(self) -> Scale:
        """The unit of y."""
        return self.law.settings.scale

    @property
    def floor(self) -> tuple[str, float, float, float] | None:
        """(name, value, low, high) of the limit that y tends to, in the unit of the points; None without one."""
        if self.law.floor is None:
            return None
        value, *ends = self.law.floor
        low, high = self.scale.told_ends(*ends)
        return str(self.law.form.floor), float(self.scale.told(value)), float(low), float(high)

    def domain(self, column: int) -> Ends | None:
        """The closed range of a variable, where it is not all positive numbers."""
        return self.law.domains().get(self.variables[column])

    def span(self, variable: str) -> Ends | None:
        """The range of the fitted points in a variable; None for one of names."""
        return None if self.levels(variable) else self.law.range[variable]

    def levels(self, variable: str) -> tuple[str, ...]:
        """The values of a variable that are names of levels; empty where they are numbers."""
        return tuple(clean(name, 24) for name in self.law.names_of(variable))

    @property
    def reference(self) -> str:
        """The level that is not compressed; empty for a law without levels."""
        return clean(self.law.settings.options.get("reference") or "", 24)

    def middle(self, variable: str) -> Any:
        """The middle of the range of a variable as its axis has it; of levels, the one that is not compressed."""
        low, high = self.span(variable) or (1.0, 1.0)
        middle = float(np.sqrt(low * high)) if low > 0 else (low + high) / 2
        return self.reference if self.levels(variable) else middle

    @property
    def answers(self) -> list[Answer]:
        """What `solve` was asked, with its answers."""
        return [part(Answer, {"variable": self.variables[0], **entry}) for entry in _entries(self.stored.get("solve"))]

    @property
    def optimum(self) -> Optimum | None:
        """The best split of a budget; None where none was asked for."""
        found = self.stored.get("optimum")
        return part(Optimum, found) if isinstance(found, Mapping) else None

    @property
    def break_even(self) -> BreakEven | None:
        """Where it crosses another curve; None where that was not asked for."""
        found = self.stored.get("break_even")
        return part(BreakEven, {"variable": self.variables[0], **found}) if isinstance(found, Mapping) else None

    @property
    def holdout(self) -> Mapping[str, Any]:
        """How it predicted what was held out."""
        return self.law.holdout or {}

    @property
    def candidates(self) -> list[Candidate]:
        """The forms that competed, the best on held-out points first; [] where none did."""
        chosen = str(self.holdout.get("chosen") or self.stored["law"])
        found = [{"law": entry.get("name"), **entry} for entry in _entries(self.holdout.get("candidates"))]
        read = [part(Candidate, {**entry, "chosen": str(entry["law"]) == chosen}) for entry in found]
        return sorted(read, key=lambda c: c.error if finite(c.error) else float("inf"))

    @property
    def about(self) -> Mapping[str, Any]:
        """Where its points come from: source, columns, where, problems."""
        found = self.stored.get("points")
        return found if isinstance(found, Mapping) else {}

    @property
    def warnings(self) -> list[str]:
        """The warnings of the fit and of its points, each once."""
        problems = self.about.get("problems")
        return list(dict.fromkeys(map(clean, [*self.law.warnings, *(problems if isinstance(problems, list) else [])])))

    def rows(self, fixed: Sequence[Any], moving: Mapping[int, Floats]) -> NDArray[Any]:
        """x (n, k): the columns `moving` (place -> (n,)) as given, the others held at `fixed` (k,)."""
        count = len(next(iter(moving.values())))
        parts = [moving.get(i, np.array([value] * count)) for i, value in enumerate(fixed)]
        table = np.empty((count, len(parts)), dtype=object if any(p.dtype.kind in "OU" for p in parts) else np.float64)
        for i, column in enumerate(parts):
            table[:, i] = column
        return table

    def predict(self, x: NDArray[Any]) -> Floats:
        """(n,) for x (n, k), in the unit of the points: the law as it was fitted, for pictures."""
        return np.asarray(self.scale.told(self.law.predict(x)), dtype=np.float64)

    def band(self, x: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
        """Prediction and the ends of its 90 % interval, (n,) each, for x (n, k)."""
        numbers = self.law.numbers(x)
        return (self.predict(x), *self.scale.told_ends(*prediction_interval(self.law, numbers, INTERVAL)))

    def forecast(self, x: NDArray[Any]) -> Floats:
        """(n,) for x (n, k), in the unit of the points: what is told where there are points."""
        return np.asarray(self.scale.told(forecast(self.law, self.law.numbers(x))[0]), dtype=np.float64)


def in_unit(name: str, scale: Scale) -> str:
    """The name of y with the unit of its values, which is per cent or none."""
    return name + PER_CENT if scale.unit == 100 else name


def _entries(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, or one alone."""
    return [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, Mapping)]


def view_of(law: Any, target: str | None = None) -> View:
    """The view of a law, of its JSON, or of a view; `target` is the name of y, where the JSON does not say it.

    Raises DataError for a JSON that is no law, ArtifactError for a law that cannot be read.
    """
    if isinstance(law, View):
        return law
    stored = law if isinstance(law, Mapping) else law.to_dict()
    if not isinstance(stored.get("params"), Mapping) or "law" not in stored:
        raise DataError(
            "this is no law: a law's JSON has the names law, variables and params (`leanfit fit` writes it)"
        )
    named = next((stored[name] for name in ("target", "y") if isinstance(stored.get(name), str)), "y")
    return View(restored(stored), target or clean(named, 40), stored)


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
        if has_names(found):
            return np.asarray(np.unique(found.astype(str), return_inverse=True)[1].ravel() + 1, dtype=np.float64)
        return np.asarray(found, dtype=np.float64)

    def means(self) -> Sample:
        """One point for each place, the mean of its y: points with one x are seeds of one design."""
        codes = np.stack([self.numbers(i) for i in range(self.x.shape[1])], axis=1)
        _, first, place = np.unique(codes, axis=0, return_index=True, return_inverse=True)
        return Sample(self.x[first], np.bincount(place.ravel(), self.y) / np.bincount(place.ravel()))


def has_names(column: NDArray[Any]) -> bool:
    """Whether a column holds names of levels."""
    return any(isinstance(value, str) for value in column)


def sample_of(view: View, points: Any) -> Sample | None:
    """The finite, positive rows of these points in the law's variables and target; None without any.

    points : `Points`, or a mapping name -> numbers (n,). Raises DataError where a column is missing.
    """
    if points is None:
        return None
    columns: Mapping[str, Any] = getattr(points, "columns", points)
    missing = [name for name in (*view.variables, view.target) if name not in columns]
    if missing:
        have = ", ".join(map(str, columns))
        raise DataError(f"the points have no column {', '.join(missing)}, which the law needs; they have {have}")
    x = view.rows(view.variables, {i: np.asarray(columns[name]) for i, name in enumerate(view.variables)})
    y = np.asarray(columns[view.target], dtype=np.float64)
    good = np.isfinite(y) & (y > 0)
    for i in range(x.shape[1]):
        good &= _usable(x[:, i], view.domain(i))
    return Sample(x[good], y[good]) if good.any() else None


def _usable(column: NDArray[Any], domain: Ends | None) -> NDArray[np.bool_]:
    """Which values a law can take; names of levels always."""
    if has_names(column):
        return np.array([value not in ("", None) for value in column])
    numbers = np.asarray(column, dtype=np.float64)
    low, high = domain or (0.0, np.inf)
    return np.isfinite(numbers) & ((numbers >= low) & (numbers <= high) if domain else numbers > 0)
