"""Cells of a table: what is a number, what is missing, what is a word, and what is a number written in another way."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import UsageError, did_you_mean

Column = NDArray[Any]  # float64 (n,) of numbers, or object (n,) of text
Number = Optional[float]

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITE = {"inf": math.inf, "+inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}
_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-", "--", "<na>", "nat", "?"}
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([,'_ ]\d{3})+(\.\d+)?", re.ASCII)
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def number(cell: Any) -> Number:
    """The number in a cell, NaN where it is missing, None where it is something else."""
    if isinstance(cell, str):
        return _from_text(cell)
    if cell is None:
        return math.nan
    if isinstance(cell, (bool, int, float, np.bool_, np.integer, np.floating)):
        try:
            return float(cell)
        except OverflowError:
            return math.inf if cell > 0 else -math.inf
    return math.nan if str(cell).strip().lower() in _MISSING else None  # pandas.NA, NaT


def _from_text(cell: str) -> Number:
    text = cell.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    word = text.lower()
    return math.nan if word in _MISSING else _INFINITE.get(word)


def column_of(cells: Sequence[Any]) -> Column:
    """Float64 (n,) where every cell is a number or missing, else object (n,) of text, "" where it is missing."""
    values = [number(cell) for cell in cells]
    numeric = [value for value in values if value is not None]
    if len(numeric) == len(values):
        return np.array(numeric, dtype=float)
    # A missing value stays empty, so that it is no category of its own.
    return np.array([_as_text(cell) for cell in cells], dtype=object)


def _as_text(cell: Any) -> str:
    text = str(cell).strip()
    return "" if cell is None or text.lower() in _MISSING else text


def is_numeric(column: Column) -> bool:
    """Whether a column holds numbers, not text."""
    return bool(column.dtype != object)


def other_notation(cell: str) -> str:
    """What to write instead, for a number in another notation ("92.1%", "1,000", "1.2M"); "" for a word."""
    text = cell.strip()
    bare = text.replace(" ", "")
    if bare.endswith("%") and _PLAIN.fullmatch(bare[:-1]):
        return f"{float(bare[:-1]) / 100:.10g} (a fraction), or {bare[:-1]} in every row"
    if _THOUSANDS.fullmatch(text):
        return re.sub(r"[,'_ ]", "", text)
    if re.fullmatch(r"[+-]?\d+,\d+", text, re.ASCII):
        return text.replace(",", ".")
    if bare and bare[-1].lower() in _UNITS and _PLAIN.fullmatch(bare[:-1]):
        return f"{float(bare[:-1]) * _UNITS[bare[-1].lower()]:.10g}"
    return "a number such as 1e6 or 0.921" if re.match(r"[+-]?\.?\d|[$€£]", text) else ""


def shown(value: float | str) -> str:
    """A cell as a person wrote it: 1000, not 1000.0."""
    return value if isinstance(value, str) else f"{value:.6g}"


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


def meets(column: Column, condition: Condition) -> NDArray[np.bool_]:
    """Which rows (n,) of a column meet a condition."""
    if condition.sign in _ORDER:
        return _ordered(column, condition)
    same = _same_numbers(column, condition) if is_numeric(column) else _same_words(column, condition)
    return ~same if condition.sign == "!=" else same


def nearest_value(words: Iterable[str], condition: Condition, *, some: bool = False) -> str:
    """As did_you_mean, where these words hold nearly, and not just, a value of a condition; else empty.

    some : rows meet it all the same; then values with digits ("epochs 5" beside "epochs 3") count as meant.
    """
    if condition.sign in _ORDER:
        return ""
    known = {word.casefold(): word for word in sorted(set(words)) if word}
    strange = [v for v in condition.values if v.casefold() not in known and not (some and re.search(r"\d", v))]
    return next(filter(None, (did_you_mean(value, known.values()) for value in strange)), "")


def _ordered(column: Column, condition: Condition) -> NDArray[np.bool_]:
    limit = _as_number(condition.values[0], condition)
    values = np.array([np.nan if (value := number(cell)) is None else value for cell in column], dtype=float)
    with np.errstate(invalid="ignore"):
        return np.asarray(_ORDER[condition.sign](values, limit), dtype=bool)


def _same_numbers(column: Column, condition: Condition) -> NDArray[np.bool_]:
    wanted = [_as_number(value, condition) for value in condition.values]
    return np.asarray(np.isin(column, wanted), dtype=bool)


def _same_words(column: Column, condition: Condition) -> NDArray[np.bool_]:
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


def held(column: Column) -> str:
    """What a column holds, for a message."""
    values = sorted({shown(cell) for cell in column} - {"", "nan"}) if not is_numeric(column) else []
    if is_numeric(column):
        found = np.unique(column[np.isfinite(column)])
        if len(found) > _LISTED:
            return f"numbers from {shown(float(found[0]))} to {shown(float(found[-1]))}"
        values = [shown(float(value)) for value in found]
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return f"{', '.join(values[:_LISTED]) or 'nothing'}{more}"
