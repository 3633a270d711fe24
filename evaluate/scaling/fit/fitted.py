"""The data of a fit: what is to be fitted, and a fitted law, which is what every question is asked of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.scaling.fit.fitting import Minimum, fit
from evaluate.scaling.forms.form import Array, Form, LawKind, Loss
from evaluate.scaling.points.cells import as_columns, as_target, as_weights, encoded
from evaluate.scaling.points.measured import Cells, Measured
from evaluate.scaling.points.scale import PLAIN, Scale, x_scale

Floats = NDArray[np.float64]
ORDINARY = Loss("squares", space="raw")


class NotFitted(UsageError, AttributeError):
    """A law was asked before it was fitted."""


@dataclass(frozen=True)
class Data:
    """The points of a fit: x (n, k), y (n,), weights (n,), and groups (n,) as codes or None."""

    x: Floats
    y: Floats
    weights: Floats
    groups: NDArray[np.intp] | None = None

    def part(self, chosen: Array) -> Data:
        """The points chosen by a mask or by indices."""
        groups = None if self.groups is None else self.groups[chosen]
        return Data(self.x[chosen], self.y[chosen], self.weights[chosen], groups)


NO_DATA = Data(np.empty((0, 0)), np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Settings:
    """How a law is fitted.

    loss       : what is minimised.
    confidence : of the intervals.  bootstrap : how many resamples they rest on.  seed : decides the resamples.
    fixed      : parameters that keep a given value.  force : fit even where the points do not identify an exponent.
    options    : what the law itself takes besides.
    scale      : the unit of y.  end : "high" or "low", the sizes that the law is to predict: those are held out.
    sisters    : (x (n,), y (n,)) of other curves of one study, in the units of the points; an average of laws of one
                 variable may take their exponent (select/pooling.py).
    """

    loss: Loss = field(default_factory=Loss)
    confidence: float = 0.95
    bootstrap: int = 200
    seed: int = 0
    fixed: Mapping[str, float] = field(default_factory=dict)
    force: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    scale: Scale = PLAIN
    end: str = "high"
    sisters: Sequence[tuple[Any, Any]] = ()

    @property
    def opposite(self) -> str:
        """The other end."""
        return "low" if self.end == "high" else "high"


def loss_of(default: Loss, kind: str | None, delta: float | None, space: str | None) -> Loss:
    """The default with what is given changed. Raises UsageError for a kind, a space or a delta that is none."""
    for value, known, name in ((kind, ("huber", "squares"), "loss"), (space, ("log", "raw", "relative"), "space")):
        if value is not None and value not in known:
            raise UsageError(f"{name} {value!r}{did_you_mean(value, known)}; expected one of {', '.join(known)}")
    if delta is not None and not (math.isfinite(delta) and delta > 0):
        raise UsageError(f"delta must be a positive number, got {delta!r}")
    changes = {"kind": kind, "delta": delta, "space": space}
    return replace(default, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


@dataclass
class Problem:
    """What is to be fitted: a form, the names of its variables as the points have them, the points, the settings."""

    form: Form
    variables: tuple[str, ...]
    data: Data
    settings: Settings
    x_scales: tuple[Scale, ...]
    """How columns of the table become those of the data."""

    @property
    def name(self) -> str:
        """The law's name, as `--law` takes it."""
        return self.form.name

    @property
    def loss(self) -> Loss:
        """What is minimised."""
        return self.settings.loss

    @property
    def fixed(self) -> Mapping[str, float]:
        """Parameters that keep a given value."""
        return self.settings.fixed

    @property
    def free(self) -> int:
        """How many parameters the points must tell: of an average, those of its largest member, with its shift."""
        if self.form.members:
            return 1 + max(len(member.form.parameters) for member in self.form.members)
        return len(self.form.names) - len(self.fixed)

    @property
    def spare(self) -> int:
        """Degrees of freedom: points less free parameters."""
        return len(self.data.y) - self.free

    @property
    def closed_columns(self) -> list[bool]:
        """Which columns of x have a closed domain, as a density between 0 and 1."""
        return [variable in self.form.domains for variable in self.form.variables]

    def domains(self) -> dict[str, tuple[float, float]]:
        """The closed ranges of variables, by the names that the points have for them."""
        own = dict(self.form.domains)
        own |= {name: (0.0, scale.top) for name, scale in zip(self.form.variables, self.x_scales) if scale.higher}
        return {shown: own[name] for name, shown in zip(self.form.variables, self.variables) if name in own}

    def scaled(self, x: Array) -> Floats:
        """Columns of the table (n, k), as numbers, as the form takes them."""
        if all(scale == PLAIN for scale in self.x_scales):
            return np.asarray(x, dtype=float)
        return np.stack([scale.fitted(column) for scale, column in zip(self.x_scales, x.T)], axis=1)


