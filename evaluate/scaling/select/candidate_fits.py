"""Candidates: one law fitted with all that is known of it, and laws of one variable that compete.

Those that compete are fitted with weights that rise with size, and tried on the larger half.

The averaged law: forms that blocked hold-out cannot tell apart, averaged in the logarithm. A law like any other.

Each form is fitted three times, with weights that rise with size (what is small says little of what is large) as far as
that leaves enough points in effect, by a robust loss, and moved to the level of the largest points, as far as that is
more than noise. Then all are tried on the half of the range that was held out; those within a factor of the best are
averaged with equal weights, which errors of few held-out points cannot better (Bates and Granger 1969; Smith and Wallis
2009: the puzzle that equal weights win). benchmarks/learning_curves.py measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError
from evaluate.scaling.diagnose.rules import diagnose, explained
from evaluate.scaling.fit.fitted import FittedLaw, Problem, Settings, criteria, fitted, minimum, read_problem
from evaluate.scaling.fit.fitting import Minimum, NotConverged, fit, refit
from evaluate.scaling.forms.combined import CANDIDATES, averaged_form
from evaluate.scaling.forms.form import Array, Form, LawKind, Member, kind_of
from evaluate.scaling.uncertainty.bootstrap import bootstrap, intervals
from evaluate.scaling.uncertainty.prediction_interval import (
    half_block,
    in_effect,
    refit_members,
    relative_size,
    shifts,
    size_of,
    with_shifts,
)

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
    missed = missed - shifts(missed, size_of(problem), part.kept, data.weights)[:, None]
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
            candidate.why_not = behind(candidate.error, best)
    for candidate, power in chosen:
        candidate.shares[power] = 1 / len(chosen)


def behind(error: float, best: float, name: str = "the best") -> str:
    """Why a law that missed its held-out points by `error` does not take part."""
    if not math.isfinite(error):
        return "too few points to hold any out"
    return f"missed the held-out points by {100 * error:.3g} %, {name} by {100 * best:.3g} %"


MOST = 600  # points
FEWEST_GROUPS = 3


def fit_average(
    kind: LawKind, x: Any, y: Any, sample_weight: Any, groups: Any, settings: Settings
) -> tuple[FittedLaw, list[CandidateFit]]:
    """The average of the candidates in settings.options, with what came of each of them.

    Raises as fit_law, and DataError where none of the candidates can be fitted.
    """
    problem = read_problem(kind, x, y, sample_weight, groups, settings, kind.form)
    left_out = max(len(problem.data.y) - MOST, 0)
    if left_out:
        order = np.argsort(problem.data.x[:, 0], kind="stable")
        kept = np.sort(order[np.linspace(0, len(order) - 1, MOST).round().astype(int)])
        problem = replace(problem, data=problem.data.part(kept))
    candidates = compete(problem, settings.options.get("candidates") or CANDIDATES)
    chosen = [one for one in candidates if one.shares]
    if not chosen:
        told = "; ".join(f"{one.name}: {one.why_not}" for one in candidates)
        raise DataError(f"no law can be fitted to these {len(problem.data.y)} points: {told}")
    members = [Member(one.form, power, share) for one in chosen for power, share in one.shares.items() if share > 0]
    problem = replace(problem, form=averaged_form(members))
    law = fitted(problem, _joined(problem, chosen))
    law.left_out = left_out
    law.params = {member.label: member.weight for member in members}
    law.draws = _drawn(law)
    law.intervals = {name: (share, share) for name, share in law.params.items()}
    law.warnings = [*_of_the_choice(law, chosen), *diagnose(law)]
    return law, candidates


def _joined(problem: Problem, chosen: Sequence[CandidateFit]) -> Minimum:
    """All members as one fit."""
    form, data = problem.form, problem.data
    by_name = {one.form.name: one for one in chosen}
    thetas = [by_name[member.form.name].thetas[member.power][None] for member in form.members]
    theta = with_shifts(problem, form, thetas, np.ones(len(data.y), dtype=bool))[0]
    residuals = form.missed(data.x, data.y, theta)
    objective = float(problem.loss.total(residuals, data.weights))
    return Minimum(theta, objective, sum(one.agreed for one in chosen), sum(one.starts for one in chosen), residuals)


def _drawn(law: FittedLaw) -> NDArray[np.float64]:
    """The Bayesian bootstrap (Rubin 1981): exponential weights, one a group; no resample loses a point."""
    data, count = law.data, law.settings.bootstrap
    codes = np.arange(len(data.y)) if _groups(law) < FEWEST_GROUPS or data.groups is None else data.groups
    rng = np.random.default_rng(law.settings.seed)
    weights = rng.exponential(size=(count, int(codes.max()) + 1))[:, codes] * data.weights
    if not count:
        return np.empty((0, len(law.theta)))
    thetas = refit_members(law.form, law, weights, law.theta)
    found = with_shifts(law, law.form, thetas, np.ones(len(data.y), dtype=bool))
    return np.asarray(found[np.isfinite(found).all(axis=1)])


def _groups(law: FittedLaw) -> int:
    return 0 if law.data.groups is None else len(np.unique(law.data.groups))


def _of_the_choice(law: FittedLaw, chosen: Sequence[CandidateFit]) -> list[str]:
    """What is doubtful about how the average was made."""
    told = []
    if law.left_out:
        told.append(
            f"{law.n} of {law.n + law.left_out} points were used, evenly spread by size: more would take "
            "long and tell little; name one law (--law) to fit it to all"
        )
    if 0 < _groups(law) < FEWEST_GROUPS:
        told.append("the groups are too few to draw again, so all points were taken as independent")
    if not any(np.isfinite(one.error) for one in chosen):
        told.append(f"{law.n} points are too few to hold any out, so the forms share equally")
    return told
