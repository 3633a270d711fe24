"""The standard errors of a fitted law from its Jacobian: how well the design tells each parameter.

How sure the parameters of a law are: the bootstrap by case or by group, intervals, standard errors.

The ways were chosen by coverage on synthetic truth (benchmarks/law_uncertainty.py):
  cases      points are drawn again, percentiles (Efron and Tibshirani 1993, chapter 13). Of least squares that is too
             narrow by sqrt(n / (n - p)), since residuals are smaller than errors (MacKinnon and White 1985, HC1); of
             Huber's loss only the points within its quadratic part shrink so, and only their share is counted.
  groups     the same with whole groups, as the checkpoints of one run; widened by Student's t with G - 1 degrees
             (Cameron, Gelbach and Miller 2008).
  parametric with few points: normal errors about the fit on the scale of the residuals, a scale that is itself drawn,
             by chi-squared with n - p degrees (Gelman et al. 2013, chapter 14).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling.fit.fitted import FittedLaw
from evaluate.scaling.fit.fitting import jacobian, refit, residuals
from evaluate.scaling.forms.form import Array

FEWEST_GROUPS = 3
FEWEST_POINTS = 10
BLOCK = 500
FARTHEST = 300.0
STRUCTURAL = 1e5  # inflation of a variance: beyond it the points do not determine a parameter
DRAWN_AT_ONCE = 512
SINGULAR = 1e-4
MANY, SAMPLE = 6000, 3000  # points from which on a sample is resampled, and how many it has


@dataclass(frozen=True)
class Covariance:
    """What the points say of the free parameters, linearised at the fit.

    columns, names : which parameters, (f,).  jacobian : (n, f) in the space of the search (log, or as it is).
    errors : standard errors (f,) in the space of the search; infinite where the points do not tell.
    scale  : d theta / d u (f,).  inflation : (f,) by how much the other parameters multiply the error.
    values, directions : singular values (f,), falling, and rows (f, f) of the Jacobian with columns of unit length.
    """

    columns: tuple[int, ...]
    names: tuple[str, ...]
    jacobian: NDArray[np.float64]
    errors: NDArray[np.float64]
    scale: NDArray[np.float64]
    inflation: NDArray[np.float64]
    values: NDArray[np.float64]
    directions: NDArray[np.float64]


def covariance(law: FittedLaw, *, bounded: bool = False) -> Covariance:
    """The linearised fit (Seber and Wild 1989, chapter 5), by the singular values of the Jacobian with unit columns.

    bounded : also for parameters that rest on a bound; else these count as fixed there.
    Least squares: s^2 (J'WJ)^-1. Huber's loss: his (1981, 7.6) estimate, sum psi^2 / (n - p) / mean(psi')^2 (J'J)^-1,
    with mean(psi') from the density of the residuals about 0, since few of them lie within delta.
    """
    data = law.data
    r, slopes, scale = jacobian(law.form, data.x, data.y, law.theta, loss=law.loss, fixed=law.fixed)
    slopes = np.where(np.isfinite(slopes), slopes, 0.0)
    free = [i for i, name in enumerate(law.form.names) if name not in law.fixed]
    inside = [p.low < value < p.high for p, value in zip(law.form.parameters, law.theta)]
    kept = np.array([bounded or inside[i] for i in free], dtype=bool)
    slopes, scale = slopes[:, kept], scale[kept]
    columns = tuple(i for i, keep in zip(free, kept) if keep)
    root = np.sqrt(data.weights * len(r) / data.weights.sum())
    size = np.linalg.norm(slopes * root[:, None], axis=0)
    unit = slopes * root[:, None] / np.where(size > 0, size, 1.0)
    _, values, directions = np.linalg.svd(unit, full_matrices=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(np.abs(directions) > 1e-14, directions / values[:, None], 0.0)
        inflation = np.sqrt(np.sum(parts**2, axis=0))
        errors = np.where(size > 0, _noise(law, r, root) * inflation / size, np.inf)
    names = tuple(law.form.names[i] for i in columns)
    return Covariance(columns, names, slopes, errors, scale, inflation, values, directions)


def _noise(law: FittedLaw, r: Array, root: Array) -> float:
    """The standard deviation of the errors, as the loss sees it."""
    degrees = max(law.spare, 1)
    if not law.loss.robust:
        return math.sqrt(float(np.sum((root * r) ** 2)) / degrees)
    delta = law.loss.delta
    typical = 1.4826 * float(np.median(np.abs(r)))
    window = max(delta, 1.06 * typical * len(r) ** -0.2)
    inside = float(np.mean(np.abs(r) <= window))
    slope = inside * min(1.0, delta / window)
    psi = np.clip(r, -delta, delta)
    return float(math.sqrt(float(np.sum((root * psi) ** 2)) / degrees) / max(slope, 1e-300))


def standard_errors(law: FittedLaw) -> dict[str, float]:
    """name -> standard error in natural units, from the Jacobian at the fit; of least squares the textbook's.

    Infinite where the points do not tell a parameter; a fixed one has 0, and one that rests on a bound NaN.
    """
    found = covariance(law)
    told = {name: 0.0 if name in law.fixed else math.nan for name in law.form.names}
    with np.errstate(invalid="ignore", over="ignore"):
        for name, error, scale in zip(found.names, found.errors, found.scale):
            told[name] = float(error * abs(scale)) if scale else math.inf
    return told


@dataclass(frozen=True)
class Way:
    """How the draws are made: "cases", "groups" or "parametric"; the reason where it is not what one would expect."""

    kind: str
    reason: str = ""


def way(law: FittedLaw) -> Way:
    """Which bootstrap suits the points of a fitted law."""
    return Way("cases") if _sampled(law) else _planned(law)[0]


def _planned(law: FittedLaw) -> tuple[Way, NDArray[np.float64] | None]:
    """The way, and the weights (b, n) of its resamples where it draws points or groups."""
    groups, count, free = _groups(law), law.n, law.free
    if groups >= FEWEST_GROUPS:
        weights = _resampled(law, _codes(law))
        if weights is not None:
            return Way("groups"), weights
        reason = f"most draws of the {groups} groups leave a parameter open, so points of a group"
    else:
        count_told = f"{groups} group{'s are' if groups > 1 else ' is'}"
        reason = f"{count_told} too few to draw again, so points of a group" if groups else ""
    reason += " were taken as independent, and the intervals are too narrow if they are not" if groups else ""
    weights = _resampled(law, np.arange(count)) if count >= max(3 * free, FEWEST_POINTS) else None
    return Way("parametric" if weights is None else "cases", reason), weights


def bootstrap(law: FittedLaw, tell: Callable[[str], None] | None = None) -> NDArray[np.float64]:
    """Parameters (b, p) in natural units that the points would also allow; b = settings.bootstrap.

    Points (or groups) keep their weights. Deterministic by the seed. `tell` is told how far the work is.
    With bootstrap = 0 there are none, and `intervals` rest on the standard errors.
    Raises DataError where no point is left to tell the errors from, UsageError for a bad count.
    """
    count = law.settings.bootstrap
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise UsageError(f"bootstrap is the number of resamples, 0 or more (200 is usual); got {count!r}")
    if law.spare < 1:
        raise DataError(
            f"{law.name} has {law.free} free parameters and got {len(law.data.y)} points: none is left to tell how "
            "sure it is; give more points, or choose a law with fewer parameters"
        )
    if count == 0:
        return np.empty((0, len(law.theta)))
    if _sampled(law):
        return _from_a_sample(law, tell)
    chosen, weights = _planned(law)
    if weights is None:
        return _refitted(law, np.broadcast_to(law.data.weights, (count, law.n)), _targets(law), tell)
    return _widened(law, _refitted(law, weights, None, tell), _factor(law, chosen))


def _sampled(law: FittedLaw) -> bool:
    """Whether the points are so many that a sample of them is drawn again."""
    return law.n > MANY and law.data.groups is None


def _from_a_sample(law: FittedLaw, tell: Callable[[str], None] | None) -> NDArray[np.float64]:
    """Draws of a random sample of the points, brought to the fit of all and to its error, which is less by the root of
    the share that was drawn (Bickel, Goetze and van Zwet 1997; Kleiner et al. 2014 for many points)."""
    part = np.sort(np.random.default_rng(law.settings.seed).permutation(law.n)[:SAMPLE])
    data = law.data.part(part)
    theta = refit(law.form, data.x, data.y, data.weights[None], law.theta, loss=law.loss, fixed=law.fixed)[0][0]
    sample = replace(law, data=data, theta=theta, n=len(part))
    return _widened(sample, bootstrap(sample, tell), math.sqrt(len(part) / law.n), law.theta)


def _codes(law: FittedLaw) -> NDArray[np.intp]:
    """Groups as 0, 1, ... without gaps (n,); each point its own where none were given."""
    groups = law.data.groups
    return np.arange(law.n) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)


def _groups(law: FittedLaw) -> int:
    return 0 if law.data.groups is None else int(_codes(law).max()) + 1


def _resampled(law: FittedLaw, codes: NDArray[np.intp]) -> NDArray[np.float64] | None:
    jacobian = covariance(law).jacobian
    return resampled(
        np.random.default_rng(law.settings.seed), jacobian, codes, law.data.weights, max(law.settings.bootstrap, 1)
    )


def _targets(law: FittedLaw) -> NDArray[np.float64]:
    """y (b, n) with normal errors on the scale of the residuals, in the space in which the law was fitted."""
    data, degrees = law.data, law.spare
    r = residuals(law.form, data.x, data.y, law.theta, loss=law.loss)
    share = data.weights / data.weights.sum()
    scale = math.sqrt(float(share @ r**2) * len(r) / degrees)
    rng = np.random.default_rng(law.settings.seed)
    scales = scale * np.sqrt(degrees / rng.chisquare(degrees, size=(law.settings.bootstrap, 1)))
    noise = scales * rng.standard_normal((law.settings.bootstrap, len(r)))
    predicted = law.form.predict(data.x, law.theta)
    if law.loss.space == "raw":
        found = predicted + noise
    elif law.loss.space == "relative":
        found = predicted * np.maximum(1 + noise, 0.05)
    else:
        found = predicted * np.exp(np.clip(noise, -3.0, 3.0))
    return np.asarray(found)


def _refitted(
    law: FittedLaw, weights: NDArray[Any], targets: NDArray[Any] | None, tell: Callable[[str], None] | None
) -> NDArray[np.float64]:
    """Refits under weights (b, n), a block at a time."""
    found = []
    for at in range(0, len(weights), BLOCK):
        part = slice(at, at + BLOCK)
        own = None if targets is None else targets[part]
        data = law.data
        theta, objective = refit(
            law.form, data.x, data.y, weights[part], law.theta, loss=law.loss, fixed=law.fixed, targets=own
        )
        found.append(theta[np.isfinite(objective) & np.isfinite(theta).all(axis=1)])
        if tell is not None:
            tell(f"bootstrap: {min(at + BLOCK, len(weights))} of {len(weights)}")
    return np.concatenate(found)


def _widened(
    law: FittedLaw, theta: NDArray[Any], factor: float, about: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """The draws moved away from the fit, in the space of the search, by the factor of the module's docstring, and then
    with it to `about` (p,)."""
    parameters = law.form.parameters
    logs = np.array([parameter.scale == "log" for parameter in parameters])
    low = np.array([parameter.low for parameter in parameters])
    high = np.array([parameter.high for parameter in parameters])
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ends = (theta, law.theta, law.theta if about is None else about)
        u, centre, to = (np.where(logs, np.log(np.where(logs, part, 1.0)), part) for part in ends)
        moved = np.where(np.isfinite(u) & np.isfinite(centre), to + factor * (u - centre), u)
        wide = np.where(logs, np.exp(np.clip(np.where(logs, moved, 0.0), -FARTHEST, FARTHEST)), moved)
    return np.asarray(np.clip(wide, low, high))


def _factor(law: FittedLaw, chosen: Way) -> float:
    if chosen.kind == "groups":
        groups = _groups(law)
        upper = (1 + law.settings.confidence) / 2
        return math.sqrt(groups / (groups - 1)) * float(stdtrit(groups - 1, upper) / ndtri(upper))
    squared = 1.0  # the share of the points, by weight, whose residuals the loss squares
    if law.loss.robust:
        r = residuals(law.form, law.data.x, law.data.y, law.theta, loss=law.loss)
        squared = float(law.data.weights @ (np.abs(r) <= law.loss.delta) / law.data.weights.sum())
    return math.sqrt(law.n / max(law.n - law.free * squared, 1.0))


def intervals(law: FittedLaw) -> dict[str, tuple[float, float]]:
    """name -> (low, high) in natural units that hold the parameter with law.settings.confidence, 0.95 by default.

    Quantiles of the draws, of which b cut the line into b + 1 equal shares; without draws, Student's t about the fit.
    A parameter that the points do not determine at all may be anything between its bounds: resampling the same points
    cannot tell. A fixed parameter has its value at both ends. No interval leaves the fitted value out, and one on a
    bound reaches as far from it as the standard error says, where the draws rest on the bound as well.
    """
    if not 0 < law.settings.confidence < 1:
        raise UsageError(f"confidence is a share between 0 and 1, as 0.95; got {law.settings.confidence!r}")
    pairs = _by_errors(law) if len(law.draws) < 2 else _from_draws(law)
    found = covariance(law)
    for at, name, inflation in zip(found.columns, found.names, found.inflation):
        if inflation > STRUCTURAL:
            pairs[name] = (law.form.parameters[at].low, law.form.parameters[at].high)
    return pairs


def _from_draws(law: FittedLaw) -> dict[str, tuple[float, float]]:
    """Where every draw rests on a bound a bootstrap says nothing (Andrews 2000): there the standard error does."""
    tail = (1 - law.settings.confidence) / 2
    low, high = np.quantile(law.draws, [tail, 1 - tail], axis=0, method="weibull")
    low, high = np.minimum(low, law.theta), np.maximum(high, law.theta)
    pairs = {name: (float(a), float(b)) for name, a, b in zip(law.form.names, low, high)}
    resting = [name for name, (a, b) in pairs.items() if not a < b and name not in law.fixed]
    return {**pairs, **{name: pair for name, pair in _by_errors(law).items() if name in resting}}


def _by_errors(law: FittedLaw) -> dict[str, tuple[float, float]]:
    reach = float(stdtrit(max(law.spare, 1), (1 + law.settings.confidence) / 2))
    found = covariance(law, bounded=True)
    pairs = {name: (value, value) for name, value in law.params.items()}
    for at, name, error in zip(found.columns, found.names, found.errors):
        parameter, value = law.form.parameters[at], law.params[name]
        if parameter.scale == "log":
            factor = math.exp(min(reach * error, FARTHEST))
            pair = (value / factor, value * factor)
        else:
            pair = (value - reach * error, value + reach * error)
        pairs[name] = (float(max(pair[0], parameter.low)), float(min(pair[1], parameter.high)))
    return pairs


def resampled(
    rng: np.random.Generator, jacobian: Array, codes: Array, weights: Array, count: int
) -> NDArray[np.float64] | None:
    """Weights (count, n) of the points: whole groups are drawn with replacement, `codes` (n,) tell which.

    jacobian : (n, f) at the fit. A resample that leaves a direction of the parameters undetermined, where all points
    determine it, is drawn again. None where such resamples are most of all: then a bootstrap by resampling says little.
    """
    groups = int(codes.max()) + 1
    white = jacobian @ _whitener(jacobian * np.sqrt(weights)[:, None])
    kept: list[NDArray[np.float64]] = []
    have = tried = 0
    block = min(count, DRAWN_AT_ONCE)
    while have < count:
        times = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=block)[:, codes]
        drawn = times * np.asarray(weights, dtype=float)
        # Every direction that all points determine must be determined, if with 100 times the error.
        matrix = np.einsum("bn,nf,ng->bfg", drawn, white, white, optimize=True)
        drawn = drawn[np.linalg.eigvalsh(matrix)[:, 0] > SINGULAR]
        kept.append(drawn)
        have, tried = have + len(drawn), tried + block
        if have < 0.5 * tried:
            return None
    return np.concatenate(kept)[:count]


def _whitener(scaled: Array) -> NDArray[np.float64]:
    """(f, g) such that scaled @ it has orthonormal columns: the directions that the points determine at all."""
    size = np.linalg.norm(scaled, axis=0)
    size[size == 0] = 1.0
    _, values, directions = np.linalg.svd(scaled / size, full_matrices=False)
    told = values > 1e-7 * values[0]
    return np.asarray((directions[told] / values[told, None]).T / size[:, None])
