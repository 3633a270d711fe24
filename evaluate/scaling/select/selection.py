"""Which law: forms compete on blocked hold-out at the large end, never on the fit. AIC and BIC are shown, not obeyed.

One variable: forms that the hold-out cannot tell apart are averaged (averaging.py); one that stands alone is chosen.
Several variables: the form that predicts the held-out largest points best; of two within 5 %, the simpler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.errors import DataError, LeanfitError, UsageError, did_you_mean
from evaluate.scaling.uncertainty.backtest import HALF, half_block, rehearse, size_of

if TYPE_CHECKING:
    from evaluate.scaling.law import Law
    from evaluate.scaling.select.averaging import Average


JOINT = {2: ("chinchilla-tied", "chinchilla")}
CLOSE = 1.05
RULE = "blocked hold-out: fitted to the smaller points, tried on those beyond {share:.2g} of the largest"
FITTED_ALIKE = "forms within 1.5 times the least error are averaged with equal shares"


def select_law(
    x: Any,
    y: Any,
    *,
    candidates: Sequence[str] | None = None,
    sample_weight: Any = None,
    groups: Any = None,
    **settings: Any,
) -> Law:
    """The law that predicts the largest points best from the smaller ones, fitted to all of them.

    x (n,), (n, k) or name -> (n,); y (n,) positive; candidates : names of laws (registry.LAWS), None takes those that
    suit the columns; sample_weight (n,); groups (n,) labels, held out and resampled together; settings go to the law
    (seed, bootstrap, confidence, force). `holdout_` of the result says what was tried and why the others were not
    taken. Deterministic. Raises UsageError for unsuitable candidates, DataError where none can be fitted.
    """
    count = _columns(x)
    names = _candidates(x, count, candidates)
    if count == 1:
        return _of_one(x, y, names if candidates is not None else None, sample_weight, groups, settings)
    return _of_several(x, y, names, sample_weight, groups, settings)


def _columns(x: Any) -> int:
    if isinstance(x, Mapping) or hasattr(x, "columns"):
        return len(x.keys() if isinstance(x, Mapping) else x.columns)
    array = np.asarray(x)
    return 1 if array.ndim < 2 else int(array.shape[1])


def _candidates(x: Any, count: int, given: Sequence[str] | None) -> tuple[str, ...]:
    from evaluate.scaling.forms.law_registry import LAWS, law_class

    if given is not None:
        if isinstance(given, str) or not given:
            raise UsageError(f'candidates is a list of names of laws, as ["m3", "m4"]; got {given!r}')
        for name in given:
            if name not in LAWS or name == "average":
                known = [law for law in LAWS if law != "average"]
                raise UsageError(
                    f"there is no candidate {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}"
                )
            wanted = law_class(name).form.variables
            if len(wanted) != count and name != "linear":
                raise UsageError(f"the law {name} takes {len(wanted)} columns, {', '.join(wanted)}; x has {count}")
        return tuple(given)
    if count == 1:
        from evaluate.scaling.select.averaging import CANDIDATES

        return CANDIDATES
    if count in JOINT:
        return JOINT[count]
    raise UsageError(
        f"x has {count} columns, and which law suits them depends on what they are; name it with --law, or give "
        "candidates (precision takes N, D and bits; frantar takes S, N and D)"
    )


# One variable.


def _of_one(x: Any, y: Any, names: Sequence[str] | None, weights: Any, groups: Any, settings: Mapping[str, Any]) -> Law:
    from evaluate.scaling.forms.law_registry import law_class
    from evaluate.scaling.select.averaging import Average

    average = Average(candidates=names, **settings).fit(x, y, sample_weight=weights, groups=groups)
    forms = list(dict.fromkeys(member.form.name for member in average.members_))
    if len(forms) > 1 or average.left_out_:
        return average
    try:
        law = law_class(forms[0])(**settings).fit(x, y, sample_weight=weights, groups=groups)
    except DataError:
        return average
    if not _error(law) <= _error(average):
        return average
    law._holdout = {**average.holdout_, "error": _error(law), "chosen": forms[0]}
    return law


def told(law: Average) -> dict[str, Any]:
    """The hold-out of an averaged law as plain data."""
    part = half_block(law, 2)
    error = math.nan
    if part is not None:
        missed = law.rehearsed([part])[0]
        held = part.held & np.isfinite(missed)
        error = _rms(missed[held], law.data_.weights[held])
    entries = [
        _entry(one.name, one.error, sum(one.shares.values()), {"aic": one.aic, "bic": one.bic}, one.why_not)
        for one in law.tried_
    ]
    share = _share(law)
    return {
        "rule": f"{RULE.format(share=share)}; {FITTED_ALIKE}", "error": _number(error), "candidates": entries,
        "n": 0 if part is None else int(part.held.sum()),
        "chosen": "average", **({} if part is not None else {"reason": "too few points to hold any out"}),
    }  # fmt: skip


def _share(law: Law) -> float:
    part = half_block(law, 2)
    if part is None:
        return HALF
    size = size_of(law, law.data_.x)
    return float(size[part.kept].max() / size.max()) if part.kept.any() else HALF


# Several variables.


def _of_several(x: Any, y: Any, names: Sequence[str], weights: Any, groups: Any, settings: Mapping[str, Any]) -> Law:
    from evaluate.scaling.forms.law_registry import law_class

    laws: list[Law] = []
    reasons: dict[str, str] = {}
    for name in names:
        try:
            law = law_class(name)(**settings).fit(x, y, sample_weight=weights, groups=groups)
        except UsageError:
            raise
        except LeanfitError as error:
            reasons[name] = str(error)
            continue
        free = len(law.theta_) - len(law.fixed)
        if law.n_ <= free:
            reasons[name] = f"{free} parameters and {law.n_} points: none can be held out"
            continue
        laws.append(law)
    if not laws:
        raise DataError("no law can be chosen: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
    chosen = _best(laws)
    errors = {law.name: _error(law) for law in laws}
    for law in laws:
        if law is not chosen:
            reasons[law.name] = _why_not(errors[law.name], errors[chosen.name], chosen.name)
    entries = [_told_of(name, laws, errors, chosen, reasons) for name in names]
    chosen._holdout = {**hold_out(chosen), "candidates": entries, "chosen": chosen.name}
    return chosen


def _best(laws: Sequence[Law]) -> Law:
    """The least error; of those within 5 % of it, or where none is known, the fewest parameters."""
    errors = [_error(law) for law in laws]
    known = [error for error in errors if math.isfinite(error)]
    least = min(known) if known else math.inf
    close = [law for law, error in zip(laws, errors) if not known or error <= CLOSE * least]
    return min(close, key=lambda law: len(law.theta_))


def _error(law: Law) -> float:
    error = law.holdout_.get("error")
    return math.nan if error is None else float(error)


def _why_not(error: float, best: float, chosen: str) -> str:
    if not math.isfinite(error):
        return "too few points to hold any out"
    if error <= CLOSE * best:
        return f"no better than {chosen}, which has fewer parameters"
    return f"missed the held-out points by {100 * error:.3g} %, {chosen} by {100 * best:.3g} %"


def _told_of(
    name: str, laws: Sequence[Law], errors: Mapping[str, float], chosen: Law, reasons: Mapping[str, str]
) -> dict[str, Any]:
    found = [law for law in laws if law.name == name]
    criteria = found[0].criteria_ if found else {}
    share = 1.0 if found and found[0] is chosen else 0.0
    return _entry(name, errors.get(name, math.nan), share, criteria, reasons.get(name, ""))


def hold_out(law: Law) -> dict[str, Any]:
    """How a fitted law predicts its largest points from the others: {rule, error, n, reason, candidates, chosen}.

    error : rms of log prediction - log y over the held-out points; None where there are too few points.
    """
    free = len(law.theta_) - len(law.fixed)
    part = half_block(law, free)
    found: dict[str, Any] = {
        "rule": RULE.format(share=_share(law)),
        "error": None,
        "candidates": [],
        "chosen": law.name,
    }
    if part is None:
        return {**found, "reason": f"{law.n_} points and {free} parameters: too few to hold any out"}
    theta = rehearse(law, [part])[0]
    missed = law.form_.missed(law.data_.x, law.data_.y, theta)
    held = part.held & np.isfinite(missed)
    return {**found, "error": _number(_rms(missed[held], law.data_.weights[held])), "n": int(held.sum())}


def _rms(missed: Any, weights: Any) -> float:
    return float(np.sqrt(np.sum(weights * missed**2) / weights.sum())) if len(missed) else math.nan


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _entry(name: str, error: float, weight: float, criteria: Mapping[str, float], why_not: str) -> dict[str, Any]:
    shown = {key: _number(criteria.get(key, math.nan)) for key in ("aic", "bic")}
    return {"law": name, "error": _number(error), "weight": weight, **shown, "why_not": why_not, "reason": why_not}
