"""Samples, and how well a model's outputs on them do: metrics with intervals, paired against a baseline's."""

from __future__ import annotations

from evaluate.metrics import class_rates, correlations, label_sets, likeness, perplexity, right_shares
from evaluate.metrics.accuracy import Accuracy
from evaluate.metrics.base import Metric, Score, drop, get_metric, per_class_drop, register_metric, score
from evaluate.metrics.squared_error import SquaredError

__all__ = [
    "Accuracy",
    "Metric",
    "Score",
    "SquaredError",
    "class_rates",
    "correlations",
    "drop",
    "get_metric",
    "label_sets",
    "likeness",
    "per_class_drop",
    "perplexity",
    "register_metric",
    "right_shares",
    "score",
]
