"""What a law is made of: a formula, its parameters with bounds, and where to start looking. Everything else is shared.

A new law is one function under `register_law`. Its gradient is taken by the complex step (Squire and Trapp 1998), exact
to machine precision, so a formula is written once, as plain numpy that is analytic in its parameters: + - * / **,
`np.exp`, `np.log` and `log_sum_exp`; no `abs`, `maximum` or `where` on parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from evaluate.core.components import Registry
from evaluate.core.errors import DataError, UsageError
from evaluate.scaling.points.cells import codes, width

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])
LAWS: Registry[Any] = Registry("law", home="evaluate.scaling.forms")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    name     : as it is published, "alpha".
    low, high: bounds in natural units.
    scale    : "log": searched as its logarithm, always positive, never on a bound at 0. "linear": searched as it is;
               it may come to rest on a bound, as a floor does on 0.
    exponent : a design that does not identify it makes the fit be refused.
    """

    name: str
    low: float = 0.0
    high: float = math.inf
    scale: str = "log"
    exponent: bool = False


POSITIVE, EXPONENT, FLOOR = Parameter(""), Parameter("", exponent=True), Parameter("", scale="linear")
ANY, ANY_EXPONENT = (Parameter("", -math.inf, scale="linear", exponent=exponent) for exponent in (False, True))


def named(**kinds: Parameter) -> tuple[Parameter, ...]:
    """Parameters of these kinds under their names, in order."""
    return tuple(replace(kind, name=name) for name, kind in kinds.items())


@dataclass(frozen=True)
class Loss:
    """What is minimised: the SUM over points of weight times the loss of the residual.

    kind  : "huber" (r^2 / 2 within delta, linear beyond; Huber 1964) or "squares" (r^2).
    delta : where Huber's loss becomes linear, in units of the residual.
    space : residual in "log" (log prediction - log y), "raw" (prediction - y) or "relative" (prediction / y - 1).
    """

    kind: str = "huber"
    delta: float = 1e-3
    space: str = "log"

    @property
    def robust(self) -> bool:
        """Whether residuals beyond delta count less than their square."""
        return self.kind == "huber"

    def total(self, r: Array, weights: Array) -> Array:
        """(...,) from residuals (..., n) and weights that broadcast; infinite where a residual is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            size = np.abs(r)
            if self.robust:
                part = np.where(size <= self.delta, 0.5 * r * r, self.delta * (size - 0.5 * self.delta))
            else:
                part = r * r
            summed = np.sum(part * weights, axis=-1)
        return np.asarray(np.where(np.isfinite(summed), summed, np.inf))

    def slope(self, r: Array) -> Array:
        """Derivative of the loss by the residual, of r's shape."""
        return np.asarray(np.clip(r, -self.delta, self.delta) if self.robust else 2 * r)

    def curvature(self, r: Array) -> Array:
        """Weights by which a sum of squares touches the loss from above: slope(r) / r."""
        return np.asarray(self.delta / np.maximum(np.abs(r), self.delta)) if self.robust else np.full(r.shape, 2.0)


@dataclass(frozen=True)
class Member:
    """One fit in an average of forms: its form, the power of size in its weights, its share.

    stays : the part of that share that stays, beyond the points, at the level of their last; within the points, and
    beyond their other end, there is no difference.  within : the least and the greatest x of the others.  astray :
    whether it misses most points by more than their neighbours do (select/candidate_fits.py).
    """

    form: Form
    power: float
    weight: float
    stays: float = 0.0
    within: tuple[float, float] = (-math.inf, math.inf)
    astray: bool = False

    def log_y(self, x: Array, theta: Array) -> Array:
        """As that of the form."""
        last = np.clip(x, *self.within) if self.stays else x
        if self.stays == 1 or np.array_equal(last, x):
            return self.form.log_y(last, theta)
        return (1 - self.stays) * self.form.log_y(x, theta) + self.stays * self.form.log_y(last, theta)

    @property
    def label(self) -> str:
        """As "m4, x^0.5"."""
        return f"{self.form.name}, x^{self.power:g}"


