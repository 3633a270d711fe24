"""What is doubtful about a fit, in plain words with the next step; and the refusal of exponents that nothing tells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evaluate.core.errors import DataError
from evaluate.scaling.design import design_doubts, locked, number
from evaluate.scaling.doubts import bounds, exponents, flat, floor, residual_trend, starts
from evaluate.scaling.influence import influential
from evaluate.scaling.linearised import Covariance, covariance
from evaluate.scaling.uncertainty import STRUCTURAL, way

if TYPE_CHECKING:
    from evaluate.scaling.fitting import NotConverged
    from evaluate.scaling.law import Law


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
