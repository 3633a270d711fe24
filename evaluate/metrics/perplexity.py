"""Perplexity: how many equally likely tokens a language model hesitates between."""

from __future__ import annotations

import numpy as np

from evaluate.core.errors import DataError
from evaluate.metrics.base import Array, Metric, register_metric
from evaluate.metrics.class_ids import class_ids, labelled
from evaluate.metrics.resampling import Counts, Floats, weighted_rows

_HIGHEST = 700.0  # nats; its exponential is still a finite number


@register_metric("perplexity", higher_is_better=False, labels=True, dense=True)
class Perplexity(Metric):
    """The exponential of the mean cross entropy (nats) of all tokens (Jelinek et al. 1977); logits in, 1 at best."""

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n, 2) summed cross entropy and tokens, of logits (n, classes, ...) and ids (n, ...); -100 is no token."""
        ids = class_ids(outputs, targets, self.label)
        kept = labelled(ids)
        moved = outputs - outputs.max(axis=1, keepdims=True)
        own = np.take_along_axis(moved, np.expand_dims(np.where(kept, ids, 0), 1), axis=1)[:, 0]
        lost = np.where(kept, np.log(np.exp(moved).sum(axis=1)) - own, 0.0)
        return np.stack([part.reshape(len(ids), -1).sum(axis=1) for part in (lost, kept)], axis=1).astype(np.float64)

    def value(self, values: Floats) -> float:
        """Raises DataError where there is no token."""
        lost, tokens = values.sum(axis=0)
        if tokens == 0:
            raise DataError(f"{self.label} has nothing to judge: no target has a label")
        return float(np.exp(min(lost / tokens, _HIGHEST)))

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) perplexities, nan where no token is left."""
        lost, tokens = weighted_rows(counts, values).T
        mean = np.divide(lost, tokens, out=np.full(len(counts), np.nan), where=tokens > 0)
        return np.asarray(np.exp(np.minimum(mean, _HIGHEST)), dtype=np.float64)
