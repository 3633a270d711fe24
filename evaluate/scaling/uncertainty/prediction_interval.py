"""Blocked hold-out at the large end: laws are fitted to the smaller points and asked for the larger ones.

It rehearses what a law is for. A random hold-out would only ask it to fill gaps (Cerqueira, Torgo and Mozetic 2020 say
the same of time series), and the fit itself says nothing of the points beyond.

Prediction intervals that know the form may be wrong.

A bootstrap knows the noise of the points and the doubt about the parameters, and nothing of a wrong form: on 45
learning curves its 90 % intervals cover 46 to 59 % of what comes next. So a third part is added, an error of the form
that grows with the distance beyond the range of the points. Its size is what blocked hold-outs of the largest points
were missed by, or what staying at the level of the last points would have missed there, where that is less: a rehearsal
that runs off says how that fit failed, not how far points lie. Errors of a curve hang together and hold-outs are few,
hence Student's t with few degrees of freedom. One curve, or one hold-out, may rehearse well by luck, so 3 % an e-fold
(LEAST) are added; hold-outs of several variables lie in many directions. benchmarks/intervals.py measures the coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evaluate.core.errors import UsageError
from evaluate.scaling.fit.fitted import Edges, ErrorModel, FittedLaw, Problem
from evaluate.scaling.fit.fitting import refit
from evaluate.scaling.forms.combined import averaged_form
from evaluate.scaling.forms.form import Array, Form
from evaluate.scaling.points.measured import ALIKE

HALF = 0.5
SHARES = (0.7, 0.6, 0.5, 0.4)
ROUNDING = 1 + 1e-9
TOP = 0.75
FEWEST_AT_TOP = 3
FAR = 10.0
THIRD = 1 / 3


@dataclass(frozen=True)
class Block:
    """Which points are kept and which are held out, (n,) each; and how far those lie beyond the kept ones, (n,)."""

    kept: NDArray[np.bool_]
    held: NDArray[np.bool_]
    beyond: NDArray[np.float64]


def size_of(law: Problem) -> NDArray[np.float64]:
    """The size (n,) of the points, the geometric mean of the columns that are sizes; 1 over it of a law that is to
    predict small ones, so that what is "larger" here is always what is held out, and weighs more."""
    size = _size_of(law)
    return size if law.settings.end == "high" else 1.0 / size


def _size_of(law: Problem) -> NDArray[np.float64]:
    x = law.data.x
    use = [j for j, shut in enumerate(law.closed_columns) if not shut and np.all(x[:, j] > 0)]
    if not use:
        return np.asarray(np.arange(1, len(x) + 1)[np.argsort(np.argsort(x.sum(axis=1)))], dtype=float)
    return np.asarray(np.exp(np.mean(np.log(x[:, use]), axis=1)))


def relative_size(law: Problem) -> NDArray[np.float64]:
    """The size (n,) of the points over that of the largest."""
    size = size_of(law)
    return np.asarray(size / size.max())


def block(law: Problem, share: float, fewest: int) -> Block | None:
    """The points larger than `share` of the largest, held out with their groups; None if fewer than `fewest` stay.

    Where all groups reach that far (runs that were pruned on and on, seeds of a whole ladder of sizes), holding them
    out whole would leave nothing to fit, and only their large points are held out.
    """
    data = law.data
    size = size_of(law)
    held = size > share * size.max() * ROUNDING
    if data.groups is not None and len(np.unique(data.groups)) > 2:
        whole = np.isin(data.groups, np.unique(data.groups[held]))
        held = whole if np.sum(~whole) >= fewest else held
    return _block(law, held, fewest)


def _block(law: Problem, held: NDArray[np.bool_], fewest: int) -> Block | None:
    kept = ~held
    if kept.sum() < fewest or not held.any():
        return None
    beyond = Edges.of(law.data.x[kept], law.closed_columns).beyond(law.data.x)
    return Block(kept, held, np.where(held, beyond, 0.0))


def half_block(law: Problem, fewest: int) -> Block | None:
    """What a law is tried on: the points beyond half of the largest, or as many of the largest as can be spared."""
    size = size_of(law)
    steps = [HALF, *(share for share in np.unique(size) / size.max() / ROUNDING**2 if share > HALF)]
    return next((found for share in steps if (found := block(law, share, fewest)) is not None), None)


def trials(law: Problem, fewest: int) -> list[Block]:
    """What laws that compete are tried on: `half_block`, and of one variable the largest third of the sizes as well,
    which is farther where the sizes lie close, and nearer where they are few."""
    found = [half_block(law, fewest)]
    if law.data.x.shape[1] == 1:
        size = np.round(np.log(size_of(law)), 9)
        sizes = np.unique(size)
        if len(sizes) > 2:
            found.append(_block(law, size > sizes[-round(THIRD * len(sizes)) - 1], fewest))
    known = [one for one in found if one is not None]
    return [one for i, one in enumerate(known) if i == 0 or np.any(one.held != known[0].held)]


def blocks(law: Problem, fewest: int) -> list[Block]:
    """The blocks that prediction intervals are calibrated on: several shares, or what `half_block` gives."""
    found = [one for one in (block(law, share, fewest) for share in SHARES) if one is not None]
    if not found:
        one = half_block(law, fewest)
        found = [] if one is None else [one]
    return [part for i, part in enumerate(found) if i == 0 or np.any(part.held != found[i - 1].held)]


def mean_square(missed: Array, weights: Array) -> NDArray[np.float64]:
    """(b,) of what held-out points (b, n) were missed by; one that is missed FAR times as much as they usually are, as
    a diverged run is, counts as so much. Not finite where a prediction is not."""
    size = np.abs(missed)
    most = FAR * np.median(size, axis=1, keepdims=True)
    return np.asarray(np.average(np.minimum(size, most) ** 2, axis=1, weights=weights))


def within(law: Problem, kept: Array) -> tuple[float, float]:
    """The range of x, of one variable, that ends with the kept points at the end that is asked for."""
    x = law.data.x[kept, 0]
    return (-math.inf, float(x.max())) if law.settings.end == "high" else (float(x.min()), math.inf)


def form_without(law: Problem, part: Block) -> Form:
    """The form as it is where the held-out points of a block are not known: an average stays at the level of others."""
    if not law.form.members:
        return law.form
    ends = within(law, part.kept)
    return averaged_form([replace(member, within=ends) for member in law.form.members])


def backtest(law: FittedLaw, parts: Sequence[Block]) -> list[NDArray[np.float64]]:
    """Parameters (p,) of a law fitted to the kept points of each block, from where the fit to all of them ended."""
    data = law.data
    weights = np.array([part.kept * data.weights for part in parts])
    if law.form.members:
        thetas = refit_members(law.form, law, weights, law.theta)
        return [
            with_shifts(law, law.form, [one[at : at + 1] for one in thetas], part.kept)[0]
            for at, part in enumerate(parts)
        ]
    start = np.concatenate([law.theta[None], law.form.starts(data.x, data.y)[:4]])
    starts = np.broadcast_to(start, (len(parts), *start.shape))
    return list(refit(law.form, data.x, data.y, weights, starts, loss=law.loss, fixed=law.fixed)[0])


# The members of an average: each is fitted with weights of its own, and moved to the level of the largest points.


def refit_members(form: Form, law: Problem, weights: Array, theta: Array) -> list[NDArray[np.float64]]:
    """Each member's parameters (b, p) under weights (b, n), from where theta (all parameters,) has it."""
    data, at, thetas = law.data, 0, []
    size = relative_size(law)
    for member in form.members:
        p = len(member.form.parameters)
        start = theta[at : at + p]
        thetas.append(refit(member.form, data.x, data.y, weights * size**member.power, start, loss=law.loss)[0])
        at += p + 1
    return thetas


