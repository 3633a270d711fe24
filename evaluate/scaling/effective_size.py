"""What a compressed model is worth: the size of the dense model that would be as good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError

if TYPE_CHECKING:
    from evaluate.scaling.inverse import Solved
    from evaluate.scaling.law import Law


@dataclass(frozen=True)
class EffectiveSize:
    """What compressed models are worth, one entry a model, arrays (n,).

    size, low, high : in dense parameters (the unit of the law's variable); NaN where no dense model is as good.
    efficiency, efficiency_low, efficiency_high : size / actual parameters; empty where these were not given.
    answers : the Solved of each, with `reason` and `beyond`.
    """

    size: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    efficiency: NDArray[np.float64]
    efficiency_low: NDArray[np.float64]
    efficiency_high: NDArray[np.float64]
    answers: tuple[Solved, ...]


def effective_size(
    dense: Law,
    y: Any,
    params: Any = None,
    variable: str | None = None,
    given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    interval: float = 0.9,
) -> EffectiveSize:
    """The size of the dense model that reaches y, for each compressed model.

    dense : a law of dense models.  y (n,) : what the compressed models reach, in the law's unit.  params (n,) : their
    actual parameters, as the law counts them (say, nonzero ones), for the efficiency: effective over actual, as the
    effective parameters of Frantar et al. 2025.  given : the law's other variables, for all models or one mapping each.
    The interval is that of `solve`: the doubt of the dense law, not the seeds' of the compressed model.
    Raises DataError for arrays that differ in length, UsageError as `solve` does.
    """
    from evaluate.scaling.inverse import solve

    targets = np.atleast_1d(np.asarray(y, dtype=float))
    fixed = list(given) if isinstance(given, Sequence) else [given or {}] * len(targets)
    actual = None if params is None else np.atleast_1d(np.asarray(params, dtype=float))
    for name, other in (("params", actual), ("given", fixed)):
        if other is not None and len(other) != len(targets):
            raise DataError(f"there are {len(targets)} values of y and {len(other)} of {name}; give one for each")
    if actual is not None and not np.all(np.isfinite(actual) & (actual > 0)):
        raise DataError("params must be positive and finite: the actual parameters of each compressed model")
    answers = tuple(solve(dense, float(target), variable, one, interval) for target, one in zip(targets, fixed))
    size, low, high = (np.array([getattr(one, name) for one in answers]) for name in ("value", "low", "high"))
    low = np.where(np.isnan(size) & np.isnan(low), math.nan, low)
    shares = [part / actual if actual is not None else np.empty(0) for part in (size, low, high)]
    return EffectiveSize(size, low, high, shares[0], shares[1], shares[2], answers)
