"""The one fitter of every law: many starts, or many weightings of the points, searched at once.

A damped Gauss-Newton search (Marquardt 1963) on box bounds, with Huber's loss by reweighting (Holland and Welsch 1977);
where that is slow, because most residuals lie in the linear part of the loss, a quasi-Newton search (BFGS) goes on.
Both work on a whole batch of problems as arrays. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling.fit.optimizer import Search, search
from evaluate.scaling.forms.form import Array, Form, Loss

AGREE = 1e-4  # of the objective: for a thousand points, a tenth of a unit of twice the log likelihood
NEAR = 1e-3  # the same, of searches begun anew about an end, in a valley that is nearly flat
AGAIN = ((0.3, 8), (0.03, 8))  # how far about it, and how many
_SHAPES = "must give the log of the prediction (..., n) for theta (..., p), real or complex"
MANY, SAMPLE = 6000, 2000  # points from which on the starts compete on a sample, and how many it has
REACH = 3.0  # a step changes a parameter by at most e^3


class NotConverged(DataError):
    """No two starts came to the same minimum: the points do not say what the parameters are."""

    exit_code = 6


@dataclass(frozen=True)
class Minimum:
    """A fit: theta (p,) in natural units, its objective, how many of the guesses tried came to it, residuals (n,)."""

    theta: NDArray[np.float64]
    objective: float
    agreed: int
    tried: int
    residuals: NDArray[np.float64]


class _Space:
    """The search space of a form: u = log(theta) or theta, without the parameters that are fixed."""

    def __init__(self, form: Form, x: Array, y: Array, loss: Loss, fixed: Mapping[str, float]) -> None:
        self.form, self.x, self.loss = form, x, loss
        self.y = y
        self.target = y if loss.space == "raw" else np.log(y)
        self.free = np.array([name not in fixed for name in form.names])
        self.fixed = np.array([fixed.get(name, 1.0) for name in form.names], dtype=float)
        self.is_log = np.array([p.scale == "log" for p in form.parameters]) & self.free
        low, high = (np.array([getattr(p, side) for p in form.parameters], dtype=float) for side in ("low", "high"))
        self.low, self.high = self.to_search(low)[self.free], self.to_search(high)[self.free]
        self.logs = self.is_log[self.free]

    def to_search(self, theta: Array) -> Array:
        """All parameters (..., p) as they are searched; those that are fixed stay as they are."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.is_log, np.log(np.where(self.is_log, theta, 1.0)), theta)

    def natural(self, u: Array) -> Array:
        """(..., p) in natural units from the free parameters (..., f) in the search space."""
        theta = np.broadcast_to(self.fixed, (*u.shape[:-1], len(self.fixed))).astype(u.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            theta[..., self.free] = np.where(self.logs, np.exp(np.where(self.logs, u, 0.0)), u)
        return theta

    def residuals(self, u: Array, rows: Array | None = None) -> Array:
        """(..., n), real or complex as u is. rows : which problems of the batch these are, where each has its own y."""
        target = self.target if self.target.ndim == 1 or rows is None else self.target[rows]
        if target.ndim == 2 and u.ndim == 3:
            target = target[:, None, :]
        with np.errstate(all="ignore"):
            if self.loss.space == "raw":  # a straight line may predict below 0, where it has no logarithm
                return np.asarray(self.form.predict(self.x, self.natural(u)) - target)
            difference = self.form.log_y(self.x, self.natural(u)) - target
            return np.asarray(difference if self.loss.space == "log" else np.exp(difference) - 1.0)

    def jacobian(self, u: Array, rows: Array | None = None) -> tuple[Array, Array]:
        """Residuals (b, n) and their derivatives (b, n, f) by the complex step."""
        step = 1e-100
        tilted = u[:, None, :] + 1j * step * np.eye(u.shape[-1])
        r = self.residuals(tilted, rows)
        return r[:, 0, :].real, np.swapaxes(r.imag / step, 1, 2)


def residuals(form: Form, x: Array, y: Array, theta: Array, *, loss: Loss) -> Array:
    """Residuals (..., n) at theta (..., p) in natural units."""
    space = _Space(form, x, y, loss, {})
    return space.residuals(space.to_search(np.asarray(theta, dtype=float)))


def jacobian(
    form: Form, x: Array, y: Array, theta: Array, *, loss: Loss, fixed: Mapping[str, float] | None = None
) -> tuple[Array, Array, Array]:
    """Derivatives (n, f) of the residuals at theta (p,), by the free parameters as they are searched.

    Gives (residuals (n,), jacobian (n, f), d theta / d u (f,)): multiply a standard error in the search space by the
    last to have it in natural units.
    """
    space = _Space(form, x, y, loss, fixed or {})
    u = space.to_search(np.asarray(theta, dtype=float))[space.free]
    r, slopes = space.jacobian(u[None])
    scale = np.where(space.logs, np.asarray(theta)[space.free], 1.0)
    return r[0], slopes[0], scale


def fit(
    form: Form,
    x: Array,
    y: Array,
    *,
    weights: Array | None = None,
    loss: Loss | None = None,
    starts: Array | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Minimum:
    """The best fit over the form's starts (or `starts` (s, p), natural units).

    x (n, k), y (n,), weights (n,) or None. fixed : parameters that keep a given value. Of more than MANY points the
    starts compete on a sample, spread evenly by size, and the best end is polished on all of them.
    Raises NotConverged where no start comes to a minimum, or none but one, even from points about it.
    """
    loss = loss or Loss()
    space = _Space(form, x, y, loss, fixed or {})
    given = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    if starts is None and len(y) > MANY:
        part = _spread_sample(x)
        sample = fit(form, x[part], y[part], weights=given[part], loss=loss, fixed=fixed)
        u, objective = _search(space, _inside(space, sample.theta[None]), given[None])
        return Minimum(space.natural(u[0]), float(objective[0]), sample.agreed, sample.tried, space.residuals(u[0]))
    first = _inside(space, _initial_guesses(form, x, y) if starts is None else np.asarray(starts, dtype=float))
    u, objective = _search(space, first, given[None])
    if not np.isfinite(objective).any():
        raise NotConverged(
            f"{form.title}: none of {len(first)} starting points gave a finite prediction at every point; look at the "
            "units and the range of the points, or choose another law"
        )
    best = int(np.argmin(objective))
    agreed = _agreeing(objective)
    tried = len(objective)
    if agreed < 2 and np.isfinite(objective[best]):
        about, again = _search(space, _about(space, u[best]), given[None])
        u, objective = np.concatenate([u, about]), np.concatenate([objective, again])
        best, agreed, tried = int(np.argmin(objective)), _agreeing(objective, NEAR), len(objective)
    if agreed < 2:
        raise NotConverged(
            f"{form.title}: {tried} starting points came to {tried} different ends, so its parameters cannot be told "
            f"from these {len(y)} points; give more points over a wider range, or choose a law with fewer parameters"
        )
    theta = space.natural(u[best])
    return Minimum(theta, float(objective[best]), agreed, tried, space.residuals(u[best]))


def _spread_sample(x: Array) -> NDArray[np.intp]:
    """Rows of x (n, k), SAMPLE of them, spread evenly over the order of the first column; ties by the others."""
    order = np.lexsort(x.T[::-1])
    return np.sort(order[np.linspace(0, len(order) - 1, SAMPLE).round().astype(int)])


def _initial_guesses(form: Form, x: Array, y: Array) -> Array:
    """The form's initial guesses (s, p), once the form was seen to keep the shapes. Raises UsageError."""
    with np.errstate(all="ignore"):
        found = np.asarray(form.starts(x, y), dtype=float)
    if found.ndim != 2 or found.shape[1] != len(form.parameters):
        raise UsageError(
            f"{form.title}: starts(x, y) gave the shape {found.shape}; expected (s, {len(form.parameters)}), a column "
            f"for each of {', '.join(form.names)}"
        )
    for guesses in (found[0], np.stack([found[0]] * 2).astype(complex)):
        expected = (*guesses.shape[:-1], len(x))
        try:
            with np.errstate(all="ignore"):
                got = np.shape(form.log_y(x, guesses))
        except (ValueError, IndexError, TypeError) as error:
            raise UsageError(f"{form.title}: log_y(x {x.shape}, theta {guesses.shape}) {_SHAPES}; {error}") from error
        if got != expected:
            raise UsageError(
                f"{form.title}: log_y(x {x.shape}, theta {guesses.shape}) {_SHAPES}: {expected} was expected and "
                f"{got} came; take the parameters by columns(theta), and x[:, 0] of x"
            )
    return found


def refit(
    form: Form,
    x: Array,
    y: Array,
    weights: Array,
    start: Array,
    *,
    loss: Loss | None = None,
    fixed: Mapping[str, float] | None = None,
    targets: Array | None = None,
) -> tuple[Array, Array]:
    """Fit again under many weightings of the points at once: a bootstrap, hold-outs.

    weights (b, n); start (p,) or (b, s, p) in natural units, of which the best end is kept; targets (b, n): y of its
    own for each weighting (a parametric bootstrap), else y.
    Gives theta (b, p) and the objective (b,), infinite where none was found.
    """
    loss = loss or Loss()
    weights = np.asarray(weights, dtype=float)
    start = np.asarray(start, dtype=float)
    start = np.broadcast_to(start, (len(weights), 1, start.shape[-1])) if start.ndim == 1 else start
    thetas, objectives = [], []
    rows = max(1, int(1.5e6 / (len(y) * len(form.parameters) * start.shape[1])))
    for at in range(0, len(weights), rows):
        part = slice(at, at + rows)
        own = y if targets is None else np.repeat(targets[part], start.shape[1], axis=0)
        space = _Space(form, x, own, loss, fixed or {})
        shape = start[part].shape[:2]
        first = _inside(space, start[part].reshape(-1, start.shape[-1]))
        u, objective = _search(space, first, np.repeat(weights[part], shape[1], axis=0))
        ends, value = u.reshape(*shape, -1), objective.reshape(shape)
        best = np.argmin(value, axis=1)
        row = np.arange(shape[0])
        thetas.append(space.natural(ends[row, best]))
        objectives.append(value[row, best])
    return np.concatenate(thetas), np.concatenate(objectives)


def _inside(space: _Space, theta: Array) -> Array:
    """Starting points (s, f) of the search, moved inside the bounds."""
    u = space.to_search(np.atleast_2d(theta))[:, space.free]
    return np.clip(u, space.low, space.high)


def _about(space: _Space, u: Array) -> Array:
    """Points about an end, to see whether the search comes back to it. The same ones each time."""
    shares = np.repeat([share for share, _ in AGAIN], [count for _, count in AGAIN])[:, None]
    draws = np.random.default_rng(0).standard_normal((len(shares), len(u))) * shares
    width = np.where(space.logs, 1.0, np.abs(u) + 0.1 * float(np.median(np.abs(space.y))))
    return np.asarray(np.clip(u + draws * width, space.low, space.high))


def _agreeing(objective: Array, share: float = AGREE) -> int:
    best = float(np.min(objective))
    return int(np.sum(objective <= best + share * abs(best) + 1e-18))


def _search(space: _Space, first: Array, weights: Array) -> tuple[Array, Array]:
    problem = Search(
        space.residuals, space.jacobian, space.loss, space.low, space.high, np.where(space.logs, REACH, np.inf)
    )
    return search(problem, first, np.broadcast_to(weights, (len(first), weights.shape[-1])))