@dataclass(frozen=True)
class Edges:
    """The ranges of the columns of x, to say how far a point lies beyond them.

    size : the range of the mean of the logs, of several columns in logs: what is large in both is farther than either.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    logs: tuple[bool, ...]
    size: tuple[float, ...] = ()

    @classmethod
    def of(cls, x: Array, domains: Sequence[bool] = ()) -> Edges:
        """Of x (n, k); columns of positive numbers are measured in logs, but for those with a closed domain."""
        closed = list(domains) or [False] * x.shape[1]
        logs = tuple(bool(np.all(column > 0)) and not shut for column, shut in zip(x.T, closed))
        size = _mean_log(x, logs) if sum(logs) > 1 else None
        ends = () if size is None else (float(size.min()), float(size.max()))
        return cls(tuple(map(float, x.min(axis=0))), tuple(map(float, x.max(axis=0))), logs, ends)

    def beyond(self, x: Array) -> Floats:
        """(n,): the distance of the farthest column, or of the size, in e-folds (columns in logs) or in ranges."""
        found = np.zeros(len(x))
        for column, low, high, log in zip(x.T, self.low, self.high, self.logs):
            if log:
                with np.errstate(divide="ignore"):
                    away = np.maximum(np.log(column / high), np.log(low / np.maximum(column, 1e-300)))
            else:
                away = np.maximum(column - high, low - column) / max(high - low, 1e-12)
            found = np.maximum(found, away)
        if self.size:
            size = _mean_log(x, self.logs)
            found = np.maximum(found, np.maximum(size - self.size[1], self.size[0] - size))
        return np.asarray(found)


def _mean_log(x: Array, logs: Sequence[bool]) -> Floats:
    """(n,): the mean of the logs of those columns."""
    return np.asarray(np.mean(np.log(np.maximum(x[:, list(logs)], 1e-300)), axis=1))


@dataclass(frozen=True)
class ErrorModel:
    """What prediction intervals rest on.

    noise  : standard deviation of a point about the law, in log y (or in units of y, where space is "raw").
    drift  : standard deviation of the form's error, per e-fold beyond the range of the points.
    degrees: of Student's t.
    trials : how many blocks were held out to learn the drift; with 0 it is assumed.
    edges  : the range of the points.
    """

    noise: float
    drift: float
    degrees: float
    trials: int
    space: str
    edges: Edges

    def scale(self, x: Array) -> Floats:
        """(n,): standard deviation of a new point about the law at x (n, k), but for the parameters' part."""
        return np.asarray(np.hypot(self.noise, self.drift * self.edges.beyond(x)))


