"""How many channels each group keeps: those that matter least for the cost they save go first, until the target is met.

Removing channels costs importance and saves MACs (or params, or bytes). Choosing widths is a multiple-choice knapsack,
except that a layer's cost is a product of two widths; so the cost is always asked of the exact model in `cost`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.passes.pruning.cost import Costs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TOLERANCE = 0.02
_ALL_AT_ONCE = 100_000
_PAIRS = 20_000


@dataclass(frozen=True)
class Choices:
    """What one group may keep.

    kept : (options,) units, ascending; the last is the full width, or the only one where the user fixed it.
    loss : (options,) what keeping so many loses; 0 for all, larger for fewer.
    """

    kept: Ints
    loss: Floats


@dataclass(frozen=True)
class Allocation:
    """Units that each group keeps, and what that costs in the unit asked for."""

    kept: Ints
    cost: float


def widths_allowed(width: int, block: int, smallest: int, split: int = 1, *, below: bool = True) -> list[int]:
    """The channel counts a group of `width` may have, ascending: multiples of the device's `block`, and `width` itself.

    Under one block, powers of two (where `below`, or where the group has no more than a block to begin with): part of a
    vector register is used then, which is still better than none. Never under `smallest`, which is at least 1, and
    always multiples of `split`, the number of groups of a grouped convolution.
    """
    counts = {width, *range(block, width, block)}
    if below or width <= block:
        counts |= {2**k for k in range(block.bit_length()) if 2**k < min(block, width)}
    return sorted(c for c in counts if c % split == 0 and c >= max(1, smallest)) or [width]


def importance_losses(scores: Floats, kept: Ints, layers: int) -> Floats:
    """Loss (options,) of keeping the `kept` most important units: -layers * log of the share of importance that stays.

    The logarithm makes the last channels of a group ever dearer, so that no group collapses while others are whole;
    `layers` is the number of layer sides that shrink with the group, so that groups compare by what they touch.
    """
    ranked = np.sort(np.maximum(scores, 1e-3 * scores.mean()))[::-1].cumsum()
    return np.asarray(-layers * np.log(ranked[kept - 1] / ranked[-1]))


def even_losses(kept: Ints, units: int, share: float) -> Floats:
    """Loss (options,) that is least where a group keeps the `share` that all are to keep."""
    return np.asarray((kept / units - share) ** 2)


def even_share(costs: Costs, choices: Sequence[Choices], unit: str, target: float) -> float:
    """The share of units which, kept in every group without any rounding, costs `target`."""
    low, high = 0.0, 1.0
    most, least = (np.array([c.kept[i] for c in choices], float) for i in (-1, 0))
    for _ in range(40):
        middle = (low + high) / 2
        kept = np.clip(most * middle, least, most)
        low, high = (low, middle) if float(costs.of(unit, kept)) > target else (middle, high)
    return low


def allocate(costs: Costs, choices: Sequence[Choices], unit: str, target: float, over: float = 0.0) -> Allocation:
    """The allocation of least loss within 2 % below `target`; where there is none, the costliest one below it.

    Small spaces are searched whole. Others greedily, the least loss per cost saved first, then by exchanging steps of
    one group for steps of another. `over` allows the target to be passed by that share, for a second try.
    Returns the smallest allocation where even that is above the target.
    """
    search = _Search(costs, choices, unit, target * (1 + over), target * (1 - TOLERANCE))
    if np.prod([float(len(c.kept)) for c in choices]) <= _ALL_AT_ONCE:
        options = np.array(list(itertools.product(*(range(len(c.kept)) for c in choices))))
        return search.allocation(options[search.best(options)])
    return search.allocation(search.refined(search.greedy()))


@dataclass(frozen=True)
class _Search:
    """Search over option indices (..., groups) into the choices."""

    costs: Costs
    choices: Sequence[Choices]
    unit: str
    ceiling: float
    floor: float

    def kept(self, options: Ints) -> Ints:
        return np.stack([c.kept[options[..., g]] for g, c in enumerate(self.choices)], -1)

    def cost(self, options: Ints) -> Floats:
        return self.costs.of(self.unit, self.kept(options))

    def loss(self, options: Ints) -> Floats:
        return np.asarray(sum(c.loss[options[..., g]] for g, c in enumerate(self.choices)))

    def allocation(self, options: Ints) -> Allocation:
        return Allocation(self.kept(options), float(self.cost(options)))

    def ranks(self, options: Ints) -> tuple[Floats, Floats]:
        """(class, value) of each candidate, both as small as possible: too dear, too cheap, or within the band."""
        cost = self.cost(options)
        within, above = (cost >= self.floor) & (cost <= self.ceiling), cost > self.ceiling
        value = np.where(within, self.loss(options), np.where(above, cost, -cost))
        return np.where(within, 0.0, np.where(above, 2.0, 1.0)), np.asarray(value)

    def best(self, options: Ints) -> int:
        kind, value = self.ranks(options)
        return int(np.lexsort((value, kind))[0])

    def greedy(self) -> Ints:
        """From the full widths down, one step of one group at a time, until the ceiling is met or nothing is left."""
        now = np.array([len(c.kept) - 1 for c in self.choices])
        while float(self.cost(now)) > self.ceiling and now.any():
            steps = now - np.eye(len(now), dtype=np.int64)[now > 0]
            saved = np.maximum(self.cost(now) - self.cost(steps), 1e-9)
            now = steps[int(np.argmin((self.loss(steps) - self.loss(now)) / saved))]
        return now

    def refined(self, now: Ints) -> Ints:
        """Local search: some steps up or down of one group, alone or against some of another, while it helps."""
        for _ in range(10 * len(now) + 100):
            near = self._neighbours(now)
            chosen = near[self.best(near)]
            if (chosen == now).all():
                break
            now = chosen
        return now

    def _neighbours(self, now: Ints) -> Ints:
        """The present choice first, so that it wins a tie and the search ends; steps as long as there is room for."""
        reach = max(1, math.isqrt(2 * _PAIRS) // (2 * len(now)))
        one = np.eye(len(now), dtype=np.int64)
        single = np.concatenate([step * one for step in range(-reach, reach + 1) if step])
        first, second = np.triu_indices(len(single) if len(single) ** 2 <= 4 * _PAIRS else 0, 1)
        near = now + np.concatenate([0 * one[:1], single, single[first] + single[second]])
        top = np.array([len(c.kept) - 1 for c in self.choices])
        return np.asarray(near[((near >= 0) & (near <= top)).all(-1)])
