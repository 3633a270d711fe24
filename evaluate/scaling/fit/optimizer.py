"""The search for the minimum of a robust sum of residuals, for a batch of problems at once, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evaluate.scaling.forms.form import Array, Loss

GAUSS_NEWTON_STEPS = 60
QUASI_NEWTON_STEPS = 150
SLOW = 1e-3
DONE = 1e-13


@dataclass(frozen=True)
class Search:
    """Residuals (b, n) and their derivatives (b, n, f) as functions of (u (b, f), rows (b,)); and what limits a search.

    loss; low, high : bounds (f,); reach : the longest step (f,).
    """

    residuals: Callable[..., Array]
    jacobian: Callable[..., tuple[Array, Array]]
    loss: Loss
    low: Array
    high: Array
    reach: Array

    def objective(self, u: Array, weights: Array, rows: Array) -> Array:
        """(b,)"""
        return self.loss.total(self.residuals(u, rows), weights)

    def at_bound(self, u: Array, gradient: Array) -> Array:
        """Which parameters rest on a bound that the descent would leave: (b, f)."""
        return np.asarray(((u <= self.low) & (gradient > 0)) | ((u >= self.high) & (gradient < 0)))


def search(problem: Search, start: Array, weights: Array) -> tuple[Array, Array]:
    """The ends (b, f) of the search and their objectives (b,), from start (b, f) under weights (b, n)."""
    with np.errstate(all="ignore"):  # a step too far overflows; its objective is infinite, and it is not taken
        u, value, slow = _gauss_newton(problem, start.copy(), weights)
        if slow.any():
            rows = np.flatnonzero(slow)
            u[rows], value[rows] = _quasi_newton(problem, u[rows], weights[rows], rows)
    return u, value


def _gauss_newton(problem: Search, u: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Marquardt's search by reweighted squares. Gives the ends, their objectives, and which of them are not done.

    With Huber's loss it stops early, once it creeps: each step then only shifts the weights a little.
    """
    count = len(u)
    everything = np.arange(count)
    value = problem.objective(u, weights, everything)
    damping = np.full(count, 1e-3)
    open_ = np.isfinite(value)
    slow = np.zeros(count, dtype=bool)
    creeps = np.zeros(count, dtype=int)
    robust = problem.loss.robust
    for _ in range(GAUSS_NEWTON_STEPS if robust else 4 * GAUSS_NEWTON_STEPS):
        rows = np.flatnonzero(open_)
        if not len(rows):
            break
        step, promised = _marquardt_step(problem, u[rows], weights[rows], rows, damping[rows])
        new = np.clip(u[rows] + step, problem.low, problem.high)
        reached = problem.objective(new, weights[rows], rows)
        better = reached < value[rows]
        gain = np.where(better, value[rows] - reached, 0.0)
        u[rows[better]], value[rows[better]] = new[better], reached[better]
        damping[rows] = np.clip(np.where(better, damping[rows] / 5, damping[rows] * 6), 1e-14, 1e14)
        enough = DONE * (value[rows] + 1e-300)
        stuck = (better & (gain <= enough)) | (promised <= enough) | (~better & (damping[rows] > 1e9))
        stuck |= value[rows] < 1e-28
        creeps[rows] = np.where(
            better & (gain < SLOW * value[rows]), creeps[rows] + 1, np.where(better, 0, creeps[rows])
        )
        creeping = robust & (creeps[rows] >= 3)
        slow[rows[creeping | (robust & stuck)]] = True
        open_[rows[stuck | creeping]] = False
    slow |= open_ & robust
    return u, value, slow


