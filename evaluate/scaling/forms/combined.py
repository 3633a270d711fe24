"""Forms made of terms or of other forms: straight lines by ordinary least squares, and averages of several laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evaluate.core.errors import UsageError
from evaluate.scaling.forms.form import (
    ANY,
    LAWS,
    Array,
    Form,
    LawKind,
    Loss,
    Member,
    Parameter,
    kind_of,
    named,
    register_kind,
)
from evaluate.scaling.points.cells import names_of, width

ORDINARY = Loss("squares", space="raw")
CANDIDATES = ("power-floor", "m3", "m4", "bnsl1", "power")
SOURCE = "shares by hold-out: Bates and Granger 1969 (the combination of forecasts)"


def _straight_form(
    name: str, title: str, variables: tuple[str, ...], terms: Callable[[Array], Array], shown: str = "{}"
) -> Form:
    """b0 + b1 t1 + b2 t2 ... with the terms t (n, k) of x; unlike the other forms it may come out negative."""

    def value(x: Array, theta: Array) -> Array:
        return np.asarray(theta[..., :1] + theta[..., 1:] @ terms(x).T)

    def log_y(x: Array, theta: Array) -> Array:
        found = value(x, theta)
        return np.asarray(np.log(np.where(found.real > 0, found, np.nan)))

    def closed(x: Array, y: Array, weights: Array) -> Array:
        return _ordinary(terms(x), y, weights)

    parts = [f"b{i + 1} {shown.format(variable)}" for i, variable in enumerate(variables)]
    return Form(
        name=name,
        title=title,
        formula=f"y = {' + '.join(['b0', *parts])}",
        source="textbook: ordinary least squares",
        variables=variables,
        parameters=named(**{f"b{i}": ANY for i in range(len(variables) + 1)}),
        log_y=log_y,
        starts=lambda x, y: closed(x, y, np.ones(len(y)))[None],
        domains={} if shown != "{}" else dict.fromkeys(variables, (-math.inf, math.inf)),
        value=value,
        closed=closed,
    )


def _ordinary(terms: Array, y: Array, weights: Array) -> Array:
    """b0, b1, ... (k + 1,) of least squares, on centred terms, which keeps the digits of close columns."""
    root = np.sqrt(weights)
    centre = weights @ terms / weights.sum()
    size = np.maximum(np.sqrt(weights @ (terms - centre) ** 2), 1e-300)
    matrix = np.column_stack([np.ones(len(y)), (terms - centre) / size]) * root[:, None]
    found = np.linalg.lstsq(matrix, y * root, rcond=None)[0]
    slopes = found[1:] / size
    return np.concatenate([[found[0] - centre @ slopes], slopes])


@register_kind("log-linear")
class LogLinearKind(LawKind):
    """y = b0 + b1 log(x) with the natural logarithm, by ordinary least squares of y; b0 and b1 in units of y.

    Source: textbook; the straight line in log x that is drawn through accuracy against size.
    """

    form = _straight_form("log-linear", "straight line in log x", ("x",), np.log, "log({})")
    loss = ORDINARY


@register_kind("linear")
class LinearKind(LawKind):
    """y = b0 + b1 x1 + b2 x2 + ..., with as many variables as x has columns, by ordinary least squares.

    x of any sign, in its own units; b0 in units of y, b_i in units of y per unit of x_i, all of any sign.
    `goodness_` holds SSR, SSE, R2, MSE and RMSE (see `goodness`).
    Source: textbook; the least squares of Legendre, 1805.
    """

    form = _straight_form("linear", "straight line", ("x",), np.asarray)
    loss = ORDINARY
    any_columns = any_sign = True

    def form_for(self, x: Any, **options: Any) -> Form:
        """A slope for each column, by its name."""
        count = width(x)
        names = names_of(x) or (("x",) if count == 1 else tuple(f"x{i + 1}" for i in range(count)))
        if not count:
            raise UsageError("x has no columns; give at least one variable")
        return self._of(names)

    def saved(self, form: Form) -> dict[str, Any]:
        """The names of the columns."""
        return {"columns": list(form.variables)}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """By the names of the columns."""
        return self._of(tuple(map(str, settings["columns"])))

    def _of(self, variables: tuple[str, ...]) -> Form:
        return _straight_form("linear", "straight line", variables, np.asarray)


def averaged_form(members: Sequence[Member]) -> Form:
    """The form whose parameters are those of all members, each followed by its shift of log y."""
    parameters: list[Parameter] = []
    places = []
    for member in members:
        at = len(parameters)
        parameters += [replace(p, name=f"{member.label}: {p.name}", exponent=False) for p in member.form.parameters]
        parameters.append(replace(ANY, name=f"{member.label}: shift"))
        places.append(slice(at, at + len(member.form.parameters)))

    def log_y(x: Array, theta: Array) -> Array:
        parts = zip(members, places)
        return sum(m.weight * (m.log_y(x, theta[..., at]) - theta[..., at.stop, None]) for m, at in parts)  # type: ignore[return-value]

    alone = members[0].form if len({member.form.name for member in members}) == 1 else None
    return Form(
        name="average",
        title=f"{alone.title}, weighted by size" if alone else "average of laws",
        formula=(alone.formula if alone else f"log y = mean of log y of {_shares(members)}") + _damping(members),
        source=SOURCE, variables=("x",), parameters=tuple(parameters), log_y=log_y,
        starts=lambda x, y: np.empty((0, len(parameters))), members=tuple(members),
    )  # fmt: skip


def _shares(members: Sequence[Member]) -> str:
    """As "40 % power-floor, 60 % m3"."""
    names = list(dict.fromkeys(member.form.name for member in members))
    shares = {name: sum(member.weight for member in members if member.form.name == name) for name in names}
    return ", ".join(f"{100 * share:.3g} % {name}" for name, share in shares.items()) or "several laws"


def _damping(members: Sequence[Member]) -> str:
    stays = sum(member.weight * member.stays for member in members)
    if stays > 0.995:
        return "; beyond the points it stays at their level"
    return f"; beyond the points its slope counts {100 * (1 - stays):.2g} %" if stays >= 0.005 else ""


@register_kind("average")
class AverageKind(LawKind):
    """log y is the mean of log y of several laws of one variable; y and x positive.

    `params_` are the shares of the members, "m4, x^0.5" being M4 fitted with weights proportional to x^0.5; `theta_`
    and `draws_` hold the parameters of all of them, in the order of `form_.names`. The shares are given by a rule and
    not estimated, so their intervals are points; what is not sure is in `predict(x, interval=0.9)`.

    candidates : names of the laws that compete, of one variable; None takes CANDIDATES.  The other settings as for
    every law; bootstrap counts resamples of all members together.  Of more than MOST points, as many are taken, evenly
    spread by size.
    """

    form = averaged_form(())
    loss = Loss("huber", 1e-2)
    options: Mapping[str, Any] = {"candidates": None}

    def saved(self, form: Form) -> dict[str, Any]:
        """The members, by the names of their laws."""
        return {"members": [_plain(member) for member in form.members]}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """Of the members that were saved."""
        return averaged_form([_member(known) for known in settings["members"]])


def _plain(member: Member) -> dict[str, Any]:
    ends = [end if math.isfinite(end) else None for end in member.within]
    stays = {"stays": member.stays, "within": ends} if member.stays else {}
    law = LAWS.get(member.form.name)
    shown = {"law": law.address, "power": member.power, "weight": member.weight}
    return {**shown, **stays, **law.facts["kind"].saved(member.form)}


def _member(known: Mapping[str, Any]) -> Member:
    low, high = known.get("within", (None, None))
    within = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    form = kind_of(str(known["law"])).restored(known)
    return Member(form, float(known["power"]), float(known["weight"]), float(known.get("stays", 0.0)), within)
