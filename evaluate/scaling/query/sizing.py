"""The lead's question: how small may the model be and still keep the target, and how sure is that?

Models come in families (dense, int8, pruned ...), each measured at some costs (parameters, bytes, milliseconds). For
each measured model, and for one between them where that is cheaper, there is the chance that a model trained anew
keeps the target; and of those not yet measured, the one that is expected to save most. What is asked and answered is
in the unit of the points; inside, y is as it is fitted, so less is always better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import chdtri, stdtr, stdtrit

from evaluate.core.errors import DataError, LeanfitError, UsageError
from evaluate.scaling.fit.fitted import FittedLaw, Settings
from evaluate.scaling.forms.form import Array, kind_of
from evaluate.scaling.points.measured import ALIKE, Cells, Floats, Measured
from evaluate.scaling.points.points import designs
from evaluate.scaling.points.scale import PLAIN, Scale
from evaluate.scaling.query.solve import chance_of, solve
from evaluate.scaling.select.selection import select

UNTRIED = 0.05  # of log y: the noise that is assumed where no model was trained twice and sizes are few
LEAST_NOISE = 1e-4
PRIOR, NEIGHBOURS = 3.0, 2  # degrees of freedom of the noise over all; sizes to either side that tell it too
LEAST = 3  # costs that a law takes
BETWEEN = 33
INTERVAL = 0.9
REACH = 3.0  # times below the least cost that a next model is looked for
HOPELESS = 0.05  # a chance below which no model is worth its training
DRAWS = 40


@dataclass(frozen=True)
class Option:
    """A model that may be chosen.

    cost      : in the unit of its column.  y, low, high : what it comes to, and where 90 % of models trained anew do.
    chance    : of keeping the target.  measured : how many models of it there are; 0 for one between the measured ones.
    enveloped : whether no cheaper one has as good a chance.
    """

    family: str
    cost: float
    y: float
    low: float
    high: float
    chance: float
    measured: int
    enveloped: bool = False


@dataclass(frozen=True)
class NextModel:
    """The model to measure next.

    chance  : of keeping the target.  saves : by which part it would be cheaper than the best; NaN without a best one.
    measured: how many models of that cost there are.  law : by which law; empty where the points tell it.
    """

    family: str
    cost: float
    chance: float
    saves: float
    measured: int
    law: str = ""


@dataclass(frozen=True)
class Sizing:
    """The answer.

    options   : by rising cost.  best : the cheapest with a chance of `confidence`; None where there is none.
    elsewhere : the greatest chance among all that are cheaper than the best (or among all).
    following : the model to measure next; None where none is worth it.  problems : what is doubtful, in sentences.
    """

    cost: str
    target: float
    confidence: float
    options: tuple[Option, ...]
    best: Option | None
    elsewhere: float
    following: NextModel | None
    problems: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Family:
    """The points of one family, and what they say between them: the chance that a model trained anew keeps a target.

    costs, y (n,), y as it is fitted.  prior : (standard deviation of log y of one model over all families, how many
    degrees of freedom it counts).  Models of one size, and of the two to either side of it, tell the noise there; few
    as they are, they are shrunk to the prior (moderated variances: Smyth 2004, doi 10.2202/1544-6115.1027).
    """

    name: str
    cost: str
    costs: Floats
    y: Floats
    groups: Any
    prior: tuple[float, float]

    @cached_property
    def design(self) -> NDArray[np.intp]:
        """(n,) which of the sizes each model has, by rising cost: those that differ by ALIKE at most are one."""
        return designs(self.costs[:, None])

    @cached_property
    def counts(self) -> Floats:
        """(m,) how many models each size has."""
        return np.asarray(np.bincount(self.design), dtype=float)

    @cached_property
    def means(self) -> Floats:
        """(m,) the mean y of each size, of the logs, in which the noise lies alike to both sides."""
        return np.asarray(np.exp(np.bincount(self.design, np.log(self.y)) / self.counts))

    @property
    def squares(self) -> Floats:
        """(m,) the sum of squares of log y of each size about its mean."""
        return np.asarray(np.bincount(self.design, np.log(self.y / self.means[self.design]) ** 2))

    @cached_property
    def noise(self) -> tuple[Floats, Floats]:
        """(standard deviation of log y of one model, its degrees of freedom), (m,) each."""
        near = np.abs(np.subtract.outer(np.arange(len(self.counts)), np.arange(len(self.counts)))) <= NEIGHBOURS
        sigma, degrees = self.prior
        spare = near @ (self.counts - 1)
        variance = np.maximum(near @ self.squares / np.maximum(spare, 1), LEAST_NOISE**2)
        # Shrunk as logarithms, since noise differs by factors between the ends of a curve.
        shrunk = (spare * np.log(variance) + degrees * 2 * math.log(sigma)) / (spare + degrees)
        return np.exp(shrunk / 2), spare + degrees

    @cached_property
    def measured(self) -> Measured:
        """The means, as a curve."""
        x = np.exp(np.bincount(self.design, np.log(self.costs)) / self.counts)
        ranks = np.argsort(np.argsort(self.means)) - (len(x) - 1) / 2
        return Measured(x, self.means, self.noise[0] / np.sqrt(self.counts), bool(ranks @ np.arange(len(x)) > 0))

    def between(self, costs: Array, values: Floats) -> Floats:
        """Values (m,) at the sizes, straight between them in log cost, at costs (n,)."""
        return np.asarray(np.interp(np.log(costs), np.log(self.measured.x), values))

    def curve(self, costs: Array) -> Floats:
        """log y (n,): monotone and without corners between the sizes (Fritsch and Butland 1984), level beyond them."""
        log_x = np.log(self.measured.x)
        if len(log_x) < 2:
            return np.full(len(costs), float(self.measured.curve[0]))
        found = PchipInterpolator(log_x, self.measured.curve)
        return np.asarray(found(np.clip(np.log(costs), log_x[0], log_x[-1])))

    def spread(self, costs: Array) -> Floats:
        """Standard deviation (n,) of log y of a model trained anew: noise, and the doubt about the mean."""
        return np.hypot(self.between(costs, self.noise[0]), self.between(costs, self.measured.error))

    def reach(self, costs: Array, interval: float) -> Floats:
        """How far (n,) from the curve, in log y, models trained anew come to lie with a chance of `interval`."""
        return np.asarray(stdtrit(self.between(costs, self.noise[1]), (1 + interval) / 2) * self.spread(costs))

    def chance(self, costs: Array, goal: float) -> Floats:
        """The chance (n,) that a model trained anew comes to at most the goal, by Student's t of the noise."""
        away = (math.log(goal) - self.curve(costs)) / self.spread(costs)
        return np.asarray(stdtr(self.between(costs, self.noise[1]), away))

    def law(self, end: str, families: Sequence[Family]) -> FittedLaw | None:
        """The law that carries on beyond an end, with what the other families tell of its exponent; None where the
        points are too few or too odd for one."""
        sisters = [(one.costs, one.y) for one in families if one is not self]

        def make(name: str, more: Mapping[str, Any]) -> Settings:
            kind = kind_of(name)
            options = {**kind.options, **more}
            return Settings(kind.loss, bootstrap=DRAWS, force=True, options=options, end=end, sisters=sisters)

        if len(self.measured.x) >= LEAST and len(self.y) > LEAST:
            with suppress(LeanfitError):
                return select({self.cost: self.costs}, self.y, None, None, self.groups, make)
        return None


