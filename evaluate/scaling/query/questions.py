"""Questions to a law and their answers as plain data, as `leanfit fit` and `leanfit predict` give them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evaluate.core.errors import UsageError
from evaluate.scaling.fit.fitted import fitted_of
from evaluate.scaling.forms.form import LAWS
from evaluate.scaling.points.cells import number, other_notation
from evaluate.scaling.query.budget import Formula, optimum
from evaluate.scaling.query.crossing import break_even
from evaluate.scaling.query.solve import solve, unknown_to_solve

Value = Any  # a number, or text for a category


def laws_with_levels() -> list[str]:
    """The laws whose last variable has names as values, with a parameter for each."""
    return [name for name, component in LAWS.all().items() if component.facts["kind"].by_level]


def level_of(law: str, variables: Sequence[str]) -> str | None:
    """The variable whose values are names of levels ("4", "2WO", "dense"), of those given to the law of this name."""
    if law not in laws_with_levels() or not variables:
        return None
    return "level" if "level" in variables else variables[-1]


def assignments(texts: Iterable[str], option: str, level: str | None = None) -> dict[str, list[Value]]:
    """NAME=VALUE, or NAME=V1,V2: name -> values, numbers; those of `level` are text. Raises UsageError."""
    found: dict[str, list[Value]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        name = name.strip()
        if not sign or not name or not values.strip():
            raise UsageError(f"{option} takes NAME=VALUE, as {option} params=1e5, got {text!r}")
        if name in found:
            raise UsageError(f"{option} has {name} twice; several values are {name}=V1,V2")
        parts = values.split(",")
        found[name] = [v.strip() for v in parts] if name == level else [_value(v, f"{option} {text}") for v in parts]
    return found


def _value(text: str, where: str) -> Value:
    read = number(text)
    if read is None:
        if instead := other_notation(text):
            raise UsageError(f"{where}: {text.strip()!r} is no plain number; write {instead}")
        return text.strip()
    if not math.isfinite(read):
        raise UsageError(f"{where}: a value is missing or not finite")
    return read


def ask_solve(
    law: Any, target: float, variable: str | None, given: Mapping[str, Value], interval: float
) -> dict[str, Any]:
    """{variable, target, value, low, high, reachable, reason, beyond, given, interval}. Raises UsageError."""
    wanted = unknown_to_solve(law.variables, variable, given)
    solved = solve(law, target, variable=wanted, given=dict(given), interval=interval)
    return {**asdict(solved), "variable": wanted, "target": target, "given": dict(given), "interval": interval}


def ask_optimum(
    law: Any, formula: Formula, budget: float, given: Mapping[str, Value], interval: float
) -> dict[str, Any]:
    """The best split of a budget of compute, as `optimum` gives it, with the question.

    given : may hold variables that the formula names, as another question had them given; a budget splits those.
    """
    held = {name: value for name, value in given.items() if name not in formula.names}
    found = optimum(law, formula, budget, interval=interval, given=held)
    return {**asdict(found), "compute": formula.text, "given": held, "interval": interval}


def ask_break_even(
    law: Any, other: Any, variable: str | None, given: Mapping[str, Value], interval: float
) -> dict[str, Any]:
    """Where two curves cross, as `break_even` gives it. Raises UsageError for laws of other variables."""
    law, other = fitted_of(law), fitted_of(other)
    if set(law.variables) != set(other.variables):
        raise UsageError(
            f"two curves cross in one variable; these are laws of {', '.join(law.variables)} and of "
            f"{', '.join(other.variables)}"
        )
    wanted = unknown_to_solve(law.variables, variable, given)
    found = break_even(law, other, variable=wanted, given=dict(given), interval=interval)
    return {**asdict(found), "variable": wanted, "given": dict(given), "interval": interval}
