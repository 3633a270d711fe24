"""Errors of a regression: squared, its root, and absolute."""

from __future__ import annotations

import numpy as np

from evaluate.core.errors import DataError
from evaluate.metrics.base import Array, Metric, register_metric
from evaluate.metrics.resampling import Counts, Floats, weighted_rows


def values_of(outputs: Floats, targets: Array, label: str) -> tuple[Floats, Floats]:
    """Outputs and targets (n, ...) of one shape as float64; outputs may have a last axis of 1 more.

    Raises DataError for other shapes and for targets that are not finite; `label` is who asks.
    """
    wanted = np.asarray(targets, dtype=np.float64)
    values = outputs[..., 0] if outputs.shape == (*wanted.shape, 1) else outputs
    if values.shape != wanted.shape or values.ndim == 0 or len(values) == 0:
        raise DataError(
            f"{label} needs outputs and targets of one shape, got {list(values.shape)} and {list(wanted.shape)}"
        )
    if not np.all(np.isfinite(wanted)):
        raise DataError("some targets are not finite")
    return values, wanted


@register_metric("mse", higher_is_better=False, labels=False)
class SquaredError(Metric):
    """The mean squared error, in the square of the targets' unit."""

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n,) squared errors, averaged over all but the first axis; outputs may have a last axis of 1 more."""
        values, wanted = values_of(outputs, targets, self.label)
        return np.asarray(np.square(values - wanted).reshape(len(values), -1).mean(axis=1), dtype=np.float64)


@register_metric("rmse", higher_is_better=False, labels=False)
class RootSquaredError(SquaredError):
    """The root of the mean squared error over all values, in the targets' unit."""

    def value(self, values: Floats) -> float:
        """Of (n,) squared errors."""
        return float(np.sqrt(values.mean()))

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) roots."""
        return np.asarray(np.sqrt(weighted_rows(counts, values) / len(values)), dtype=np.float64)


@register_metric("mae", higher_is_better=False, labels=False)
class AbsoluteError(Metric):
    """The mean absolute error, in the targets' unit."""

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n,) absolute errors, averaged over all but the first axis; outputs may have a last axis of 1 more."""
        values, wanted = values_of(outputs, targets, self.label)
        return np.asarray(np.abs(values - wanted).reshape(len(values), -1).mean(axis=1), dtype=np.float64)