def with_shifts(law: Problem, form: Form, thetas: Sequence[Array], kept: Array) -> NDArray[np.float64]:
    """(b, all parameters) from each member's (b, p): every one is moved to the level of the largest kept points."""
    data = law.data
    parts = []
    for member, theta in zip(form.members, thetas):
        missed = member.form.missed(data.x, data.y, theta)
        shift = shifts(missed, size_of(law), kept, data.weights, member.astray)
        parts += [theta, shift[:, None]]
    return np.concatenate(parts, axis=1)


def in_effect(weights: Array) -> float:
    """How many points of equal weight say as much as these weights (n,) (Kish 1965: (sum w)^2 / sum w^2)."""
    return float(np.sum(weights) ** 2 / np.sum(weights**2))


def shifts(missed: Array, x: Array, kept: Array, weights: Array, astray: Array | bool = False) -> NDArray[np.float64]:
    """(b,): the middle of prediction less point (b, n), in log y, over the largest kept points, at least three; where a
    fit is astray, whose errors are not noise, or the largest size is far better than those, over its points alone.

    The weighted mean, but for points that lie far from the others there, as one diverged run does.

    Where points are repeated, as by seeds, their noise is known, and the mean is shrunk by what noise alone would make
    of it (James and Stein 1961).
    """
    at = np.flatnonzero(kept)
    largest = np.sort(x[at])[-min(FEWEST_AT_TOP, len(at))]
    top = kept & (x >= min(TOP * x[at].max(), largest))
    share = weights[top] * _near(missed[:, top])
    mean = np.sum(missed[:, top] * share, axis=1) / np.sum(share, axis=1)
    noise = pure_error(missed[:, at], x[at]) / in_effect(weights[top])
    found = mean * np.clip(1 - noise / np.maximum(mean**2, 1e-300), 0.0, 1.0)
    last = np.median(missed[:, kept & (x * ALIKE >= x[at].max())], axis=1)
    better = last > np.median(missed[:, top], axis=1) + FAR * _typical(missed[:, top])[:, 0]
    return np.asarray(np.where(astray | better, last, found))


