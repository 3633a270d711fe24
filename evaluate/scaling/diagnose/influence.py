"""A handful of points that decide the fit: which few, left out, move an exponent or the floor most.

A bootstrap leaves each point out of a third of its resamples, so its interval holds what the fit would be without a
point that decides it; such points are known by how far they move a parameter in standard errors of the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.diagnose.design import number
from evaluate.scaling.fit.covariance import Covariance
from evaluate.scaling.fit.fitted import FittedLaw
from evaluate.scaling.fit.fitting import refit, residuals

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
    watched = [at for at, column in enumerate(found.columns) if _watched(law, column)]
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


def _watched(law: FittedLaw, column: int) -> bool:
    parameter = law.form.parameters[column]
    return parameter.exponent or parameter.name == law.form.floor


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
    points = "; ".join(_where(law, at) for at in left_out[:NAMED])
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    number_of = "one point decides" if len(left_out) == 1 else f"{len(left_out)} of {law.n} points decide"
    without = "it" if len(left_out) == 1 else "them"
    return (
        f"{number_of} the fit: without {without} {name} would be {number(value)} and not "
        f"{number(law.params[name])} ({number(low)}, {number(high)}); look at {points}{more}"
    )


def _where(law: FittedLaw, at: int) -> str:
    return ", ".join(f"{name} = {number(float(v))}" for name, v in zip(law.variables, law.data.x[at]))
