"""What a deployed model gives on samples, and how near that comes to what another machine computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

from evaluate.core.errors import DataError, ModelError
from evaluate.metrics.base import Array, finite_outputs
from evaluate.metrics.samples import Samples
from evaluate.runtime.session import Session

BATCH = 50


class Agreement(TypedDict):
    """How near outputs come to those another machine computed from the same file on the same n samples.

    same    : samples whose largest output is the same one; None where outputs are no (n, classes).
    max_abs : the largest difference, in the outputs' unit.
    sqnr_db : power of the expected outputs over that of the differences, in dB; None where nothing differs.
    """

    n: int
    same: int | None
    max_abs: float
    sqnr_db: float | None


def predict(session: Session, batches: Iterable[Mapping[str, Array]]) -> Array:
    """The model's first output over all batches (name -> (n, ...) array), joined along the first axis.

    Raises DataError where there is no batch, ModelError where the model cannot run on one, or gives another number
    of rows than it was handed.
    """
    outputs: list[Array] = []
    for feeds in batches:
        rows = len(next(iter(feeds.values())))
        output = session.run(feeds)[0]
        if output.ndim == 0 or len(output) != rows:
            raise ModelError(f"{session.label} gave an output of shape {list(output.shape)} for {rows} samples")
        outputs.append(output)
    if not outputs:
        raise DataError("there are no samples to predict: the split is empty")
    return np.concatenate(outputs)


def outputs_on(session: Session, samples: Samples, batch: int = BATCH) -> Array:
    """The model's first output (n, ...) on packed samples, in batches of `batch`, or of the model's own fixed size.

    Where the batch is fixed the last one is filled up with the first samples, and their outputs are cut off.
    Raises as `predict` does.
    """
    fixed = [port.shape[0] for port in session.inputs if port.shape and isinstance(port.shape[0], int)]
    if not fixed:
        return predict(session, samples.batches(batch))
    whole = -(-len(samples) // fixed[0]) * fixed[0]
    filled = Samples(samples.feeds(whole))
    return predict(session, filled.batches(fixed[0]))[: len(samples)]


def agreement(outputs: ArrayLike, expected: ArrayLike) -> Agreement:
    """Compare outputs (n, ...) with those expected of the same file. Raises DataError where their shapes differ."""
    got, wanted = finite_outputs(outputs), finite_outputs(expected)
    if got.shape != wanted.shape or not got.size:
        raise DataError(f"outputs {list(got.shape)} cannot be compared with expected ones, {list(wanted.shape)}")
    classes = got.ndim == 2 and got.shape[1] > 1
    noise = float(np.sum((got - wanted) ** 2))
    power = max(float(np.sum(wanted**2)), np.finfo(np.float64).tiny)
    return Agreement(
        n=len(got),
        same=int(np.sum(got.argmax(axis=1) == wanted.argmax(axis=1))) if classes else None,
        max_abs=float(np.max(np.abs(got - wanted))),
        sqnr_db=10 * float(np.log10(power / noise)) if noise else None,
    )
