"""Which points are drawn again, and how often: the weights of a bootstrap by case or by group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluate.scaling.form import Array

BLOCK = 512
SINGULAR = 1e-4


def resampled(
    rng: np.random.Generator, jacobian: Array, codes: Array, weights: Array, count: int
) -> NDArray[np.float64] | None:
    """Weights (count, n) of the points: whole groups are drawn with replacement, `codes` (n,) tell which.

    jacobian : (n, f) at the fit. A resample that leaves a direction of the parameters undetermined, where all points
    determine it, is drawn again. None where such resamples are most of all: then a bootstrap by resampling says little.
    """
    groups = int(codes.max()) + 1
    whitener = _whitener(jacobian * np.sqrt(weights)[:, None])
    kept: list[NDArray[np.float64]] = []
    have = tried = 0
    block = min(count, BLOCK)
    while have < count:
        drawn = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=block)[:, codes] * np.asarray(
            weights, dtype=float
        )
        drawn = drawn[_determined(jacobian, drawn, whitener)]
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


def _determined(jacobian: Array, weights: Array, whitener: Array) -> NDArray[np.bool_]:
    """Which resamples (b, n) determine every direction that all points determine, if with 100 times the error."""
    white = jacobian @ whitener
    matrix = np.einsum("bn,nf,ng->bfg", weights, white, white, optimize=True)
    return np.asarray(np.linalg.eigvalsh(matrix)[:, 0] > SINGULAR)