@dataclass(frozen=True)
class Form:
    """One law for certain columns.

    variables : names of the columns of x, in order.
    log_y     : (x (n, k), theta (..., p)) -> log of the prediction (..., n); theta is real or complex.
    starts    : (x (n, k), y (n,)) -> initial guesses (s, p) in natural units, deterministic.
    floor     : the parameter that y tends to, where the form has one.
    domains   : closed range of a variable, where it is not all positive numbers.
    levels    : names that are the values of the last variable; as numbers, their places.
    value     : (x, theta) -> the prediction (..., n) itself, of a form that may come out negative.
    closed    : (x, y, weights (n,)) -> theta (p,) by ordinary least squares, of a form that has a closed solution.
    members   : of an average, the fits whose parameters follow each other in theta, each with its shift of log y.
    given     : constants of the formula that are not fitted, by name.
    """

    name: str
    title: str
    formula: str
    source: str
    variables: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    log_y: Callable[[Array, Array], Array]
    starts: Callable[[Array, Array], Array]
    floor: str | None = None
    domains: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    levels: tuple[str, ...] = ()
    value: Callable[[Array, Array], Array] | None = None
    closed: Callable[[Array, Array, Array], Array] | None = None
    members: tuple[Member, ...] = ()
    given: Mapping[str, float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def vector(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """(p,) from name -> value."""
        return np.array([float(values[name]) for name in self.names])

    def encode(self, x: Array) -> NDArray[np.float64]:
        """Columns x (n, k) as numbers, names of levels as their places. Raises DataError."""
        try:
            numbers = np.asarray(x[:, :-1] if self.levels else x, dtype=float)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.name}: x must be numbers in every column; {error}") from error
        return np.column_stack([numbers, codes(x[:, -1].tolist(), self.levels)]) if self.levels else numbers

    def missed(self, x: Array, y: Array, theta: Array) -> Array:
        """Log of the prediction less log y (..., n); not finite where the prediction is not."""
        with np.errstate(all="ignore"):
            return np.asarray(self.log_y(x, theta) - np.log(y))

    def predict(self, x: Array, theta: Array) -> Array:
        """The prediction (..., n); infinite where it overflows."""
        if self.value is not None:
            return self.value(x, np.asarray(theta))
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.log_y(x, theta)))


class LawKind:
    """What a name of `--law` stands for: one form, or one for each set of columns.

    form       : the usual one.  loss : what is minimised as published.
    options    : keywords that choose among forms, with their defaults.
    any_columns: whether a form is made for the columns as they come.  by_level : whether the last column holds names.
    any_sign   : whether columns may hold numbers of any sign.
    competes   : for which columns, by their roles (points/roles.py), it is a candidate where none is named.
    """

    form: Form
    loss = Loss()
    options: Mapping[str, Any] = {}
    any_columns = by_level = any_sign = False
    competes: Sequence[tuple[str, ...]] = ()

    def form_for(self, x: Any, **options: Any) -> Form:
        """The form for columns x, as `fit` takes them. Raises UsageError, DataError where there is none."""
        return self.form

    def saved(self, form: Form) -> dict[str, Any]:
        """What a file must keep for `restored` to give the form back."""
        return {}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """The form that `saved` was asked of. Raises LookupError, TypeError or ValueError for anything else."""
        return self.form


class FixedForm(LawKind):
    """A law of one form."""

    def __init__(self, form: Form, loss: Loss, competes: Sequence[tuple[str, ...]] = ()) -> None:
        self.form, self.loss, self.competes = form, loss, competes


