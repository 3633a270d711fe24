"""Metrics of an exported model, with intervals, per class, and paired against the baseline on the same samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.core import stats
from evaluate.core.errors import DataError, ModelError, UsageError, did_you_mean
from evaluate.core.stats import Drop
from evaluate.metrics.samples import Samples
from evaluate.runtime.session import Session

METRICS = ("accuracy", "mse")
BATCH = 50

Array = NDArray[Any]
Floats = NDArray[np.float64]
# "class" is a keyword of Python: hence the functional form.
ClassScore = TypedDict("ClassScore", {"class": str, "n": int, "precision": float, "recall": float, "f1": float})
ClassDrop = TypedDict("ClassDrop", {"class": str, "n": int, "drop": float})


class Macro(TypedDict):
    """Unweighted means over the classes that occur in the targets or the predictions, each 0 to 1."""

    precision: float
    recall: float
    f1: float


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


class Accuracy(TypedDict):
    """A metric with its 95 % interval over n samples; accuracy is in per cent, precision, recall and F1 are 0 to 1.

    per_class and macro are [] and None for regression.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    per_class: list[ClassScore]
    macro: Macro | None


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
    got, wanted = _finite(outputs), _finite(expected)
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


def score(outputs: ArrayLike, targets: ArrayLike, metric: str = "accuracy", classes: Sequence[str] = ()) -> Accuracy:
    """The metric of these outputs, with interval and per class.

    outputs : (n, classes) logits or probabilities for accuracy; any shape equal to the targets' for mse.
    targets : (n,) integer class ids, or floats for mse.
    classes : names by id; the ids themselves where none are given.
    Accuracy has Wilson's interval; mse a bootstrap interval over samples. A precision, recall or F1 that would divide
    by zero is 0. Raises ModelError for outputs that are not finite, DataError for shapes and ids that do not fit,
    UsageError for an unknown metric.
    """
    _check_metric(metric)
    if metric == "mse":
        value, low, high = stats.mean_interval(_errors(outputs, targets))
        return Accuracy(metric=metric, value=value, low=low, high=high, n=_length(targets), per_class=[], macro=None)
    logits, ids = _classified(outputs, targets)
    names = _class_names(classes, logits.shape[1])
    guesses = logits.argmax(axis=1)
    value, low, high = stats.wilson(int(np.sum(guesses == ids)), len(ids))
    per_class, macro = _by_class(guesses, ids, names)
    return Accuracy(
        metric=metric, value=100 * value, low=100 * low, high=100 * high, n=len(ids), per_class=per_class, macro=macro
    )


def correct(outputs: ArrayLike, targets: ArrayLike) -> NDArray[np.bool_]:
    """(n,) bool: whether the largest of each row of (n, classes) outputs is the target's. Raises as `score` does."""
    logits, ids = _classified(outputs, targets)
    return np.asarray(logits.argmax(axis=1) == ids, dtype=np.bool_)


def drop(base_outputs: ArrayLike, outputs: ArrayLike, targets: ArrayLike, metric: str = "accuracy") -> Drop:
    """Baseline metric minus this model's metric on the same samples, with a paired interval.

    For accuracy, per cent points: positive is worse; `stats.paired_drop` names the methods. For mse, in the metric's
    unit: negative is worse; gained and lost count the samples whose error fell and rose, p is the sign test on them.
    """
    _check_metric(metric)
    if metric == "accuracy":
        return stats.paired_drop(correct(base_outputs, targets), correct(outputs, targets))
    saved = _errors(base_outputs, targets) - _errors(outputs, targets)
    value, low, high = stats.mean_interval(saved)
    gained, lost = int(np.sum(saved > 0)), int(np.sum(saved < 0))
    return Drop(value=value, low=low, high=high, gained=gained, lost=lost, p=stats.mcnemar(gained, lost))


