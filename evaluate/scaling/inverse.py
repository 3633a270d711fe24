"""Asking a law backwards: the size, density, bits, data or compute at which it reaches a target, with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq

from evaluate.core.errors import UsageError
from evaluate.scaling.design import number
from evaluate.scaling.lines import Line, line, quantiles

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


@dataclass(frozen=True)
class Solved:
    """Where a law reaches a target.

    value     : of `variable`, in its unit; the smallest at which y comes down to the target (where y rises with the
                variable, as with sparsity, the largest at which it is still kept). NaN out of reach.
    low, high : the ends of the interval; infinite where it is not bounded, NaN without draws.
    reachable : whether the fitted law reaches the target.  reason : why not, or what is doubtful about the answer.
    beyond    : how many times past the points the answer lies, 1 within them.
    target    : the y asked for.  share : of the resamples that reach it.
    """

    value: float
    low: float
    high: float
    reachable: bool
    reason: str
    beyond: float
    variable: str
    target: float
    share: float

    def __str__(self) -> str:
        if not self.reachable:
            return f"out of reach: {self.reason}"
        told = f"{self.variable} = {number(self.value)} ({number(self.low)}, {number(self.high)})"
        return told + (f"; {self.reason}" if self.reason else "")


def solve(
    law: Law,
    y: float,
    variable: str | None = None,
    given: Mapping[str, Any] | None = None,
    interval: float = 0.9,
) -> Solved:
    """Where the law comes down to y: see Solved.

    y : positive, in the unit of the points.  variable : needed where several are free; the others by `given`.
    The interval holds a share `interval` of where the bootstrap's curves come down to y. That is the law's own doubt;
    an answer past the points also takes in the values about it at which the interval of `predict` holds y, which has
    the error of the form in it. Within the points the form was held against measurements, and this is left out.
    Raises UsageError for an unknown variable, or a target or interval that is none; DataError for a bad `given`.
    """
    target = _checked(y, interval)
    along = line(law, variable, given or {})
    draws = along.crossings(target)
    share = float(np.mean(np.isfinite(draws))) if len(draws) else math.nan
    low, high = quantiles(draws, interval, along.open_end)
    value, always = _root(along, target)
    if math.isnan(value):
        reason = _unreached(along, target, interval, share)
        return Solved(math.nan, low, high, False, reason, 1.0, along.variable, target, share)
    if always:
        reason = f"y stays below {number(target)} at every {along.variable}, however {_worst_word(along)}"
        low, high = float(np.fmin(low, value)), float(np.fmax(high, value))
        return Solved(value, low, high, True, reason, 1.0, along.variable, target, share)
    beyond, told = along.beyond(value)
    why = f"{100 * (1 - share):.2g} % of the resamples never reach it" if _open(along, low, high) else ""
    if beyond > 1:
        low, high = _with_the_form(along, value, target, interval, (low, high))
    reasons = [told] if told else []
    if _open(along, low, high):
        side = "below" if along.rises else "above"
        reasons.append(f"not bounded {side}: {why or 'the error of the form may keep it from ever being reached'}")
    low, high = float(np.fmin(low, value)), float(np.fmax(high, value))
    return Solved(value, low, high, True, "; ".join(reasons), beyond, along.variable, target, share)


def _checked(y: float, interval: float) -> float:
    if isinstance(y, bool) or not isinstance(y, (int, float, np.number)) or not (math.isfinite(y) and y > 0):
        raise UsageError(f"the target must be a positive number in the unit of y, got {y!r}")
    if not (isinstance(interval, (int, float)) and 0 < interval < 1):
        raise UsageError(f"interval is a share between 0 and 1, as 0.9; got {interval!r}")
    return float(y)


def _root(along: Line, y: float) -> tuple[float, bool]:
    """The exact place (Brent 1973), and whether the law is below y from the worst end on; NaN where it never is."""
    at, reached = along.first_below(along.best(along.grid)[None], y)
    if not reached[0]:
        return math.nan, False
    if along.at_the_start(at)[0]:
        return along.worst_end, True
    low, high = along.inner(np.array(along.cell(int(at[0]))))

    def gap(inner: float) -> float:
        value = float(along.best(along.outer(np.array([inner])))[0]) / y
        return math.log(value) if 0 < value < math.inf else (700.0 if value > 0 else -700.0)

    if gap(low) * gap(high) > 0:  # the target is met at a grid point to the last digit
        return float(along.grid[at[0]]), False
    return float(along.outer(np.array(brentq(gap, low, high, xtol=1e-15, rtol=1e-15)))), False


def _worst_word(along: Line) -> str:
    return "large" if along.rises else "small"


def _open(along: Line, low: float, high: float) -> bool:
    return low == along.open_end if along.rises else math.isinf(high)


def _with_the_form(
    along: Line, value: float, y: float, interval: float, ends: tuple[float, float]
) -> tuple[float, float]:
    """The interval widened to all values about the answer at which `predict`'s interval holds y."""
    low, high = along.around(value, y, interval)
    return float(np.fmin(ends[0], low)), float(np.fmax(ends[1], high))


def _unreached(along: Line, y: float, interval: float, share: float) -> str:
    """The limit that the law comes to, with its interval."""
    law = along.law
    values = along.best(along.grid)
    lowest = int(np.argmin(values))
    floors = np.min(along.draws(along.grid), axis=1) if len(law.draws_) > 1 else np.array([])
    low, high = quantiles(floors, interval, math.inf)
    told = f"{number(float(values[lowest]))} ({number(low)}, {number(high)})"
    edge = 0 if along.rises else len(values) - 1
    if lowest == edge and along.logs and values[edge] < values[abs(edge - 5)] * (1 - 1e-9):
        text = (
            f"the law falls too slowly, and would still be at {told} at {along.variable} = {number(along.grid[edge])}"
        )
    elif len(law.variables) == 1 and along.logs and getattr(law.form_, "floor", None):
        text = f"floor {told}"
    else:
        ends = {} if along.logs else {along.variable: along.grid[lowest]}
        at = ", ".join(f"{name} = {_shown(value)}" for name, value in {**along.given, **ends}.items())
        text = f"the law comes down to {told} at best{' at ' + at if at else ''}"
    if share > 0:
        text += f"; {100 * share:.2g} % of the resamples reach {number(y)}"
    return text


def _shown(value: Any) -> str:
    return number(float(value)) if isinstance(value, (int, float, np.number)) else str(value)
