"""The averaged law: forms that blocked hold-out cannot tell apart, averaged in the logarithm. A law like any other.

Each form is fitted three times, with weights that rise with size (what is small says little of what is large) as far as
that leaves enough points in effect, by a robust loss, and moved to the level of the largest points, as far as that is
more than noise. Then all are tried on the half of the range that was held out; those within a factor of the best are
averaged with equal weights, which errors of few held-out points cannot better (Bates and Granger 1969; Smith and Wallis
2009: the puzzle that equal weights win). benchmarks/learning_curves.py measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError
from evaluate.scaling.diagnose.rules import diagnose
from evaluate.scaling.fit.fitted import FittedLaw, Problem, Settings, fitted, read_problem
from evaluate.scaling.fit.fitting import Minimum
from evaluate.scaling.forms.combined import CANDIDATES, averaged_form
from evaluate.scaling.forms.form import LawKind, Member
from evaluate.scaling.select.candidate_fit import CandidateFit, compete
from evaluate.scaling.uncertainty.backtest import refit_members, with_shifts

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
