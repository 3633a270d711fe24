"""The squared error of a regression, averaged over all values of a sample."""

from __future__ import annotations

import numpy as np

from evaluate.core.errors import DataError
from evaluate.metrics.base import Array, Metric, register_metric
from evaluate.metrics.resampling import Floats


@register_metric("mse", higher_is_better=False, labels=False)
class SquaredError(Metric):
    """The mean squared error, in the square of the targets' unit."""

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n,) squared errors, averaged over all but the first axis; outputs may have a last axis of 1 more."""
        wanted = np.asarray(targets, dtype=np.float64)
        values = outputs[..., 0] if outputs.shape == (*wanted.shape, 1) else outputs
        if values.shape != wanted.shape or values.ndim == 0 or len(values) == 0:
            raise DataError(
                f"mse needs outputs and targets of one shape, got {list(values.shape)} and {list(wanted.shape)}"
            )
        if not np.all(np.isfinite(wanted)):
            raise DataError("some targets are not finite")
        return np.asarray(np.square(values - wanted).reshape(len(values), -1).mean(axis=1), dtype=np.float64)
