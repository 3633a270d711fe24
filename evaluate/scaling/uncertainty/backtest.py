"""Blocked hold-out at the large end: laws are fitted to the smaller points and asked for the larger ones.

It rehearses what a law is for. A random hold-out would only ask it to fill gaps (Cerqueira, Torgo and Mozetic 2020 say
the same of time series), and the fit itself says nothing of the points beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.fit.fitted import Edges, FittedLaw, Problem
from evaluate.scaling.fit.fitting import refit
from evaluate.scaling.forms.form import Array, Form

HALF = 0.5
SHARES = (0.7, 0.6, 0.5, 0.4)
ROUNDING = 1 + 1e-9
TOP = 0.75
FEWEST_AT_TOP = 3
REPEATS = 1.02


@dataclass(frozen=True)
class Block:
    """Which points are kept and which are held out, (n,) each; and how far those lie beyond the kept ones, (n,)."""

    kept: NDArray[np.bool_]
    held: NDArray[np.bool_]
    beyond: NDArray[np.float64]


def size_of(law: Problem) -> NDArray[np.float64]:
    """The size (n,) of the points: the geometric mean of the columns that are sizes."""
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
    kept = ~held
    if kept.sum() < fewest or not held.any():
        return None
    beyond = Edges.of(data.x[kept], law.closed_columns).beyond(data.x)
    return Block(kept, held, np.where(held, beyond, 0.0))


def half_block(law: Problem, fewest: int) -> Block | None:
    """What a law is tried on: the points beyond half of the largest, or as many of the largest as can be spared."""
    size = size_of(law)
    steps = [HALF, *(share for share in np.unique(size) / size.max() / ROUNDING**2 if share > HALF)]
    return next((found for share in steps if (found := block(law, share, fewest)) is not None), None)


def blocks(law: Problem, fewest: int) -> list[Block]:
    """The blocks that prediction intervals are calibrated on: several shares, or what `half_block` gives."""
    found = [one for one in (block(law, share, fewest) for share in SHARES) if one is not None]
    if not found:
        one = half_block(law, fewest)
        found = [] if one is None else [one]
    return [part for i, part in enumerate(found) if i == 0 or np.any(part.held != found[i - 1].held)]


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
        shift = shifts(missed, data.x[:, 0], kept, data.weights)
        parts += [theta, shift[:, None]]
    return np.concatenate(parts, axis=1)


def in_effect(weights: Array) -> float:
    """How many points of equal weight say as much as these weights (n,) (Kish 1965: (sum w)^2 / sum w^2)."""
    return float(np.sum(weights) ** 2 / np.sum(weights**2))


def shifts(missed: Array, x: Array, kept: Array, weights: Array) -> NDArray[np.float64]:
    """(b,): the mean of prediction less point (b, n), in log y, over the largest kept points, at least three.

    Where points are repeated, as by seeds, their noise is known, and the mean is shrunk by what noise alone would make
    of it (James and Stein 1961).
    """
    at = np.flatnonzero(kept)
    largest = np.sort(x[at])[-min(FEWEST_AT_TOP, len(at))]
    top = kept & (x >= min(TOP * x[at].max(), largest))
    mean = missed[:, top] @ weights[top] / weights[top].sum()
    noise = _pure_error(missed[:, at], x[at]) / in_effect(weights[top])
    return np.asarray(mean * np.clip(1 - noise / np.maximum(mean**2, 1e-300), 0.0, 1.0))


def _pure_error(missed: Array, x: Array) -> NDArray[np.float64]:
    """Variance (b,) among points (b, n) of one x, or of nearly one; 0 where none is repeated."""
    order = np.argsort(x, kind="stable")
    group = np.cumsum(np.append(False, np.diff(np.log(x[order])) > math.log(REPEATS)))
    sums, spare = np.zeros(len(missed)), 0
    for one in range(group[-1] + 1):
        part = missed[:, order[group == one]]
        sums += np.sum((part - part.mean(axis=1, keepdims=True)) ** 2, axis=1)
        spare += part.shape[1] - 1
    return sums / spare if spare else sums
