"""What a law is made of: a formula, its parameters with bounds, and where to start looking. Everything else is shared.

A new law is one `Form`. Its gradient is taken by the complex step (Squire and Trapp 1998), exact to machine precision,
so a formula is written once, as plain numpy that is analytic in its parameters: + - * / **, `np.exp`, `np.log` and
`log_sum_exp`; no `abs`, `maximum` or `where` on parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[Any]


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


@dataclass(frozen=True)
class Form:
    """One law.

    variables : names of the columns of x, in order.
    log_y     : (x (n, k), theta (..., p)) -> log of the prediction (..., n); theta is real or complex.
    starts    : (x (n, k), y (n,)) -> starting points (s, p) in natural units, deterministic.
    floor     : the parameter that y tends to, where the form has one.
    domains   : closed range of a variable, where it is not all positive numbers.
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

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def vector(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """(p,) from name -> value."""
        return np.array([float(values[name]) for name in self.names])

    def missed(self, x: Array, y: Array, theta: Array) -> Array:
        """Log of the prediction less log y (..., n); not finite where the prediction is not."""
        with np.errstate(all="ignore"):
            return np.asarray(self.log_y(x, theta) - np.log(y))

    def predict(self, x: Array, theta: Array) -> Array:
        """The prediction (..., n); infinite where it overflows."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.log_y(x, theta)))


def log_sum_exp(*parts: Array) -> Array:
    """log of the sum of exp(part), without overflow, of real or complex arrays that broadcast."""
    shapes = np.broadcast_arrays(*parts)
    top = np.max([part.real for part in shapes], axis=0)
    top = np.where(np.isfinite(top), top, 0.0)
    total = sum(np.exp(part - top) for part in shapes)
    return np.asarray(top + np.log(total))


def power(base: Array, exponent: Array) -> Array:
    """base (n,) of positive numbers to an exponent (...,): (..., n), as exp(exponent * log(base))."""
    return np.asarray(np.exp(np.asarray(exponent)[..., None] * np.log(base)))


SMALL = 1e-3
SIZE_AND_DATA = (
    Parameter("E", scale="linear"),
    Parameter("A"),
    Parameter("B"),
    Parameter("alpha", exponent=True),
    Parameter("beta", exponent=True),
)
"""The parameters of E + A / N^alpha + B / D^beta, which other laws of size and data have as well."""


def columns(theta: Array) -> Any:
    """The parameters (..., p) one by one, each (..., 1), to stand against n points."""
    return np.moveaxis(theta, -1, 0)[..., None]


def softplus(z: Array) -> Array:
    """log(1 + exp(z)) of real or complex z, without overflow."""
    return log_sum_exp(np.zeros((), dtype=z.dtype), z)


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


def width(x: Any) -> int:
    """How many columns x has, as a law takes it: an array, a mapping or a frame."""
    if isinstance(x, Mapping) or hasattr(x, "columns"):
        return len(x.keys() if isinstance(x, Mapping) else x.columns)
    shape = np.shape(x)
    return int(shape[1]) if len(shape) == 2 else 1
