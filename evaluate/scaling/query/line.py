"""One variable of a law with the others given: its curve, those of the draws, and where they come down to a target.

Works through the law's own `predict` and `curves`, so for every law, an average of laws too. y is as it is fitted, so
less is always better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.scaling.diagnose.design import beyond, extrapolation
from evaluate.scaling.fit.fitted import FittedLaw
from evaluate.scaling.forms.form import Array
from evaluate.scaling.points.measured import Floats, Measured
from evaluate.scaling.points.scale import Scale
from evaluate.scaling.uncertainty.prediction_interval import prediction_interval

FARTHEST = 600.0  # of log size: what lies further is no number any more
SHARES = ("density", "sparsity")  # of a whole, by their names
AROUND = 30.0
WITHIN, OUTSIDE, INSIDE_A_CELL = 161, 120, 33


@dataclass(frozen=True)
class Line:
    """A law along one variable.

    grid : values (m,) of it to look at, rising: fine in the range of the points, wide beyond; in `logs` or as it is.
    rises : y is greater at the upper end of the range: then the best values are the small ones.
    """

    law: FittedLaw
    variable: str
    given: Mapping[str, Any]
    grid: NDArray[np.float64]
    logs: bool
    rises: bool
    moved: tuple[Floats, Floats] | None = None
    """Places of the points (m,) in `inner`, and by how much log y of the law is moved there to pass through them;
    between them in proportion, beyond them as at the last."""

    @property
    def worst_end(self) -> float:
        """The end of the variable where y is worst: 0, infinite, or a limit of its range."""
        if self.logs:
            return np.inf if self.rises else 0.0
        return float(self.grid[-1 if self.rises else 0])

    @property
    def open_end(self) -> float:
        """What stands for a target that is never reached, at the other end: infinite, 0, or a limit of the range."""
        if self.rises:
            return 0.0 if self.logs else float(self.grid[0])
        return np.inf

    @property
    def scale(self) -> Scale:
        """The unit of the variable."""
        return self.law.x_scales[self.law.variables.index(self.variable)]

    @property
    def flipped(self) -> bool:
        """Whether the variable is one minus what is fitted, as a sparsity is."""
        return self.scale.higher

    def shown(self, value: float) -> float:
        """A value of the variable as fitted, in the unit of the points."""
        return float(self.scale.told(value))

    def columns(self, values: Array) -> dict[str, Any]:
        """x by name at values (n,) of the variable."""
        values = np.atleast_1d(np.asarray(values, dtype=float))
        rest = {name: np.array([self.given[name]] * len(values)) for name in self.law.variables if name in self.given}
        return {name: values if name == self.variable else rest[name] for name in self.law.variables}

    def best(self, values: Array) -> NDArray[np.float64]:
        """The prediction (n,); infinite where it overflows."""
        with np.errstate(all="ignore"):
            return np.asarray(_whole(self.law.predict(self.columns(values))) * self.factor(values))

    def draws(self, values: Array) -> NDArray[np.float64]:
        """The prediction (b, n) by each draw."""
        with np.errstate(all="ignore"):
            return np.asarray(_whole(self.law.curves(self.columns(values))) * self.factor(values))

    def factor(self, values: Array) -> Any:
        """What the law's prediction (n,) is multiplied by to pass through the points."""
        return 1.0 if self.moved is None else np.exp(np.interp(self.inner(np.asarray(values)), *self.moved))

    def through(self, measured: Measured) -> Line:
        """The law moved to pass through the points, as far as they go one way."""
        x = np.array([self.shown(value) for value in measured.x])
        with np.errstate(all="ignore"):
            away = measured.curve - np.log(_whole(self.law.predict(self.columns(x))))
        order = np.argsort(x)
        return replace(self, moved=(self.inner(x[order]), np.where(np.isfinite(away), away, 0.0)[order]))

    def band(self, values: Array, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high ends (n,) of the prediction interval of a new point."""
        with np.errstate(all="ignore"):
            low, high = prediction_interval(self.law, self.law.numbers(self.columns(values)), level)
        return _whole(low) * self.factor(values), _whole(high) * self.factor(values)

    def beyond(self, value: float) -> tuple[float, str]:
        """How many times past the points the line lies at a value, and that as sentences."""
        x = self.law.numbers(self.columns(np.array([value])))
        return float(beyond(self.law, x)[0]), "; ".join(extrapolation(self.law, x))

    def inner(self, values: Array) -> Array:
        """Values as roots are sought in them."""
        return np.log(values) if self.logs else np.asarray(values)

    def outer(self, inner: Array) -> Array:
        """The inverse of `inner`."""
        return np.exp(inner) if self.logs else np.asarray(inner)

    def first_below(self, curves: Array, y: float) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Of curves (c, m) on the grid: the first place from the worst end that is at most y, and if there is one."""
        reached = curves <= y
        if self.rises:
            reached = reached[:, ::-1]
        at = np.argmax(reached, axis=1)
        at = len(self.grid) - 1 - at if self.rises else at
        return np.asarray(at), np.asarray(reached.any(axis=1))

    def cell(self, at: int) -> tuple[float, float]:
        """The two neighbours on the grid, rising, between which a curve first comes down to the target at `at`."""
        other = at + 1 if self.rises else at - 1
        return float(self.grid[min(at, other)]), float(self.grid[max(at, other)])

    def at_the_start(self, at: Array) -> NDArray[np.bool_]:
        """Whether a curve is below the target from the worst end on."""
        return np.asarray(at == (len(self.grid) - 1 if self.rises else 0))

    def crossings(self, y: float) -> NDArray[np.float64]:
        """Where each draw first comes down to y: (b,), NaN where it never does, the worst end where it always is."""
        at, reached = self.first_below(self.draws(self.grid), y)
        start = self.at_the_start(at) & reached
        found = np.where(start, self.worst_end, np.nan)
        open_ = reached & ~start
        for place in np.unique(at[open_]):
            rows = np.flatnonzero(open_ & (at == place))
            low, high = self.inner(np.array(self.cell(int(place))))
            inner = np.linspace(low, high, INSIDE_A_CELL)
            found[rows] = self.outer(_down(inner, self.draws(self.outer(inner))[rows], y, self.rises))
        return np.asarray(found)

    def around(self, value: float, y: float, level: float) -> tuple[float, float]:
        """The values about `value` without a gap at which the prediction interval of a new point holds y."""
        grid = np.exp(np.log(value) + AROUND * np.linspace(-1, 1, 2 * WITHIN + 1) ** 3) if self.logs else self.grid
        best = self.best(grid)
        grid = grid[np.isfinite(best) & (best > 0)]
        low, high = self.band(grid, level)
        outside = grid[(low > y) | (high < y)]
        below, above = outside[outside < value], outside[outside > value]
        ends = sorted([self.worst_end, self.open_end])
        return float(below[-1]) if len(below) else ends[0], float(above[0]) if len(above) else ends[1]


def _down(inner: Array, curves: Array, y: float, rises: bool) -> NDArray[np.float64]:
    """Where curves (c, m) first come down to y, by straight lines between log y."""
    if rises:
        inner, curves = inner[::-1], curves[:, ::-1]
    at = np.clip(np.argmax(curves <= y, axis=1), 1, None)
    row = np.arange(len(curves))
    with np.errstate(all="ignore"):
        before, after = np.log(curves[row, at - 1] / y), np.log(curves[row, at] / y)
        share = np.clip(np.where(np.isfinite(before), before / (before - after), 1.0), 0.0, 1.0)
    share = np.where(np.isfinite(share), share, 1.0)
    return np.asarray(inner[at - 1] + share * (inner[at] - inner[at - 1]))


def _whole(y: Array) -> NDArray[np.float64]:
    return np.asarray(np.where(np.isnan(y), np.inf, y))


def unknown_to_solve(names: Sequence[str], solve_for: str | None, given: Mapping[str, Any]) -> str:
    """The variable to solve for: the one named, or the only one that is not given. Raises UsageError.

    names : the variables of the law.
    """
    for name in [*([solve_for] if solve_for else []), *given]:
        if name not in names:
            raise UsageError(f"the law has no variable {name!r}{did_you_mean(name, names)}; it has {', '.join(names)}")
    if solve_for in given:
        raise UsageError(f"{solve_for} is given and to be solved for; choose one of the two")
    free = [name for name in names if name not in given]
    wanted = solve_for or (free[0] if len(free) == 1 else "")
    if not wanted:
        if not free:
            raise UsageError("every variable is given; leave out the one to solve for")
        raise UsageError(f"say which of {', '.join(free)} to solve for, and give the others")
    missing = [name for name in free if name != wanted]
    if missing:
        raise UsageError(f"to solve for {wanted}, give {' and '.join(f'{name}=VALUE' for name in missing)}")
    return wanted


def line(law: FittedLaw, variable: str | None, given: Mapping[str, Any]) -> Line:
    """The law along `variable` (needed where several are free). Raises UsageError, and DataError for bad values."""
    wanted = unknown_to_solve(law.variables, variable, given)
    if levels := law.names_of(wanted):
        raise UsageError(
            f"the values of {wanted} are names ({', '.join(levels)}), and nothing lies between them: ask for another "
            f"variable at one of them, as given={{{wanted!r}: {levels[0]!r}}}"
        )
    names = dict(zip(law.variables, law.form.variables))
    low, high = law.range[wanted]
    if not np.isfinite([low, high]).all():
        raise DataError(f"the range of the points in {wanted} is not known; fit the law again")
    limits = law.domains().get(wanted)
    if limits is None and wanted in SHARES and high <= 1:
        limits = (0.0, 1.0)
    flipped = law.x_scales[law.variables.index(wanted)].higher
    grid, logs = _grid(low, high, limits, names[wanted] in law.form.domains, flipped)
    found = Line(law, wanted, dict(given), grid, logs, False)
    law.numbers(found.columns(np.array([low])))
    ends = found.best(np.array([low, high]))
    return Line(law, wanted, dict(given), grid, logs, bool(ends[1] > ends[0]))


def _grid(
    low: float, high: float, limits: tuple[float, float] | None, closed: bool, flipped: bool
) -> tuple[NDArray[np.float64], bool]:
    if limits is None:
        return np.exp(_spread(np.log(low), np.log(high), FARTHEST, -690.0, 690.0)), True
    if np.isfinite(limits).all():
        small = np.geomspace(1e-7, 1.0, OUTSIDE)
        width = limits[1] - limits[0]
        parts = [limits[0] + width * small, limits[1] - width * small, np.linspace(*limits, WITHIN)]
        found = np.unique(np.concatenate(parts))
        if flipped:
            return found[found < limits[1]], False
        return (found if closed else found[found > limits[0]]), False
    width = high - low
    return _spread(low, high, 1e6 * width, -np.inf, np.inf), False


def _spread(low: float, high: float, farthest: float, least: float, most: float) -> NDArray[np.float64]:
    """Steps that are even from low to high and grow beyond."""
    step = max((high - low) / WITHIN, 1e-3)
    away = np.geomspace(step, farthest, OUTSIDE)
    found = np.concatenate([low - away[::-1], np.linspace(low, high, WITHIN), high + away])
    return np.unique(np.clip(found, least, most))


def quantiles(values: Array, interval: float, worst: float) -> tuple[float, float]:
    """The ends that hold a share `interval` of values (b,); NaN stands for `worst`, an end that is not bounded."""
    if len(values) < 2:
        return float("nan"), float("nan")
    ordered = np.sort(np.where(np.isnan(values), worst, values))
    tail = (1 - interval) / 2
    places = (np.array([tail, 1 - tail]) * (len(ordered) + 1) - 1).clip(0, len(ordered) - 1)
    return float(ordered[int(np.floor(places[0]))]), float(ordered[int(np.ceil(places[1]))])