class WithData(FixedForm):
    """A law with a term of the amount of data, which is left out where x has no such column: it is then in the floor.

    term : how the formula writes it.  variable, coefficient, exponent : the names in it.
    """

    any_columns = True

    def __init__(self, form: Form, loss: Loss, competes: Sequence[tuple[str, ...]], term: Sequence[str]) -> None:
        super().__init__(form, loss, competes)
        self.without = _without(form, *term)

    def form_for(self, x: Any, **options: Any) -> Form:
        """With the term or without it, by the number of columns. Raises UsageError for another number."""
        found = {len(one.variables): one for one in (self.without, self.form)}.get(width(x))
        if found is None:
            wanted = ", ".join(self.form.variables)
            left = ", ".join(self.without.variables)
            raise UsageError(f"the law {self.form.name} takes {wanted}, or {left}; x has {width(x)} columns")
        return found

    def saved(self, form: Form) -> dict[str, Any]:
        """Whether the amount of data is a variable."""
        return {"data": len(form.variables) == len(self.form.variables)}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """By what was saved; files of older versions always have it."""
        return self.form if settings.get("data", True) else self.without


def _without(form: Form, term: str, variable: str, coefficient: str, exponent: str) -> Form:
    """The form without one term: its coefficient is nought, and what it was on average is in the floor."""
    at, gone = form.variables.index(variable), [form.names.index(name) for name in (coefficient, exponent)]
    kept = [place for place in range(len(form.names)) if place not in gone]

    def whole(theta: Array) -> Array:
        found = np.full((*theta.shape[:-1], len(form.names)), 1e-300, dtype=theta.dtype)
        found[..., kept] = theta
        return found

    def starts(x: Array, y: Array) -> Array:
        found = np.array(form.starts(np.insert(x, at, 1.0, axis=1), y), dtype=float)
        if form.floor is not None:
            found[:, form.names.index(form.floor)] += found[:, gone[0]]
        return np.unique(found[:, kept], axis=0)

    return replace(
        form,
        formula=form.formula.replace(f" + {term}", ""),
        variables=tuple(name for name in form.variables if name != variable),
        parameters=tuple(form.parameters[place] for place in kept),
        log_y=lambda x, theta: form.log_y(np.insert(x, at, 1.0, axis=1), whole(theta)),
        starts=starts,
    )


def kind_of(name: str) -> LawKind:
    """What is registered under a name, or under `module:name`. Raises UsageError, with the nearest name."""
    found: LawKind = LAWS.get(name).facts["kind"]
    return found


def laws_with_levels() -> list[str]:
    """The laws whose last variable has names as values, with a parameter for each."""
    return [name for name, component in LAWS.all().items() if component.facts["kind"].by_level]


def register_kind(name: str) -> Callable[[type[LawKind]], type[LawKind]]:
    """Decorator of a LawKind whose form depends on the columns."""
    return lambda kind: LAWS.register(name, kind=kind())(kind)


Bounds = Union[Sequence[Parameter], Mapping[str, tuple[float, float]]]


def register_law(
    name: str,
    *,
    formula: str,
    parameters: Bounds,
    starts: Callable[[Array, Array], Any] | Sequence[Sequence[float]],
    variables: Sequence[str] = ("x",),
    floor: str | None = None,
    domains: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
    source: str = "",
    loss: Loss | None = None,
    competes: Sequence[tuple[str, ...]] = (),
    data_term: Sequence[str] = (),
) -> Callable[[F], F]:
    """Decorator of a function log_y(x (n, k), theta (..., p)) -> log of the prediction (..., n): a law under a name.

    parameters : Parameters in the order of theta, or name -> (low, high): one that is at least 0 is searched as its
    logarithm and never comes to 0, but for the floor. starts : (x, y (n,)) -> initial guesses (s, p), or these.
    `columns(theta)` gives the parameters one by one, ready for n points; the function must be analytic in them. A file
    of a law names it as `module:name`, so it is found again where that module can be imported. competes : for which
    columns, by their roles, it is a candidate where no law is named. data_term : the term of the amount of data as the
    formula writes it, its variable, coefficient and exponent, where the law also stands without it. The rest: see Form.
    """
    if isinstance(parameters, Mapping):
        parameters = [
            Parameter(p, *ends, scale="linear" if p == floor or ends[0] < 0 else "log")
            for p, ends in parameters.items()
        ]
    guess = starts if callable(starts) else lambda x, y: np.asarray(starts, dtype=float)

    def decorate(log_y: F) -> F:
        form = Form(
            name, title or f"law {name}", formula, source, tuple(variables), tuple(parameters), log_y, guess,
            floor, domains or {},
        )  # fmt: skip
        how = loss or Loss()
        kind = WithData(form, how, competes, data_term) if data_term else FixedForm(form, how, competes)
        return LAWS.register(name, kind=kind)(log_y)

    return decorate


