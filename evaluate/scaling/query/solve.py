"""One variable of a law with the others given: its curve, those of the draws, and where they come down to a target.

Works through the law's own `predict` and `curves`, so for every law, an average of laws too. y is as it is fitted, so
less is always better; what is asked and answered is in the unit of the points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtr

from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.scaling.diagnose.design import beyond, brief, extrapolation
from evaluate.scaling.fit.fitted import FittedLaw, fitted_of
from evaluate.scaling.forms.form import Array
from evaluate.scaling.points.measured import Floats, Measured
from evaluate.scaling.uncertainty.prediction_interval import check_share, errors_of, prediction_interval, spread_of

FARTHEST = 600.0  # of log size: what lies further is no number any more
SHARES = ("density", "sparsity")  # of a whole, by their names
AROUND = 30.0
WITHIN, OUTSIDE, INSIDE_A_CELL = 161, 120, 33
CLEAR, CLEAR_AT_LEAST = 3.0, 0.005  # of the noise, and of log y: by so much a law misses points for all to see
NEIGHBOURS = 3  # points that decide where a curve passes between two of them
FAR_ASKED = 100.0  # times past the points


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
    def flipped(self) -> bool:
        """Whether the variable is one minus what is fitted, as a sparsity is."""
        scales = self.law.x_scales
        return bool(scales) and scales[self.law.variables.index(self.variable)].higher

    def shown(self, value: float) -> float:
        """A value of the variable as fitted, in the unit of the points."""
        scales = self.law.x_scales
        return float(scales[self.law.variables.index(self.variable)].told(value)) if scales else float(value)

    def columns(self, values: Array) -> dict[str, Any]:
        """x by name at values (n,) of the variable."""
        values = np.atleast_1d(np.asarray(values, dtype=float))
        rest = {name: np.array([self.given[name]] * len(values)) for name in self.law.variables if name in self.given}
        return {name: values if name == self.variable else rest[name] for name in self.law.variables}

    def best(self, values: Array) -> NDArray[np.float64]:
        """The prediction (n,); infinite where it overflows."""
        with np.errstate(all="ignore"):
            return np.asarray(_whole(self.law.predict(self.columns(values))) * self._factor(values))

    def draws(self, values: Array) -> NDArray[np.float64]:
        """The prediction (b, n) by each draw."""
        with np.errstate(all="ignore"):
            return np.asarray(_whole(self.law.curves(self.columns(values))) * self._factor(values))

    def _factor(self, values: Array) -> Any:
        return 1.0 if self.moved is None else np.exp(np.interp(self.inner(np.asarray(values)), *self.moved))

    def through(self, measured: Measured) -> Line:
        """The law moved to pass through the points, as far as they go one way."""
        x = np.array([self.shown(value) for value in measured.x])
        with np.errstate(all="ignore"):
            away = measured.curve() - np.log(_whole(self.law.predict(self.columns(x))))
        order = np.argsort(x)
        return replace(self, moved=(self.inner(x[order]), np.where(np.isfinite(away), away, 0.0)[order]))

    def band(self, values: Array, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high ends (n,) of the prediction interval of a new point."""
        with np.errstate(all="ignore"):
            low, high = prediction_interval(self.law, self.law.numbers(self.columns(values)), level)
        return _whole(low) * self._factor(values), _whole(high) * self._factor(values)

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
    grid, logs = _grid(low, high, limits, names[wanted] in law.form.domains, bool(law.x_scales))
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


