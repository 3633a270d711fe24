"""Where two laws cross, what compressed models are worth, and questions to a law as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling.diagnose.design import brief, times
from evaluate.scaling.fit.fitted import fitted_of
from evaluate.scaling.forms.form import Array, laws_with_levels
from evaluate.scaling.points.cells import number, other_notation
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.query.budget import optimum
from evaluate.scaling.query.line import Line, line, quantiles, unknown_to_solve
from evaluate.scaling.query.solve import Solved, solve

PLACES = 401
PAST = 1e3


@dataclass(frozen=True)
class Crossing:
    """Where the curve of the first law crosses that of the second.

    value, low, high : of `variable`; NaN where they do not cross; an end that is not bounded is 0 or infinite.
    reachable : whether they cross within the points of the two laws.  reason : what is doubtful, or that they do not.
    y : the prediction where they cross, in the unit of the first law's points.
    below : which is better at smaller values, "first" or "second".
    share : of the resamples in which they cross within the points.  beyond : past the points of one of the laws, times.
    """

    value: float
    low: float
    high: float
    reachable: bool
    reason: str
    beyond: float
    variable: str
    y: float
    below: str
    share: float


def break_even(
    law: Any,
    other: Any,
    variable: str | None = None,
    given: Mapping[str, Any] | None = None,
    interval: float = 0.9,
    other_given: Mapping[str, Any] | None = None,
) -> Crossing:
    """Where law and other predict the same y, between the smallest and the largest point of both.

    variable : needed where several are free; `given` holds the others, `other_given` those of the second law where they
    differ. Where the curves cross more than once the first crossing counts, and that is said.
    The interval holds a share `interval` of the crossings of the bootstrap's curves, those of the two laws paired at
    random; a pair that does not cross counts as an end that is not bounded.
    Raises UsageError for variables that are not the laws', DataError where the ranges cannot be joined.
    """
    law, other = fitted_of(law), fitted_of(other)
    first = line(law, variable, given or {})
    second = line(other, first.variable if first.variable in other.variables else None, other_given or given or {})
    ranges = first.law.range[first.variable], second.law.range[second.variable]
    lowest, highest = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    if not highest > lowest:
        raise DataError(f"both laws were fitted at one {first.variable} only; give points at several")
    along = np.geomspace if first.logs and lowest > 0 else np.linspace
    values = along(lowest, highest, PLACES)
    gaps = _log(first.best(values)) - _log(second.best(values))
    at = _changes(gaps)
    if not len(at):
        return _none(first, second, values, gaps)
    value = _refined(first, second, values[at[0]], values[at[0] + 1])
    draws, crossed = _by_draws(first, second, values, float(np.sign(gaps[at[0]])))
    low, high = quantiles(draws, interval, math.inf)
    reasons = [f"the curves cross {len(at)} times, this is the first crossing"] if len(at) > 1 else []
    share = float(np.mean(crossed)) if len(crossed) else math.nan
    if share < 1:
        reasons.append(f"they do not cross in {100 * (1 - share):.2g} % of the resamples")
    past = [(one.beyond(value), which) for one, which in ((first, "first"), (second, "second"))]
    reasons += [f"{told}, of the {which} law" for (_, told), which in past if told]
    return Crossing(
        value, float(np.fmin(low, value)), float(np.fmax(high, value)), True, "; ".join(reasons),
        max(far for (far, _), _ in past), first.variable,
        float(law.settings.scale.told(first.best(np.array([value]))[0])),
        "first" if gaps[at[0]] < 0 else "second", share,
    )  # fmt: skip


def _log(y: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(np.log(y))


def _changes(gaps: Array) -> NDArray[np.intp]:
    """Places after which the sign changes."""
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(np.isfinite(gaps[:-1] + gaps[1:]) & (np.sign(gaps[:-1]) * np.sign(gaps[1:]) < 0))


def _refined(first: Line, second: Line, low: float, high: float) -> float:
    def gap(inner: float) -> float:
        value = first.outer(np.array([inner]))
        return float(_log(first.best(value))[0] - _log(second.best(value))[0])

    ends = first.inner(np.array([low, high]))
    return float(first.outer(np.array(brentq(gap, ends[0], ends[1], xtol=1e-14, rtol=1e-14))))


def _by_draws(first: Line, second: Line, values: Array, before: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first crossing of each pair of draws (b,), 0 or infinite where there is none; and whether there is one."""
    count = min(len(first.law.draws), len(second.law.draws))
    if not count:
        return np.empty(0), np.empty(0)
    paired = np.random.default_rng(0).permutation(len(second.law.draws))[:count]
    gaps = _log(first.draws(values))[:count] - _log(second.draws(values))[paired]
    inner = first.inner(values)
    found, crossed = np.empty(count), np.zeros(count, dtype=bool)
    for row, gap in enumerate(gaps):
        at = _changes(gap)
        at = at[np.sign(gap[at]) == before]
        crossed[row] = bool(len(at))
        if len(at):
            share = gap[at[0]] / (gap[at[0]] - gap[at[0] + 1])
            found[row] = float(first.outer(np.array(inner[at[0]] + share * (inner[at[0] + 1] - inner[at[0]]))))
        else:
            found[row] = math.inf if np.sign(np.nanmedian(gap)) == before else 0.0
    return found, crossed


