"""What the fit makes doubtful: parameters on a bound, weak floors, poorly told exponents, trends of residuals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import fdtrc

from evaluate.core.errors import DataError
from evaluate.scaling.diagnose.design import design_doubts, locked, number, sizes
from evaluate.scaling.diagnose.influence import influential
from evaluate.scaling.fit.covariance import Covariance, covariance
from evaluate.scaling.forms.form import Array, Parameter
from evaluate.scaling.uncertainty.backtest import free_of
from evaluate.scaling.uncertainty.bootstrap import STRUCTURAL, way

if TYPE_CHECKING:
    from evaluate.scaling.fit.fitting import NotConverged
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


TANGLED = 30.0
TWICE = 2.0
ABSOLUTE = 0.5


class Unidentified(DataError):
    """The points do not identify an exponent, so the fit is refused; force=True takes it all the same."""

    exit_code = 6


def diagnose(law: Law) -> list[str]:
    """Warnings about a law with `theta_`, `draws_` and `intervals_`: one point a sentence, the gravest first.

    Raises Unidentified where the design leaves an exponent open, unless law.force; then that is the first warning.
    """
    found = covariance(law)
    refused = _open(law, found)
    told = []
    if refused:
        why = _refusal(law, found, refused)
        if not law.force:
            raise Unidentified(f"{why}, or fit all the same with force=True (--force)")
        told.append(why)
    reason = way(law).reason
    told += [
        *flat(law),
        *bounds(law),
        *floor(law),
        *exponents(law, set(refused)),
        *_without_effect(law, found),
        *design_doubts(law),
    ]
    told += [*([reason] if reason else []), *starts(law), *residual_trend(law)]
    return told if refused else [*told, *influential(law, found)]


def explained(law: Law, error: NotConverged) -> DataError:
    """What to raise where no two starts agreed: where the design is why, that is said."""
    pair = locked(law)
    names = _exponents(law)
    if pair is None or len(names) < 2:
        return error
    return Unidentified(
        f"{law.form_.title}: these {len(law.data_.y)} points do not tell {' and '.join(names)}, and no two starting "
        f"points agreed; {_remedy(pair)}"
    )


def _exponents(law: Law) -> list[str]:
    return [p.name for p in law.form_.parameters if p.exponent and p.name not in law.fixed]


def _open(law: Law, found: Covariance) -> list[str]:
    """Exponents that the design leaves open."""
    names = _exponents(law)
    if locked(law) and len(names) >= 2:
        return names
    return [name for name in names if name in found.names and _is_open(law, found, name)]


def _is_open(law: Law, found: Covariance, name: str) -> bool:
    """Nothing tells it; or its interval is wider than twice its value to either side, as others can stand in for it."""
    at = found.names.index(name)
    if found.inflation[at] > STRUCTURAL:
        return True
    low, high = law.intervals_[name]
    half = max((high - low) / 2, 1.96 * abs(found.errors[at] * found.scale[at]))
    return bool(half > max(TWICE * abs(law.params_[name]), ABSOLUTE) and found.inflation[at] > TANGLED)


def _refusal(law: Law, found: Covariance, names: list[str]) -> str:
    """Which exponents, how open, why, and which points would tell them."""
    shown = []
    for name in names:
        at = found.names.index(name) if name in found.names else None
        error = math.inf if at is None else abs(found.errors[at] * found.scale[at])
        low, high = law.intervals_[name]
        told = number(law.params_[name])
        if math.isfinite(high):
            sd = "without limit" if error > 1e6 else number(error)
            shown.append(f"{name} ({told}, interval {number(low)} to {number(high)}, error {sd})")
        else:
            shown.append(f"{name} ({told} is one value of many as good)")
    pair = locked(law)
    why = _remedy(pair) if pair else f"{_partners(law, found, names)}; {_more_points(law)}"
    return f"{law.form_.title}: these {law.n_} points do not tell {' and '.join(shown)}; {why}"


def _remedy(pair: tuple[str, str, str]) -> str:
    first, second, how = pair
    return (
        f"{how}, so what is due to {first} and what to {second} cannot be told apart: add points at one {first} and "
        f"several {second}, ten times apart, and the other way round, or choose a law with one exponent"
    )


def _partners(law: Law, found: Covariance, names: list[str]) -> str:
    """What could stand in for the first of the exponents, by the weakest direction that it lies in."""
    at = found.names.index(names[0])
    weakest = max(
        range(len(found.values)), key=lambda row: abs(found.directions[row, at]) / max(found.values[row], 1e-300)
    )
    row = abs(found.directions[weakest])
    others = [name for name, part in zip(found.names, row) if part > 0.2 * row.max() and name != names[0]]
    if not others:
        return f"{names[0]} has no effect at these points"
    return f"changes of {names[0]} are made up for by {', '.join(others)}"


def _more_points(law: Law) -> str:
    return (
        f"add points over a wider range of {', '.join(law.variables)} with at least three values of each, or choose a "
        "law with fewer parameters"
    )


def _without_effect(law: Law, found: Covariance) -> list[str]:
    """Parameters other than exponents that nothing tells."""
    told = []
    on_bound = " ".join(bounds(law))
    for at, name in enumerate(found.names):
        parameter = law.form_.parameters[found.columns[at]]
        if not parameter.exponent and found.inflation[at] > STRUCTURAL and f"{name} is on its bound" not in on_bound:
            told.append(f"these points do not tell {name}: {number(law.params_[name])} is one value of many as good")
    return told
