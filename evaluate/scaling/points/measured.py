"""What the points themselves say, whatever a law says: means of repeats, their noise, where they pass a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
SAME = 1e-9  # of a size: values that differ by less are one
ALIKE = 1.02  # times that sizes differ by at most, which are one model trained several times
MOST = 400  # cells that are kept
LUCK = 0.005  # the chance that noise alone would make as great a rise between any two points
WIDE = 1.645  # standard errors by which a bracket is widened


class Bracket(NamedTuple):
    """Where the points pass a target: `value` by a curve through them, between `low` and `high`, two of them or, as far
    as their noise allows, more. down : whether y comes down to the target here, seen from the worst end.
    cell : the two neighbours between which the curve passes."""

    low: float
    high: float
    value: float
    down: bool
    cell: tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """Points along one variable, repeats of one value averaged, as fitted (less is better).

    x (m,), rising; y (m,) means; error (m,) their standard errors, of log y.  rises : y is greater at large x.
    """

    x: Floats
    y: Floats
    error: Floats
    rises: bool

    @cached_property
    def straight(self) -> bool:
        """Whether y falls (or rises) throughout, but for noise."""
        return _straight(*self._ordered[1:])

    def reaches(self, target: float) -> tuple[bool, bool]:
        """(whether a point is at most the target, whether one is above it)."""
        return bool(np.any(self.y <= target)), bool(np.any(self.y > target))

    def starts_below(self, target: float) -> bool:
        """Whether the point at the worst end reaches the target already, by more than noise."""
        _, log_y, error = self._ordered
        return bool(log_y[0] + WIDE * error[0] < math.log(target))

    @cached_property
    def _ordered(self) -> tuple[Floats, Floats, Floats]:
        """x, log y and its standard errors, from the worst end to the best."""
        step = slice(None, None, -1 if self.rises else 1)
        return self.x[step], np.log(self.y[step]), self.error[step]

    @cached_property
    def curve(self) -> Floats:
        """log y (m,) at x: that of the nearest curve that goes one way, where the points do but for noise."""
        _, log_y, error = self._ordered
        found = _falling(log_y, error) if self.straight else log_y
        return found[::-1] if self.rises else found

    def brackets(self, target: float) -> list[Bracket]:
        """Where y passes the target, from the worst end on. One that noise alone could make is not told apart.

        The curve is the monotone one nearest to the means (isotonic regression, Barlow et al. 1972) where they are
        monotone but for noise, and the means themselves elsewhere; between them straight in log y against log x.
        """
        x, log_y, error = self._ordered
        goal = math.log(target)
        curve = self.curve[::-1] if self.rises else self.curve
        curve = curve if _passes(curve, goal) else log_y
        passages: list[tuple[int, int]] = []  # first and last point of each, those that noise could make joined
        for at in _passes(curve, goal):
            start = passages[-1][1] if passages else 0
            noise = bool(passages) and np.all(np.abs(log_y[start : at + 1] - goal) < WIDE * error[start : at + 1])
            passages = [*passages[:-1], (passages[-1][0], at + 1)] if noise else [*passages, (at, at + 1)]
        clear = [(first, last) for first, last in passages if (curve[first] > goal) != (curve[last] > goal)]
        brackets = []
        for first, last in clear or [(at, at + 1) for at in _passes(curve, goal)]:
            at = next(place for place in _passes(curve, goal) if first <= place < last)
            value = _between(x[at], x[at + 1], float((curve[at] - goal) / (curve[at] - curve[at + 1])))
            while first > 0 and abs(log_y[first] - goal) < WIDE * error[first]:
                first -= 1
            while last < len(x) - 1 and abs(log_y[last] - goal) < WIDE * error[last]:
                last += 1
            low, high = sorted((float(x[first]), float(x[last])))
            cell = float(x[at]), float(x[at + 1])
            brackets.append(Bracket(low, high, value, bool(curve[at] > goal), cell))
        return brackets


def _passes(curve: Floats, goal: float) -> list[int]:
    """Places after which a curve passes the goal."""
    above = curve > goal
    return [int(at) for at in np.flatnonzero(above[1:] != above[:-1])]


def _between(low: float, high: float, share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    if low > 0 and high > 0:
        return float(math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
    return float(low + share * (high - low))


def _straight(log_y: Floats, error: Floats) -> bool:
    """Whether no point rises above an earlier one by more than noise would let any pair of them."""
    gaps = log_y[None, :] - log_y[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.where(gaps > 1e-12, gaps / np.sqrt(error[None, :] ** 2 + error[:, None] ** 2), 0.0)
    pairs = max(len(log_y) * (len(log_y) - 1) / 2, 1.0)
    return float(np.max(np.triu(rise, 1), initial=0.0)) <= float(ndtri(1 - LUCK / pairs))


def _falling(log_y: Floats, error: Floats) -> Floats:
    """The falling sequence nearest to log y by weighted squares: pools of adjacent violators."""
    weights = 1.0 / np.maximum(error, 1e-12) ** 2
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(log_y.tolist(), weights.tolist()):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (a, wa, na), (b, wb, nb) = pools[-2:]
            pools[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return np.repeat([value for value, _, _ in pools], [count for _, _, count in pools])


@dataclass(frozen=True)
class Cells:
    """The points of a fit, repeats averaged: x (m, k), y (m,) as fitted, error (m,) of log y; the noise of one."""

    x: Floats
    y: Floats
    error: Floats
    noise: float

    @classmethod
    def of(cls, x: Floats, y: Floats, weights: Floats) -> Cells:
        """Of x (n, k), y (n,) and weights (n,); repeats are rows of one x, or of one size but for what seeds change.
        Of very many, neighbours are averaged."""
        order = np.lexsort(x.T[::-1])
        x, y, weights = x[order], y[order], weights[order]
        apart = np.any(np.abs(np.diff(x, axis=0)) > SAME * np.abs(x[1:]), axis=1)
        if x.shape[1] == 1 and np.all(x > 0):
            apart = _sizes_apart(x[:, 0], apart)
        code = np.concatenate([[0], np.cumsum(apart)])
        if code[-1] >= MOST:
            code = code * MOST // (int(code[-1]) + 1)
        count = np.bincount(code).astype(float)
        total = np.bincount(code, weights)
        mean = np.bincount(code, weights * y) / total
        places = np.stack([np.bincount(code, weights * column) / total for column in x.T], axis=1)
        spare = len(y) - len(mean)
        ratio = np.log(y / mean[code])
        if spare >= 3 and len(mean) < MOST:
            noise = math.sqrt(float(ratio @ ratio) / spare)
        else:
            noise = _local_noise(places[:, 0], mean) if x.shape[1] == 1 else 0.0
        return cls(places, mean, noise / np.sqrt(count), noise)

    def along(self, column: int, others: Sequence[float]) -> Measured | None:
        """The points along one column where the others have these values; None for fewer than two of them."""
        kept = np.ones(len(self.y), dtype=bool)
        for place, value in enumerate(others):
            if place != column:
                kept &= np.abs(self.x[:, place] - value) <= 1e-6 * max(abs(value), 1e-300)
        x, y, error = self.x[kept, column], self.y[kept], self.error[kept]
        if len(x) < 2:
            return None
        order = np.argsort(x, kind="stable")
        return Measured(x[order], y[order], error[order], _upward(y[order]))

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"x": self.x.tolist(), "y": self.y.tolist(), "error": self.error.tolist(), "noise": self.noise}

    @classmethod
    def read(cls, data: Mapping[str, Any], width: int) -> Cells:
        """From `plain`. Raises ValueError, TypeError, LookupError for anything else."""
        x = np.array(data["x"], dtype=float).reshape(-1, width)
        y, error = (np.array(data[name], dtype=float).reshape(-1) for name in ("y", "error"))
        if not (len(x) == len(y) == len(error)) or not np.all(np.isfinite(x)) or not np.all((y > 0) & (error >= 0)):
            raise ValueError("cells: x, y and error do not go together")
        return cls(x, y, error, float(data["noise"]))


def _sizes_apart(x: Floats, apart: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n - 1,) where a new size begins among rising x (n,): where it is ALIKE times the last, if that leaves no size
    wider than so, else (as on a curve of many sizes) as given."""
    found = x[1:] > ALIKE * x[:-1]
    starts, ends = x[np.append(True, found)], x[np.append(found, True)]
    return found if np.all(ends <= ALIKE * starts) else apart


