"""Candidates: one law fitted with all that is known of it, and laws of one variable that compete.

Those that compete are fitted with weights that rise with size, and tried on the larger half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.diagnose.rules import diagnose, explained
from evaluate.scaling.fit.fitted import FittedLaw, Problem, Settings, criteria, fitted, minimum, read_problem
from evaluate.scaling.fit.fitting import NotConverged, fit, refit
from evaluate.scaling.forms.form import Array, Form, LawKind, kind_of
from evaluate.scaling.uncertainty.backtest import half_block, in_effect, relative_size, shifts
from evaluate.scaling.uncertainty.bootstrap import bootstrap, intervals

POWERS = (0.5, 1.0, 2.0)
POINTS_A_PARAMETER = 3
WITHIN = 1.5
ALIKE = 1e-3
ALIKE_POWERS = 0.1
IN_EFFECT = 2
NESTED = {"power": "power-floor"}


def fit_law(
    kind: LawKind,
    x: Any,
    y: Any,
    sample_weight: Any,
    groups: Any,
    settings: Settings,
    tell: Callable[[str], None] | None = None,
) -> FittedLaw:
    """One law, fitted, with intervals and warnings. x, y, sample_weight, groups: see read_problem.

    Raises DataError, UsageError, NotConverged, and Unidentified where an exponent cannot be told.
    """
    problem = read_problem(kind, x, y, sample_weight, groups, settings)
    try:
        law = fitted(problem, minimum(problem))
    except NotConverged as error:
        raise explained(problem, error) from error
    law.draws = bootstrap(law, tell)
    law.intervals = intervals(law)
    law.warnings = diagnose(law)
    return law


@dataclass
class CandidateFit:
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
        return min((error for error in self.errors.values() if math.isfinite(error)), default=math.nan)


def compete(problem: Problem, names: Sequence[str]) -> list[CandidateFit]:
    """Every candidate, fitted where the points allow it, with its share of the average."""
    found = [CandidateFit(name, kind_of(name).form) for name in names]
    _too_large(found, len(problem.data.y))
    for candidate in found:
        if not candidate.why_not:
            _try(problem, candidate)
    if not any(candidate.thetas for candidate in found):
        for candidate in sorted(found, key=lambda one: len(one.form.parameters))[:1]:
            if len(problem.data.y) > len(candidate.form.parameters):
                candidate.why_not = ""
                _try(problem, candidate)
    _share(found)
    return found


def _too_large(found: Sequence[CandidateFit], count: int) -> None:
    fits = {one.name for one in found if count >= POINTS_A_PARAMETER * len(one.form.parameters)}
    for candidate in found:
        p = len(candidate.form.parameters)
        if candidate.name not in fits:
            candidate.why_not = f"{p} parameters need {POINTS_A_PARAMETER * p} points, and there are {count}"
        elif NESTED.get(candidate.name) in fits:
            candidate.why_not = f"a special case of {NESTED[candidate.name]}"


def _try(problem: Problem, candidate: CandidateFit) -> None:
    data, form = problem.data, candidate.form
    relative = relative_size(problem)
    powers = _powers_for(relative, data.weights, IN_EFFECT * len(form.parameters))
    weights = np.array([data.weights * relative**power for power in powers])
    try:
        first = fit(form, data.x, data.y, weights=weights[len(powers) // 2], loss=problem.loss)
    except NotConverged as error:
        candidate.why_not = str(error)
        return
    candidate.agreed, candidate.starts = first.agreed, first.tried
    thetas = refit(form, data.x, data.y, weights, first.theta, loss=problem.loss)[0]
    candidate.thetas = dict(zip(powers, thetas))
    found = criteria(form.missed(data.x, data.y, first.theta), len(first.theta))
    candidate.aic, candidate.bic = found["aic"], found["bic"]
    _hold_out(problem, candidate, weights, thetas)


def _hold_out(problem: Problem, candidate: CandidateFit, weights: Array, thetas: Array) -> None:
    data, form = problem.data, candidate.form
    part = half_block(problem, len(form.parameters))
    if part is None:
        return
    starts = np.broadcast_to(thetas, (len(weights), *thetas.shape))
    again = refit(form, data.x, data.y, weights * part.kept, starts, loss=problem.loss)[0]
    missed = form.missed(data.x, data.y, again)
    missed = missed - shifts(missed, data.x[:, 0], part.kept, data.weights)[:, None]
    held = data.weights * part.held
    with np.errstate(all="ignore"):
        errors = np.sqrt(missed**2 @ held / held.sum())
    candidate.errors = {power: float(error) for power, error in zip(candidate.thetas, errors)}


def _powers_for(relative: Array, weights: Array, fewest: float) -> tuple[float, ...]:
    """The powers of size that leave at least `fewest` points in effect.

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


def _share(found: Sequence[CandidateFit]) -> None:
    """Equal shares for all fits within a factor of the best; where none was held out, for all."""
    best = min((one.error for one in found if math.isfinite(one.error)), default=math.nan)
    chosen: list[tuple[CandidateFit, float]] = []
    for candidate in found:
        for power in candidate.thetas:
            error = candidate.errors.get(power, math.nan)
            close = math.isfinite(error) and error + ALIKE <= WITHIN * (best + ALIKE)
            if close or math.isnan(best):
                chosen.append((candidate, power))
        if candidate.thetas and not any(one is candidate for one, _ in chosen):
            candidate.why_not = _behind(candidate.error, best)
    for candidate, power in chosen:
        candidate.shares[power] = 1 / len(chosen)


def _behind(error: float, best: float) -> str:
    if not math.isfinite(error):
        return "too few points to hold any out"
    return f"missed the held-out points by {100 * error:.3g} %, the best by {100 * best:.3g} %"
