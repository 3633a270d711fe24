"""What is doubtful about a fit: a list of rules, each one sentence with its reason and the next step.

A rule is a function under `@rule`; the order of the file is that of the warnings, the gravest first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from evaluate.core.errors import DataError
from evaluate.scaling.diagnose.design import brief, collinear, influential, locked, sizes
from evaluate.scaling.fit.fitted import FittedLaw, Problem
from evaluate.scaling.fit.fitting import NotConverged
from evaluate.scaling.forms.form import Array, Parameter
from evaluate.scaling.uncertainty.bootstrap import STRUCTURAL, Covariance, covariance, way

TANGLED = 30.0
TWICE = 2.0
ABSOLUTE = 0.5
POOR = 0.5
TREND = 0.5
CHANCE = 1e-3
BY_LUCK = 0.05
SEEN = 1e-4
DECADE = 1.0


class Unidentified(DataError):
    """The points do not identify an exponent, so the fit is refused; force=True takes it all the same."""

    exit_code = 6


@dataclass(frozen=True)
class Diagnosis:
    """What the rules look at: the law, its linearised fit, and the exponents that the points leave open."""

    law: FittedLaw
    found: Covariance
    open: tuple[str, ...]


Rule = Callable[[Diagnosis], Iterator[str]]
RULES: list[tuple[Rule, bool]] = []


def rule(*, of_averages: bool = False) -> Callable[[Rule], Rule]:
    """Decorator of a rule: sentences on one doubt. of_averages : whether it holds for an average of laws too."""

    def decorate(function: Rule) -> Rule:
        RULES.append((function, of_averages))
        return function

    return decorate


def diagnose(law: FittedLaw) -> list[str]:
    """Warnings about a law with its draws and intervals: one point a sentence, the gravest first.

    Raises Unidentified where the design leaves an exponent open, unless it is forced; then that is the first warning.
    """
    average = bool(law.form.members)
    found = NOTHING if average else covariance(law)
    case = Diagnosis(law, found, () if average else tuple(_open(law, found)))
    return [text for test, of_averages in RULES if of_averages or not average for text in test(case)]


NOTHING = Covariance((), (), *[np.empty(0)] * 6)


def explained(problem: Problem, error: NotConverged) -> DataError:
    """What to raise where no two guesses agreed: where the design is why, that is said."""
    pair, names = locked(problem), _exponents(problem)
    if pair is None or len(names) < 2:
        return error
    return Unidentified(
        f"{problem.form.title}: these {len(problem.data.y)} points do not tell {' and '.join(names)}, and no two "
        f"starting points agreed; {_remedy(pair)}"
    )


# Exponents that nothing tells.


def _exponents(law: Problem) -> list[str]:
    return [p.name for p in law.form.parameters if p.exponent and p.name not in law.fixed]


def _open(law: FittedLaw, found: Covariance) -> list[str]:
    """Exponents that the design leaves open."""
    names = _exponents(law)
    if locked(law) and len(names) >= 2:
        return names
    return [name for name in names if name in found.names and _is_open(law, found, name)]


def _is_open(law: FittedLaw, found: Covariance, name: str) -> bool:
    """Nothing tells it; or its interval is wider than twice its value to either side, as others can stand in for it."""
    at = found.names.index(name)
    if found.inflation[at] > STRUCTURAL:
        return True
    low, high = law.intervals[name]
    half = max((high - low) / 2, 1.96 * abs(found.errors[at] * found.scale[at]))
    return bool(half > max(TWICE * abs(law.params[name]), ABSOLUTE) and found.inflation[at] > TANGLED)


@rule()
def unidentified(case: Diagnosis) -> Iterator[str]:
    """Exponents that the points leave open, why, and which points would tell them; a refusal if not forced."""
    law, found = case.law, case.found
    if not case.open:
        return
    shown = []
    for name in case.open:
        at = found.names.index(name) if name in found.names else None
        error = math.inf if at is None else abs(found.errors[at] * found.scale[at])
        low, high = law.intervals[name]
        told = brief(law.params[name])
        if math.isfinite(high):
            sd = "without limit" if error > 1e6 else brief(error)
            shown.append(f"{name} ({told}, interval {brief(low)} to {brief(high)}, error {sd})")
        else:
            shown.append(f"{name} ({told} is one value of many as good)")
    pair = locked(law)
    why = _remedy(pair) if pair else (
        f"{_partners(found, case.open[0])}; add points over a wider range of {', '.join(law.variables)} with at least "
        "three values of each, or choose a law with fewer parameters"
    )  # fmt: skip
    text = f"{law.form.title}: these {law.n} points do not tell {' and '.join(shown)}; {why}"
    if not law.settings.force:
        raise Unidentified(f"{text}, or fit all the same with force=True (--force)")
    yield text


def _remedy(pair: tuple[str, str, str]) -> str:
    first, second, how = pair
    return (
        f"{how}, so what is due to {first} and what to {second} cannot be told apart: add points at one {first} and "
        f"several {second}, ten times apart, and the other way round, or choose a law with one exponent"
    )


def _partners(found: Covariance, name: str) -> str:
    """What could stand in for an exponent, by the weakest direction that it lies in."""
    at = found.names.index(name)
    weakest = max(
        range(len(found.values)), key=lambda row: abs(found.directions[row, at]) / max(found.values[row], 1e-300)
    )
    row = abs(found.directions[weakest])
    others = [other for other, part in zip(found.names, row) if part > 0.2 * row.max() and other != name]
    if not others:
        return f"{name} has no effect at these points"
    return f"changes of {name} are made up for by {', '.join(others)}"


# What the fit says of its parameters.


@rule(of_averages=True)
def flat(case: Diagnosis) -> Iterator[str]:
    """Points that a constant explains as well, by the F test of the law against the mean of log y at 0.05, and that no
    variable ranks either: a robust fit leaves few points far off, which squares take for noise."""
    law = case.law
    if any(_ranks(column, law.data.y) for column in law.data.x.T):
        return
    data, spare, terms = law.data, law.spare, law.free - 1
    if spare < 1 or terms < 1 or not np.all(np.isfinite(law.residuals)):
        return
    logs, share = np.log(data.y), data.weights / data.weights.sum()
    whole, left = float(share @ (logs - share @ logs) ** 2), float(share @ law.residuals**2)
    ratio = (whole - left) / terms / max(left / spare, 1e-300)
    if not (ratio > 0 and fdtrc(terms, spare, ratio) < BY_LUCK):
        yield (
            f"the mean of y explains these {law.n} points about as well: the noise hides whether y depends on "
            f"{' and '.join(law.variables)}; add points over a wider range, or several at each size"
        )


def _ranks(x: Array, y: Array) -> bool:
    """Whether y goes with x by ranks (Spearman 1904), at 0.05."""
    if len(y) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return False
    ranks = [np.unique(values, return_inverse=True)[1].astype(float) for values in (x, y)]
    r2 = min(float(np.asarray(np.corrcoef(ranks))[0, 1]) ** 2, 1 - 1e-12)
    return bool(fdtrc(1, len(y) - 2, (len(y) - 2) * r2 / (1 - r2)) < BY_LUCK)


@rule(of_averages=True)
def few_places(case: Diagnosis) -> Iterator[str]:
    """As many parameters as sizes: repeats say how noisy the points are, and nothing of the form."""
    law = case.law
    places = len(np.unique(law.data.x, axis=0))
    parameters = min((len(member.form.parameters) for member in law.form.members), default=law.free)
    if places <= parameters < len(law.data.y) or places == 2:
        yield (
            f"the {law.n} points stand at {places} places, so they cannot tell whether the form of the law is right; "
            "add points at other sizes"
        )


@rule()
def bounds(case: Diagnosis) -> Iterator[str]:
    """Parameters that rest on a bound of theirs."""
    for parameter in case.law.form.parameters:
        at = _bound(case.law, parameter)
        if at is None or parameter.name in case.law.fixed:
            continue
        what = f"{parameter.name} is on its bound at {brief(at)}: these points"
        if parameter.name == case.law.form.floor:
            yield (
                f"{what} show no floor, so the law falls "
                "without limit past them; add points at larger sizes before you rely on it there"
            )
        else:
            yield f"{what} would have it further; look at the residuals, or choose another law"


def _bound(law: FittedLaw, parameter: Parameter) -> float | None:
    value = law.params[parameter.name]
    near = 1e-6 * float(np.median(law.data.y)) if parameter.name == law.form.floor else 1e-9 * (1 + abs(value))
    if parameter.scale == "log" and parameter.low == 0 and not math.isfinite(parameter.high):
        return None
    if math.isfinite(parameter.low) and value <= parameter.low + near and (parameter.scale != "log" or parameter.low):
        return parameter.low
    if math.isfinite(parameter.high) and value >= parameter.high - near:
        return parameter.high
    return None


def _told(law: FittedLaw, name: str) -> str:
    low, high = law.intervals[name]
    return f"{brief(law.params[name])} ({brief(low)}, {brief(high)})"


@rule()
def floor(case: Diagnosis) -> Iterator[str]:
    """A floor whose interval reaches 0, or is wider than the floor."""
    law, name = case.law, case.law.form.floor
    if name is None or name in law.fixed:
        return
    value, (low, high) = law.params[name], law.intervals[name]
    if _bound(law, law.form.parameters[law.form.names.index(name)]) is not None or not value > 0:
        return
    what = f"the floor is weak: {name} is {_told(law, name)}"
    next_step = "add points at larger sizes, nearer to the floor"
    if low <= 1e-3 * value:
        yield f"{what}, which reaches 0, so these points do not show that there is one; {next_step}"
    elif high - low > value:
        yield f"{what}, an interval wider than its value; {next_step}"


@rule()
def exponents(case: Diagnosis) -> Iterator[str]:
    """Exponents with an interval of more than half their value to either side, but for those left open."""
    law = case.law
    for name in _exponents(law):
        low, high = law.intervals[name]
        half, value = (high - low) / 2, abs(law.params[name])
        if name not in case.open and half > max(POOR * value, 0.05):
            sure = "hardly told" if low <= 0 <= high or half > value else f"told to within {100 * half / value:.0f} %"
            yield f"{name} is {sure}: {_told(law, name)}; add points over a wider range of sizes"


@rule()
def without_effect(case: Diagnosis) -> Iterator[str]:
    """Parameters other than exponents that nothing tells, and that rest on no bound."""
    law, found = case.law, case.found
    for at, name in enumerate(found.names):
        parameter = law.form.parameters[found.columns[at]]
        if not parameter.exponent and found.inflation[at] > STRUCTURAL and _bound(law, parameter) is None:
            yield f"these points do not tell {name}: {brief(law.params[name])} is one value of many as good"


# What the design says.


@rule(of_averages=True)
def together(case: Diagnosis) -> Iterator[str]:
    """Sizes that move together."""
    for first, second, strength in collinear(case.law):
        yield (
            f"{first} and {second} move together (correlation of their logarithms {strength:.2f}), so what is due to "
            "each is told poorly; add points where one varies and the other stays"
        )


@rule(of_averages=True)
def short_range(case: Diagnosis) -> Iterator[str]:
    """Sizes that span less than a decade, under a law with exponents."""
    form = case.law.form
    if not (form.members or any(parameter.exponent for parameter in form.parameters)):
        return
    for name, values in sizes(case.law).items():
        low, high = float(values.min()), float(values.max())
        decades = math.log10(high / low)
        if 0 < decades < DECADE:
            yield (
                f"{name} spans {decades:.2g} decades ({brief(low)} to {brief(high)}), and an exponent from less than "
                f"one decade says little about other sizes; add points at {name} ten times apart"
            )


@rule(of_averages=True)
def few_points(case: Diagnosis) -> Iterator[str]:
    """Fewer than two points a parameter."""
    law, free = case.law, case.law.free
    if law.n < 2 * free:
        yield (
            f"{law.n} points are few for {free} parameters, so the intervals assume normal errors about the law; "
            f"add points ({2 * free} or more), or choose a law with fewer parameters"
        )


@rule()
def dependent_points(case: Diagnosis) -> Iterator[str]:
    """Groups that could not be drawn again."""
    reason = way(case.law).reason
    if reason:
        yield reason


@rule()
def initial_guesses(case: Diagnosis) -> Iterator[str]:
    """Few of the initial guesses came to the best minimum."""
    agreed, tried = case.law.agreed
    if tried >= 8 and agreed < max(3, 0.1 * tried):
        yield (
            f"only {agreed} of {tried} starting points came to the best minimum, so there may be a better one; "
            "a law with fewer parameters would be found more surely"
        )


# What the residuals say.


@rule(of_averages=True)
def residual_trend(case: Diagnosis) -> Iterator[str]:
    """Variables along which the residuals bend: the law has the wrong form there."""
    for name, values in sizes(case.law).items():
        bend = _bend(np.log(values), case.law.residuals, case.law.free)
        if bend:
            yield (
                f"the residuals follow {name}: the points bend away from the law by up to {100 * bend:.2g} % along it, "
                "so its form is wrong there, and past the points too"
            )


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
    explained_share = 1 - left / whole * (spare + degree) / spare
    certain = explained_share > TREND and fdtrc(degree, spare, ratio) < CHANCE
    return float(np.max(np.abs(curve))) if certain else 0.0


@rule()
def deciding_points(case: Diagnosis) -> Iterator[str]:
    """A handful of points that decide the fit."""
    if not case.open:
        yield from influential(case.law, case.found)
