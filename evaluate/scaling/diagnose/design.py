"""What the points can tell: their range, whether two sizes move together, how far a question goes past them, and which
handful of points decides the fit.

A bootstrap leaves each point out of a third of its resamples, so its interval holds what the fit would be without a
point that decides it; such points are known by how far they move a parameter in standard errors of the others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.fit.fitted import FittedLaw, Problem, fitted_of
from evaluate.scaling.fit.fitting import refit, residuals
from evaluate.scaling.forms.form import Array
from evaluate.scaling.uncertainty.bootstrap import Covariance

TOGETHER = 0.9
LOCKED = 0.9999
NOT_SIZES = ("P", "P_a", "P_kv", "P_post", "bits", "level", "e_np", "L_T", "L_S")  # bits, names, errors and losses


def brief(value: float) -> str:
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
                return first, second, f"{second} = {brief(math.exp(float(np.mean(b - a))))} {first} at every point"
            return first, second, f"{second} follows {first} to the power {brief(slope)} at every point"
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
    low, high = sorted(law.x_scales[column].fitted(end) for end in (low, high))
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
            value = float(x[at, column])
            value = float(law.x_scales[column].told(value))
            told.append(
                f"{name} = {brief(value)} is {times(past[at])} times past the points "
                f"({brief(low)} to {brief(high)}): nothing was measured there"
            )
    return told


SHARE, MOST = 0.02, 5
NAMED = 4
FAR = 3.0
PART = 1 / 3
SEEN = 1e-3


def influential(law: FittedLaw, found: Covariance) -> list[str]:
    """A sentence on points that decide: without at most 2 % of them (one at least, five at most) one moves far.

    The candidates are the points of greatest linearised influence in one direction (Broderick, Giordano and Meager
    2020); the law is then fitted again without them. Far is 3 standard errors, on the scale of the residuals that are
    left (Belsley, Kuh and Welsch 1980, chapter 2), and a third of the interval.
    """
    parameters = [law.form.parameters[column] for column in found.columns]
    watched = [at for at, one in enumerate(parameters) if one.exponent or one.name == law.form.floor]
    count = min(MOST, max(1, int(SHARE * law.n)))
    if not watched or law.n - count <= len(found.names) + 2:
        return []
    moves = _moves(law, found)[watched]
    left_out = [set(np.argsort(side * row)[:count].tolist()) for row in moves for side in (1, -1)]
    weights = np.array([np.where(np.isin(np.arange(law.n), list(out)), 0.0, law.data.weights) for out in left_out])
    data = law.data
    theta, objective = refit(law.form, data.x, data.y, weights, law.theta, loss=law.loss, fixed=law.fixed)
    told: dict[float, str] = {}
    for row, at in enumerate(np.repeat(watched, 2)):
        name, value = found.names[at], float(theta[row, found.columns[at]])
        error = abs(found.errors[at] * found.scale[at]) * _quieter(law, theta[row], sorted(left_out[row]))
        low, high = law.intervals[name]
        moved = abs(value - law.params[name])
        if np.isfinite(objective[row]) and moved > max(FAR * error, PART * (high - low), SEEN * abs(value)):
            told.setdefault(moved / max(error, 1e-300), _sentence(law, name, value, sorted(left_out[row])))
    return [told[max(told)]] if told else []


def _quieter(law: FittedLaw, theta: NDArray[np.float64], left_out: list[int]) -> float:
    """The scale of the other points' residuals without some points, as a share of that of all with them."""
    data = law.data
    before, after = (residuals(law.form, data.x, data.y, one, loss=law.loss) for one in (law.theta, theta))
    if law.loss.robust:
        before, after = (np.clip(r, -law.loss.delta, law.loss.delta) for r in (before, after))
    rest = np.delete(after, left_out)
    return float(np.sqrt(np.mean(rest**2) / max(np.mean(before**2), 1e-300)))


def _moves(law: FittedLaw, found: Covariance) -> NDArray[np.float64]:
    """How the loss' gradient at each point pulls each parameter: (f, n), up to a factor."""
    data = law.data
    r = residuals(law.form, data.x, data.y, law.theta, loss=law.loss)
    size = np.linalg.norm(found.jacobian, axis=0)
    unit = found.jacobian / np.where(size > 0, size, 1.0)
    pull = np.linalg.pinv(unit.T @ (unit * data.weights[:, None]), rcond=1e-12, hermitian=True) @ unit.T
    return np.asarray(pull * (data.weights * law.loss.slope(r)))


def _sentence(law: FittedLaw, name: str, value: float, left_out: list[int]) -> str:
    low, high = law.intervals[name]
    places = (zip(law.variables, law.data.x[at]) for at in left_out[:NAMED])
    points = "; ".join(", ".join(f"{name} = {brief(float(v))}" for name, v in place) for place in places)
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    number_of = "one point decides" if len(left_out) == 1 else f"{len(left_out)} of {law.n} points decide"
    without = "it" if len(left_out) == 1 else "them"
    return (
        f"{number_of} the fit: without {without} {name} would be {brief(value)} and not "
        f"{brief(law.params[name])} ({brief(low)}, {brief(high)}); look at {points}{more}"
    )
