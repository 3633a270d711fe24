"""Cells of a table: what is a number, what is missing, what is a word, and what is a number written in another way."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

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