def per_class_drop(
    base_outputs: ArrayLike, outputs: ArrayLike, targets: ArrayLike, classes: Sequence[str] = ()
) -> list[ClassDrop]:
    """By class, how many points of its samples the model gets right no longer; classes without samples are left out."""
    before, after = correct(base_outputs, targets), correct(outputs, targets)
    ids = np.asarray(targets)
    names = _class_names(classes, np.asarray(outputs).shape[1])
    lost = before.astype(np.int64) - after
    return [
        {"class": name, "n": int(np.sum(ids == i)), "drop": 100 * float(lost[ids == i].mean())}
        for i, name in enumerate(names)
        if np.any(ids == i)
    ]


def _by_class(guesses: Array, ids: Array, names: Sequence[str]) -> tuple[list[ClassScore], Macro]:
    count = len(names)
    hits = np.bincount(ids[guesses == ids], minlength=count)
    actual, guessed = np.bincount(ids, minlength=count), np.bincount(guesses, minlength=count)
    precision, recall, f1 = _share(hits, guessed), _share(hits, actual), _share(2 * hits, actual + guessed)
    per_class: list[ClassScore] = [
        {"class": name, "n": int(n), "precision": float(p), "recall": float(r), "f1": float(f)}
        for name, n, p, r, f in zip(names, actual, precision, recall, f1)
    ]
    seen = (actual + guessed) > 0
    means = (float(values[seen].mean()) for values in (precision, recall, f1))
    return per_class, Macro(precision=next(means), recall=next(means), f1=next(means))


def _share(part: Array, whole: Array) -> Floats:
    """part / whole, and 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _classified(outputs: ArrayLike, targets: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    logits, ids = _finite(outputs), np.asarray(targets)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(
            f"accuracy needs outputs of shape (n, classes) with 2 classes or more, got {list(logits.shape)}"
        )
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"accuracy needs targets of shape (n,) with class ids, got {list(ids.shape)} of {ids.dtype}")
    if len(ids) != len(logits) or len(ids) == 0:
        raise DataError(
            f"there are {len(logits)} outputs for {len(ids)} targets; equal numbers, at least 1, are needed"
        )
    if ids.min() < 0 or ids.max() >= logits.shape[1]:
        raise DataError(
            f"class ids go from {ids.min()} to {ids.max()}, but the model's output has {logits.shape[1]} classes (0 to "
            f"{logits.shape[1] - 1})"
        )
    return logits, ids.astype(np.int64)


def _errors(outputs: ArrayLike, targets: ArrayLike) -> Floats:
    """(n,) squared errors, averaged over all but the first axis."""
    values, wanted = _finite(outputs), np.asarray(targets, dtype=np.float64)
    if values.shape == (*wanted.shape, 1):
        values = values[..., 0]
    if values.shape != wanted.shape or values.ndim == 0 or len(values) == 0:
        raise DataError(
            f"mse needs outputs and targets of one shape, got {list(values.shape)} and {list(wanted.shape)}"
        )
    if not np.all(np.isfinite(wanted)):
        raise DataError("some targets are not finite")
    return np.asarray(np.square(values - wanted).reshape(len(values), -1).mean(axis=1), dtype=np.float64)


def _finite(outputs: ArrayLike) -> Floats:
    values = np.asarray(outputs, dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        rows = np.unique(np.nonzero(bad)[0]) if values.ndim else np.array([0])
        raise ModelError(
            f"the model gave values that are not finite for {len(rows)} of {len(values) if values.ndim else 1} samples "
            f"(the first is sample {rows[0]}): no metric can be taken. Look for NaN in its weights or inputs."
        )
    return values


def _class_names(classes: Sequence[str], count: int) -> list[str]:
    if classes and len(classes) != count:
        raise DataError(f"the task names {len(classes)} classes, but the model's output has {count}")
    return [str(c) for c in classes] or [str(i) for i in range(count)]


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise UsageError(
            f"unknown metric {metric!r}{did_you_mean(metric, METRICS) or '.'} Known metrics: {', '.join(METRICS)}."
        )


def _length(targets: ArrayLike) -> int:
    return len(np.asarray(targets))
