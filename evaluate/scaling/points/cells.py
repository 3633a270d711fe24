"""Cells and columns: what is a number, missing, or a word; conditions on them; x and y of a law as users give them."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.core.text import a_few
from evaluate.core.units import COUNTS, parse_number, split_amount

Column = NDArray[Any]  # float64 (n,) of numbers, or object (n,) of text
Number = Optional[float]

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITE = {"inf": math.inf, "+inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}
_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-", "--", "<na>", "nat", "?"}
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([,'_ ]\d{3})+(\.\d+)?", re.ASCII)
_LARGE = {**COUNTS, "b": 1e9, "t": 1e12}
_CLAUSE = re.compile(r"\s*(?P<name>[^<>=!]+?)\s*(?P<sign><=|>=|!=|==|=|<|>)\s*(?P<value>.*?)\s*")
_ORDER = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_LISTED = 12


def number(cell: Any) -> Number:
    """The number in a cell, NaN where it is missing, None where it is something else."""
    if cell is None:
        return math.nan
    if isinstance(cell, (bool, int, float, np.bool_, np.integer, np.floating)):
        try:
            return float(cell)
        except OverflowError:
            return math.inf if cell > 0 else -math.inf
    text = str(cell).strip()
    if isinstance(cell, str) and _PLAIN.fullmatch(text):
        return float(text)
    word = text.lower()  # pandas.NA and NaT are words too
    return math.nan if word in _MISSING else _INFINITE.get(word) if isinstance(cell, str) else None


def column_of(cells: Sequence[Any]) -> Column:
    """Float64 (n,) where every cell is a number or missing, else object (n,) of text, "" where it is missing."""
    values = [number(cell) for cell in cells]
    numeric = [value for value in values if value is not None]
    if len(numeric) == len(values):
        return np.array(numeric, dtype=float)
    # A missing value stays empty, so that it is no category of its own.
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    return np.array(["" if text.lower() in _MISSING else text for text in texts], dtype=object)


def is_numeric(column: Column) -> bool:
    """Whether a column holds numbers, not text."""
    return bool(column.dtype != object)


def other_notation(cell: str) -> str:
    """What to write instead, for a number in another notation ("92.1%", "1,000", "1.2M"); "" for a word."""
    text = cell.strip()
    sign, bare = ("-" if text.startswith("-") else ""), text.lstrip("+-")
    amount = split_amount(bare)
    if amount and amount[1] == "%":
        return f"{sign}{amount[0] / 100:.10g} (a fraction), or {sign}{amount[0]:.10g} in every row"
    if _THOUSANDS.fullmatch(text):
        return re.sub(r"[,'_ ]", "", text)
    if re.fullmatch(r"\d+,\d+", bare, re.ASCII):
        return text.replace(",", ".")
    if amount and amount[1] and (value := parse_number(bare, _LARGE, any_case=True)) is not None:
        return f"{sign}{value:.10g}"
    return "a number such as 1e6 or 0.921" if re.match(r"[+-]?\.?\d|[$€£]", text) else ""


def shown(value: float | str) -> str:
    """A cell as a person wrote it: 1000, not 1000.0."""
    return value if isinstance(value, str) else f"{value:.6g}"


class Condition(NamedTuple):
    """One condition: a column, a sign, and the values of which one has to hold."""

    name: str
    sign: str
    values: list[str]
    text: str


def parse_conditions(filters: str | Iterable[str]) -> list[Condition]:
    """Conditions separated by commas; "level=a|b" for either. A value with a comma stands in double quotes.

    Raises UsageError for what is no condition.
    """
    conditions = []
    for text in [filters] if isinstance(filters, str) else filters:
        guarded = re.sub(r'"([^"]*)"', lambda found: found[1].replace(",", "\0"), text)
        for clause in (part.replace("\0", ",").strip() for part in guarded.split(",") if part.strip()):
            found = _CLAUSE.fullmatch(clause)
            if found is None or not found["value"]:
                raise UsageError(
                    f"the condition {clause!r} cannot be read; expected NAME=VALUE, also with != < <= > >=, several "
                    "separated by commas, and NAME=A|B for either"
                )
            values = [value.strip() for value in found["value"].split("|")]
            sign = "=" if found["sign"] == "==" else found["sign"]
            if sign in _ORDER and len(values) > 1:
                raise UsageError(f"the condition {clause!r}: | goes with = and !=, not with {sign}")
            conditions.append(Condition(found["name"], sign, values, clause))
    return conditions


def meets(column: Column, condition: Condition) -> NDArray[np.bool_]:
    """Which rows (n,) of a column meet a condition. Words as written, or, where none is, without regard to case.

    Raises UsageError for a number that is none.
    """
    if condition.sign in _ORDER:
        limit = _as_number(condition.values[0], condition)
        values = np.array([np.nan if (value := number(cell)) is None else value for cell in column], dtype=float)
        with np.errstate(invalid="ignore"):
            return np.asarray(_ORDER[condition.sign](values, limit), dtype=bool)
    if is_numeric(column):
        same = np.isin(column, [_as_number(value, condition) for value in condition.values])
    else:
        same = np.isin(column.astype(str), condition.values)
        if not same.any():
            wanted = {value.casefold() for value in condition.values}
            same = np.array([cell.casefold() in wanted for cell in column], dtype=bool)
    return np.asarray(~same if condition.sign == "!=" else same, dtype=bool)


def _as_number(text: str, condition: Condition) -> float:
    """A limit, or a value of a column of numbers, where true and false are 1 and 0."""
    known = {"true": 1.0, "false": 0.0}.get(text.lower(), number(text))
    if known is None or known != known:
        raise UsageError(f"the condition {condition.text!r}: {condition.name} is compared with a number, not {text!r}")
    return known


def nearest_value(words: Iterable[str], condition: Condition, *, some: bool = False) -> str:
    """As did_you_mean, where these words hold nearly, and not just, a value of a condition; else empty.

    some : rows meet it all the same; then values with digits ("epochs 5" beside "epochs 3") count as meant.
    """
    if condition.sign in _ORDER:
        return ""
    known = {word.casefold(): word for word in sorted(set(words)) if word}
    strange = [v for v in condition.values if v.casefold() not in known and not (some and re.search(r"\d", v))]
    return next(filter(None, (did_you_mean(value, known.values()) for value in strange)), "")


def held(column: Column) -> str:
    """What a column holds, for a message."""
    if is_numeric(column):
        found = np.unique(column[np.isfinite(column)])
        if len(found) > _LISTED:
            return f"numbers from {shown(float(found[0]))} to {shown(float(found[-1]))}"
        values = [shown(float(value)) for value in found]
    else:
        values = sorted({shown(cell) for cell in column} - {"", "nan"})
    return a_few(values, _LISTED) or "nothing"


def as_columns(x: Any, variables: Sequence[str], *, named: bool = False) -> tuple[NDArray[Any], tuple[str, ...]]:
    """x as (n, k) and the names of its columns.

    variables : the names wanted, in order. named : a mapping must have just these names; else its own names, in its own
    order, become those of the variables, unless it has all that are wanted.
    Raises UsageError for a wrong number of columns or an unknown name, DataError for no points.
    """
    own = names_of(x)
    if own is not None:
        names = own
        if set(variables) <= set(names):
            names = tuple(variables)
        elif named or len(names) != len(variables):
            missing = [name for name in variables if name not in names]
            near = did_you_mean(missing[0], names) if missing else ""
            raise UsageError(f"x has the columns {', '.join(names)}; the law needs {', '.join(variables)}{near}")
        parts = [np.atleast_1d(np.asarray(x[name])) for name in names]
        if len({len(part) for part in parts}) > 1:
            told = ", ".join(f"{name}: {len(part)}" for name, part in zip(names, parts))
            raise DataError(f"the columns of x differ in length ({told}); give one value a point in each")
        numeric = all(part.dtype.kind in "fiub" for part in parts)
        array = np.stack(parts if numeric else [part.astype(object) for part in parts], axis=1)
    else:
        array, names = np.asarray(x), tuple(variables)
        array = array[:, None] if array.ndim == 1 else np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != len(variables):
        raise UsageError(
            f"x has shape {tuple(np.shape(x))}; expected (n, {len(variables)}), a column for each of "
            f"{', '.join(variables)}, or a mapping from these names to arrays"
        )
    return array, names


def names_of(x: Any) -> tuple[str, ...] | None:
    """The names of the columns of x, where it has names."""
    if not (isinstance(x, Mapping) or hasattr(x, "columns")):
        return None
    return tuple(str(name) for name in (x.keys() if isinstance(x, Mapping) else x.columns))


def width(x: Any) -> int:
    """How many columns x has, as a law takes it: an array, a mapping or a frame."""
    names = names_of(x)
    if names is not None:
        return len(names)
    shape: tuple[int, ...] = np.shape(x)
    return shape[1] if len(shape) == 2 else 1


def as_target(y: Any, count: int, shown: str = "y") -> NDArray[np.float64]:
    """y (n,) as positive finite numbers; `shown` is what is fitted, as "100 - y". Raises DataError."""
    target = np.asarray(y, dtype=float).reshape(-1)
    if len(target) != count:
        raise DataError(f"x has {count} points and y {len(target)}; give one y a point")
    bad = np.flatnonzero(~(np.isfinite(target) & (target > 0)))
    if len(bad):
        raise DataError(
            f"{shown} must be positive and finite; {len(bad)} of {count} points are not, the first at {bad[0]} "
            f"({target[bad[0]]:g}). Drop points without a value, or give what is lacking to the best there can be"
        )
    return target


def as_weights(weights: Any, count: int) -> NDArray[np.float64]:
    """Weights (n,), not negative, not all zero; ones where None. Raises DataError."""
    if weights is None:
        return np.ones(count)
    array = np.asarray(weights, dtype=float).reshape(-1)
    if len(array) != count or not np.all(np.isfinite(array)) or np.any(array < 0) or not np.any(array > 0):
        raise DataError(
            f"sample_weight must be {count} finite numbers, none negative and not all zero; got "
            f"{len(array)} from {array.min() if len(array) else 0:g} to {array.max() if len(array) else 0:g}"
        )
    return array


def encoded(groups: Any, count: int) -> NDArray[np.intp] | None:
    """Groups (n,) of any kind as codes 0, 1, ...; None where None. Raises DataError."""
    if groups is None:
        return None
    array = np.asarray(groups)
    if array.shape != (count,):
        raise DataError(f"groups has shape {array.shape}; expected one label a point, ({count},)")
    return np.unique(array.astype(str), return_inverse=True)[1].reshape(-1)


DENSE = ("dense", "fp32")


def label(value: Any) -> str:
    """The name of a level: 4, 4.0 and "4" are one and the same."""
    number = _number(value)
    return str(value).strip() if math.isnan(number) else f"{number:g}"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def levels_of(values: Iterable[Any]) -> tuple[str, ...]:
    """The levels that occur: numbers by size, then names by the alphabet."""
    names = {label(value) for value in values}
    return tuple(sorted(names, key=lambda name: (math.isnan(_number(name)), _number(name), name)))


def reference_of(levels: Sequence[str], asked: object | None) -> str:
    """The level whose efficiency is 1: the one asked for, else "dense" or "fp32", else the largest number.

    Raises UsageError where it cannot be told.
    """
    if asked is not None:
        name = label(asked)
        if name not in levels:
            raise UsageError(
                f"reference level {name!r} is not among the points{did_you_mean(name, levels)}; they have "
                f"{', '.join(levels)}"
            )
        return name
    named = [name for name in DENSE if name in levels]
    if named:
        return named[0]
    if all(not math.isnan(_number(name)) for name in levels):
        return max(levels, key=_number)
    raise UsageError(
        f'which of the levels {", ".join(levels)} is the uncompressed one? Give reference=..., or name it "dense"'
    )


def codes(values: Sequence[Any], levels: Sequence[str]) -> NDArray[np.float64]:
    """The place (n,) of each value among the levels. Raises DataError for one that is not there."""
    known = {name: float(place) for place, name in enumerate(levels)}
    names = [label(value) for value in values]
    strange = [name for name in names if name not in known]
    if strange:
        raise DataError(
            f"level {strange[0]!r} is not one the law was fitted to{did_you_mean(strange[0], levels)}; it knows "
            f"{', '.join(levels)}"
        )
    return np.array([known[name] for name in names])
