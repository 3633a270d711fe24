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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.forms.form import Array
from evaluate.scaling.select.candidate_fit import in_effect
from evaluate.scaling.uncertainty.backtest import Block, Edges, blocks, closed_columns, free_of, rehearse, size_of

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


DEGREES = 3.0
UNTRIED = 0.05
LEAST = 0.03
NEAREST = 0.1
SEEN = 6.0


@dataclass(frozen=True)
class Spread:
    """What prediction intervals rest on.

    noise  : standard deviation of a point about the law, in log y (or in units of y, where space is "raw").
    drift  : standard deviation of the form's error, per e-fold beyond the range of the points.
    degrees: of Student's t.
    trials : how many blocks were held out to learn the drift; with 0 it is assumed.
    edges  : the range of the points.
    """

    noise: float
    drift: float
    degrees: float
    trials: int
    space: str
    edges: Edges

    def scale(self, x: Array) -> NDArray[np.float64]:
        """(n,): standard deviation of a new point about the law at x (n, k), but for the parameters' part."""
        return np.asarray(np.hypot(self.noise, self.drift * self.edges.beyond(x)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "noise": self.noise, "drift": self.drift, "degrees": self.degrees, "trials": self.trials,
            "space": self.space, "low": list(self.edges.low), "high": list(self.edges.high),
            "logs": list(self.edges.logs),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spread:
        """What `to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        low, high = (tuple(float(value) for value in data[side]) for side in ("low", "high"))
        edges = Edges(low, high, tuple(bool(value) for value in data["logs"]))
        numbers = (float(data["noise"]), float(data["drift"]), float(data["degrees"]), int(data["trials"]))
        return cls(*numbers, str(data["space"]), edges)


def calibrate(law: Law) -> Spread:
    """The spread of a fitted law, from its residuals and from blocked hold-outs of its largest points."""
    data = law.data_
    space = "raw" if law.loss.space == "raw" else "log"
    edges = Edges.of(data.x, closed_columns(law))
    noise = _noise(law, _missed(law, law.theta_[None], space)[0])
    parts = blocks(law, free_of(law) + 1)
    if not parts:
        return Spread(noise, max(UNTRIED, noise) if space == "log" else noise, DEGREES, 0, space, edges)
    told = getattr(law, "rehearsed", None)
    missed = told(parts) if told is not None else _missed(law, rehearse(law, parts), space)
    drifts = [_drift(one, part, noise) for one, part in zip(missed, parts)]
    drift = math.hypot(float(np.sqrt(np.mean(np.square(drifts)))), LEAST if space == "log" else 0.0)
    return Spread(noise, drift, DEGREES, len(parts), space, edges)


def _missed(law: Law, thetas: Array, space: str) -> NDArray[np.float64]:
    """Prediction less point (b, n)."""
    data = law.data_
    if space != "raw":
        return law.form_.missed(data.x, data.y, thetas)
    with np.errstate(all="ignore"):
        return np.asarray(law.form_.predict(data.x, thetas) - data.y)


def _noise(law: Law, missed: Array) -> float:
    """The noise of the larger points, which is that of what comes next: small ones err more, in most data.

    Of sizes over several decades one or two would be left, and their luck: so many count that SEEN are in effect.
    """
    data = law.data_
    size = size_of(law, data.x)
    weights = data.weights
    if len(data.y) >= 3 * free_of(law):
        tried = [data.weights * (size / size.max()) ** power for power in np.linspace(1.0, 0.0, 21)]
        weights = next((one for one in tried if in_effect(one) >= SEEN), weights)
    spare = len(data.y) / max(len(data.y) - free_of(law), 1)
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


def interval_of(law: Law, x: Array, interval: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high), (n,) each, that hold a new point at x (n, k) with the share `interval`."""
    from scipy.stats import t

    spread = law.spread_
    middle = law._predict(x)
    scale = np.hypot(spread.scale(x), _parameters(law, x, spread.space))
    reach = float(t.ppf((1 + interval) / 2, spread.degrees)) * scale
    if spread.space == "raw" or np.any(middle <= 0):
        if spread.space != "raw":
            reach = reach * np.abs(middle)
        return middle - reach, middle + reach
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = middle * np.exp(-reach), middle * np.exp(np.minimum(reach, 700.0))
    return np.where(np.isnan(low), 0.0, low), np.where(np.isnan(high), np.inf, high)  # no end where a law overflows


def _parameters(law: Law, x: Array, space: str) -> NDArray[np.float64]:
    """Standard deviation (n,) of the prediction over the bootstrap's parameters, by quantiles: a few may be wild."""
    if len(law.draws_) < 2:
        return np.zeros(len(x))
    with np.errstate(all="ignore"):
        curves = law.form_.predict(x, law.draws_)
        curves = curves if space == "raw" else np.log(curves)
    curves = np.where(np.isfinite(curves), curves, np.nan)
    usable = curves[np.isfinite(curves).all(axis=1)]
    if len(usable) < 2:
        return np.zeros(len(x))
    low, high = np.quantile(usable, [0.16, 0.84], axis=0)
    return np.asarray((high - low) / 2)