def _none(first: Line, second: Line, values: Array, gaps: Array) -> Crossing:
    """They do not cross; whether they would, were they carried on."""
    lower = "first" if np.nanmedian(gaps) < 0 else "second"
    variable = first.variable
    text = (
        f"the curves do not cross between {brief(float(values[0]))} and {brief(float(values[-1]))}: "
        f"the {lower} law is {'better' if first.law.settings.scale.higher else 'lower'} throughout"
    )
    wide = np.geomspace(values[0] / PAST, values[-1] * PAST, 3 * PLACES) if first.logs else np.empty(0)
    at = _changes(_log(first.best(wide)) - _log(second.best(wide))) if first.logs else ()
    places = [_refined(first, second, wide[i], wide[i + 1]) for i in at]
    if places:
        far = min(places, key=lambda value: max(value / values[-1], values[0] / value))
        past = far / values[-1] if far > values[-1] else values[0] / far
        text += f"; carried on they would cross at {variable} = {brief(far)}, {times(past)} times past all points"
    return Crossing(math.nan, math.nan, math.nan, False, text, 1.0, variable, math.nan, lower, 0.0)


@dataclass(frozen=True)
class EffectiveSize:
    """What compressed models are worth, one entry a model, arrays (n,).

    size, low, high : in dense parameters (the unit of the law's variable); NaN where no dense model is as good.
    efficiency, efficiency_low, efficiency_high : size / actual parameters; empty where these were not given.
    answers : the Solved of each, with `reason` and `beyond`.
    """

    size: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    efficiency: NDArray[np.float64]
    efficiency_low: NDArray[np.float64]
    efficiency_high: NDArray[np.float64]
    answers: tuple[Solved, ...]