@dataclass
class FittedLaw(Problem):
    """A fitted law as data.

    theta (p,) : in the order of form.names.  params : name -> value (of an average, label -> share).
    objective  : the SUM of the loss.  agreed : how many initial guesses came to it, of how many.
    residuals  : (n,) log prediction - log y.  n : how many points.  range : variable -> (low, high).
    criteria   : aic, bic.  goodness : of a straight line, SSR, SSE, R2, MSE and RMSE.
    draws (b, p) : bootstrap parameters.  intervals : name -> (low, high).  warnings : plain sentences.
    left_out : how many points were not used, of very many.
    errors, holdout : what is learnt by holding out, once it was asked for.
    cells : the points with repeats averaged.  again : fits the law of another end, where its fit depends on the end.
    """

    theta: Floats
    params: dict[str, float]
    objective: float
    agreed: tuple[int, int]
    residuals: Floats
    n: int
    range: dict[str, tuple[float, float]]
    criteria: dict[str, float]
    goodness: dict[str, float] = field(default_factory=dict)
    draws: Floats = field(default_factory=lambda: np.empty((0, 0)))
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    left_out: int = 0
    errors: ErrorModel | None = None
    holdout: dict[str, Any] | None = None
    cells: Cells | None = None
    again: Callable[[str], FittedLaw] | None = None
    other_end: FittedLaw | None = None

    def toward(self, end: str) -> FittedLaw:
        """The law as fitted to predict sizes beyond an end, "low" or "high"; this one where the points are gone.

        A single form is the same at both: only what is held out, and so its errors, differ.
        """
        if self.settings.end == end or (self.other_end is None and not len(self.data.y)):
            return self
        if self.other_end is None:
            settings = replace(self.settings, end=end)
            alike = replace(self, settings=settings, errors=None, holdout=None)
            self.other_end = alike if self.again is None else self.again(end)
        return self.other_end

    def measured(self, variable: str, given: Mapping[str, Any]) -> Measured | None:
        """The points along a variable with the others as given; None for fewer than two of them."""
        if self.cells is None or self.names_of(variable):
            return None
        others = self.numbers({name: [given.get(name, self.range[name][0])] for name in self.variables})[0]
        return self.cells.along(self.variables.index(variable), others.tolist())

    def names_of(self, variable: str) -> tuple[str, ...]:
        """The values of a variable that are names, as levels of compression; empty where they are numbers."""
        return self.form.levels if variable == self.variables[-1] else ()

    def numbers(self, x: Any) -> Floats:
        """x, as `fit` takes it, as numbers (n, k). Raises UsageError, DataError."""
        given, _ = as_columns(x, self.variables, named=True)
        found = self.scaled(self.form.encode(given))
        _check_domain(self.form, self.variables, found)
        return found

    def at(self, numbers: Array, theta: Array) -> Floats:
        """The prediction (..., n), as fitted, at numbers (n, k) by parameters (..., p); a rate never goes past 1."""
        return np.asarray(np.minimum(self.form.predict(numbers, theta), self.settings.scale.limit))

    def predict(self, x: Any) -> Floats:
        """The prediction (n,), as fitted."""
        return self.at(self.numbers(x), self.theta)

    def curves(self, x: Any) -> Floats:
        """The prediction (b, n), as fitted, at x by each of the bootstrap's parameters."""
        return self.at(self.numbers(x), self.draws)

    def by_end(self, numbers: Array) -> Iterator[tuple[FittedLaw, NDArray[np.bool_]]]:
        """Each law with the rows (n,) of numbers (n, k) that it predicts: of one variable, what lies beyond the end
        that this law is not fitted for is the other's."""
        edges = Edges.of(self.data.x) if self.errors is None else self.errors.edges
        away = np.zeros(len(numbers), dtype=bool)
        if numbers.shape[1] == 1:
            along = numbers[:, 0]
            away = along < edges.low[0] if self.settings.end == "high" else along > edges.high[0]
        if away.any():
            yield self.toward(self.settings.opposite), away
        yield self, ~away

    @property
    def floor(self) -> tuple[float, float, float] | None:
        """(value, low, high) of the limit that y tends to; None where the form has none."""
        name = self.form.floor
        return None if name is None else (self.params[name], *self.intervals[name])


def fitted_of(law: Any) -> FittedLaw:
    """The data of a law, given as such or as the law that was fitted. Raises NotFitted."""
    if isinstance(law, FittedLaw):
        return law
    found = getattr(law, "fitted_", None)
    if not isinstance(found, FittedLaw):
        raise NotFitted(f"this {type(law).__name__} is not fitted yet; call fit(x, y) first")
    return found


def read_problem(
    kind: LawKind, x: Any, y: Any, sample_weight: Any, groups: Any, settings: Settings, form: Form | None = None
) -> Problem:
    """The points of a fit, checked. Raises DataError, UsageError.

    x : (n,), (n, k) in the order of the variables, or name -> (n,).  y : (n,), positive.  sample_weight : (n,) or None.
    groups : (n,) labels or None.  form : where it is known already.
    """
    form = form or kind.form_for(x, **{**kind.options, **settings.options})
    raw, variables = as_columns(x, form.variables)
    numbers = form.encode(raw)
    scales = _x_scales(form, variables, numbers)
    problem = Problem(form, variables, NO_DATA, settings, scales)
    numbers = problem.scaled(numbers)
    _check_domain(form, variables, numbers)
    target = as_target(settings.scale.fitted(np.asarray(y, dtype=float)), len(numbers), settings.scale.text)
    data = Data(numbers, target, as_weights(sample_weight, len(target)), encoded(groups, len(target)))
    problem.data = data.part(data.weights > 0)
    unknown = [name for name in settings.fixed if name not in form.names]
    if unknown:
        near = did_you_mean(unknown[0], form.names)
        raise UsageError(f"{form.name} has no parameter {unknown[0]!r}{near}; it has {', '.join(form.names)}")
    free, count = len(form.names) - len(settings.fixed), len(problem.data.y)
    if count < max(free, 1):
        raise DataError(
            f"{form.name} has {free} free parameters and got {count} points; give at least "
            f"{free + 1}, or choose a law with fewer parameters"
        )
    _refuse_constant(problem)
    return problem


