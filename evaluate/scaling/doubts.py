"""What the fit makes doubtful: parameters on a bound, weak floors, poorly told exponents, trends of residuals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import fdtrc

from evaluate.scaling.design import number, sizes
from evaluate.scaling.form import Array, Parameter
from evaluate.scaling.rehearsal import free_of

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


POOR = 0.5
TREND = 0.5
CHANCE = 1e-3
BY_LUCK = 0.05
SEEN = 1e-4


def _told(law: Law, name: str) -> str:
    low, high = law.intervals_[name]
    return f"{number(law.params_[name])} ({number(low)}, {number(high)})"


def bounds(law: Law) -> list[str]:
    """Parameters that rest on a bound of theirs."""
    told = []
    for parameter in law.form_.parameters:
        at = _bound(law, parameter)
        if at is None or parameter.name in law.fixed:
            continue
        if parameter.name == law.form_.floor:
            told.append(
                f"{parameter.name} is on its bound at {number(at)}: these points show no floor, so the law falls "
                f"without limit past them; add points at larger sizes before you rely on it there"
            )
        else:
            told.append(
                f"{parameter.name} is on its bound at {number(at)}: these points would have it further; look at the "
                f"residuals, or choose another law"
            )
    return told


def _bound(law: Law, parameter: Parameter) -> float | None:
    value = law.params_[parameter.name]
    near = 1e-6 * float(np.median(law.data_.y)) if parameter.name == law.form_.floor else 1e-9 * (1 + abs(value))
    if parameter.scale == "log" and parameter.low == 0 and not math.isfinite(parameter.high):
        return None
    if math.isfinite(parameter.low) and value <= parameter.low + near and (parameter.scale != "log" or parameter.low):
        return parameter.low
    if math.isfinite(parameter.high) and value >= parameter.high - near:
        return parameter.high
    return None


def floor(law: Law) -> list[str]:
    """A floor whose interval reaches 0, or is wider than the floor."""
    name = law.form_.floor
    if name is None or name in law.fixed:
        return []
    value, (low, high) = law.params_[name], law.intervals_[name]
    parameter = law.form_.parameters[law.form_.names.index(name)]
    if _bound(law, parameter) is not None or not value > 0:
        return []
    next_step = "add points at larger sizes, nearer to the floor"
    if low <= 1e-3 * value:
        return [
            f"the floor is weak: {name} is {_told(law, name)}, which reaches 0, so these points do not show that there "
            f"is one; {next_step}"
        ]
    if high - low > value:
        return [f"the floor is weak: {name} is {_told(law, name)}, an interval wider than its value; {next_step}"]
    return []


def exponents(law: Law, skip: set[str]) -> list[str]:
    """Exponents with an interval of more than half their value to either side, but for those to skip."""
    told = []
    for parameter in law.form_.parameters:
        name = parameter.name
        if not parameter.exponent or name in law.fixed or name in skip:
            continue
        low, high = law.intervals_[name]
        half, value = (high - low) / 2, abs(law.params_[name])
        if half > max(POOR * value, 0.05):
            sure = "hardly told" if low <= 0 <= high or half > value else f"told to within {100 * half / value:.0f} %"
            told.append(f"{name} is {sure}: {_told(law, name)}; add points over a wider range of sizes")
    return told


def starts(law: Law) -> list[str]:
    """Few of the starting points came to the best minimum."""
    agreed, tried = law.agreed_
    if tried < 8 or agreed >= max(3, 0.1 * tried):
        return []
    return [
        f"only {agreed} of {tried} starting points came to the best minimum, so there may be a better one; "
        "a law with fewer parameters would be found more surely"
    ]


def flat(law: Law) -> list[str]:
    """Points that a constant explains as well, by the F test of the law against the mean of log y at 0.05."""
    data, free = law.data_, free_of(law)
    spare, terms = law.n_ - free, free - 1
    if spare < 1 or terms < 1 or not np.all(np.isfinite(law.residuals_)):
        return []
    logs, share = np.log(data.y), data.weights / data.weights.sum()
    whole, left = float(share @ (logs - share @ logs) ** 2), float(share @ law.residuals_**2)
    ratio = (whole - left) / terms / max(left / spare, 1e-300)
    if ratio > 0 and fdtrc(terms, spare, ratio) < BY_LUCK:
        return []
    names = " and ".join(law.variables)
    return [
        f"the mean of y explains these {law.n_} points about as well: the noise hides whether y depends on {names}; "
        "add points over a wider range, or several at each size"
    ]


def residual_trend(law: Law) -> list[str]:
    """Variables along which the residuals bend: the law has the wrong form there."""
    told = []
    for name, values in sizes(law).items():
        bend = _bend(np.log(values), law.residuals_, free_of(law))
        if bend:
            told.append(
                f"the residuals follow {name}: the points bend away from the law by up to {100 * bend:.2g} % along it, "
                "so its form is wrong there; let other laws compete (--law auto)"
            )
    return told


def _bend(u: Array, residuals: Array, parameters: int) -> float:
    """How far a smooth curve through the residuals goes from 0; 0.0 where chance would do as well.

    A polynomial of degree 4 at most, against residuals cut at 4 typical deviations; it must explain half of them,
    adjusted for its terms, and pass an F test at 0.001.
    """
    distinct = len(np.unique(np.round(u, 9)))
    degree = min(4, distinct - 2)
    spare = len(u) - parameters - degree
    if degree < 2 or spare < 5:
        return 0.0
    typical = 1.4826 * float(np.median(np.abs(residuals)))
    r = np.clip(residuals, -4 * typical, 4 * typical)
    r = r - r.mean()
    basis = np.polynomial.legendre.legvander(2 * (u - u.min()) / np.ptp(u) - 1, degree)
    curve = basis @ np.linalg.lstsq(basis, r, rcond=None)[0]
    left, whole = float(np.sum((r - curve) ** 2)), float(np.sum(r**2))
    if whole <= 0 or np.max(np.abs(curve)) < SEEN:
        return 0.0
    ratio = (whole - left) / degree / max(left / spare, 1e-300)
    explained = 1 - left / whole * (spare + degree) / spare
    return float(np.max(np.abs(curve))) if explained > TREND and fdtrc(degree, spare, ratio) < CHANCE else 0.0