@dataclass(frozen=True)
class Solved:
    """Where a law reaches a target.

    value     : of `variable`, in its unit; the smallest at which y comes to the target (where y is worse at large
                values, as with sparsity, the largest at which it is still kept). NaN out of reach.
    low, high : the ends of the interval; infinite where it is not bounded, NaN without draws.
    reachable : whether the target is reached.  reason : why not, or what is doubtful about the answer.
    beyond    : how many times past the points the answer lies, 1 within them.
    target    : the y asked for.  share : of the resamples that reach it.
    within    : the measured values between which the answer lies, as far as their noise lets them tell; empty beyond.
    crossings : all values at which the points pass the target, where they do so more than once.
    sure      : the value from which on the target is kept with a chance of `interval`; NaN where it never is.
    chance    : the greatest chance of keeping the target at any value up to FAR_ASKED times past the points.
    law       : by which law.
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
    within: tuple[float, ...] = ()
    crossings: tuple[float, ...] = ()
    sure: float = math.nan
    chance: float = math.nan
    law: str = ""

    def __str__(self) -> str:
        if not self.reachable:
            return f"out of reach: {self.reason}"
        told = f"{self.variable} = {brief(self.value)} ({brief(self.low)}, {brief(self.high)})"
        return told + (f"; {self.reason}" if self.reason else "")


def solve(
    law: Any, y: float, variable: str | None = None, given: Mapping[str, Any] | None = None, interval: float = 0.9
) -> Solved:
    """Where y is reached: see Solved.

    y : in the unit of the points, positive as it is fitted.  variable : needed where several are free; the others by
    `given`.
    Between points of which some reach y and some do not, the answer lies where they pass it: by the law where its
    curve passes between the same points, else by the curve through the points. Beyond the points it is that of the
    law fitted to predict that end, moved to pass through the last point where it contradicts it. There the interval
    also takes in the values at which the interval of `predict` holds y, which has the error of the form in it.
    Raises UsageError for an unknown variable, or a target or interval that is none; DataError for a bad `given`.
    """
    law = fitted_of(law)
    scale = law.settings.scale
    number_ = not isinstance(y, bool) and isinstance(y, (int, float, np.number)) and math.isfinite(y)
    if not (number_ and float(scale.fitted(y)) > 0):
        wanted = f"number below {scale.top:g}" if scale.higher else "positive number"
        raise UsageError(f"the target must be a {wanted} in the unit of y, got {y!r}")
    check_share(interval)
    target, given = float(scale.fitted(y)), given or {}
    along = line(law, variable, given)
    measured = law.measured(along.variable, given)
    if measured is not None:
        along = replace(along, rises=measured.rises != along.flipped)
        some, short = measured.reaches(target)
        if some and short:
            return _inside(along, measured, float(y), target, interval)
        worse = "high" if measured.rises else "low"
        better = "low" if measured.rises else "high"
        along = replace(along, law=law.toward(worse if some else better))
    return _beyond(along, measured, float(y), target, interval)


def _inside(along: Line, measured: Measured, asked: float, target: float, interval: float) -> Solved:
    """Between the points: by the law where it passes between the same ones, else by the law moved through them."""
    brackets = measured.brackets(target)
    first = next((one for one in brackets if one.down), brackets[0])
    low, high = sorted(map(along.shown, (first.low, first.high)))
    told_by_noise = measured.straight  # else what looks like noise may be a bend, and the two neighbours decide
    grid = _cell_grid(along, [low, high] if told_by_noise else sorted(map(along.shown, first.cell)))
    reasons = []
    for part in (replace(along, grid=grid), replace(along, grid=grid).through(measured)):
        value, always = _root(part, target)
        passes = not (always or math.isnan(value))
        if passes:
            break
    if not passes:  # the nearest curve that goes one way lies to one side of the target, though points do not
        value = along.shown(first.value)
    if part.moved is not None:
        missed = abs(float(np.interp(along.inner(np.array([value]))[0], *part.moved)))
        if missed > max(CLEAR * errors_of(along.law).noise, CLEAR_AT_LEAST):
            reasons.append(f"the law {along.law.name} misses the points here by {100 * missed:.2g} %, so they decide")
    draws = replace(part, grid=_cell_grid(along, [low, high])).crossings(target)
    best = low if part.rises else high
    found = np.clip(np.where(np.isnan(draws), best, draws), low, high)
    ends = np.array(quantiles(found, interval, best) if len(found) > 1 else (low, high))
    ends = np.clip([*ends, *_local_reach(part, value, interval)], low, high)
    crossings = tuple(along.shown(one.value) for one in brackets) if len(brackets) > 1 else ()
    if crossings:
        places = ", ".join(brief(one) for one in crossings)
        reasons.append(f"the points pass {brief(asked)} {len(crossings)} times, at {places}: this is the first")
    elif not measured.straight:
        reasons.append("y does not go one way along these points")
    share = float(np.mean(np.isfinite(draws))) if len(draws) else math.nan
    return Solved(
        value, float(min(*ends, value)), float(max(*ends, value)), True, "; ".join(reasons), 1.0, along.variable,
        asked, share, (low, high), crossings, *_chances(part, target, interval), along.law.name,
    )  # fmt: skip


def _cell_grid(along: Line, ends: Sequence[float]) -> Floats:
    """Values (m,) of the variable between two of them."""
    low, high = (float(end) for end in along.inner(np.array(ends)))
    found = np.asarray(along.outer(np.linspace(low, high, INSIDE_A_CELL)), dtype=float)
    return np.asarray(np.unique(np.clip(found, ends[0], ends[1])))


def _local_reach(along: Line, value: float, interval: float) -> tuple[float, float]:
    """How far the noise of the points about the law lets the place of a crossing move, by the law's slope there."""
    errors = errors_of(along.law)
    step = 1e-4 * max(float(np.ptp(along.inner(along.grid))), 1e-12)
    place = float(along.inner(np.array([value]))[0])
    with np.errstate(all="ignore"):  # of a law that is nearly flat here, the ends lie past all numbers
        slope = float(np.diff(np.log(along.best(along.outer(place + np.array([-step, step])))))[0]) / (2 * step)
        if errors.space != "log" or not math.isfinite(slope) or slope == 0:
            return value, value
        reach = float(ndtri((1 + interval) / 2)) * errors.noise / math.sqrt(NEIGHBOURS) / abs(slope)
        low, high = along.outer(place + np.array([-reach, reach]))
    return float(low), float(high)


