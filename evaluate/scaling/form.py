"""What a law is made of: a formula, its parameters with bounds, and where to start looking. Everything else is shared.

A new law is one `Form`. Its gradient is taken by the complex step (Squire and Trapp 1998), exact to machine precision,
so a formula is written once, as plain numpy that is analytic in its parameters: + - * / **, `np.exp`, `np.log` and
`log_sum_exp`; no `abs`, `maximum` or `where` on parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
