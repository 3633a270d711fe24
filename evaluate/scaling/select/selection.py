"""Which law: forms compete on blocked hold-out at the end that is asked for, never on the fit. AIC and BIC are shown,
not obeyed.

One variable: forms that the hold-out cannot tell apart are averaged (candidate_fits.py); one alone is fitted alone.
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
from evaluate.scaling.points.cells import names_of, width
from evaluate.scaling.points.roles import in_order, roles, suits
from evaluate.scaling.select.candidate_fits import WITHIN, CandidateFit, behind, fit_average, fit_law
from evaluate.scaling.uncertainty.prediction_interval import (
    HALF,
    Block,
    backtest,
    form_without,
    mean_square,
    size_of,
    trials,
)

AVERAGE = "average"
JOINT = ("chinchilla-tied", "chinchilla")
CLOSE = 1.05
HARDLY_STAYS = 0.1
RULE = "blocked hold-out: fitted to the smaller points, tried on those beyond {share:.2g} of the largest"
BY_SIZES = "blocked hold-out: the {end} {counts} of the sizes held out in turn, and predicted from the rest"
AVERAGED = f"forms within {WITHIN:g} times the least error are averaged, the better the larger their share"

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
    """The law of a name, fitted; an average with what its choice rests on. Raises as fit_law.

    Columns whose names say what they are (bits, N, D) are put in the law's order first.
    """
    kind = kind_of(name)
    x = in_order(x, kind.competes)
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
    names = _candidates(names_of(x) or ("x",) * width(x), candidates)
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


def _candidates(columns: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        if isinstance(given, str) or not given:
            raise UsageError(f'candidates is a list of names of laws, as ["m3", "m4"]; got {given!r}')
        for name in given:
            _check_candidate(name, len(columns))
        return tuple(given)
    found = roles(columns)
    suited = tuple(name for name, law in LAWS.all().items() if suits(columns, law.facts["kind"].competes))
    if len(columns) == 1:
        return (*CANDIDATES, *suited)
    if suited:
        return suited
    if len(columns) == 2 and set(found) <= {"size", "data", ""}:
        return JOINT
    by_columns = {name: law.facts["kind"].competes for name, law in LAWS.all().items()}
    known = [f"{name} for {' and '.join(one)}" for name, several in by_columns.items() for one in several]
    raise UsageError(
        f"no law is known to suit {' and '.join(columns)} together; name one with --law, or give candidates "
        f"(laws are found by the names of columns: {', '.join(known)})"
    )


def _check_candidate(name: str, count: int) -> None:
    known = [law for law in LAWS.all() if law != AVERAGE]
    if name not in known and ":" not in name:
        raise UsageError(f"there is no candidate {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    kind = kind_of(name)
    wanted = kind.form.variables
    if len(wanted) != count and not (kind.any_columns or kind.any_sign):
        raise UsageError(f"the law {name} takes {len(wanted)} columns, {', '.join(wanted)}; x has {count}")


# One variable.


def _of_one(names: Sequence[str], fit: Fit) -> FittedLaw:
    average = fit(AVERAGE, {"candidates": names})
    forms = list(dict.fromkeys(member.form.name for member in average.form.members))
    bent = any(member.stays > HARDLY_STAYS or member.form.given for member in average.form.members)
    if len(forms) > 1 or average.left_out or bent:
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
    parts = trials(law, 2)
    entries = [
        _entry(one.name, one.error, sum(one.shares.values()), {"aic": one.aic, "bic": one.bic}, one.why_not)
        for one in candidates
    ]
    return {
        "rule": f"{_rule(law, parts)}; {AVERAGED}",
        "candidates": entries,
        "chosen": AVERAGE,
        **_missed(law, parts),
        **({} if parts else {"reason": "too few points to hold any out"}),
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
        parts = trials(law, law.free)
        law.holdout = {"rule": _rule(law, parts), "candidates": [], "chosen": law.name, **_missed(law, parts)}
        if not parts:
            law.holdout["reason"] = f"{law.n} points and {law.free} parameters: too few to hold any out"
    return law.holdout


def _rule(law: FittedLaw, parts: Sequence[Block]) -> str:
    size = size_of(law)
    if law.data.x.shape[1] > 1:
        return RULE.format(share=size[parts[0].kept].max() / size.max() if parts else HALF)
    counts = [str(len(np.unique(size[part.held]))) for part in parts]
    end = "largest" if law.settings.end == "high" else "smallest"
    return BY_SIZES.format(end=end, counts=", ".join(counts) or "1")


def _missed(law: FittedLaw, parts: Sequence[Block]) -> dict[str, Any]:
    """{error, n}: the rms over held-out points of a law fitted to the others, the geometric mean of the trials', and
    over how many points; None where nothing could be held out."""
    squares, points = [], np.zeros(law.n, dtype=bool)
    for part, theta in zip(parts, backtest(law, parts) if parts else []):
        missed = form_without(law, part).missed(law.data.x, law.data.y, theta)
        held = part.held & np.isfinite(missed)
        points |= held
        if held.any():
            squares.append(float(mean_square(missed[None, held], law.data.weights[held])[0]))
    error = math.exp(np.mean(np.log(np.maximum(squares, 1e-300))) / 2) if squares else math.nan
    return {"error": _number(error), "n": int(points.sum())}


def _error(law: FittedLaw) -> float:
    error = holdout_of(law)["error"]
    return math.nan if error is None else float(error)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _entry(name: str, error: float, weight: float, criteria: Mapping[str, float], why_not: str) -> dict[str, Any]:
    shown = {key: _number(criteria.get(key, math.nan)) for key in ("aic", "bic")}
    return {"law": name, "error": _number(error), "weight": weight, **shown, "why_not": why_not, "reason": why_not}
