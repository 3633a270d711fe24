"""Which law: forms compete on blocked hold-out at the large end, never on the fit. AIC and BIC are shown, not obeyed.

One variable: forms that the hold-out cannot tell apart are averaged (averaging.py); one that stands alone is chosen.
Several variables: the form that predicts the held-out largest points best; of two within 5 %, the simpler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from evaluate.core.errors import DataError, LeanfitError, UsageError, did_you_mean
from evaluate.scaling.fit.fitted import FittedLaw, Settings
from evaluate.scaling.forms.combined import CANDIDATES
from evaluate.scaling.forms.form import LAWS, kind_of
from evaluate.scaling.points.cells import width
from evaluate.scaling.select.candidate_fits import CandidateFit, behind, fit_average, fit_law
from evaluate.scaling.uncertainty.prediction_interval import HALF, Block, backtest, half_block, size_of

AVERAGE = "average"
JOINT = {2: ("chinchilla-tied", "chinchilla")}
CLOSE = 1.05
RULE = "blocked hold-out: fitted to the smaller points, tried on those beyond {share:.2g} of the largest"
FITTED_ALIKE = "forms within 1.5 times the least error are averaged with equal shares"

Make = Callable[[str, Mapping[str, Any]], Settings]  # the settings of a law by its name, with options
Fit = Callable[[str, Mapping[str, Any]], FittedLaw]  # that law, fitted to the points


def fit_named(
    name: str,
    x: Any,
    y: Any,
    sample_weight: Any,
    groups: Any,
    settings: Settings,
    tell: Callable[[str], None] | None = None,
) -> FittedLaw:
    """The law of a name, fitted; an average with what its choice rests on. Raises as fit_law."""
    kind = kind_of(name)
    if kind is not kind_of(AVERAGE):
        law = fit_law(kind, x, y, sample_weight, groups, settings, tell)
    else:
        law, candidates = fit_average(kind, x, y, sample_weight, groups, settings)
        law.holdout = _holdout_of_average(law, candidates)
        law.again = partial(_average_toward, settings, name, x, y, sample_weight, groups)
    return law


def _average_toward(settings: Settings, name: str, x: Any, y: Any, weight: Any, groups: Any, end: str) -> FittedLaw:
    return fit_named(name, x, y, weight, groups, replace(settings, end=end))


def select(x: Any, y: Any, candidates: Sequence[str] | None, sample_weight: Any, groups: Any, make: Make) -> FittedLaw:
    """The law that predicts the largest points best from the smaller ones, fitted to all of them (see law.select_law).

    Raises UsageError for unsuitable candidates, DataError where none can be fitted.
    """
    names = _candidates(width(x), candidates)
    chosen = partial(_chosen, names, x, y, sample_weight, groups, make)
    law = chosen(None)
    law.again = chosen
    return law


def _chosen(names: Sequence[str], x: Any, y: Any, weight: Any, groups: Any, make: Make, end: str | None) -> FittedLaw:
    """The choice by how laws predict that end; None takes the one that `make` says."""

    def fit(name: str, options: Mapping[str, Any]) -> FittedLaw:
        settings = make(name, options)
        return fit_named(name, x, y, weight, groups, settings if end is None else replace(settings, end=end))

    return _of_one(names, fit) if width(x) == 1 else _of_several(names, fit)


def _candidates(count: int, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        if isinstance(given, str) or not given:
            raise UsageError(f'candidates is a list of names of laws, as ["m3", "m4"]; got {given!r}')
        for name in given:
            _check_candidate(name, count)
        return tuple(given)
    if count == 1:
        return CANDIDATES
    if count in JOINT:
        return JOINT[count]
    raise UsageError(
        f"x has {count} columns, and which law suits them depends on what they are; name it with --law, or give "
        "candidates (precision takes N, D and bits; frantar takes S, N and D)"
    )


def _check_candidate(name: str, count: int) -> None:
    known = [law for law in LAWS.all() if law != AVERAGE]
    if name not in known and ":" not in name:
        raise UsageError(f"there is no candidate {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    kind = kind_of(name)
    wanted = kind.form.variables
    if len(wanted) != count and not kind.any_sign:
        raise UsageError(f"the law {name} takes {len(wanted)} columns, {', '.join(wanted)}; x has {count}")


# One variable.


def _of_one(names: Sequence[str], fit: Fit) -> FittedLaw:
    average = fit(AVERAGE, {"candidates": names})
    forms = list(dict.fromkeys(member.form.name for member in average.form.members))
    if len(forms) > 1 or average.left_out:
        return average
    try:
        law = fit(forms[0], {})
    except DataError:
        return average
    if not _error(law) <= _error(average):
        return average
    law.holdout = {**holdout_of(average), "error": _error(law), "chosen": forms[0]}
    return law


def _holdout_of_average(law: FittedLaw, candidates: Sequence[CandidateFit]) -> dict[str, Any]:
    """The hold-out of an averaged law as plain data: what the forms missed, and what each takes part with."""
    part = half_block(law, 2)
    entries = [
        _entry(one.name, one.error, sum(one.shares.values()), {"aic": one.aic, "bic": one.bic}, one.why_not)
        for one in candidates
    ]
    return {
        "rule": f"{_rule(law)}; {FITTED_ALIKE}",
        "error": None if part is None else _missed(law, part)[0],
        "candidates": entries,
        "n": 0 if part is None else int(part.held.sum()),
        "chosen": AVERAGE,
        **({"reason": "too few points to hold any out"} if part is None else {}),
    }


# Several variables.


def _of_several(names: Sequence[str], fit: Fit) -> FittedLaw:
    laws: list[FittedLaw] = []
    reasons: dict[str, str] = {}
    for name in names:
        try:
            law = fit(name, {})
        except UsageError:
            raise
        except LeanfitError as failed:
            reasons[name] = str(failed)
            continue
        if law.n <= law.free:
            reasons[name] = f"{law.free} parameters and {law.n} points: none can be held out"
            continue
        laws.append(law)
    if not laws:
        raise DataError("no law can be chosen: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
    chosen = _best(laws)
    best = _error(chosen)
    by_name = {law.name: law for law in laws}
    entries = []
    for name in names:
        found = by_name.get(name.rpartition(":")[2])
        error = math.nan if found is None else _error(found)
        if found is not None and found is not chosen:
            alike = f"no better than {chosen.name}, which has fewer parameters"
            reasons[name] = alike if error <= CLOSE * best else behind(error, best, chosen.name)
        share = 1.0 if found is chosen else 0.0
        entries.append(_entry(name, error, share, found.criteria if found else {}, reasons.get(name, "")))
    chosen.holdout = {**holdout_of(chosen), "candidates": entries, "chosen": chosen.name}
    return chosen


def _best(laws: Sequence[FittedLaw]) -> FittedLaw:
    """The least error; of those within 5 % of it, or where none is known, the fewest parameters."""
    errors = [_error(law) for law in laws]
    known = [error for error in errors if math.isfinite(error)]
    least = min(known) if known else math.inf
    close = [law for law, error in zip(laws, errors) if not known or error <= CLOSE * least]
    return min(close, key=lambda law: len(law.theta))


def holdout_of(law: FittedLaw) -> dict[str, Any]:
    """How a fitted law predicts its largest points from the others: {rule, error, n, reason, candidates, chosen}.

    error : rms of log prediction - log y over the held-out points; None where there are too few points.
    """
    if law.holdout is None:
        part = half_block(law, law.free)
        law.holdout = {"rule": _rule(law), "error": None, "candidates": [], "chosen": law.name}
        if part is None:
            law.holdout["reason"] = f"{law.n} points and {law.free} parameters: too few to hold any out"
        else:
            law.holdout["error"], law.holdout["n"] = _missed(law, part)
    return law.holdout


def _rule(law: FittedLaw) -> str:
    part = half_block(law, 2)
    size = size_of(law)
    share = HALF if part is None or not part.kept.any() else float(size[part.kept].max() / size.max())
    return RULE.format(share=share)


def _missed(law: FittedLaw, part: Block) -> tuple[float | None, int]:
    """The rms over the held-out points of a law fitted to the others, and over how many."""
    missed = law.form.missed(law.data.x, law.data.y, backtest(law, [part])[0])
    held = part.held & np.isfinite(missed)
    if not held.any():
        return None, 0
    weights = law.data.weights[held]
    return _number(float(np.sqrt(np.sum(weights * missed[held] ** 2) / weights.sum()))), int(held.sum())


def _error(law: FittedLaw) -> float:
    error = holdout_of(law)["error"]
    return math.nan if error is None else float(error)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _entry(name: str, error: float, weight: float, criteria: Mapping[str, float], why_not: str) -> dict[str, Any]:
    shown = {key: _number(criteria.get(key, math.nan)) for key in ("aic", "bic")}
    return {"law": name, "error": _number(error), "weight": weight, **shown, "why_not": why_not, "reason": why_not}
