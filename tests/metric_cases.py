"""One row a metric: seeded outputs and targets of some skill, and what scikit-learn or scipy gives on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats as scipy_stats
from scipy.spatial import distance as scipy_distance
from sklearn import metrics as sklearn_metrics

IGNORED = -100
Pair = tuple[np.ndarray, np.ndarray]


def classified(rng, skill, n=120, classes=8, drawn=6) -> Pair:
    """Logits (n, classes) and ids of the first `drawn` classes only: the others have no labels."""
    targets = rng.integers(0, drawn, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), targets] += skill
    return logits, targets


def tokens(rng, skill, n=40, classes=8, length=9) -> Pair:
    """Logits (n, classes, length), ids (n, length) of six classes, with a padding of its own length each."""
    targets = rng.integers(0, 6, (n, length))
    logits = rng.normal(size=(n, classes, length)) + skill * np.eye(classes)[targets].transpose(0, 2, 1)
    targets[np.arange(length) >= rng.integers(1, length + 1, n)[:, None]] = IGNORED
    return logits, targets


def pixels(rng, skill) -> Pair:
    """Logits (30, 7, 5, 6) and ids (30, 5, 6), some of them without a label."""
    logits, targets = tokens(rng, skill, n=30, classes=7, length=30)
    return logits.reshape(30, 7, 5, 6), targets.reshape(30, 5, 6)


def labels(rng, skill, n=150, count=6) -> Pair:
    """Logits with ties (n, labels), and 0 or 1; the last label is never 1."""
    targets = (rng.random((n, count)) < 0.3) & (np.arange(count) < count - 1)
    return np.round(rng.normal(size=(n, count)) - 0.5 + skill * targets, 1), targets.astype(np.float64)


def one_label(rng, skill) -> Pair:
    """Logits (n, 1) for targets (n,)."""
    logits, targets = labels(rng, skill, count=2)
    return logits[:, :1], targets[:, 0]


def values(rng, skill, shape=(150,)) -> Pair:
    """Floats on a coarse grid, so that many are equal, far from 0."""
    targets = np.round(rng.normal(size=shape), 1) + 50
    return np.round(targets + rng.normal(size=shape) / skill, 1), targets


def rows(rng, skill) -> Pair:
    """Floats (n, 3)."""
    return values(rng, skill, (100, 3))


def one_column(rng, skill) -> Pair:
    """Outputs (n, 1) for targets (n,)."""
    outputs, targets = values(rng, skill)
    return outputs[:, None], targets


def flat(outputs: np.ndarray, targets: np.ndarray) -> Pair:
    """Guesses and ids of every label, those left out gone."""
    guesses, kept = outputs.argmax(1), targets != IGNORED
    return guesses[kept], targets[kept]


def by_class(function: Callable[..., Any], **options: Any) -> Callable[[np.ndarray, np.ndarray], float]:
    def reference(outputs, targets):
        guesses, ids = flat(outputs, targets)
        return 100 * float(function(ids, guesses, **options))

    return reference


def iou(outputs, targets):
    guesses, ids = flat(outputs, targets)
    seen = np.union1d(guesses, ids)
    return 100 * sklearn_metrics.jaccard_score(ids, guesses, labels=seen, average="macro", zero_division=0)


def top5(outputs, targets):
    logits = np.moveaxis(outputs, 1, -1)[targets != IGNORED]
    ids = targets[targets != IGNORED]
    return 100 * sklearn_metrics.top_k_accuracy_score(ids, logits, k=5, labels=range(logits.shape[1]))


def perplexity(outputs, targets):
    logits = np.moveaxis(outputs, 1, -1)[targets != IGNORED]
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.exp(sklearn_metrics.log_loss(targets[targets != IGNORED], chances, labels=range(logits.shape[1])))


def label_f1(outputs, targets):
    given, asked = (outputs > 0).reshape(len(outputs), -1), targets.reshape(len(targets), -1)
    each = [sklearn_metrics.f1_score(y, g, zero_division=np.nan) for y, g in zip(asked.T, given.T, strict=True)]
    return 100 * np.nanmean(each)


def average_precision(outputs, targets):
    columns = zip(targets.reshape(len(targets), -1).T, outputs.reshape(len(outputs), -1).T, strict=True)
    return 100 * np.mean([sklearn_metrics.average_precision_score(y, x) for y, x in columns if y.any()])


def columns(function):
    def reference(outputs, targets):
        pairs = zip(outputs.reshape(len(outputs), -1).T, targets.reshape(len(targets), -1).T, strict=True)
        return np.mean([float(function(x, y)) for x, y in pairs])

    return reference


def error(function):
    return lambda outputs, targets: function(targets.ravel(), outputs.ravel())


def distance(outputs, targets):
    pairs = zip(outputs.reshape(len(outputs), -1), targets.reshape(len(targets), -1), strict=True)
    return np.mean([scipy_distance.euclidean(x, y) / scipy_distance.euclidean(y, 0 * y) for x, y in pairs])


@dataclass(frozen=True)
class MetricCase:
    """data: (generator, skill) -> outputs and targets, better with skill. reference: what another library gives."""

    metric: str
    data: Callable[..., Pair]
    reference: Callable[[np.ndarray, np.ndarray], float]

    def __str__(self) -> str:
        return f"{self.metric}-{self.data.__name__}"


MACRO: dict[str, Any] = {"average": "macro", "zero_division": 0}
REFERENCES = {
    "accuracy": ([classified], by_class(sklearn_metrics.accuracy_score)),
    "agreement": ([classified], by_class(sklearn_metrics.accuracy_score)),
    "token_accuracy": ([classified, tokens, pixels], by_class(sklearn_metrics.accuracy_score)),
    "top5": ([classified, tokens, pixels], top5),
    "macro_f1": ([classified, tokens, pixels], by_class(sklearn_metrics.f1_score, **MACRO)),
    "macro_precision": ([classified, tokens, pixels], by_class(sklearn_metrics.precision_score, **MACRO)),
    "macro_recall": ([classified, tokens, pixels], by_class(sklearn_metrics.recall_score, **MACRO)),
    "balanced_accuracy": (
        [classified, tokens, pixels],
        by_class(lambda ids, guesses: sklearn_metrics.recall_score(ids, guesses, labels=np.unique(ids), **MACRO)),
    ),
    "miou": ([classified, tokens, pixels], iou),
    "perplexity": ([classified, tokens], perplexity),
    "label_f1": ([labels, one_label], label_f1),
    "average_precision": ([labels, one_label], average_precision),
    "mse": ([values, rows, one_column], error(sklearn_metrics.mean_squared_error)),
    "rmse": ([values, rows, one_column], error(sklearn_metrics.root_mean_squared_error)),
    "mae": ([values, rows, one_column], error(sklearn_metrics.mean_absolute_error)),
    "rel_error": ([values, rows, one_column], distance),
    "r2": ([values, rows, one_column], columns(lambda x, y: sklearn_metrics.r2_score(y, x))),
    "pearson": ([values, rows, one_column], columns(lambda x, y: scipy_stats.pearsonr(x, y).statistic)),
    "spearman": ([values, rows, one_column], columns(lambda x, y: scipy_stats.spearmanr(x, y).statistic)),
}
METRIC_CASES = [MetricCase(name, data, reference) for name, (made, reference) in REFERENCES.items() for data in made]
