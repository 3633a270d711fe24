"""Candidates: one law fitted with all that is known of it, and laws of one variable that compete.

The averaged law: forms that blocked hold-out cannot tell apart, averaged in the logarithm. A law like any other.

Each form is fitted three times, with weights that rise with size (what is small says little of what is large) as far as
that leaves enough points in effect, by a robust loss, and moved to the level of the largest points, as far as that is
more than noise. Then all are tried on the same held-out sizes, those beyond half of the range and the last third of
them, as they go on and as they stay at the level of the last point. Those within a factor of the best take part, with
shares that fall with the square of what they missed (Bates and Granger 1969), and no faster than noise allows; one that
runs off beyond the points can only stay. "Large" is what is to be predicted: where that is small sizes, all of it is
the other way round. benchmarks/both_ends.py and learning_curves.py measure it.
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
from evaluate.scaling.select.pooling import form_of_sisters
from evaluate.scaling.uncertainty.bootstrap import bootstrap, intervals
from evaluate.scaling.uncertainty.prediction_interval import (
    Block,
    in_effect,
    mean_square,
    pure_error,
    refit_members,
    relative_size,
    shifts,
    size_of,
    trials,
    with_shifts,
    within,
)

POWERS = (0.5, 1.0, 2.0)
SMALL, SPARE = 4, 2  # forms of up to four parameters need two points more than that
POINTS_A_PARAMETER = 3  # larger ones so many a parameter
NESTED = {"power": "power-floor"}
STAYS = {"high": (0.0, 1.0), "low": (0.0, 0.5, 1.0)}
"""How much of a fit may stay, beyond the points, at the level of their last: what falls with size goes on falling more
often than not, and downward it meets the plateau of chance."""
WITHIN = 3.0  # times what the best missed
ALIKE = 0.01  # of log y, at least: see _alike
NO_WORSE = 1.5  # than going on, for staying at a level to be believed
RUNS_OFF = 2.0  # times as steep as among the points
HARDLY = 0.02  # a slope that never counts as steep
NEIGHBOURHOODS = 6
ALIKE_POWERS = 0.1
IN_EFFECT = 2


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
    """What came of one form, by power of size; or why it has no share.

    without : the form where the held-out points of a block are not known, of one that other curves decide.
    errors : by power and how much of it stays, what it missed of held-out points.
    astray : the powers by which it misses most points by more than their neighbours do.
    runs_off : how many times too steep it is beyond the points, where it is.  stays : the part of its share that stays.
    """

    name: str
    form: Form
    without: Callable[[Block], Form] | None = None
    thetas: dict[float, NDArray[np.float64]] = field(default_factory=dict)
    errors: dict[tuple[float, float], float] = field(default_factory=dict)
    runs_off: dict[float, float] = field(default_factory=dict)
    astray: set[float] = field(default_factory=set)
    shares: dict[float, float] = field(default_factory=dict)
    stays: dict[float, float] = field(default_factory=dict)
    aic: float = math.nan
    bic: float = math.nan
    agreed: int = 0
    starts: int = 0
    why_not: str = ""

    @property
    def error(self) -> float:
        """The least of what it missed; not a number where it could not be held out."""
        return min((error for error in self.errors.values() if math.isfinite(error)), default=math.nan)


def compete(problem: Problem, names: Sequence[str]) -> list[CandidateFit]:
    """Every candidate, fitted where the points allow it, with its share of the average."""
    found = [CandidateFit(name, kind_of(name).form) for name in names] + _pooled(problem)
    _too_large(found, problem)
    fits = [one for one in found if not one.why_not]
    parts = trials(problem, 1 + max((len(one.form.parameters) for one in fits), default=0))  # the same for all
    for candidate in fits:
        _try(problem, candidate, parts)
    if not any(candidate.thetas for candidate in found):
        for simple in sorted(found, key=lambda one: len(one.form.parameters))[:1]:
            if len(problem.data.y) > len(simple.form.parameters):
                simple.why_not = ""
                _try(problem, simple, [])
    _share(found, _alike(problem, parts))
    return found


def _alike(problem: Problem, parts: Sequence[Block]) -> float:
    """Errors of held-out points, in log y, that differ by less tell no form from another: repeats tell their noise."""
    noise = float(pure_error(np.log(problem.data.y)[None], problem.data.x[:, 0])[0])
    held = min((int(part.held.sum()) for part in parts), default=1)
    return max(ALIKE, math.sqrt(noise / held))


def _pooled(problem: Problem) -> list[CandidateFit]:
    """The form that sister curves decide, by their points as far as those of this curve are known."""
    if not problem.settings.sisters:
        return []
    data, settings = problem.data, problem.settings
    curves = [(data.x[:, 0], data.y)]
    for x, y in settings.sisters:
        numbers = problem.scaled(np.asarray(x, dtype=float).reshape(-1, 1))[:, 0]
        target = settings.scale.fitted(np.asarray(y, dtype=float))
        good = (numbers > 0) & (target > 0)
        curves.append((numbers[good], target[good]))
    known = form_of_sisters(curves, (-math.inf, math.inf), settings.end)
    if known is None:
        return []
    form = known

    def without(part: Block) -> Form:
        return form_of_sisters(curves, within(problem, part.kept), settings.end) or form

    return [CandidateFit(form.name, form, without)]


def _too_large(found: Sequence[CandidateFit], problem: Problem) -> None:
    count, sizes = len(problem.data.y), len(np.unique(problem.data.x, axis=0))
    for candidate in found:
        p = len(candidate.form.parameters)
        needed = p + SPARE if p <= SMALL else POINTS_A_PARAMETER * p
        if count < needed:
            candidate.why_not = f"{p} parameters need {needed} points, and there are {count}"
        elif sizes < p:
            candidate.why_not = f"{p} parameters need {p} sizes, and the points stand at {sizes}"
    fits = [one.name for one in found if not one.why_not]
    for candidate in found:
        if not candidate.why_not and problem.settings.end == "high" and NESTED.get(candidate.name) in fits:
            candidate.why_not = f"a special case of {NESTED[candidate.name]}"


def _try(problem: Problem, candidate: CandidateFit, parts: Sequence[Block]) -> None:
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
    steep = _steepness(problem)
    for power, theta in candidate.thetas.items():
        if _astray(problem, form.missed(data.x, data.y, theta)):
            candidate.astray.add(power)
        if (over := _steepness_beyond(problem, form, theta) / steep) > 1:
            candidate.runs_off[power] = over
    _hold_out(problem, candidate, weights, thetas, parts)


def _hold_out(problem: Problem, candidate: CandidateFit, weights: Array, thetas: Array, parts: Sequence[Block]) -> None:
    data = problem.data
    astray = np.array([power in candidate.astray for power in candidate.thetas])
    tried = STAYS[problem.settings.end]
    squares: list[list[Array]] = [[] for _ in tried]
    for part in parts:
        form = candidate.form if candidate.without is None else candidate.without(part)
        starts = np.broadcast_to(thetas, (len(weights), *thetas.shape))
        again = refit(form, data.x, data.y, weights * part.kept, starts, loss=problem.loss)[0]
        missed = form.missed(data.x, data.y, again)
        stayed = form.missed(np.clip(data.x, *within(problem, part.kept)), data.y, again)
        shift = shifts(missed, size_of(problem), part.kept, data.weights, astray)[:, None]
        with np.errstate(all="ignore"):
            for found, stays in zip(squares, tried):
                one = stayed if stays == 1 else (1 - stays) * missed + stays * stayed
                found.append(mean_square((one - shift)[:, part.held], data.weights[part.held]))
    if parts:
        # The geometric mean over the trials: what is missed grows with how far ahead one looks (Fildes 1992).
        errors = np.exp(np.mean(np.log(np.maximum(squares, 1e-300)), axis=1) / 2)
        candidate.errors = {
            (power, stays): float(error)
            for stays, row in zip(tried, errors)
            for power, error in zip(candidate.thetas, row)
        }


def _by_size(problem: Problem, values: Array) -> tuple[Array, Array]:
    """The logs of the sizes (m,), rising, and the means (m,) there of values (n,)."""
    log_x, place = np.unique(np.round(np.log(problem.data.x[:, 0]), 9), return_inverse=True)
    return log_x, np.bincount(place.ravel(), values) / np.bincount(place.ravel())


def _astray(problem: Problem, missed: Array) -> bool:
    """Whether most sizes lie nearer to their neighbours than to the fit, which misses them by (n,) in log y.

    A neighbour is a sixth of the sizes away at least, so that many points of a smooth curve do not decide.
    """
    _, means = _by_size(problem, np.log(problem.data.y))
    apart = max(1, round(len(means) / NEIGHBOURHOODS))
    steps = np.abs(means[apart:] - means[:-apart])
    off = np.abs(_by_size(problem, missed)[1])
    return bool(len(steps) and np.median(off) > np.median(steps))


def _steepness(problem: Problem) -> float:
    """How steep a form may be beyond the points: twice what neighbours among them are at most, in log y by log x."""
    log_x, means = _by_size(problem, np.log(problem.data.y))
    slopes = np.abs(np.diff(means) / np.diff(log_x))
    return RUNS_OFF * float(slopes.max(initial=0.0)) + HARDLY


def _steepness_beyond(problem: Problem, form: Form, theta: Array) -> float:
    """The mean slope of log y by log x, without sign, over half the range of the points beyond their end."""
    log_x = np.log(problem.data.x[:, 0])
    away = (log_x.max() - log_x.min()) / 2
    ends = [log_x.min(), log_x.min() - away] if problem.settings.end == "low" else [log_x.max(), log_x.max() + away]
    with np.errstate(all="ignore"):
        near, far = form.log_y(np.exp(ends)[:, None], theta)
    slope = abs(float(far - near)) / away if away else 0.0
    return slope if math.isfinite(slope) else math.inf


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


def _share(found: Sequence[CandidateFit], alike: float) -> None:
    """Shares of all fits within a factor of the best, by the inverse square of what they missed: as they go on beyond
    the points, unless they run off, half as steep, and as they stay there. Where none was held out, equal ones of those
    that go on."""
    fits = [
        (one, power, stays, one.errors.get((power, stays), math.nan))
        for one in found
        for power in one.thetas
        for stays in sorted({0.0, *(stays for _, stays in one.errors)})
    ]
    moving = [fit for fit in fits if fit[2] < 1 and fit[1] not in {*fit[0].runs_off, *fit[0].astray}]
    going_on = [fit for fit in moving if fit[2] == 0]
    least = min((error for *_, error in going_on if math.isfinite(error)), default=math.inf)
    rest = [fit for fit in fits if fit[2] == 1] + [fit for fit in moving if fit[2] > 0]
    tried = going_on + [fit for fit in rest if fit[-1] < NO_WORSE * least]
    best = min((error for *_, error in tried if math.isfinite(error)), default=math.nan)
    if math.isnan(best):
        worth = [(*fit[:3], 1.0) for fit in going_on or fits if fit[2] == 0]
    else:
        near = [fit for fit in tried if fit[-1] + alike <= WITHIN * (best + alike)]
        worth = [(*fit[:3], 1 / (fit[-1] ** 2 + alike**2)) for fit in near]
    total = sum(one for *_, one in worth)
    for candidate, power, stays, one in worth:
        before, share = candidate.shares.get(power, 0.0), one / total
        candidate.shares[power] = before + share
        candidate.stays[power] = (before * candidate.stays.get(power, 0.0) + share * stays) / (before + share)
    for candidate in found:
        if candidate.thetas and not candidate.shares:
            over = max(candidate.runs_off.values(), default=0.0)
            off = len(candidate.runs_off) == len(candidate.thetas)
            candidate.why_not = _runs_off(over) if off else behind(candidate.error, best)


def _runs_off(over: float) -> str:
    times = f"{RUNS_OFF * over:.2g} times as steep as" if over < 1e3 else "far steeper than"
    return f"runs off beyond the points, {times} anywhere among them"


def behind(error: float, best: float, name: str = "the best") -> str:
    """Why a law that missed its held-out points by `error` does not take part."""
    if not math.isfinite(error):
        return "too few points to hold any out"
    return f"missed the held-out points by {100 * error:.3g} %, {name} by {100 * best:.3g} %"


MOST = 300  # points
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
    ends = within(problem, np.ones(len(problem.data.y), dtype=bool))
    members = [
        Member(one.form, power, share, one.stays[power], ends, power in one.astray)
        for one in chosen
        for power, share in one.shares.items()
    ]
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
        told.append(f"{law.n} points are too few to hold any out, so the forms have equal shares")
    return told
