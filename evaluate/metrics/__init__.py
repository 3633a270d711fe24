"""Samples, and how well a model's outputs on them do: metrics with intervals, paired against a baseline's."""

from __future__ import annotations

from evaluate.metrics.accuracy import Accuracy
from evaluate.metrics.base import Metric, Score, drop, get_metric, per_class_drop, register_metric, score
from evaluate.metrics.squared_error import SquaredError

__all__ = [
    "Accuracy",
    "Metric",
    "Score",
    "SquaredError",
    "drop",
    "get_metric",
    "per_class_drop",
    "register_metric",
    "score",
]