def _near(missed: Array) -> NDArray[np.float64]:
    """0 for values (b, n) whose points lie more than FAR typical distances above the others of their row, as a diverged
    run does, else 1: no run is far too good by accident."""
    above = np.median(missed, axis=1, keepdims=True) - missed
    return np.asarray((above <= FAR * _typical(missed)).astype(float))


def _typical(missed: Array) -> NDArray[np.float64]:
    """(b, 1): how far values (b, n) usually lie from the median of their row."""
    away = np.abs(missed - np.median(missed, axis=1, keepdims=True))
    return np.asarray(np.maximum(np.median(away, axis=1, keepdims=True), 1e-3))


def pure_error(missed: Array, x: Array) -> NDArray[np.float64]:
    """Variance (b,) among points (b, n) of one x, or of nearly one; 0 where none is repeated."""
    order = np.argsort(x, kind="stable")
    group = np.cumsum(np.append(False, np.diff(np.log(x[order])) > math.log(ALIKE)))
    sums, spare = np.zeros(len(missed)), 0
    for one in range(group[-1] + 1):
        part = missed[:, order[group == one]]
        sums += np.sum((part - part.mean(axis=1, keepdims=True)) ** 2, axis=1)
        spare += part.shape[1] - 1
    return sums / spare if spare else sums


DEGREES = 3.0
UNTRIED = 0.05
LEAST = 0.03
NEAREST = 0.1
SEEN = 6.0


def check_share(interval: float) -> None:
    """Raise UsageError for an interval that is no share."""
    if not (isinstance(interval, (int, float)) and 0 < interval < 1):
        raise UsageError(f"interval is a share between 0 and 1, as 0.9; got {interval!r}")


def errors_of(law: FittedLaw) -> ErrorModel:
    """How far predictions may be off, from the residuals and from blocked hold-outs of the largest points."""
    if law.errors is None:
        law.errors = _calibrated(law)
    return law.errors


def _calibrated(law: FittedLaw) -> ErrorModel:
    data = law.data
    space = "raw" if law.loss.space == "raw" else "log"
    edges = Edges.of(data.x, law.closed_columns)
    noise = _noise(law, _missed(law, law.form, law.theta, space))
    parts = blocks(law, law.free + 1)
    if not parts:
        return ErrorModel(noise, max(UNTRIED, noise) if space == "log" else noise, DEGREES, 0, space, edges)
    drifts = []
    for part, theta in zip(parts, backtest(law, parts)):
        missed = _missed(law, form_without(law, part), theta, space)
        drifts.append(min(_drift(one, part, noise) for one in (missed, _stayed(law, part, space))))
    by_luck = space == "log" and (data.x.shape[1] == 1 or len(parts) == 1)
    drift = math.hypot(float(np.sqrt(np.mean(np.square(drifts)))), LEAST if by_luck else 0.0)
    return ErrorModel(noise, drift, DEGREES, len(parts), space, edges)


def _stayed(law: FittedLaw, part: Block, space: str) -> NDArray[np.float64]:
    """What the level of the largest kept points misses of each point (n,)."""
    y = law.data.y if space == "raw" else np.log(law.data.y)
    size, kept = size_of(law), np.flatnonzero(part.kept)
    top = kept[np.argsort(size[kept], kind="stable")[-FEWEST_AT_TOP:]]
    return np.asarray(np.median(y[top]) - y)


def _missed(law: FittedLaw, form: Form, theta: Array, space: str) -> NDArray[np.float64]:
    """Prediction less point (n,)."""
    data = law.data
    if space != "raw":
        return form.missed(data.x, data.y, theta)
    with np.errstate(all="ignore"):
        return np.asarray(form.predict(data.x, theta) - data.y)