def effective_size(
    dense: Any,
    y: Any,
    params: Any = None,
    variable: str | None = None,
    given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    interval: float = 0.9,
) -> EffectiveSize:
    """The size of the dense model that reaches y, for each compressed model.

    dense : a law of dense models.  y (n,) : what the compressed models reach, in the law's unit.  params (n,) : their
    actual parameters, as the law counts them (say, nonzero ones), for the efficiency: effective over actual, as the
    effective parameters of Frantar et al. 2025.  given : the law's other variables, for all models or one mapping each.
    The interval is that of `solve`: the doubt of the dense law, not the seeds' of the compressed model.
    Raises DataError for arrays that differ in length, UsageError as `solve` does.
    """
    targets = np.atleast_1d(np.asarray(y, dtype=float))
    fixed = list(given) if isinstance(given, Sequence) else [given or {}] * len(targets)
    actual = None if params is None else np.atleast_1d(np.asarray(params, dtype=float))
    for name, other in (("params", actual), ("given", fixed)):
        if other is not None and len(other) != len(targets):
            raise DataError(f"there are {len(targets)} values of y and {len(other)} of {name}; give one for each")
    if actual is not None and not np.all(np.isfinite(actual) & (actual > 0)):
        raise DataError("params must be positive and finite: the actual parameters of each compressed model")
    answers = tuple(solve(dense, float(target), variable, one, interval) for target, one in zip(targets, fixed))
    size, low, high = (np.array([getattr(one, name) for one in answers]) for name in ("value", "low", "high"))
    low = np.where(np.isnan(size) & np.isnan(low), math.nan, low)
    shares = [part / actual if actual is not None else np.empty(0) for part in (size, low, high)]
    return EffectiveSize(size, low, high, shares[0], shares[1], shares[2], answers)


Value = Any  # a number, or text for a category


def level_of(law: str, variables: Sequence[str]) -> str | None:
    """The variable whose values are names of levels ("4", "2WO", "dense"), of those given to the law of this name."""
    if law not in laws_with_levels() or not variables:
        return None
    return "level" if "level" in variables else variables[-1]


def assignments(texts: Iterable[str], option: str, level: str | None = None) -> dict[str, list[Value]]:
    """NAME=VALUE, or NAME=V1,V2: name -> values, numbers; those of `level` are text. Raises UsageError."""
    found: dict[str, list[Value]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        name = name.strip()
        if not sign or not name or not values.strip():
            raise UsageError(f"{option} takes NAME=VALUE, as {option} params=1e5, got {text!r}")
        if name in found:
            raise UsageError(f"{option} has {name} twice; several values are {name}=V1,V2")
        parts = values.split(",")
        found[name] = [v.strip() for v in parts] if name == level else [_value(v, f"{option} {text}") for v in parts]
    return found


def _value(text: str, where: str) -> Value:
    read = number(text)
    if read is None:
        if instead := other_notation(text):
            raise UsageError(f"{where}: {text.strip()!r} is no plain number; write {instead}")
        return text.strip()
    if not math.isfinite(read):
        raise UsageError(f"{where}: a value is missing or not finite")
    return read


def ask_solve(
    law: Any, target: float, variable: str | None, given: Mapping[str, Value], interval: float
) -> dict[str, Any]:
    """{variable, target, value, low, high, reachable, reason, beyond, given, interval}. Raises UsageError."""
    wanted = unknown_to_solve(law.variables, variable, given)
    solved = solve(law, target, variable=wanted, given=dict(given), interval=interval)
    return {**asdict(solved), "variable": wanted, "target": target, "given": dict(given), "interval": interval}


def ask_optimum(
    law: Any, formula: Formula, budget: float, given: Mapping[str, Value], interval: float
) -> dict[str, Any]:
    """The best split of a budget of compute, as `optimum` gives it, with the question.

    given : may hold variables that the formula names, as another question had them given; a budget splits those.
    """
    held = {name: value for name, value in given.items() if name not in formula.names}
    found = optimum(law, formula, budget, interval=interval, given=held)
    return {**asdict(found), "compute": formula.text, "given": held, "interval": interval}


def ask_break_even(
    law: Any, other: Any, variable: str | None, given: Mapping[str, Value], interval: float
) -> dict[str, Any]:
    """Where two curves cross, as `break_even` gives it. Raises UsageError for laws of other variables."""
    law, other = fitted_of(law), fitted_of(other)
    if set(law.variables) != set(other.variables):
        raise UsageError(
            f"two curves cross in one variable; these are laws of {', '.join(law.variables)} and of "
            f"{', '.join(other.variables)}"
        )
    wanted = unknown_to_solve(law.variables, variable, given)
    found = break_even(law, other, variable=wanted, given=dict(given), interval=interval)
    return {**asdict(found), "variable": wanted, "given": dict(given), "interval": interval}
