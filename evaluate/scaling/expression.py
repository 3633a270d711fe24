"""A formula that a user types, as "6*N*D": read as arithmetic, never run as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean

LONGEST = 200  # signs; also bounds how deep it nests
_TWO: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_ONE: dict[type[ast.AST], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class Formula:
    """Numbers, names of variables, parentheses and + - * / **.

    text : as typed, "6*N*D".  variables : names that may stand in it; `names` are those that do.
    Called with the variables' values, (n,) each or single numbers, it gives (n,).
    Raises UsageError where the text is not such a formula.
    """

    def __init__(self, text: str, variables: Sequence[str]) -> None:
        self.text = text.strip()
        self._tree = _tree(self.text)
        _check(self._tree, self.text, variables)
        found = sorted((node.col_offset, node.id) for node in ast.walk(self._tree) if isinstance(node, ast.Name))
        self.names = tuple(dict.fromkeys(name for _, name in found))
        if not found:
            raise UsageError(f"the formula {self.text!r} names no variable; known: {', '.join(variables)}")

    def __call__(self, values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """The formula at these values, by name. Raises DataError where a result is not positive and finite."""
        with np.errstate(all="ignore"):
            result = np.asarray(_value(self._tree, values), dtype=float)
        if not np.all(np.isfinite(result) & (result > 0)):
            bad = result[~(np.isfinite(result) & (result > 0))].flat[0]
            raise DataError(f"the formula {self.text!r} gives {bad:g}; a positive number was expected everywhere")
        return result

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"


def _tree(text: str) -> ast.expr:
    if not text or len(text) > LONGEST:
        raise UsageError(f"a formula such as 6*N*D was expected, of at most {LONGEST} signs, got {text[:40]!r}")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" near sign {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise UsageError(f"the formula {text!r} cannot be read{where}; expected arithmetic such as 6*N*D") from error


def _check(tree: ast.expr, text: str, variables: Sequence[str]) -> None:
    """Raise UsageError for anything but arithmetic on known names."""
    parts = [node for node in ast.walk(tree) if isinstance(node, ast.expr)]
    for node in sorted(parts, key=lambda node: node.col_offset):
        if isinstance(node, ast.Name) and node.id not in variables:
            near = did_you_mean(node.id, variables)
            raise UsageError(
                f"the formula {text!r} has an unknown name {node.id!r}{near}; known: {', '.join(variables)}"
            )
        if fault := next(_faults(node), None):
            raise UsageError(f"the formula {text!r}: {fault}; numbers, names, ( ) and + - * / ** are allowed")


def _faults(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            yield f"{node.value!r} is no number"
    elif isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.BitXor):
            yield "a power is written **, not ^"
        elif type(node.op) not in _TWO:
            yield f"{type(node.op).__name__} is not known"
    elif isinstance(node, ast.UnaryOp):
        if type(node.op) not in _ONE:
            yield f"{type(node.op).__name__} is not known"
    elif not isinstance(node, ast.Name):
        yield f"{type(node).__name__} is not known"


def _value(node: ast.expr, values: Mapping[str, ArrayLike]) -> Any:
    """Numbers as float64, so that 9**9**9 overflows to infinity at once."""
    if isinstance(node, ast.BinOp):
        return _TWO[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return _ONE[type(node.op)](_value(node.operand, values))
    if isinstance(node, ast.Name):
        return np.asarray(values[node.id], dtype=float)
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return np.float64(_bounded(node.value))
    raise UsageError(f"{type(node).__name__} is not known in a formula")


def _bounded(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