def _x_scales(form: Form, variables: Sequence[str], x: Array) -> tuple[Scale, ...]:
    """Of a sparsity, what it keeps is fitted, but by a law that takes a sparsity."""
    return tuple(
        PLAIN if wanted in form.domains else x_scale(shown, column)
        for wanted, shown, column in zip(form.variables, variables, x.T)
    )


def _check_domain(form: Form, variables: Sequence[str], x: Array) -> None:
    for column, (wanted, shown) in enumerate(zip(form.variables, variables)):
        low, high = form.domains.get(wanted, (0.0, math.inf))
        closed = wanted in form.domains
        values = x[:, column]
        good = np.isfinite(values) & ((values >= low) & (values <= high) if closed else values > 0)
        bad = np.flatnonzero(~good)
        if len(bad):
            expected = f"from {low:g} to {high:g}" if closed else "positive and finite"
            raise DataError(
                f"{shown} must be {expected}; {len(bad)} of {len(values)} points are not, the first at {bad[0]} "
                f"({values[bad[0]]:g})"
            )


def _refuse_constant(problem: Problem) -> None:
    x, y = problem.data.x, problem.data.y
    for column, name in enumerate(problem.variables if len(y) > 1 else ()):
        if np.ptp(x[:, column]) == 0:
            raise DataError(
                f"{name} is {x[0, column]:g} at all {len(y)} points; give points at several "
                f"values of {name}, or leave it out where the law stands without it"
            )
    if len(y) > 1 and np.ptp(y) == 0:
        raise DataError(f"y is {y[0]:g} at all {len(y)} points: there is nothing to fit")


def minimum(problem: Problem) -> Minimum:
    """The best fit of a problem; ordinary least squares in closed form, where the form has one. Raises NotConverged."""
    form, data = problem.form, problem.data
    if form.closed is None or problem.fixed or problem.loss != ORDINARY:
        return fit(form, data.x, data.y, weights=data.weights, loss=problem.loss, fixed=problem.fixed)
    theta = form.closed(data.x, data.y, data.weights)
    residuals = form.predict(data.x, theta) - data.y
    return Minimum(theta, float(data.weights @ residuals**2), 1, 1, residuals)


def fitted(problem: Problem, found: Minimum) -> FittedLaw:
    """A problem with its minimum as a law, without its intervals yet."""
    form, data = problem.form, problem.data
    with np.errstate(invalid="ignore", divide="ignore"):
        residuals = np.log(form.predict(data.x, found.theta)) - np.log(data.y)
    free = len(found.theta) - len(problem.fixed)
    ends = zip(problem.x_scales, data.x.min(axis=0), data.x.max(axis=0))
    ranges = [tuple(map(float, scale.told_ends(low, high))) for scale, low, high in ends]
    return FittedLaw(
        form, problem.variables, data, problem.settings, problem.x_scales,
        theta=found.theta, params={name: float(value) for name, value in zip(form.names, found.theta)},
        objective=found.objective, agreed=(found.agreed, found.tried), residuals=residuals, n=len(data.y),
        range={name: (low, high) for name, (low, high) in zip(problem.variables, ranges)},
        criteria=criteria(residuals, free),
        goodness=goodness(data.y, form.predict(data.x, found.theta), free, data.weights) if form.closed else {},
        cells=None if np.any(data.y <= 0) else Cells.of(data.x, data.y, data.weights),
    )  # fmt: skip


def criteria(residuals: Sequence[float] | Array, free: int) -> dict[str, float]:
    """Akaike's and Bayes' criteria of log residuals with normal errors; they are shown, and choose nothing."""
    n = len(residuals)
    spread = max(float(np.mean(np.square(residuals))), 1e-300)
    fit_term = n * math.log(spread)
    return {"aic": fit_term + 2 * (free + 1), "bic": fit_term + math.log(n) * (free + 1)}


def goodness(y: Array, predicted: Array, parameters: int, weights: Array) -> dict[str, float]:
    """How well a line with this many parameters fits y (n,), by the sums of squares of a regression.

    SSR: of the prediction about the mean of y. SSE: of the residuals. R2 = 1 - SSE / SST.
    MSE = SSE / (n - parameters), the residual mean square (0 where no degree of freedom is left); RMSE its root.
    """
    mean = weights @ y / weights.sum()
    sse, ssr = float(weights @ (y - predicted) ** 2), float(weights @ (predicted - mean) ** 2)
    free = len(y) - parameters
    mse = sse / free if free > 0 else 0.0
    r2 = 1.0 - sse / float(weights @ (y - mean) ** 2)
    return {"SSR": ssr, "SSE": sse, "R2": r2, "MSE": mse, "RMSE": math.sqrt(mse)}