def _beyond(along: Line, measured: Measured | None, asked: float, target: float, interval: float) -> Solved:
    """Past the points, or where they are not known: by the law."""
    value, always = _root(along, target)
    anchored = measured is not None and not always and _contradicts(along, measured, value, target)
    if anchored:
        along = along.through(measured)  # type: ignore[arg-type]
        value, always = _root(along, target)
    draws = along.crossings(target)
    share = float(np.mean(np.isfinite(draws))) if len(draws) else math.nan
    low, high = quantiles(draws, interval, along.open_end)
    sure, chance = _chances(along, target, interval)
    more: dict[str, Any] = {"sure": sure, "chance": chance, "law": along.law.name}
    if math.isnan(value):
        reason = _unreached(along, measured, target, interval, share)
        return Solved(math.nan, low, high, False, reason, 1.0, along.variable, asked, share, **more)
    if always:
        side, word = ("large" if along.rises else "small"), ("above" if along.law.settings.scale.higher else "below")
        reason = f"y stays {word} {brief(asked)} at every {along.variable}, however {side}"
        low, high = float(np.fmin(low, value)), float(np.fmax(high, value))
        return Solved(value, low, high, True, reason, 1.0, along.variable, asked, share, **more)
    beyond, told = along.beyond(value)
    reasons = [told] if told else []
    if anchored:
        reasons.append(f"the law {along.law.name} was moved to pass through the last point, which it contradicts")
    if beyond > 1:
        around = along.around(value, target, interval)
        low, high = float(np.fmin(low, around[0])), float(np.fmax(high, around[1]))
    if _open(along, low, high):
        side = "below" if along.rises else "above"
        never = f"{100 * (1 - share):.2g} % of the resamples never reach it" if share < 1 else ""
        why = never or "the error of the form may keep it from ever being reached"
        sure_of = f"; {along.variable} = {brief(sure)} keeps it with a chance of {100 * interval:.0f} %"
        most = f"; no {along.variable} looked at keeps it with a chance of more than {100 * chance:.0f} %"
        reasons.append(f"not bounded {side}: {why}{sure_of if math.isfinite(sure) else most}")
    low, high = float(np.fmin(low, value)), float(np.fmax(high, value))
    return Solved(value, low, high, True, "; ".join(reasons), beyond, along.variable, asked, share, **more)


def _root(along: Line, y: float) -> tuple[float, bool]:
    """The exact place, and whether the law is below y from the worst end on; NaN where it never is."""
    at, reached = along.first_below(along.best(along.grid)[None], y)
    if not reached[0]:
        return math.nan, False
    return (along.worst_end, True) if along.at_the_start(at)[0] else (_refined(along, int(at[0]), y), False)


