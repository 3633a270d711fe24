"""Laws of one variable compete: each is fitted with weights that rise with size, and tried on the larger half."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.fit.fitting import NotConverged, fit, refit
from evaluate.scaling.forms.form import Array, Form
from evaluate.scaling.law import criteria
from evaluate.scaling.uncertainty.backtest import half_block, relative_size

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


POWERS = (0.5, 1.0, 2.0)
POINTS_A_PARAMETER = 3
TOP = 0.75
FEWEST_AT_TOP = 3
WITHIN = 1.5
ALIKE = 1e-3
ALIKE_POWERS = 0.1
IN_EFFECT = 2
REPEATS = 1.02
NESTED = {"power": "power-floor"}


@dataclass
class Tried:
    """What came of one form: theta and hold-out error by power of size, its share, or why it has none."""

    name: str
    form: Form
    thetas: dict[float, NDArray[np.float64]] = field(default_factory=dict)
    errors: dict[float, float] = field(default_factory=dict)
    shares: dict[float, float] = field(default_factory=dict)
    aic: float = math.nan
    bic: float = math.nan
    agreed: int = 0
    starts: int = 0
    why_not: str = ""

    @property
    def error(self) -> float:
        """The least of its errors; not a number where it could not be held out."""
        known = [error for error in self.errors.values() if math.isfinite(error)]
        return min(known) if known else math.nan


def compete(law: Law, names: Sequence[str]) -> list[Tried]:
    """Every candidate, fitted where the points allow it, with its share of the average."""
    from evaluate.scaling.forms.law_registry import law_class

    found = [Tried(name, law_class(name).form) for name in names]
    _too_large(found, len(law.data_.y))
    for tried in found:
        if not tried.why_not:
            _try(law, tried)
    if not any(tried.thetas for tried in found):
        for tried in sorted(found, key=lambda one: len(one.form.parameters))[:1]:
            if len(law.data_.y) > len(tried.form.parameters):
                tried.why_not = ""
                _try(law, tried)
    _share(found)
    return found


def _too_large(found: Sequence[Tried], count: int) -> None:
    fits = {tried.name for tried in found if count >= POINTS_A_PARAMETER * len(tried.form.parameters)}
    for tried in found:
        p = len(tried.form.parameters)
        if tried.name not in fits:
            tried.why_not = f"{p} parameters need {POINTS_A_PARAMETER * p} points, and there are {count}"
        elif NESTED.get(tried.name) in fits:
            tried.why_not = f"a special case of {NESTED[tried.name]}"


def _try(law: Law, tried: Tried) -> None:
    data, form = law.data_, tried.form
    relative = relative_size(law)
    powers = powers_for(relative, data.weights, IN_EFFECT * len(form.parameters))
    weights = np.array([data.weights * relative**power for power in powers])
    try:
        first = fit(form, data.x, data.y, weights=weights[len(powers) // 2], loss=law.loss)
    except NotConverged as error:
        tried.why_not = str(error)
        return
    tried.agreed, tried.starts = first.agreed, first.tried
    thetas = refit(form, data.x, data.y, weights, first.theta, loss=law.loss)[0]
    tried.thetas = dict(zip(powers, thetas))
    missed = form.missed(data.x, data.y, first.theta)
    found = criteria(missed, len(first.theta))
    tried.aic, tried.bic = found["aic"], found["bic"]
    _hold_out(law, tried, weights, thetas)


def _hold_out(law: Law, tried: Tried, weights: Array, thetas: Array) -> None:
    data, form = law.data_, tried.form
    part = half_block(law, len(form.parameters))
    if part is None:
        return
    starts = np.broadcast_to(thetas, (len(weights), *thetas.shape))
    again = refit(form, data.x, data.y, weights * part.kept, starts, loss=law.loss)[0]
    missed = form.missed(data.x, data.y, again)
    missed = missed - shifts(missed, data.x[:, 0], part.kept, data.weights)[:, None]
    held = data.weights * part.held
    with np.errstate(all="ignore"):
        errors = np.sqrt(missed**2 @ held / held.sum())
    tried.errors = {power: float(error) for power, error in zip(tried.thetas, errors)}


def powers_for(relative: Array, weights: Array, fewest: float) -> tuple[float, ...]:
    """The powers of size that leave at least `fewest` points in effect (Kish 1965: (sum w)^2 / sum w^2).

    Sizes over several decades, as in a study, would otherwise leave the largest alone. One that would leave fewer is
    lowered, to 0 at last; those that become alike are one.
    """
    found: list[float] = []
    for power in POWERS:
        steps = np.linspace(power, 0.0, 41)
        left = np.array([in_effect(weights * relative**step) for step in steps])
        enough = steps[left >= fewest]
        lowered = round(float(enough[0]), 3) if len(enough) else 0.0
        if all(abs(lowered - other) > ALIKE_POWERS for other in found):
            found.append(lowered)
    return tuple(found)


def in_effect(weights: Array) -> float:
    """How many points of equal weight say as much as these weights (n,)."""
    return float(np.sum(weights) ** 2 / np.sum(weights**2))


def shifts(missed: Array, x: Array, kept: Array, weights: Array) -> NDArray[np.float64]:
    """(b,): the mean of prediction less point (b, n), in log y, over the largest kept points, at least three.

    Where points are repeated, as by seeds, their noise is known, and the mean is shrunk by what noise alone would make
    of it (James and Stein 1961).
    """
    at = np.flatnonzero(kept)
    largest = np.sort(x[at])[-min(FEWEST_AT_TOP, len(at))]
    top = kept & (x >= min(TOP * x[at].max(), largest))
    mean = missed[:, top] @ weights[top] / weights[top].sum()
    noise = _pure_error(missed[:, at], x[at]) / in_effect(weights[top])
    return np.asarray(mean * np.clip(1 - noise / np.maximum(mean**2, 1e-300), 0.0, 1.0))


def _pure_error(missed: Array, x: Array) -> NDArray[np.float64]:
    """Variance (b,) among points (b, n) of one x, or of nearly one; 0 where none is repeated."""
    order = np.argsort(x, kind="stable")
    group = np.cumsum(np.append(False, np.diff(np.log(x[order])) > math.log(REPEATS)))
    sums, spare = np.zeros(len(missed)), 0
    for one in range(group[-1] + 1):
        part = missed[:, order[group == one]]
        sums += np.sum((part - part.mean(axis=1, keepdims=True)) ** 2, axis=1)
        spare += part.shape[1] - 1
    return sums / spare if spare else sums


def _share(found: Sequence[Tried]) -> None:
    """Equal shares for all fits within a factor of the best; where none was held out, for all."""
    best = min((one.error for one in found if math.isfinite(one.error)), default=math.nan)
    chosen: list[tuple[Tried, float]] = []
    for tried in found:
        for power in tried.thetas:
            error = tried.errors.get(power, math.nan)
            close = math.isfinite(error) and error + ALIKE <= WITHIN * (best + ALIKE)
            if close or math.isnan(best):
                chosen.append((tried, power))
        if tried.thetas and not any(one is tried for one, _ in chosen):
            tried.why_not = _behind(tried.error, best)
    for tried, power in chosen:
        tried.shares[power] = 1 / len(chosen)


def _behind(error: float, best: float) -> str:
    if not math.isfinite(error):
        return "too few points to hold any out"
    return f"missed the held-out points by {100 * error:.3g} %, the best by {100 * best:.3g} %"


def shares_by_name(found: Sequence[Tried]) -> Mapping[str, float]:
    """name -> share of the average."""
    return {tried.name: sum(tried.shares.values()) for tried in found}
