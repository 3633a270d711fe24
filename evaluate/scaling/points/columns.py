"""The x of a law as users give it: an array (n,), an array (n, k), or columns by name; levels as names; checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean


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
            raise UsageError(_wrong_names(names, variables))
        parts = [np.atleast_1d(np.asarray(x[name])) for name in names]
        if len({len(part) for part in parts}) > 1:
            told = ", ".join(f"{name}: {len(part)}" for name, part in zip(names, parts))
            raise DataError(f"the columns of x differ in length ({told}); give one value a point in each")
        array = np.stack(parts, axis=1) if all(p.dtype.kind in "fiub" for p in parts) else _objects(parts)
    else:
        array, names = np.asarray(x), tuple(variables)
        array = array[:, None] if array.ndim == 1 else np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != len(variables):
        raise UsageError(
            f"x has shape {tuple(np.shape(x))}; expected (n, {len(variables)}), a column for each of "
            f"{', '.join(variables)}, or a mapping from these names to arrays"
        )
    return array, names


def _objects(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    table = np.empty((len(parts[0]), len(parts)), dtype=object)
    for column, part in enumerate(parts):
        table[:, column] = part
    return table


def _wrong_names(names: Sequence[str], variables: Sequence[str]) -> str:
    missing = [name for name in variables if name not in names]
    near = did_you_mean(missing[0], names) if missing else ""
    return f"x has the columns {', '.join(names)}; the law needs {', '.join(variables)}{near or ''}"


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


def as_target(y: Any, count: int) -> NDArray[np.float64]:
    """y (n,) as positive finite numbers. Raises DataError."""
    target = np.asarray(y, dtype=float).reshape(-1)
    if len(target) != count:
        raise DataError(f"x has {count} points and y {len(target)}; give one y a point")
    bad = np.flatnonzero(~(np.isfinite(target) & (target > 0)))
    if len(bad):
        raise DataError(
            f"y must be positive and finite; {len(bad)} of {count} points are not, the first at {bad[0]} "
            f"({target[bad[0]]:g}). Give an error or a loss, not an accuracy, and drop points without a value"
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