def _noise(law: FittedLaw, missed: Array) -> float:
    """The noise of the larger points, which is that of what comes next: small ones err more, in most data.

    Of sizes over several decades one or two would be left, and their luck: so many count that SEEN are in effect.
    """
    data, size, weights = law.data, relative_size(law), law.data.weights
    if len(data.y) >= 3 * law.free:
        tried = [data.weights * size**power for power in np.linspace(1.0, 0.0, 21)]
        weights = next((one for one in tried if in_effect(one) >= SEEN), weights)
    spare = len(data.y) / max(len(data.y) - law.free, 1)
    good = np.isfinite(missed)
    mean = float(np.sum(weights[good] * missed[good] ** 2) / max(np.sum(weights[good]), 1e-300))
    return math.sqrt(mean * min(spare, 5.0))


def _drift(missed: Array, part: Block, noise: float) -> float:
    held = part.held & np.isfinite(missed)
    if not held.any():
        return 0.0
    away = np.maximum(part.beyond[held], NEAREST)
    excess = max(float(np.mean(missed[held] ** 2)) - noise**2, 0.0)
    return math.sqrt(excess / float(np.mean(away**2)))


def prediction_interval(law: FittedLaw, x: Array, interval: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high), (n,) each, that hold a new point at x (n, k) with the share `interval`. Raises UsageError."""
    check_share(interval)
    model = errors_of(law)
    middle = law.at(x, law.theta)
    scale = spread_of(law, x)
    reach = float(stdtrit(model.degrees, (1 + interval) / 2)) * scale
    if model.space == "raw" or np.any(middle <= 0):
        if model.space != "raw":
            reach = reach * np.abs(middle)
        return middle - reach, middle + reach
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = middle * np.exp(-reach), middle * np.exp(np.minimum(reach, 700.0))
    most = law.settings.scale.limit
    return np.where(np.isnan(low), 0.0, low), np.minimum(np.where(np.isnan(high), np.inf, high), most)


def forecast(law: FittedLaw, x: Array, interval: float | None = None) -> tuple[NDArray[np.float64], ...]:
    """(y, low, high), (n,) each, as fitted, at x (n, k); without an interval all y. Raises UsageError.

    Beyond the points the law that is fitted for that end speaks; between them an average, which is fitted for one end,
    is moved towards their means.
    """
    found = np.empty((3, len(x)))
    for one, rows in law.by_end(x):
        y = one.at(x[rows], one.theta)
        ends = (y, y) if interval is None else prediction_interval(one, x[rows], interval)
        found[:, rows] = np.minimum(_moved(one, x[rows]) * np.array([y, *ends]), one.settings.scale.limit)
    return tuple(found)


def _moved(law: FittedLaw, x: Array) -> NDArray[np.float64]:
    """(n,) what an average is multiplied by where it misses means of the points by more than noise (James and Stein
    1961), straight in logs between them; 1 for other laws, and from the end on that it is fitted for."""
    measured = law.cells.along(0, (0.0,)) if law.form.members and law.cells is not None else None
    if measured is None:
        return np.ones(len(x))
    away = measured.curve - np.log(law.at(measured.x[:, None], law.theta))
    away = away * np.clip(1 - (measured.error / np.where(away, away, 1.0)) ** 2, 0.0, 1.0)
    away[-1 if law.settings.end == "high" else 0] = 0.0
    return np.asarray(np.exp(np.interp(np.log(x[:, 0]), np.log(measured.x), away)))


def spread_of(law: FittedLaw, x: Array) -> NDArray[np.float64]:
    """Standard deviation (n,) of a new point at x (n, k), in log y or as y is: parameters, noise, error of the form."""
    model = errors_of(law)
    return np.asarray(np.hypot(model.scale(x), _parameters(law, x, model.space)))


def _parameters(law: FittedLaw, x: Array, space: str) -> NDArray[np.float64]:
    """Standard deviation (n,) of the prediction over the bootstrap's parameters, by quantiles: a few may be wild."""
    if len(law.draws) < 2:
        return np.zeros(len(x))
    with np.errstate(all="ignore"):
        curves = law.form.predict(x, law.draws)
        curves = curves if space == "raw" else np.log(curves)
    curves = np.where(np.isfinite(curves), curves, np.nan)
    usable = curves[np.isfinite(curves).all(axis=1)]
    if len(usable) < 2:
        return np.zeros(len(x))
    low, high = np.quantile(usable, [0.16, 0.84], axis=0)
    return np.asarray((high - low) / 2)
