"""The standard errors of a fitted law from its Jacobian: how well the design tells each parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.fit.fitted import FittedLaw, Problem
from evaluate.scaling.fit.fitting import jacobian
from evaluate.scaling.forms.form import Array


@dataclass(frozen=True)
class Covariance:
    """What the points say of the free parameters, linearised at the fit.

    columns, names : which parameters, (f,).  jacobian : (n, f) in the space of the search (log, or as it is).
    errors : standard errors (f,) in the space of the search; infinite where the points do not tell.
    scale  : d theta / d u (f,).  inflation : (f,) by how much the other parameters multiply the error.
    values, directions : singular values (f,), falling, and rows (f, f) of the Jacobian with columns of unit length.
    """

    columns: tuple[int, ...]
    names: tuple[str, ...]
    jacobian: NDArray[np.float64]
    errors: NDArray[np.float64]
    scale: NDArray[np.float64]
    inflation: NDArray[np.float64]
    values: NDArray[np.float64]
    directions: NDArray[np.float64]


def spare(law: Problem) -> int:
    """Degrees of freedom: points less free parameters."""
    return len(law.data.y) - law.free


def covariance(law: FittedLaw, *, bounded: bool = False) -> Covariance:
    """The linearised fit (Seber and Wild 1989, chapter 5), by the singular values of the Jacobian with unit columns.

    bounded : also for parameters that rest on a bound; else these count as fixed there.
    Least squares: s^2 (J'WJ)^-1. Huber's loss: his (1981, 7.6) estimate, sum psi^2 / (n - p) / mean(psi')^2 (J'J)^-1,
    with mean(psi') from the density of the residuals about 0, since few of them lie within delta.
    """
    data = law.data
    r, slopes, scale = jacobian(law.form, data.x, data.y, law.theta, loss=law.loss, fixed=law.fixed)
    slopes = np.where(np.isfinite(slopes), slopes, 0.0)
    free = [i for i, name in enumerate(law.form.names) if name not in law.fixed]
    kept = np.array([bounded or not _on_bound(law, i) for i in free], dtype=bool)
    slopes, scale = slopes[:, kept], scale[kept]
    columns = tuple(i for i, keep in zip(free, kept) if keep)
    root = np.sqrt(data.weights * len(r) / data.weights.sum())
    size = np.linalg.norm(slopes * root[:, None], axis=0)
    unit = slopes * root[:, None] / np.where(size > 0, size, 1.0)
    _, values, directions = np.linalg.svd(unit, full_matrices=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(np.abs(directions) > 1e-14, directions / values[:, None], 0.0)
        inflation = np.sqrt(np.sum(parts**2, axis=0))
        errors = np.where(size > 0, _noise(law, r, root) * inflation / size, np.inf)
    names = tuple(law.form.names[i] for i in columns)
    return Covariance(columns, names, slopes, errors, scale, inflation, values, directions)


def _on_bound(law: FittedLaw, at: int) -> bool:
    parameter, value = law.form.parameters[at], law.theta[at]
    return bool(value <= parameter.low or value >= parameter.high)


def _noise(law: FittedLaw, r: Array, root: Array) -> float:
    """The standard deviation of the errors, as the loss sees it."""
    degrees = max(spare(law), 1)
    if not law.loss.robust:
        return math.sqrt(float(np.sum((root * r) ** 2)) / degrees)
    delta = law.loss.delta
    typical = 1.4826 * float(np.median(np.abs(r)))
    window = max(delta, 1.06 * typical * len(r) ** -0.2)
    inside = float(np.mean(np.abs(r) <= window))
    slope = inside * min(1.0, delta / window)
    psi = np.clip(r, -delta, delta)
    return float(math.sqrt(float(np.sum((root * psi) ** 2)) / degrees) / max(slope, 1e-300))


def standard_errors(law: FittedLaw) -> dict[str, float]:
    """name -> standard error in natural units, from the Jacobian at the fit; of least squares the textbook's.

    Infinite where the points do not tell a parameter; a fixed one has 0, and one that rests on a bound NaN.
    """
    found = covariance(law)
    told = {name: 0.0 if name in law.fixed else math.nan for name in law.form.names}
    with np.errstate(invalid="ignore", over="ignore"):
        for name, error, scale in zip(found.names, found.errors, found.scale):
            told[name] = float(error * abs(scale)) if scale else math.inf
    return told