def _contradicts(along: Line, measured: Measured, value: float, y: float) -> bool:
    """Whether the law has the answer among points that all fall short of y, or all reach it."""
    low, high = along.law.range[along.variable]
    some = measured.reaches(y)[0]
    return bool(value > low * (1 + 1e-9)) if some != along.rises else bool(value < high * (1 - 1e-9))


def _refined(along: Line, at: int, y: float) -> float:
    """The exact place in the cell of the grid where the law first comes down to y (Brent 1973)."""
    low, high = along.inner(np.array(along.cell(at)))

    def gap(inner: float) -> float:
        value = float(along.best(along.outer(np.array([inner])))[0]) / y
        return math.log(value) if 0 < value < math.inf else (700.0 if value > 0 else -700.0)

    if gap(low) * gap(high) > 0:  # the target is met at a grid point to the last digit
        return float(along.grid[at])
    return float(along.outer(np.array(brentq(gap, low, high, xtol=1e-15, rtol=1e-15))))


def chance_of(law: FittedLaw, x: Array, target: float) -> NDArray[np.float64]:
    """The chance (n,) that a point at x (n, k) comes to at most the target, as fitted: by Student's t of its errors."""
    model = errors_of(law)
    middle = law.at(x, law.theta)
    scale = np.maximum(spread_of(law, x), 1e-12)
    with np.errstate(all="ignore"):
        away = target - middle if model.space == "raw" else np.log(target / middle)
        return np.asarray(np.where(np.isfinite(middle), stdtr(model.degrees, away / scale), 0.0))


def _chances(along: Line, target: float, interval: float) -> tuple[float, float]:
    """(the value from which on the chance of keeping the target is `interval`, the greatest chance)."""
    low, high = along.law.range[along.variable]
    grid = np.geomspace(low / FAR_ASKED, high * FAR_ASKED, 6 * WITHIN) if along.logs else along.grid
    chances = chance_of(along.law, along.law.numbers(along.columns(grid)), target)
    order = slice(None, None, -1 if along.rises else 1)
    grid, chances = grid[order], chances[order]
    kept = np.flatnonzero(chances >= interval)
    return (float(grid[kept[0]]) if len(kept) else math.nan), float(np.max(chances))


def _open(along: Line, low: float, high: float) -> bool:
    return low == along.open_end if along.rises else math.isinf(high)


def _unreached(along: Line, measured: Measured | None, y: float, interval: float, share: float) -> str:
    """The limit that the law comes to, with its interval."""
    law = along.law
    values = along.best(along.grid)
    lowest = int(np.argmin(values))
    floors = np.min(along.draws(along.grid), axis=1) if len(law.draws) > 1 else np.array([])
    low, high = quantiles(floors, interval, math.inf)
    scale = law.settings.scale
    shown_ends = [brief(float(end)) for end in scale.told_ends(low, high)]
    told = f"{brief(float(scale.told(values[lowest])))} ({', '.join(shown_ends)})"
    edge = 0 if along.rises else len(values) - 1
    if lowest == edge and along.logs and values[edge] < values[abs(edge - 5)] * (1 - 1e-9):
        way = "rises" if scale.higher else "falls"
        text = f"the law {way} too slowly, and would still be at {told} at {along.variable} = {brief(along.grid[edge])}"
    elif len(law.variables) == 1 and along.logs and law.form.floor:
        text = f"{'ceiling' if scale.higher else 'floor'} {told}"
    else:
        ends = {} if along.logs else {along.variable: along.grid[lowest]}
        at = ", ".join(
            f"{name} = {value if isinstance(value, str) else brief(float(value))}"
            for name, value in {**along.given, **ends}.items()
        )
        text = f"the law comes {'up' if scale.higher else 'down'} to {told} at best{' at ' + at if at else ''}"
    if measured is not None and not measured.straight:
        best = int(np.argmin(measured.y))
        place = f"{along.variable} = {brief(along.shown(float(measured.x[best])))}"
        text = f"no point reaches it, the best is {brief(float(scale.told(measured.y[best])))} at {place}; {text}"
        if 0 < best < len(measured.y) - 1:
            text += "; y gets worse again past that point, so larger is no way to it" if not along.rises else ""
    if share > 0:
        text += f"; {100 * share:.2g} % of the resamples reach {brief(float(scale.told(y)))}"
    return text
