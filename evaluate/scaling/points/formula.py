"""A formula that a user types, as "6*N*D" or "1 - acc1/100": read as arithmetic, never run as code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean

LONGEST = 200  # signs; also bounds how deep it nests
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip


class Formula:
    """Numbers, names of variables, parentheses and + - * / **.

    text : as typed, "6*N*D".  variables : names that may stand in it; `names` are those that do.
    Called with the variables' values, (n,) each or single numbers, it gives (n,), positive and finite; `values` gives
    whatever comes out.
    Raises UsageError where the text is not such a formula.
    """

    def __init__(self, text: str, variables: Sequence[str]) -> None:
        self.text = text.strip()
        self.names: tuple[str, ...] = ()
        if not self.text or len(self.text) > LONGEST:
            shown = repr(self.text[:40])
            raise UsageError(f"a formula such as 6*N*D was expected, of at most {LONGEST} signs, got {shown}")
        try:
            tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            where = f" near sign {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
            raise UsageError(
                f"the formula {self.text!r} cannot be read{where}; expected arithmetic such as 6*N*D"
            ) from error
        self._value = self._read(tree, variables)
        if not self.names:
            raise UsageError(f"the formula {self.text!r} names no variable; known: {', '.join(variables)}")

    def _read(self, node: ast.expr, variables: Sequence[str]) -> Callable[[Mapping[str, ArrayLike]], Any]:
        """A part as a function of the values. Raises UsageError for anything but arithmetic on known names."""
        if isinstance(node, ast.Name):
            name = node.id
            if name not in variables:
                near = did_you_mean(name, variables)
                raise UsageError(
                    f"the formula {self.text!r} has an unknown name {name!r}{near}; known: {', '.join(variables)}"
                )
            self.names = tuple(dict.fromkeys((*self.names, name)))
            return lambda values: np.asarray(values[name], dtype=float)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            try:  # as float64, so that 9**9**9 overflows to infinity at once
                number = np.float64(node.value)  # type: ignore[arg-type]
            except OverflowError:
                number = np.float64(math.inf)
            return lambda values: number
        if isinstance(node, (ast.BinOp, ast.UnaryOp)) and type(node.op) in _OPERATORS:
            apply = _OPERATORS[type(node.op)]
            parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.operand]
            inner = [self._read(part, variables) for part in parts]
            return lambda values: apply(*(part(values) for part in inner))
        odd = getattr(node, "op", node)
        fault = f"{type(odd).__name__} is not known"
        if isinstance(odd, ast.BitXor):
            fault = "a power is written **, not ^"
        elif isinstance(node, ast.Constant):
            fault = f"{node.value!r} is no number"
        raise UsageError(f"the formula {self.text!r}: {fault}; numbers, names, ( ) and + - * / ** are allowed")

    def __call__(self, values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """The formula at these values, by name. Raises DataError where a result is not positive and finite."""
        result = self.values(values)
        if not np.all(np.isfinite(result) & (result > 0)):
            bad = result[~(np.isfinite(result) & (result > 0))].flat[0]
            raise DataError(f"the formula {self.text!r} gives {bad:g}; a positive number was expected everywhere")
        return result

    def values(self, columns: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """The formula at these values, by name; NaN or infinite where it has no value."""
        with np.errstate(all="ignore"):
            return np.asarray(self._value(columns), dtype=float)

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"
