"""Conditions on rows of points, as "role=dense,seed=0,density<=0.5"."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling.cells import is_numeric, number, shown

if TYPE_CHECKING:
    from evaluate.scaling.points import Points


_CLAUSE = re.compile(r"\s*(?P<name>[^<>=!]+?)\s*(?P<sign><=|>=|!=|==|=|<|>)\s*(?P<value>.*?)\s*")
_ORDER = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_LISTED = 12


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
    texts = [filters] if isinstance(filters, str) else list(filters)
    clauses = [clause for text in texts for clause in _guarded(text).split(",")]
    return [_parsed(clause.replace("\0", ",")) for clause in clauses if clause.strip()]


def _guarded(text: str) -> str:
    """Commas inside double quotes become a sign that is no comma."""
    return re.sub(r'"([^"]*)"', lambda found: found[1].replace(",", "\0"), text)


def _parsed(clause: str) -> Condition:
    found = _CLAUSE.fullmatch(clause)
    if found is None or not found["value"]:
        raise UsageError(
            f"the condition {clause.strip()!r} cannot be read; expected NAME=VALUE, also with != < <= > >=, several "
            "separated by commas, and NAME=A|B for either"
        )
    values = [value.strip() for value in found["value"].split("|")]
    sign = "=" if found["sign"] == "==" else found["sign"]
    if sign in _ORDER and len(values) > 1:
        raise UsageError(f"the condition {clause.strip()!r}: | goes with = and !=, not with {sign}")
    return Condition(found["name"], sign, values, clause.strip())


def rows_that_meet(points: Points, filters: str | Iterable[str]) -> NDArray[np.intp]:
    """Numbers of the rows that meet all conditions. Raises UsageError; DataError where there is none."""
    kept = np.ones(len(points), dtype=bool)
    for condition in parse_conditions(filters):
        met = _met(points, condition)
        if not np.any(met & kept):
            alone = "" if np.any(met) else f"; {condition.name} holds {_held(points.column(condition.name))}"
            among = " among the rows that meet the conditions before it" if np.any(met) else ""
            raise DataError(f"{points.source}: no row has {condition.text}{among}{alone}")
        kept &= met
    return np.flatnonzero(kept)


def _met(points: Points, condition: Condition) -> NDArray[np.bool_]:
    column = points.column(condition.name)
    if condition.sign in _ORDER:
        return _ordered(column, condition)
    same = _same_numbers(column, condition) if is_numeric(column) else _same_words(column, condition)
    return ~same if condition.sign == "!=" else same


def _ordered(column: NDArray[Any], condition: Condition) -> NDArray[np.bool_]:
    limit = _as_number(condition.values[0], condition)
    values = np.array([np.nan if (value := number(cell)) is None else value for cell in column], dtype=float)
    with np.errstate(invalid="ignore"):
        return np.asarray(_ORDER[condition.sign](values, limit), dtype=bool)


def _same_numbers(column: NDArray[Any], condition: Condition) -> NDArray[np.bool_]:
    wanted = [_as_number(value, condition) for value in condition.values]
    return np.asarray(np.isin(column, wanted), dtype=bool)


def _same_words(column: NDArray[Any], condition: Condition) -> NDArray[np.bool_]:
    """As written; without regard to capitals where none is written so (True, true)."""
    exact = np.isin(column.astype(str), condition.values)
    if exact.any():
        return np.asarray(exact, dtype=bool)
    wanted = {value.casefold() for value in condition.values}
    return np.array([cell.casefold() in wanted for cell in column], dtype=bool)


def _as_number(text: str, condition: Condition) -> float:
    """A limit, or a value of a column of numbers, where true and false are 1 and 0."""
    known = {"true": 1.0, "false": 0.0}.get(text.lower(), number(text))
    if known is None or known != known:
        raise UsageError(f"the condition {condition.text!r}: {condition.name} is compared with a number, not {text!r}")
    return known


def _held(column: NDArray[Any]) -> str:
    """What a column holds, for a message."""
    values = sorted({shown(cell) for cell in column} - {"", "nan"}) if not is_numeric(column) else []
    if is_numeric(column):
        found = np.unique(column[np.isfinite(column)])
        if len(found) > _LISTED:
            return f"numbers from {shown(float(found[0]))} to {shown(float(found[-1]))}"
        values = [shown(float(value)) for value in found]
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return f"{', '.join(values[:_LISTED]) or 'nothing'}{more}"