def _local(problem: Search, u: Array, weights: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Residuals (b, n), the gradient (b, f), and Gauss-Newton's matrix of the reweighted squares (b, f, f)."""
    r, slopes = problem.jacobian(u, rows)
    slopes = np.where(np.isfinite(slopes), slopes, 0.0)
    gradient = np.einsum("bn,bnf->bf", problem.loss.slope(r) * weights, slopes)
    scaled = slopes * np.sqrt(problem.loss.curvature(r) * weights)[:, :, None]
    return r, gradient, np.einsum("bnf,bng->bfg", scaled, scaled)


def _marquardt_step(problem: Search, u: Array, weights: Array, rows: Array, damping: Array) -> tuple[Array, Array]:
    """The step (b, f), and by how much the objective would fall along it on a straight slope (b,)."""
    _, gradient, matrix = _local(problem, u, weights, rows)
    held = problem.at_bound(u, gradient)
    gradient = np.where(held, 0.0, gradient)
    step = _solve(matrix, gradient, held, damping)
    promised = -np.einsum("bf,bf->b", gradient, step)
    return np.clip(step, -problem.reach, problem.reach), promised


def _solve(matrix: Array, gradient: Array, held: Array, damping: Array) -> Array:
    """-(M + damping diag M)^-1 gradient over the parameters that are not held, scaled to a unit diagonal first."""
    size = np.sqrt(np.maximum(np.einsum("bff->bf", matrix), 1e-300))
    unit = matrix / size[:, :, None] / size[:, None, :]
    free = ~held
    unit = unit * free[:, :, None] * free[:, None, :]
    eye = np.eye(matrix.shape[-1])
    unit = unit * (1 - eye) + eye * np.where(held, 1.0, 1.0 + damping[:, None])[:, :, None]
    unit += eye * 1e-15
    try:
        step = np.linalg.solve(unit, (gradient / size)[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        step = (np.linalg.pinv(unit) @ (gradient / size)[:, :, None])[:, :, 0]
    return np.asarray(np.where(held, 0.0, -step / size))


def _quasi_newton(problem: Search, u: Array, weights: Array, rows: Array) -> tuple[Array, Array]:
    """BFGS (Nocedal and Wright 2006, chapter 6) with Gauss-Newton's matrix to begin with, and halving of steps."""
    u = u.copy()
    value, gradient, inverse = _prepare(problem, u, weights, rows)
    open_ = np.isfinite(value)
    quiet = np.zeros(len(u), dtype=int)
    for _ in range(QUASI_NEWTON_STEPS):
        at = np.flatnonzero(open_)
        if not len(at):
            break
        held = problem.at_bound(u[at], gradient[at])
        slope = np.where(held, 0.0, gradient[at])
        step = np.where(held, 0.0, -np.einsum("bfg,bg->bf", inverse[at], slope))
        uphill = np.einsum("bf,bf->b", step, slope) >= 0
        step[uphill] = -slope[uphill] / (1e-300 + np.abs(slope[uphill]).max(axis=1, keepdims=True)) * 1e-3
        new, reached, moved = _halving(problem, u[at], value[at], slope, step, weights[at], rows[at])
        after = _gradient(problem, new, weights[at], rows[at])
        inverse[at] = _updated(inverse[at], new - u[at], after - gradient[at])
        gain = value[at] - reached
        u[at], value[at], gradient[at] = new, reached, after
        calm = ~moved | (gain <= 1e-11 * np.abs(value[at]))
        quiet[at] = np.where(calm, quiet[at] + 1, 0)
        restart = at[(~moved) & (quiet[at] == 1)]
        if len(restart):
            inverse[restart] = _prepare(problem, u[restart], weights[restart], rows[restart])[2]
        open_[at[quiet[at] >= 3]] = False
    return u, value


def _gradient(problem: Search, u: Array, weights: Array, rows: Array) -> Array:
    r, slopes = problem.jacobian(u, rows)
    with np.errstate(all="ignore"):
        found = np.einsum("bn,bnf->bf", problem.loss.slope(r) * weights, slopes)
    return np.asarray(np.where(np.isfinite(found), found, 0.0))


def _prepare(problem: Search, u: Array, weights: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Objective (b,), gradient (b, f) and the inverse of Gauss-Newton's matrix (b, f, f)."""
    r, gradient, matrix = _local(problem, u, weights, rows)
    value = problem.loss.total(r, weights)
    size = np.sqrt(np.maximum(np.einsum("bff->bf", matrix), 1e-300))
    unit = matrix / size[:, :, None] / size[:, None, :] + 1e-9 * np.eye(matrix.shape[-1])
    inverse = np.linalg.pinv(np.where(np.isfinite(unit), unit, 0.0), hermitian=True)
    gradient = np.where(np.isfinite(gradient), gradient, 0.0)
    return value, gradient, inverse / size[:, :, None] / size[:, None, :]


def _halving(
    problem: Search, u: Array, value: Array, slope: Array, step: Array, weights: Array, rows: Array
) -> tuple[Array, Array, Array]:
    """The first of step, step/2, step/4 ... that goes down enough (Armijo): (ends, objectives, whether it moved)."""
    new, reached = u.copy(), value.copy()
    waiting = np.arange(len(u))
    share = 1.0
    step = np.clip(step, -problem.reach, problem.reach)
    for _ in range(25):
        tried = np.clip(u[waiting] + share * step[waiting], problem.low, problem.high)
        found = problem.objective(tried, weights[waiting], rows[waiting])
        promised = np.einsum("bf,bf->b", slope[waiting], tried - u[waiting])
        good = found <= value[waiting] + 1e-4 * np.minimum(promised, 0.0)
        good &= found < value[waiting]
        new[waiting[good]], reached[waiting[good]] = tried[good], found[good]
        # Once what a step promises is less than the rounding of the objective, no shorter one can be told from none.
        waiting = waiting[~good & (-promised > 1e-17 * np.abs(value[waiting]))]
        if not len(waiting):
            break
        share *= 0.4
    moved = np.ones(len(u), dtype=bool)
    moved[waiting] = False
    return new, reached, moved


def _updated(inverse: Array, s: Array, y: Array) -> Array:
    """BFGS' update of the inverse (b, f, f) from steps s and changes of gradient y (b, f); none where s'y <= 0."""
    sy = np.einsum("bf,bf->b", s, y)
    usable = np.isfinite(sy) & np.isfinite(inverse).all(axis=(1, 2))
    usable &= sy > 1e-14 * np.sqrt(np.einsum("bf,bf->b", s, s) * np.einsum("bf,bf->b", y, y)) + 1e-300
    rho = np.where(usable, 1.0 / np.where(usable, sy, 1.0), 0.0)
    hy = np.einsum("bfg,bg->bf", inverse, y)
    yhy = np.einsum("bf,bf->b", y, hy)
    outer = np.einsum("bf,bg->bfg", s, s) * (rho * (1 + rho * yhy))[:, None, None]
    mixed = np.einsum("bf,bg->bfg", hy, s) * rho[:, None, None]
    change = outer - mixed - np.swapaxes(mixed, 1, 2)
    usable &= np.isfinite(change).all(axis=(1, 2))
    return np.asarray(np.where(usable[:, None, None], inverse + change, inverse))
