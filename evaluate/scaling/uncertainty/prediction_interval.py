"""Prediction intervals that know the form may be wrong.

A bootstrap knows the noise of the points and the doubt about the parameters, and nothing of a wrong form: on 45
learning curves its 90 % intervals cover 46 to 59 % of what comes next. So a third part is added, an error of the form
that grows with the distance beyond the range of the points. Its size is what blocked hold-outs of the largest points
were missed by. Errors of a curve hang together and hold-outs are few, hence Student's t with few degrees of freedom,
and never less than 3 % an e-fold (LEAST): one curve may rehearse well by luck. benchmarks/learning_curves.py measures
the coverage.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evaluate.core.errors import UsageError
from evaluate.scaling.fit.fitted import Edges, ErrorModel, FittedLaw
from evaluate.scaling.forms.form import Array
from evaluate.scaling.uncertainty.backtest import Block, backtest, blocks, in_effect, relative_size

DEGREES = 3.0
UNTRIED = 0.05
LEAST = 0.03
NEAREST = 0.1
SEEN = 6.0


def check_share(interval: float) -> None:
    """Raise UsageError for an interval that is no share."""
    if not (isinstance(interval, (int, float)) and 0 < interval < 1):
        raise UsageError(f"interval is a share between 0 and 1, as 0.9; got {interval!r}")


def errors_of(law: FittedLaw) -> ErrorModel:
    """How far predictions may be off, from the residuals and from blocked hold-outs of the largest points."""
    if law.errors is None:
        law.errors = _calibrated(law)
    return law.errors


def _calibrated(law: FittedLaw) -> ErrorModel:
    data = law.data
    space = "raw" if law.loss.space == "raw" else "log"
    edges = Edges.of(data.x, law.closed_columns)
    noise = _noise(law, _missed(law, law.theta, space))
    parts = blocks(law, law.free + 1)
    if not parts:
        return ErrorModel(noise, max(UNTRIED, noise) if space == "log" else noise, DEGREES, 0, space, edges)
    missed = (_missed(law, theta, space) for theta in backtest(law, parts))
    drifts = [_drift(one, part, noise) for one, part in zip(missed, parts)]
    drift = math.hypot(float(np.sqrt(np.mean(np.square(drifts)))), LEAST if space == "log" else 0.0)
    return ErrorModel(noise, drift, DEGREES, len(parts), space, edges)


def _missed(law: FittedLaw, theta: Array, space: str) -> NDArray[np.float64]:
    """Prediction less point (n,)."""
    data = law.data
    if space != "raw":
        return law.form.missed(data.x, data.y, theta)
    with np.errstate(all="ignore"):
        return np.asarray(law.form.predict(data.x, theta) - data.y)


def _noise(law: FittedLaw, missed: Array) -> float:
    """The noise of the larger points, which is that of what comes next: small ones err more, in most data.

    Of sizes over several decades one or two would be left, and their luck: so many count that SEEN are in effect.
    """
    data, size, weights = law.data, relative_size(law), law.data.weights
    if len(data.y) >= 3 * law.free:
        tried = [data.weights * size**power for power in np.linspace(1.0, 0.0, 21)]
        weights = next((one for one in tried if in_effect(one) >= SEEN), weights)
    spare = len(data.y) / max(len(data.y) - law.free, 1)
    good = np.isfinite(missed)
    mean = float(np.sum(weights[good] * missed[good] ** 2) / max(np.sum(weights[good]), 1e-300))
    return math.sqrt(mean * min(spare, 5.0))


def _drift(missed: Array, part: Block, noise: float) -> float:
    held = part.held & np.isfinite(missed)
    if not held.any():
        return 0.0
    away = np.maximum(part.beyond[held], NEAREST)
    excess = max(float(np.mean(missed[held] ** 2)) - noise**2, 0.0)
    return math.sqrt(excess / float(np.mean(away**2)))


def prediction_interval(law: FittedLaw, x: Array, interval: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high), (n,) each, that hold a new point at x (n, k) with the share `interval`. Raises UsageError."""
    check_share(interval)
    model = errors_of(law)
    middle = law.form.predict(x, law.theta)
    scale = np.hypot(model.scale(x), _parameters(law, x, model.space))
    reach = float(stdtrit(model.degrees, (1 + interval) / 2)) * scale
    if model.space == "raw" or np.any(middle <= 0):
        if model.space != "raw":
            reach = reach * np.abs(middle)
        return middle - reach, middle + reach
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = middle * np.exp(-reach), middle * np.exp(np.minimum(reach, 700.0))
    return np.where(np.isnan(low), 0.0, low), np.where(np.isnan(high), np.inf, high)  # no end where a law overflows


def _parameters(law: FittedLaw, x: Array, space: str) -> NDArray[np.float64]:
    """Standard deviation (n,) of the prediction over the bootstrap's parameters, by quantiles: a few may be wild."""
    if len(law.draws) < 2:
        return np.zeros(len(x))
    with np.errstate(all="ignore"):
        curves = law.form.predict(x, law.draws)
        curves = curves if space == "raw" else np.log(curves)
    curves = np.where(np.isfinite(curves), curves, np.nan)
    usable = curves[np.isfinite(curves).all(axis=1)]
    if len(usable) < 2:
        return np.zeros(len(x))
    low, high = np.quantile(usable, [0.16, 0.84], axis=0)
    return np.asarray((high - low) / 2)