def _upward(y: Floats) -> bool:
    """Whether y rises with its place, by ranks (Spearman 1904)."""
    ranks = np.argsort(np.argsort(y)).astype(float)
    return bool(np.sum((ranks - ranks.mean()) * (np.arange(len(y)) - (len(y) - 1) / 2)) > 0)


def _local_noise(x: Floats, y: Floats) -> float:
    """Standard deviation of log y about its neighbours, where no point is repeated (Gasser et al. 1986, by medians).

    The smaller of what a straight line and a parabola through the neighbours leave, since a curve bends.
    """
    if len(y) < 5:
        return 0.0
    u = np.log(x) if np.all(x > 0) else x
    log_y = np.log(y)
    found = []
    for places in ((-1, 1), (-2, -1, 1), (-1, 1, 2)):
        before, after = -min(places), max(places)
        left = []
        for at in range(before, len(y) - after):
            near = [at + place for place in places]
            share = _lagrange(u[near], float(u[at]))
            left.append(float(log_y[at] - share @ log_y[near]) / math.sqrt(1.0 + float(share @ share)))
        if left:
            found.append(1.4826 * float(np.median(np.abs(left))))
    return min(found, default=0.0)


def _lagrange(u: Floats, at: float) -> Floats:
    """The weights (m,) of values at u (m,) in the polynomial through them, at `at`."""
    return np.array([np.prod([(at - v) / (w - v) for v in u if v != w]) for w in u])
