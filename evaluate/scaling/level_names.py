"""Levels of a compression ("prune-int8", 4 bits, density 0.5) as codes, and which of them is the dense reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean

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
