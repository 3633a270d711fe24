"""How like the outputs of a compressed file are to those of the file that it was made of, where no labels are known."""

from __future__ import annotations

import numpy as np

from evaluate.core import stats
from evaluate.core.stats import Drop, Interval
from evaluate.metrics.base import Array, Metric, register_metric
from evaluate.metrics.class_ids import class_ids
from evaluate.metrics.resampling import Floats
from evaluate.metrics.squared_error import values_of


@register_metric("agreement", unit="%", higher_is_better=True, labels=True)
class Agreement(Metric):
    """The share of samples whose largest output is the one that the uncompressed file gives, in per cent."""

    test = "McNemar"

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """100 where outputs (n, classes) are largest at the id (n,) that the uncompressed file's were, else 0."""
        ids = class_ids(outputs, targets, self.label)
        return np.asarray(100.0 * (outputs.argmax(axis=1) == ids), dtype=np.float64)

    def interval(self, values: Floats) -> Interval:
        """Wilson's interval."""
        return Interval(*(100 * bound for bound in stats.wilson(int(np.sum(values > 0)), len(values))))

    def drop(self, before: Floats, after: Floats) -> Drop:
        """In points; `stats.paired_drop` names the methods."""
        return stats.paired_drop(before > 0, after > 0)


@register_metric("rel_error", higher_is_better=False, labels=False)
class RelativeError(Metric):
    """How far outputs are from those of the uncompressed file, over their size: 0.01 is 40 dB. (Euclidean norms.)"""

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n,) distances over the norm of what was wanted; 0 where both are 0."""
        values, wanted = values_of(outputs, targets, self.label)
        apart, size = (np.linalg.norm(a.reshape(len(a), -1), axis=1) for a in (values - wanted, wanted))
        return np.asarray(np.where(apart == 0, 0.0, apart / np.maximum(size, np.finfo(np.float64).tiny)))