def log_sum_exp(*parts: Array) -> Array:
    """log of the sum of exp(part), without overflow, of real or complex arrays that broadcast."""
    shapes = np.broadcast_arrays(*parts)
    top = np.max([part.real for part in shapes], axis=0)
    top = np.where(np.isfinite(top), top, 0.0)
    total = sum(np.exp(part - top) for part in shapes)
    return np.asarray(top + np.log(total))


SMALL = 1e-3
SIZE_AND_DATA = named(E=FLOOR, A=POSITIVE, B=POSITIVE, alpha=EXPONENT, beta=EXPONENT)
"""The parameters of E + A / N^alpha + B / D^beta, which other laws of size and data have as well."""


def columns(theta: Array) -> Any:
    """The parameters (..., p) one by one, each (..., 1), to stand against n points."""
    return np.moveaxis(theta, -1, 0)[..., None]


def softplus(z: Array) -> Array:
    """log(1 + exp(z)) of real or complex z, without overflow."""
    if not np.iscomplexobj(z):
        return np.asarray(np.logaddexp(0.0, z))
    up = z.real > 0
    return np.asarray(np.where(up, z, 0.0) + np.log(1.0 + np.exp(np.where(up, -z, z))))


def log_plus(floor: Array, *logs: Array) -> Array:
    """log(floor + sum of exp(part)): the floor may be 0, where its own logarithm is not finite."""
    total = sum((np.exp(part) for part in logs[1:]), np.exp(logs[0]))
    return np.asarray(np.log(floor + total))


def grid(*axes: Sequence[float]) -> list[tuple[float, ...]]:
    """All combinations of the values along the axes."""
    return list(itertools.product(*axes))


def slope(x: Array, y: Array) -> tuple[float, float]:
    """(slope, level) of the straight line through log y against log x."""
    level, steep = least_squares([np.ones(len(y)), np.log(x)], np.log(y))
    return float(steep), float(level)


def least_squares(parts: Sequence[Array], y: Array) -> Array:
    """Coefficients (k,) of the columns that best sum to y."""
    return np.asarray(np.linalg.lstsq(np.stack(parts, axis=1), y, rcond=None)[0])


def middle(x: Array) -> float:
    """The geometric mean, about which powers of x are of moderate size."""
    return float(np.exp(np.mean(np.log(x))))


def nonnegative(parts: Sequence[Array], y: Array, positive: Sequence[bool] = ()) -> Array:
    """Coefficients (k,) >= 0 of the columns that best sum to y, by relative deviation (Lawson and Hanson 1974).

    A coefficient that comes out 0 where `positive` asks for more is set to a small share of y.
    """
    from scipy.optimize import nnls  # here, since half a second of import is for fits alone, not for names of laws

    matrix = np.stack(parts, axis=1) / y[:, None]
    size = np.sqrt(np.mean(matrix**2, axis=0))
    found = nnls(matrix / size, np.ones(len(y)))[0]
    if len(positive):
        found = np.where(np.asarray(positive), np.maximum(found, SMALL), found)
    return np.asarray(found / size)


def spread(x: Array, shares: Sequence[float]) -> list[float]:
    """Values at shares of the range of log x: 0 is the smallest x, 1 the largest."""
    low, high = float(np.log(x.min())), float(np.log(x.max()))
    return [float(np.exp(low + share * (high - low))) for share in shares]
