"""Blocked hold-out at the large end: laws are fitted to the smaller points and asked for the larger ones.

It rehearses what a law is for. A random hold-out would only ask it to fill gaps (Cerqueira, Torgo and Mozetic 2020 say
the same of time series), and the fit itself says nothing of the points beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.fit.fitting import refit
from evaluate.scaling.forms.form import Array

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


HALF = 0.5
SHARES = (0.7, 0.6, 0.5, 0.4)
ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Edges:
    """The ranges of the columns of x, to say how far a point lies beyond them."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    logs: tuple[bool, ...]

    @classmethod
    def of(cls, x: Array, domains: Sequence[bool] = ()) -> Edges:
        """Of x (n, k); columns of positive numbers are measured in logs, but for those with a closed domain."""
        closed = list(domains) or [False] * x.shape[1]
        logs = tuple(bool(np.all(column > 0)) and not shut for column, shut in zip(x.T, closed))
        return cls(tuple(map(float, x.min(axis=0))), tuple(map(float, x.max(axis=0))), logs)

    def beyond(self, x: Array) -> NDArray[np.float64]:
        """(n,): the distance of the farthest column, in e-folds (columns in logs) or in ranges; 0 inside."""
        found = np.zeros(len(x))
        for column, low, high, log in zip(x.T, self.low, self.high, self.logs):
            if log:
                with np.errstate(divide="ignore"):
                    away = np.maximum(np.log(column / high), np.log(low / np.maximum(column, 1e-300)))
            else:
                away = np.maximum(column - high, low - column) / max(high - low, 1e-12)
            found = np.maximum(found, away)
        return np.asarray(found)


@dataclass(frozen=True)
class Block:
    """Which points are kept and which are held out, (n,) each; and how far those lie beyond the kept ones, (n,)."""

    kept: NDArray[np.bool_]
    held: NDArray[np.bool_]
    beyond: NDArray[np.float64]


def free_of(law: Law) -> int:
    """How many parameters the points must tell: of an average, those of its largest member, with its shift."""
    members = getattr(law, "members_", None)
    if members:
        return 1 + max(len(member.form.parameters) for member in members)
    return len(law.theta_) - len(law.fixed)


def closed_columns(law: Law) -> list[bool]:
    """Which columns of x have a closed domain, as a density between 0 and 1."""
    return [variable in law.form_.domains for variable in law.form_.variables]


def size_of(law: Law, x: Array) -> NDArray[np.float64]:
    """The size (n,) of points: the geometric mean of the columns that are sizes."""
    use = [j for j, shut in enumerate(closed_columns(law)) if not shut and np.all(x[:, j] > 0)]
    if not use:
        return np.asarray(np.arange(1, len(x) + 1)[np.argsort(np.argsort(x.sum(axis=1)))], dtype=float)
    return np.asarray(np.exp(np.mean(np.log(x[:, use]), axis=1)))


def relative_size(law: Law) -> NDArray[np.float64]:
    """The size (n,) of the law's points over that of the largest."""
    size = size_of(law, law.data_.x)
    return np.asarray(size / size.max())


def block(law: Law, share: float, fewest: int) -> Block | None:
    """The points larger than `share` of the largest, held out with their groups; None if fewer than `fewest` stay.

    Where all groups reach that far (runs that were pruned on and on, seeds of a whole ladder of sizes), holding them
    out whole would leave nothing to fit, and only their large points are held out.
    """
    data = law.data_
    size = size_of(law, data.x)
    held = size > share * size.max() * ROUNDING
    if data.groups is not None and len(np.unique(data.groups)) > 2:
        whole = np.isin(data.groups, np.unique(data.groups[held]))
        held = whole if np.sum(~whole) >= fewest else held
    kept = ~held
    if kept.sum() < fewest or not held.any():
        return None
    beyond = Edges.of(data.x[kept], closed_columns(law)).beyond(data.x)
    return Block(kept, held, np.where(held, beyond, 0.0))


def half_block(law: Law, fewest: int) -> Block | None:
    """What a law is tried on: the points beyond half of the largest, or as many of the largest as can be spared."""
    data = law.data_
    size = size_of(law, data.x)
    steps = [HALF, *(share for share in np.unique(size) / size.max() / ROUNDING**2 if share > HALF)]
    for share in steps:
        found = block(law, share, fewest)
        if found is not None:
            return found
    return None


def blocks(law: Law, fewest: int) -> list[Block]:
    """The blocks that prediction intervals are calibrated on: several shares, or what `half_block` gives."""
    found = [one for one in (block(law, share, fewest) for share in SHARES) if one is not None]
    if not found:
        one = half_block(law, fewest)
        found = [] if one is None else [one]
    return [part for i, part in enumerate(found) if i == 0 or np.any(part.held != found[i - 1].held)]


def rehearse(law: Law, parts: Sequence[Block]) -> NDArray[np.float64]:
    """Parameters (b, p) of a law fitted to the kept points of each block, from where the fit to all of them ended."""
    data = law.data_
    weights = np.array([part.kept * data.weights for part in parts])
    first = law.form_.starts(data.x, data.y)[:4]
    start = np.concatenate([law.theta_[None], first])
    starts = np.broadcast_to(start, (len(parts), *start.shape))
    return refit(law.form_, data.x, data.y, weights, starts, loss=law.loss, fixed=law.fixed)[0]
