"""What the sizes of the points can tell: their range, whether two move together, how far a question goes past them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.fit.fitted import FittedLaw, Problem, fitted_of
from evaluate.scaling.forms.form import Array

TOGETHER = 0.9
LOCKED = 0.9999
NOT_SIZES = ("P", "P_a", "P_kv", "P_post", "bits", "level", "e_np", "L_T", "L_S")  # bits, names, errors and losses


def number(value: float) -> str:
    """A number as a reader wants it: three digits."""
    return f"{value:.3g}"


def times(value: float) -> str:
    """How many times, with two digits: "4.1", "55,000"."""
    return f"{value:.2g}" if value < 99.5 or value > 1e9 else f"{float(f'{value:.2g}'):,.0f}"


def sizes(law: Problem) -> dict[str, NDArray[np.float64]]:
    """Columns of the points that a power may be taken of: positive, and of no closed range. name -> (n,)."""
    found = {}
    for column, (wanted, shown) in enumerate(zip(law.form.variables, law.variables)):
        values = law.data.x[:, column]
        if wanted not in law.form.domains and wanted not in NOT_SIZES and np.all(values > 0):
            found[shown] = values
    return found


def collinear(law: Problem) -> list[tuple[str, str, float]]:
    """Pairs of sizes whose logarithms move together, and their correlation, the strongest first."""
    logs = [(name, np.log(values)) for name, values in sizes(law).items() if np.ptp(values) > 0]
    pairs = []
    for at, (first, a) in enumerate(logs):
        for second, b in logs[at + 1 :]:
            together = float(np.corrcoef(a, b)[0, 1])
            if abs(together) >= TOGETHER:
                pairs.append((first, second, together))
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def locked(law: Problem) -> tuple[str, str, str] | None:
    """Two sizes of which one is a power of the other at every point, and how that reads: ("N", "D", "D = 20 N")."""
    for first, second, together in collinear(law):
        if abs(together) >= LOCKED:
            a, b = np.log(sizes(law)[first]), np.log(sizes(law)[second])
            slope = float(np.polyfit(a, b, 1)[0])
            if abs(slope - 1) < 0.02:
                return first, second, f"{second} = {number(math.exp(float(np.mean(b - a))))} {first} at every point"
            return first, second, f"{second} follows {first} to the power {number(slope)} at every point"
    return None


def beyond(law: Any, x: Array) -> NDArray[np.float64]:
    """How many times past the range of the points each row of x (n, k) lies: (n,), 1 within it.

    The greatest over the variables of size / largest and smallest / size; of a share that is removed, as sparsity,
    of what is kept. A variable of any sign counts in widths of its range.
    """
    law = fitted_of(law)
    past = [_past(law, column, x[:, column]) for column in range(x.shape[1])]
    return np.asarray(np.max(past, axis=0)) if past else np.ones(len(x))


def _past(law: FittedLaw, column: int, values: Array) -> NDArray[np.float64]:
    low, high = law.range[law.variables[column]]
    limits = law.form.domains.get(law.form.variables[column])
    if limits is not None and limits[0] == 0 and limits[1] == 1:
        low, high, values = 1 - high, 1 - low, 1 - np.asarray(values)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if limits is not None and not math.isfinite(limits[0]):
            width = high - low
            past = 1 + np.maximum(values - high, low - values) / width
        else:
            past = np.maximum(values / high, low / values)
    return np.asarray(np.where(np.isnan(past), 1.0, np.maximum(past, 1.0)))


def extrapolation(law: Any, x: Array) -> list[str]:
    """One sentence a variable that goes past the range of the points at rows x (n, k): how far, and what that means."""
    law, told = fitted_of(law), []
    for column, name in enumerate(law.variables):
        past = _past(law, column, np.asarray(x, dtype=float)[:, column])
        at = int(np.argmax(past))
        if past[at] > 1.05:
            low, high = law.range[name]
            told.append(
                f"{name} = {number(float(x[at, column]))} is {times(past[at])} times past the points "
                f"({number(low)} to {number(high)}): nothing was measured there"
            )
    return told
