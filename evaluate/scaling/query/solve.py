"""Where a law reaches a target: between the points by what they say, beyond them by the law fitted to predict that end.

What is asked and answered is in the unit of the points; inside, y is as it is fitted, so less is always better.
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

from evaluate.core.errors import UsageError
from evaluate.scaling.diagnose.design import brief
from evaluate.scaling.fit.fitted import FittedLaw, fitted_of
from evaluate.scaling.forms.form import Array
from evaluate.scaling.points.measured import Bracket, Floats, Measured
from evaluate.scaling.query.line import INSIDE_A_CELL, WITHIN, Line, line, quantiles
from evaluate.scaling.uncertainty.prediction_interval import check_share, errors_of, spread_of

CLEAR, CLEAR_AT_LEAST = 3.0, 0.005  # of the noise, and of log y: by so much a law misses points for all to see
NEIGHBOURS = 3  # points that decide where a curve passes between two of them
FAR_ASKED = 100.0  # times past the points


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
    is_number = not isinstance(y, bool) and isinstance(y, (int, float, np.number)) and math.isfinite(y)
    if not (is_number and float(scale.fitted(y)) > 0):
        wanted = f"number below {scale.top:g}" if scale.higher else "positive number"
        raise UsageError(f"the target must be a {wanted} in the unit of y, got {y!r}")
    check_share(interval)
    target, given = float(scale.fitted(y)), given or {}
    along = line(law, variable, given)
    brackets: list[Bracket] = []
    measured = law.measured(along.variable, given)
    if measured is not None:
        along = replace(along, rises=measured.rises != along.flipped)
        some, short = measured.reaches(target)
        brackets = measured.brackets(target) if some and short else []
        if brackets and (measured.straight or not measured.starts_below(target)):
            return _inside(along, measured, brackets, float(y), target, interval)
        worse = "high" if measured.rises else "low"
        better = "low" if measured.rises else "high"
        along = replace(along, law=law.toward(worse if some else better))
    found = _beyond(along, measured, float(y), target, interval)
    if not brackets:
        return found
    crossings = tuple(along.shown(one.value) for one in brackets)
    worse = f"y is worse than {brief(float(y))} again past {along.variable} = {brief(crossings[0])}"
    until = f", until {brief(crossings[1])}" if crossings[1:] else ""
    return replace(found, crossings=crossings, reason="; ".join(filter(None, [worse + until, found.reason])))


def _inside(
    along: Line, measured: Measured, brackets: Sequence[Bracket], asked: float, target: float, interval: float
) -> Solved:
    """Between the points: by the law where it passes between the same ones, else by the law moved through them."""
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
        places = ", ".join(map(brief, crossings))
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


def chance_of(law: FittedLaw, x: Array, target: float | Array) -> NDArray[np.float64]:
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
    chances = chance_of(along.law, along.law.numbers(along.columns(grid)), target / along.factor(grid))
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