def sizing(
    costs: Any,
    y: Any,
    families: Sequence[str],
    target: float,
    *,
    cost: str = "params",
    confidence: float = 0.9,
    scale: Scale = PLAIN,
    groups: Any = None,
) -> Sizing:
    """The cheapest model that keeps the target, by families of measured models.

    costs (n,), positive, in the unit of the column named `cost`; y (n,), in the unit of `scale`; families (n,) names;
    target, in the unit of y; confidence : the chance that is asked for; groups (n,) labels of points of one run.
    Chances are those of a model trained anew: the noise of repeats (see Family), with the error of the mean there.
    Models whose costs differ by 2 % at most are one, trained several times. The next model is that of the greatest
    expected saving (expected improvement: Jones, Schonlau and Welch 1998).
    Raises UsageError for a confidence or a target that is none, DataError for values that no size has.
    """
    costs, fitted = np.asarray(costs, dtype=float), scale.fitted(np.asarray(y, dtype=float))
    goal = float(scale.fitted(target))
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is a chance between 0 and 1, as 0.9; got {confidence!r}")
    if not (math.isfinite(goal) and goal > 0):
        raise UsageError(f"the target {target!r} cannot be reached: the best there can be is {scale.top:g}")
    if not (np.all(np.isfinite(costs)) and np.all(costs > 0)):
        raise DataError(f"{cost} has values that are not positive, and a cost must be")
    if not np.all(fitted > 0):
        raise DataError("a y is at the best there can be, or past it: leave these points out")
    known, problems = families_of(costs, fitted, families, cost, groups)
    options = _enveloped([one for family in known for one in _options(family, goal, confidence, scale)])
    best = next((one for one in options if one.chance >= confidence), None)
    cheaper = [one.chance for one in options if best is None or one.cost < best.cost]
    following = _upward(known, goal, confidence) if best is None else _saving(known, goal, best)
    if best is None and following is None:
        problems += ["no law of these points comes to the target at any size: try another family, or a weaker target"]
    return Sizing(
        cost, float(target), confidence, tuple(options), best, max(cheaper, default=0.0), following, tuple(problems)
    )


