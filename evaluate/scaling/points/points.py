"""Points: what laws are fitted to. A table with named columns, read from files, Records, pandas frames or mappings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.scaling.points.cells import (
    Column,
    held,
    is_numeric,
    meets,
    nearest_value,
    number,
    other_notation,
    parse_conditions,
    shown,
)
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.points.measured import ALIKE

Floats = NDArray[np.float64]
Domain = tuple[float, float]
LEAST = 3  # points; a law has two parameters at least


def holds_numbers(column: Column) -> bool:
    """Whether a column is numbers but for a few cells, or in another notation, which the fit then names."""
    if is_numeric(column):
        return True
    alike = (number(cell) is not None or other_notation(cell)[:1] in tuple("-0123456789") for cell in column if cell)
    return 2 * sum(alike) > len(column)


class Chosen(NamedTuple):
    """The points of one fit.

    columns        : name -> (n,) of x, in order: numbers in the units of the table, or text for a category.
    y (n,)         : in the unit of the table.
    groups (n,)    : a category a row, where a group column was named.
    weights (n,)   : positive, where a weight column was named.
    rows (n,)      : which rows of the table these are, from 0.
    problems       : sentences on rows that were left out.
    """

    columns: dict[str, Column]
    y: Floats
    groups: Column | None
    weights: Floats | None
    rows: NDArray[np.intp]
    problems: list[str]

    @property
    def x(self) -> Column:
        """x (n, k): float64 where every column holds numbers."""
        return np.stack(list(self.columns.values()), axis=1)


@dataclass(frozen=True)
class Points:
    """A table of points.

    columns  : name -> float64 (n,), or object (n,) of text for categories such as a level or a run.
    source   : where it comes from, for messages.
    problems : what was wrong with it, in sentences.
    labels   : what a row is called there, "line 7"; by default "row 1" and on.
    records  : whether it was made of Records, whose error and accuracy are fractions.
    """

    columns: Mapping[str, Column]
    source: str
    problems: list[str] = field(default_factory=list)
    labels: Sequence[str] = ()
    records: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> Column:
        """One column. Raises UsageError with the nearest name and all names where there is none."""
        if name not in self.columns:
            names = ", ".join(self.columns)
            told = (
                f"{self.source} has no column {name!r}{did_you_mean(name, self.columns) or '.'} Its columns: {names}."
            )
            alone = len(self.columns) == 1 and " " in names
            split = " Columns are separated by commas, semicolons or tabs, not by spaces." if alone else ""
            raise UsageError(told + split)
        return self.columns[name]

    def label(self, row: int) -> str:
        """What a row is called."""
        return self.labels[row] if self.labels else f"row {row + 1}"

    def named(self, rows: Sequence[int], most: int = 4) -> str:
        """Some rows by name: "lines 3, 9, 12, 17 and 12 more"."""
        labels = [self.label(row) for row in rows[:most]]
        kinds = {label.partition(" ")[0] for label in labels}
        if len(labels) > 1 and len(kinds) == 1:
            labels = [
                f"{kinds.pop()}s {labels[0].partition(' ')[2]}",
                *(label.partition(" ")[2] for label in labels[1:]),
            ]
        return ", ".join(labels) + (f" and {len(rows) - most} more" if len(rows) > most else "")

    def with_formula(self, text: str) -> Points:
        """With a column more, named and made by a formula of the columns of numbers, as "1 - acc1/100"; these where
        there is a column of that name, or no sign of arithmetic in it. Raises UsageError for a formula that is none.
        """
        if text in self.columns or not re.search(r"[-+*/(]", text):
            return self
        numeric = [name for name, column in self.columns.items() if holds_numbers(column)]
        formula = Formula(text, numeric)
        made = np.broadcast_to(formula.values({name: self._numbers(name) for name in formula.names}), len(self))
        return replace(self, columns={**self.columns, text: np.where(np.isfinite(made), made, np.nan)})

    def where(self, filters: str | Iterable[str]) -> Points:
        """The rows that meet every condition, as "role=dense,seed=0,density<=0.5".

        Raises UsageError for an unknown column and for what cannot be read, DataError where no row is left.
        """
        kept = np.ones(len(self), dtype=bool)
        for condition in parse_conditions(filters):
            column = self.column(condition.name)
            met = meets(column, condition)
            some = bool(np.any(met))
            near = "" if is_numeric(column) else nearest_value(map(shown, column), condition, some=some)
            if near or not some:
                told = f"{'a value of the condition' if some else ''} {condition.text}".strip()
                raise DataError(f"{self.source}: no row has {told}{near}; {condition.name} holds {held(column)}")
            if not np.any(met & kept):
                among = "among the rows that meet the conditions before it"
                raise DataError(f"{self.source}: no row has {condition.text} {among}")
            kept &= met
        return self.rows(np.flatnonzero(kept))

    def rows(self, rows: Sequence[int] | NDArray[Any]) -> Points:
        """These rows (numbers from 0, in order)."""
        kept = np.asarray(rows, dtype=int)
        labels = [self.label(row) for row in kept]
        columns = {name: column[kept] for name, column in self.columns.items()}
        return Points(columns, self.source, self.problems, labels, self.records)

    def select(self, x: Sequence[str], y: str, group: str | None = None) -> tuple[Column, Floats, Column | None]:
        """(x (n, k), y (n,), groups (n,) or None): `take` for those who need no more."""
        chosen = self.take(x, y, group=group)
        return chosen.x, chosen.y, chosen.groups

    def take(
        self,
        x: Sequence[str],
        y: str,
        *,
        group: str | None = None,
        weight: str | None = None,
        domains: Mapping[str, Domain] | None = None,
        names: Collection[str] = (),
        constant: bool = False,
    ) -> Chosen:
        """The rows whose x, y, group and weight can be used; `problems` says which could not, and why.

        domains : closed range of a column of x, where it is not all positive numbers (a sparsity of 0).
        names   : columns of x whose values are names (levels as "16", "2WO", "fp4"), for a law with a parameter each.
        constant : columns of x may be the same in all rows, for a law that judges that itself.
        Raises UsageError for unknown columns, DataError where a number is written in another notation, where fewer
        than 3 rows are left, and where a column of x, or y, is the same in all of them.
        """
        _check_roles(x, y, group, weight)
        words = [name for name in x if name in names]
        numbers = [name for name in [*x, y, *([weight] if weight else [])] if name not in words]
        values, rows, problems = self._usable(numbers, [*words, *([group] if group else [])], domains or {})
        taken = {name: column[rows] for name, column in values.items()}
        if len(rows) < LEAST:
            why = f" ({'; '.join(problems)})" if problems else ""
            raise DataError(
                f"{self.source}: {len(rows)} of {len(self)} rows can be used{why}; a law takes {LEAST} points at "
                "least, and more than it has parameters"
            )
        for name in [*([] if constant else x), y]:
            if np.all(taken[name] == taken[name][0]):
                what = "there is nothing to explain" if name == y else "no law can be told along it; leave it out of x"
                raise DataError(f"{self.source}: {name} is {shown(taken[name][0])} in all {len(rows)} rows: {what}")
        return Chosen(
            columns={name: taken[name] for name in x},
            y=taken[y],
            groups=taken[group] if group else None,
            weights=taken[weight] if weight else None,
            rows=rows,
            problems=self._told(rows, problems),
        )

    def inputs(
        self, x: Sequence[str], *, domains: Mapping[str, Domain] | None = None, names: Collection[str] = ()
    ) -> tuple[dict[str, Column], NDArray[np.intp], list[str]]:
        """(columns name -> (n,), rows, problems) of the rows whose x can be used, where y is still to be predicted.

        domains, names : as in `take`.
        Raises UsageError for unknown columns, DataError for other notations and where no row is left.
        """
        words = [name for name in x if name in names]
        values, rows, problems = self._usable([name for name in x if name not in words], words, domains or {})
        if not len(rows):
            raise DataError(f"{self.source}: no row has a usable {' and '.join(x)}: {'; '.join(problems)}")
        return {name: values[name][rows] for name in x}, rows, self._told(rows, problems)

    def _told(self, rows: NDArray[np.intp], problems: Sequence[str]) -> list[str]:
        lost = len(self) - len(rows)
        return [f"{lost} of {len(self)} rows were left out: {'; '.join(problems)}"] if lost else []

    def _usable(
        self, numbers: Sequence[str], words: Sequence[str], domains: Mapping[str, Domain]
    ) -> tuple[dict[str, Column], NDArray[np.intp], list[str]]:
        """(name -> all values, the rows where all can be used, why others cannot)."""
        kept = np.ones(len(self), dtype=bool)
        problems: list[str] = []
        values: dict[str, Column] = {}
        for name in numbers:
            values[name] = self._numbers(name)
            for why, bad in _faults(self.column(name), values[name], domains.get(name)):
                problems += _left_out(self, name, why, bad & kept)
                kept &= ~bad
        for name in words:
            values.setdefault(name, self.column(name))
            without = np.array([cell in ("", None) or cell != cell for cell in self.column(name)], dtype=bool)
            problems += _left_out(self, name, "is missing", without & kept)
            kept &= ~without
        return values, np.flatnonzero(kept), problems

    def _numbers(self, name: str) -> Floats:
        """A column as numbers (n,), NaN where there is none. Raises DataError for other notations and for text."""
        column = self.column(name)
        if is_numeric(column):
            return np.asarray(column, dtype=float)
        found = [number(cell) for cell in column]
        for row, cell in enumerate(column):
            if found[row] is None and (instead := other_notation(cell)):
                raise DataError(
                    f"{self.source}: {self.label(row)} has {cell!r} in column {name!r}; a plain number was expected "
                    f"(no %, no separator of thousands, a decimal point, no unit): write {instead}"
                )
        if not any(value is not None and value == value for value in found):
            numeric = [other for other, held in self.columns.items() if is_numeric(held)]
            raise DataError(
                f"{self.source}: column {name!r} is text (as {column[0]!r}), a column of numbers was expected; "
                f"those are: {', '.join(numeric) or 'none'}"
            )
        return np.array([np.nan if value is None else value for value in found])


def _check_roles(x: Sequence[str], y: str, group: str | None, weight: str | None) -> None:
    """Raise UsageError where a column has two roles that exclude each other."""
    if isinstance(x, str) or not x:
        raise UsageError("x takes a list of columns, one at least, as ['params']")
    if len(set(x)) < len(x) or y in x:
        twice = y if y in x else next(name for name in x if list(x).count(name) > 1)
        raise UsageError(f"column {twice!r} is named twice; each x and y is another column")
    if weight is not None and weight == y:
        raise UsageError(f"column {weight!r} is y, it cannot be the weight as well")


def _faults(column: Column, values: Floats, domain: Domain | None) -> list[tuple[str, NDArray[np.bool_]]]:
    """(why, which rows) for values that no law can use."""
    empty = np.isnan(values)
    words = np.zeros(len(values), dtype=bool)
    if not is_numeric(column):
        words = np.array([bool(cell) and number(cell) is None for cell in column], dtype=bool)
    infinite = np.isinf(values)
    low, high = domain or (0.0, np.inf)
    with np.errstate(invalid="ignore"):
        outside = (values < low) | (values > high) if domain else values <= low
    upper = f"{high:g}" if high == float(f"{high:g}") else f"below {high:g}"
    why = f"is not between {low:g} and {upper}" if domain else "is not positive"
    return [
        ("is missing", empty & ~words),
        ("is not a number", words),
        ("is not finite", infinite),
        (why, outside & ~infinite),
    ]


def _left_out(points: Points, name: str, why: str, bad: NDArray[np.bool_]) -> list[str]:
    rows = [int(row) for row in np.flatnonzero(bad)]
    return [f"{name} {why} in {points.named(rows)}"] if rows else []


def input_checks(points: Points, chosen: Chosen, group: str | None = None) -> Iterator[str]:
    """Sentences on runs that are not independent, and on kinds of points that are mixed."""
    runs = points.columns["run"][chosen.rows].tolist() if group is None and "run" in points.columns else []
    if 2 < len(set(runs)) < len(runs):
        yield (
            f"{len(runs)} points come from {len(set(runs))} runs, and those of one run are not independent: "
            "--group run resamples by run and gives honest intervals"
        )
    for kind in () if set(chosen.columns) & {"level", "density", "bits", "role"} else ("role", "level"):
        column = points.columns.get(kind, np.empty(0))
        found, counts = np.unique(column[chosen.rows if len(column) else []].astype(str), return_counts=True)
        if len(found) > 1 and not is_numeric(column):
            told = ", ".join(f"{value} {count}" for value, count in list(zip(found, counts))[:5])
            yield f"one law is fitted to points of different {kind} ({told}); --where {kind}={found[0]} takes one"
            return


_DENSE = {
    "role": ("dense",),
    "level": ("dense", "none", "fp32"),
    "density": (1.0,),
    "sparsity": (0.0,),
    "bits": (32.0,),
}


def reference_of(points: Points, chosen: Chosen, higher: bool) -> tuple[float, str]:
    """(y of what compressed models are compared with, what that is): the best of the dense models, of repeats the mean;
    the best point where no column says which are dense. Columns: role, level, density 1, sparsity 0, bits 32."""
    rows, known = np.ones(len(chosen.y), dtype=bool), False
    for name, values in _DENSE.items():
        column = points.columns.get(name)
        dense = np.isin(column[chosen.rows], values) if column is not None else np.zeros(1, dtype=bool)
        if dense.any():
            rows, known = dense, True
            break
    place = designs(chosen.x[rows])
    means = np.bincount(place.ravel(), chosen.y[rows]) / np.bincount(place.ravel())
    best = float(np.max(means) if higher else np.min(means))
    return best, "the best point" if not known else "the dense model" if len(means) == 1 else "the best dense model"


def designs(x: Column) -> NDArray[np.intp]:
    """(n,) which rows of x (n, k) are one model trained several times. Of one size, those within ALIKE of the smallest
    of them, since files of seeds differ in some bytes; numbered by rising size."""
    if x.shape[1] > 1 or not is_numeric(x) or np.any(x <= 0):
        return np.unique(x.astype(str), axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(x[:, 0], kind="stable")
    found, first, design = np.zeros(len(order), dtype=int), float(x[order[0], 0]), 0
    for row in order.tolist():
        if x[row, 0] > ALIKE * first:
            first, design = float(x[row, 0]), design + 1
        found[row] = design
    return found


def target_hint(y: str, low: float, high: float, target: float) -> str:
    """Why a target looks as if it were in another unit than the points; empty where it does not."""
    asked = f"{y} goes from {low:.4g} to {high:.4g} and {target:g} was asked: if that is"
    if high <= 1 < target <= 100:
        return f"{asked} per cent, ask for {target / 100:g}"
    if low > 1 > target > 0 and high <= 100:
        return f"{asked} a fraction, ask for {target * 100:g}"
    return ""
