"""A law along one of its variables: what the others are held at, which points stand there, or are moved there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.report.law_view import Floats, Sample, View
from evaluate.report.law_words import named, quantity

NEAR = 0.02  # of a value: a point that stands on a slice


@dataclass(frozen=True)
class Slice:
    """A law along one variable, the others held: `fixed` (k,), of which place `column` is replaced.

    sample : the points that are drawn; moved: whether they stand elsewhere and were moved along the law.
    """

    view: View
    column: int
    fixed: list[Any]
    sample: Sample | None
    moved: bool

    @property
    def variable(self) -> str:
        return self.view.variables[self.column]

    def rows(self, values: Floats) -> NDArray[Any]:
        """x (n, k) of the law for values (n,) of the variable."""
        return self.view.rows(self.fixed, {self.column: values})

    @property
    def given(self) -> str:
        """The others in words: `N 1.02 G, D 20 G`; empty for a law of one variable."""
        others = [(n, v) for i, (n, v) in enumerate(zip(self.view.variables, self.fixed)) if i != self.column]
        return ", ".join(f"{named(name)} {_amount(name, value)}" for name, value in others)


def asked(view: View, variable: str) -> Mapping[str, Any]:
    """The other variables as the first question about this one gave them."""
    found = (answer.get("given") for answer in view.answers if answer.get("variable") == variable)
    return next((given for given in found if isinstance(given, Mapping) and given), {})


def _amount(name: str, value: Any) -> str:
    return str(value) if isinstance(value, str) else quantity(name, float(value))


def slice_of(view: View, sample: Sample | None, variable: str, given: dict[str, Any]) -> Slice:
    """The slice along `variable`, with the points that stand on it, or with all of them, moved along the law."""
    column = view.variables.index(variable)
    fixed = [given.get(name) for name in view.variables]
    fixed[column] = 1.0
    for i, name in enumerate(view.variables):
        if fixed[i] is None:
            fixed[i] = _shared(sample, fixed, i, column) if sample is not None else middle_of(view, name)
    cut = Slice(view, column, fixed, sample, moved=False)
    if sample is None or len(fixed) == 1:
        return cut
    on = sample.kept(_near(sample, fixed, column))
    if len(on) and len(np.unique(on.numbers(column))) >= 3:
        return replace(cut, sample=on)
    there = view.predict(cut.rows(sample.numbers(column)))
    return replace(cut, sample=Sample(sample.x, sample.y * there / view.predict(sample.x)), moved=True)


def _near(sample: Sample, fixed: list[Any], but: int) -> NDArray[np.bool_]:
    """Which points stand at the values that are held (those not yet known are None)."""
    mask = np.ones(len(sample), dtype=bool)
    for i, value in enumerate(fixed):
        if i == but or value is None:
            continue
        if isinstance(value, str):
            mask &= sample.x[:, i].astype(str) == value
        else:
            mask &= np.abs(sample.numbers(i) - value) <= NEAR * abs(value)
    return mask


def _shared(sample: Sample, fixed: list[Any], column: int, but: int) -> Any:
    """The value of a column that most points share, of several such the middle one, among the points at `fixed`."""
    rows = sample.kept(_near(sample, fixed, but)).x[:, column]
    found = sorted(set(rows.tolist() if len(rows) else sample.x[:, column].tolist()))
    counts = [int(np.sum(rows == value)) for value in found]
    most = [value for value, count in zip(found, counts) if count >= 0.9 * max(counts)]
    return most[len(most) // 2]


def middle_of(view: View, variable: str) -> Any:
    """The middle of the range of a variable as its axis has it; of levels, the one that is not compressed."""
    if view.levels(variable):
        return view.reference
    low, high = view.span(variable) or (1.0, 1.0)
    return float(np.sqrt(low * high)) if low > 0 else (low + high) / 2


def fits(answer: Mapping[str, Any], cut: Slice) -> bool:
    """Whether an answer of `solve` belongs into this slice."""
    if str(answer.get("variable") or cut.variable) != cut.variable:
        return False
    given = answer.get("given") or {}
    held = {name: value for name, value in zip(cut.view.variables, cut.fixed) if name != cut.variable}
    return all(_same(given.get(name, value), value) for name, value in held.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return str(one) == str(other)
    return abs(float(one) - float(other)) <= NEAR * abs(float(other))


def span_of(cut: Slice) -> tuple[float, float]:
    """The range of the fitted points, else of those drawn."""
    ends = cut.view.span(cut.variable)
    if ends:
        return ends
    if cut.sample is not None:
        column = cut.sample.numbers(cut.column)
        return float(column.min()), float(column.max())
    return 1.0, 10.0