def families_of(
    costs: Floats, y: Floats, names: Sequence[str], cost: str = "cost", groups: Any = None
) -> tuple[list[Family], list[str]]:
    """Families of points by their names (n,), with the noise that all of them tell, and what is doubtful about it.

    costs (n,); y (n,) as it is fitted; groups (n,) labels of points of one run, or None.
    """
    labels = np.asarray(names, dtype=object).astype(str)
    rows = {name: np.flatnonzero(labels == name) for name in dict.fromkeys(labels.tolist())}
    runs = None if groups is None else np.asarray(groups)
    known = [
        Family(name, cost, costs[at], y[at], None if runs is None else runs[at], (UNTRIED, 1.0))
        for name, at in rows.items()
    ]
    prior, problems = _noise(known)
    return [replace(family, prior=prior) for family in known], problems


def _noise(families: Sequence[Family]) -> tuple[tuple[float, float], list[str]]:
    """((standard deviation of log y of one model, degrees of freedom), what is doubtful) over all families."""
    # The median of variances of few seeds is low, as that of chi-square is below its mean.
    known = [
        squares / chdtri(count - 1, 0.5)
        for family in families
        for squares, count in zip(family.squares, family.counts)
        if count > 1
    ]
    if len(known) >= LEAST:
        return (max(math.sqrt(float(np.median(known))), LEAST_NOISE), PRIOR), []
    local = [Cells.of(one.costs[:, None], one.y, np.ones(len(one.y))).noise for one in families if len(one.counts) >= 5]
    if any(local):
        told = "no model was trained several times: the noise is taken from how the points lie about their neighbours"
        return (float(np.median([one for one in local if one])), PRIOR), [told]
    told = f"no model was trained several times, so a noise of {100 * UNTRIED:g} % of y is assumed: repeat some seeds"
    return (UNTRIED, PRIOR), [told]


def _options(family: Family, goal: float, confidence: float, scale: Scale) -> list[Option]:
    """The measured models, and the cheapest between them that has the chance asked for."""
    x, counts = family.measured.x, family.counts
    if len(x) > 1:
        grid = np.exp(np.linspace(np.log(x[0]), np.log(x[-1]), BETWEEN * (len(x) - 1) + 1))
        kept = np.flatnonzero(family.chance(grid, goal) >= confidence)
        if len(kept) and np.min(np.abs(np.log(x / grid[kept[0]]))) > math.log(ALIKE):
            x, counts = np.append(x, grid[kept[0]]), np.append(counts, 0.0)
    middle, reach = family.curve(x), family.reach(x, INTERVAL)
    low, high = scale.told_ends(np.exp(middle - reach), np.minimum(np.exp(middle + reach), scale.limit))
    chances, y = family.chance(x, goal), scale.told(np.exp(middle))
    return [
        Option(family.name, float(x[i]), float(y[i]), float(low[i]), float(high[i]), float(chances[i]), int(counts[i]))
        for i in range(len(x))
    ]


def _enveloped(options: Sequence[Option]) -> list[Option]:
    """By rising cost, with it said of each whether no cheaper one has as good a chance."""
    found: list[Option] = []
    for one in sorted(options, key=lambda option: (option.cost, -option.chance)):
        found.append(replace(one, enveloped=all(one.chance > other.chance for other in found)))
    return found


def _saving(families: Sequence[Family], goal: float, best: Option) -> NextModel | None:
    """The model that is expected to save most against the best: its chance times what it would save."""
    found: list[tuple[float, NextModel]] = []
    for family in families:
        x = family.measured.x
        inside = np.exp(np.linspace(np.log(x[0]), np.log(x[-1]), BETWEEN * len(x)))
        known = [(inside, family.chance(inside, goal), "")]
        if family.chance(x[:1], goal)[0] > HOPELESS and (law := family.law("low", families)) is not None:
            below = x[0] * np.geomspace(1 / REACH, 1, BETWEEN, endpoint=False)
            known.append((below, chance_of(law, below[:, None], goal), law.name))
        for costs, chances, law_name in known:
            for cost, chance in zip(costs.tolist(), chances.tolist()):
                near = np.abs(np.log(x / cost)) <= math.log(ALIKE)
                saves = 1 - cost / best.cost
                if chance > HOPELESS and saves > 1 - 1 / ALIKE:
                    one = NextModel(family.name, cost, chance, saves, int(family.counts[near].sum()), law_name)
                    found.append((chance * saves, one))
    return max(found, key=lambda one: one[0])[1] if found else None


def _upward(families: Sequence[Family], goal: float, confidence: float) -> NextModel | None:
    """The cheapest model beyond the points that has the chance asked for, or at least an even one, by a law."""
    found: list[NextModel] = []
    for family in families:
        law = family.law("high", families)
        if law is None:
            continue
        answer = solve(law, goal, interval=confidence)
        for cost in (answer.sure, answer.value):
            if math.isfinite(cost) and cost > 0:
                chance = float(chance_of(law, np.array([[cost]]), goal)[0])
                found.append(NextModel(family.name, float(cost), chance, math.nan, 0, law.name))
                break
    sure = [one for one in found if one.chance >= confidence - 1e-6]
    return min(sure or found, key=lambda one: one.cost, default=None)
