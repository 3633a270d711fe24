"""How a budget is best split between two variables of a law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling.diagnose.design import beyond, extrapolation
from evaluate.scaling.fit.fitted import FittedLaw, fitted_of
from evaluate.scaling.forms.form import Array
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.query.line import quantiles

Cost = Callable[[Mapping[str, Any]], Any]
PLACES = 241
PAST = 16.0  # of log size, past the points either way


@dataclass(frozen=True)
class Optimum:
    """The best split of a budget.

    values, low, high : of each variable that was free, by name, in its unit, with the ends of its interval.
    y, y_low, y_high  : the prediction there, and what the resamples say of it.
    beyond : how many times past the points the split lies.  reason : what is doubtful about it; "" else.
    """

    values: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    y: float
    y_low: float
    y_high: float
    budget: float
    beyond: float
    reason: str


def optimum(
    law: Any,
    compute: str | Cost = "6*N*D",
    budget: float = 1e21,
    interval: float = 0.9,
    given: Mapping[str, Any] | None = None,
) -> Optimum:
    """Where y is least among all splits of a budget between two variables of the law.

    compute : what the split costs, as a formula of the variables, or a callable of {name: (n,)} that gives (n,); it
    rises in both.  budget : in the unit of the cost.  given : values of the law's further variables.
    The intervals hold a share `interval` of the splits that the bootstrap's curves would choose. For Chinchilla's law
    and 6 N D it is the closed form of Hoffmann et al. 2022, equation 4.
    Raises UsageError where not just two variables are free, DataError where the budget buys no split, or where the
    law wants all of it in one variable.
    """
    law = fitted_of(law)
    cost = Formula(compute, law.variables) if isinstance(compute, str) else compute
    if not (isinstance(budget, (int, float)) and math.isfinite(budget) and budget > 0):
        raise UsageError(f"the budget must be a positive number, got {budget!r}")
    split = _Split(law, cost, float(budget), dict(given or {}), _free(law, given or {}))
    split.check()
    grid = split.grid()
    best = split.refined(grid)
    draws = split.chosen_by_draws(grid)
    values = dict(zip(split.names, split.at(np.array([best]))[:, 0].tolist()))
    ends = {name: quantiles(column, interval, math.inf) for name, column in zip(split.names, split.at(draws))}
    low = {name: float(np.fmin(ends[name][0], values[name])) for name in split.names}
    high = {name: float(np.fmax(ends[name][1], values[name])) for name in split.names}
    y_draws = law.curves(split.columns(np.array([best])))[:, 0] if len(law.draws) else np.array([])
    y_low, y_high = quantiles(y_draws, interval, math.inf)
    x = law.numbers(split.columns(np.array([best])))
    reasons = extrapolation(law, x) + split.doubts(draws, grid)
    y = float(law.predict(split.columns(np.array([best])))[0])
    return Optimum(values, low, high, y, y_low, y_high, split.budget, float(beyond(law, x)[0]), "; ".join(reasons))


def _free(law: FittedLaw, given: Mapping[str, Any]) -> tuple[str, str]:
    free = [name for name in law.variables if name not in given]
    if len(free) != 2:
        raise UsageError(
            f"a budget is split between two variables; {law.name} has {', '.join(law.variables)}"
            + (f", of which {', '.join(free)} are free; give the others" if len(free) > 2 else "")
        )
    return free[0], free[1]


@dataclass(frozen=True)
class _Split:
    law: FittedLaw
    cost: Cost
    budget: float
    given: dict[str, Any]
    names: tuple[str, str]

    def check(self) -> None:
        """Raise UsageError or DataError for a cost that is none, as one of a single variable."""
        idle = [name for name in self.names if isinstance(self.cost, Formula) and name not in self.cost.names]
        if idle:
            both = " and ".join(self.names)
            raise UsageError(f"the cost {self.cost} does not depend on {idle[0]}; a budget is split between {both}")
        for name in self.names:
            low, high = self.law.range[name]
            if self.law.names_of(name) or not 0 < low <= high < math.inf:
                words = f"holds names ({', '.join(self.law.names_of(name))})" if self.law.names_of(name) else ""
                told = words or f"goes from {low:g} to {high:g}"
                raise UsageError(f"a budget is split between two sizes, which are positive; {name} {told}: give it")
        middle = {name: np.array([math.sqrt(math.prod(self.law.range[name]))]) for name in self.names}
        self.cost({**middle, **{name: np.array([value]) for name, value in self.given.items()}})

    def grid(self) -> NDArray[np.float64]:
        """log of the first variable (m,), evenly, as far as the second can make up the budget."""
        low, high = (math.log(end) for end in self.law.range[self.names[0]])
        u = np.linspace(low - PAST, high + PAST, PLACES)
        kept = u[np.isfinite([self.partner(value) for value in u])]
        if len(kept) < 3:
            raise DataError(
                f"a budget of {self.budget:g} buys no split near the points; look at its unit and at the formula"
            )
        return np.asarray(kept)

    def partner(self, u: float) -> float:
        """log of the second variable that makes up the budget; NaN where none does."""
        low, high = (math.log(end) for end in self.law.range[self.names[1]])

        def gap(v: float) -> float:
            values = {self.names[0]: np.exp([u]), self.names[1]: np.exp([v])}
            rest = {name: np.array([value]) for name, value in self.given.items()}
            try:
                with np.errstate(all="ignore"):
                    spent = float(np.asarray(self.cost({**values, **rest})).reshape(-1)[0])
            except DataError:  # a formula that is not positive and finite this far out
                spent = math.nan
            if 0 < spent < math.inf:
                return math.log(spent / self.budget)
            return -700.0 if v < (low + high) / 2 else 700.0

        ends = gap(low - 3 * PAST), gap(high + 3 * PAST)
        if not (ends[0] < 0 < ends[1]):
            return math.nan
        return float(brentq(gap, low - 3 * PAST, high + 3 * PAST, xtol=1e-13, rtol=1e-14))

    def at(self, u: Array) -> NDArray[np.float64]:
        """Both variables (2, n)."""
        return np.asarray(np.exp(np.stack([u, [self.partner(float(value)) for value in u]])))

    def columns(self, u: Array) -> dict[str, Any]:
        pair = dict(zip(self.names, self.at(u)))
        rest = {name: np.array([value] * len(u)) for name, value in self.given.items()}
        return {name: pair[name] if name in pair else rest[name] for name in self.law.variables}

    def refined(self, grid: Array) -> float:
        """The best place, to the digits that a minimum has. Raises DataError at the edge."""
        y = self.law.predict(self.columns(grid))
        at = int(np.argmin(y))
        if at in (0, len(grid) - 1):
            small, large = self.names if at == 0 else self.names[::-1]
            raise DataError(
                f"the law wants the whole budget in {large}: y does not depend enough on {small}; "
                "there is no best split between them"
            )
        found = minimize_scalar(
            lambda u: math.log(float(self.law.predict(self.columns(np.array([u])))[0])),
            bounds=(grid[at - 1], grid[at + 1]), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        return float(found.x)

    def chosen_by_draws(self, grid: Array) -> NDArray[np.float64]:
        """log of the first variable (b,) that each draw would choose, by a parabola through its three lowest places."""
        if not len(self.law.draws):
            return np.empty(0)
        with np.errstate(all="ignore"):
            curves = np.log(self.law.curves(self.columns(grid)))
        at = np.clip(np.argmin(np.where(np.isfinite(curves), curves, np.inf), axis=1), 1, len(grid) - 2)
        row = np.arange(len(curves))
        left, middle, right = (curves[row, at + side] for side in (-1, 0, 1))
        bend = left - 2 * middle + right
        with np.errstate(all="ignore"):
            shift = np.clip(np.where(bend > 0, 0.5 * (left - right) / bend, 0.0), -1.0, 1.0)
        step = grid[1] - grid[0]
        return np.asarray(grid[at] + np.where(np.isfinite(shift), shift, 0.0) * step)

    def doubts(self, draws: Array, grid: Array) -> list[str]:
        """Resamples that want it all in one variable."""
        edge = float(np.mean((draws <= grid[1]) | (draws >= grid[-2]))) if len(draws) else 0.0
        if edge < 0.02:
            return []
        return [f"{100 * edge:.2g} % of the resamples want the whole budget in one variable, so the interval is open"]
