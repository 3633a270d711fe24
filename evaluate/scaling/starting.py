"""Small tools that the forms share: parameters as columns, sums with a floor, and starting points from the data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from evaluate.scaling.form import Array, Parameter, log_sum_exp

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
