"""What a metric is, and the registry of them: everything that trains, judges or shows a model asks one of these.

A metric of your own is one decorated function from outputs and targets to a value a sample:

    @register_metric("top2", unit="%", higher_is_better=True, labels=True)
    def top2(outputs, targets):
        return 100.0 * (np.argsort(outputs)[:, -2:] == targets[:, None]).any(axis=1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.core import record_parts, stats
from evaluate.core.components import Registry, only_allowed
from evaluate.core.errors import DataError, LeanfitError, ModelError
from evaluate.core.stats import Drop, Interval
from evaluate.core.text import decimals_for, finite, four_digits

Array = NDArray[Any]
Floats = NDArray[np.float64]
PerSample = Callable[[Any, Any], ArrayLike]
# "class" is a keyword of Python: hence the functional form.
ClassScore = TypedDict("ClassScore", {"class": str, "n": int, "precision": float, "recall": float, "f1": float})
ClassDrop = TypedDict("ClassDrop", {"class": str, "n": int, "drop": float})

METRICS: Registry[Any] = Registry("metric", home="evaluate.metrics")
_LOWER = ("mae", "rmse", "loss")  # of Records that others wrote, which do not say their direction


class Macro(TypedDict):
    """Unweighted means over the classes that occur in the targets or the predictions, each 0 to 1."""

    precision: float
    recall: float
    f1: float


class _Scored(TypedDict):
    metric: str
    value: float
    low: float
    high: float
    n: int
    per_class: list[ClassScore]
    macro: Macro | None


class Score(_Scored, total=False):
    """A metric with its 95 % interval over n samples, in the metric's unit; precision, recall and F1 are 0 to 1.

    per_class and macro are [] and None for a metric that knows no classes. A metric that is not leanfit's own says how
    it is to be shown where its code is not at hand: its unit, and which way is better.
    """

    unit: str
    higher_is_better: bool


@dataclass(frozen=True)
class Metric:
    """A mean over samples, judged by the values of each. A registered function fills `function`; a class overrides.

    name             : what a Record calls it by, `module:name` for one that is not leanfit's own.
    unit             : "%" for a share of right answers, 100 being all of them, or "".
    higher_is_better : which way it points.
    labels           : whether targets are class ids (n,) (True), floats (n, ...) (False), or may be either (None).
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True
    labels: bool | None = None
    function: PerSample | None = None
    built_in: bool = False

    test = "sign test"  # what the p of a drop comes from

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n,) values in the metric's unit. Raises DataError for shapes and ids that do not fit."""
        if self.function is None:
            raise NotImplementedError(f"metric {self.name} neither is a function nor defines per_sample")
        values = np.asarray(self.function(outputs, targets), dtype=np.float64)
        if values.shape != (len(targets),):
            raise DataError(
                f"metric {self.label} gave values of shape {list(values.shape)} for {len(targets)} samples: "
                f"one a sample is needed, [{len(targets)}]"
            )
        return values

    def interval(self, values: Floats) -> Interval:
        """The value of (n,) samples and its 95 % interval: the mean, by bootstrap over samples."""
        return stats.mean_interval(values)

    def drop(self, before: Floats, after: Floats) -> Drop:
        """Baseline minus this model, of their (n,) values on the same samples, with a paired interval.

        gained and lost count the samples that got better and worse, p is the sign test on them.
        """
        value, low, high = stats.mean_interval(before - after)
        better = after > before if self.higher_is_better else after < before
        gained, lost = int(np.sum(better)), int(np.sum(before != after)) - int(np.sum(better))
        return Drop(value=value, low=low, high=high, gained=gained, lost=lost, p=stats.mcnemar(gained, lost))

    def by_class(
        self, outputs: Floats, targets: Array, classes: Sequence[str]
    ) -> tuple[list[ClassScore], Macro | None]:
        """Precision, recall and F1 of each class and their means; nothing for a metric that knows no classes."""
        return [], None

    def drop_by_class(self, base: Floats, outputs: Floats, targets: Array, classes: Sequence[str]) -> list[ClassDrop]:
        """The drop of each class that has samples; nothing for a metric that knows no classes."""
        return []

    @property
    def label(self) -> str:
        """Its name without the module: for tables and sentences."""
        return self.name.rpartition(":")[2]

    @property
    def heading(self) -> str:
        """For a column or an axis: `accuracy, %`, or `mse, lower is better`."""
        return f"{self.label}, {self.unit or ('higher' if self.higher_is_better else 'lower') + ' is better'}"

    @property
    def points(self) -> str:
        """What follows a difference of it in a sentence: ` points` of per cent."""
        return " points" if self.unit == "%" else ""

    @property
    def share(self) -> bool:
        """Whether it is a share of right answers in per cent: 100 minus it is the share of wrong ones."""
        return self.unit == "%" and self.higher_is_better

    def as_loss(self, value: float, low: float, high: float) -> tuple[float, float, float]:
        """A drop with its interval, so that more is worse, whichever way the metric points."""
        return (value, low, high) if self.higher_is_better else (-value, -high, -low)

    def better(self, new: float, old: float) -> bool:
        """Whether one value beats another."""
        return new > old if self.higher_is_better else new < old

    def decimals(self, *values: Any) -> int:
        """Decimals to show these values with: two of per cent, else four digits of the largest."""
        return 2 if self.unit == "%" else four_digits(max((abs(v) for v in values if finite(v)), default=0.0))

    def drop_decimals(self, value: Any, low: Any, high: Any) -> int:
        """Decimals to show a drop with: two of points, else what its interval resolves."""
        if self.unit != "%" and finite(low) and finite(high):
            return decimals_for(low, high, most=9, parts=10)
        return self.decimals(value)


def register_metric(
    name: str, *, higher_is_better: bool, unit: str = "", labels: bool | None = None
) -> Callable[[Any], Any]:
    """Decorator of a function (outputs, targets) -> (n,) values in `unit`, or of a subclass of Metric.

    outputs : (n, ...) float64, as the exported file gave them; targets as the task has them. `Metric` says the rest.
    """
    return METRICS.register(name, unit=unit, higher_is_better=higher_is_better, labels=labels)


def get_metric(name: str) -> Metric:
    """The metric of a name or of `package.module:name`. Raises UsageError where there is none."""
    found = METRICS.get(name)
    kind, function = (found.target, None) if isinstance(found.target, type) else (Metric, found.target)
    metric: Metric = kind(found.address, **found.facts, function=function, built_in=found.built_in)
    return metric


def metric_of(score: record_parts.Accuracy | Mapping[str, Any] | str | None) -> Metric:
    """The metric of a Record's score, to show it by. Nothing is imported: what is not known is as the Record says."""
    if isinstance(score, record_parts.Accuracy):
        score = {**score.extra, "metric": score.metric}
    known = score if isinstance(score, Mapping) else {"metric": score}
    name = str(known.get("metric") or "accuracy")
    try:
        with only_allowed():
            return get_metric(name)
    except LeanfitError:
        better, unit = known.get("higher_is_better"), known.get("unit")
        return Metric(
            name,
            unit="%" if unit == "%" else "",
            higher_is_better=better if isinstance(better, bool) else name.lower() not in _LOWER,
        )


def score(outputs: ArrayLike, targets: ArrayLike, metric: str = "accuracy", classes: Sequence[str] = ()) -> Score:
    """The metric of these outputs, with interval and per class.

    outputs : (n, classes) logits or probabilities for accuracy; any shape equal to the targets' for mse.
    targets : (n,) integer class ids, or floats for mse.
    classes : names by id; the ids themselves where none are given.
    Accuracy has Wilson's interval; others a bootstrap interval over samples. A precision, recall or F1 that would
    divide by zero is 0. Raises ModelError for outputs that are not finite, DataError for shapes and ids that do not
    fit, UsageError for an unknown metric.
    """
    asked, values, truth = get_metric(metric), finite_outputs(outputs), np.asarray(targets)
    value, low, high = asked.interval(asked.per_sample(values, truth))
    per_class, macro = asked.by_class(values, truth, classes)
    found = Score(metric=asked.name, value=value, low=low, high=high, n=len(truth), per_class=per_class, macro=macro)
    return found if asked.built_in else {**found, "unit": asked.unit, "higher_is_better": asked.higher_is_better}


def drop(base_outputs: ArrayLike, outputs: ArrayLike, targets: ArrayLike, metric: str = "accuracy") -> Drop:
    """Baseline metric minus this model's metric on the same samples, with a paired interval.

    For accuracy, per cent points: positive is worse; `stats.paired_drop` names the methods. For another, in its unit:
    `Metric.drop`. Raises as `score` does.
    """
    asked, truth = get_metric(metric), np.asarray(targets)
    before, after = (asked.per_sample(finite_outputs(values), truth) for values in (base_outputs, outputs))
    return asked.drop(before, after)


def per_class_drop(
    base_outputs: ArrayLike,
    outputs: ArrayLike,
    targets: ArrayLike,
    classes: Sequence[str] = (),
    metric: str = "accuracy",
) -> list[ClassDrop]:
    """By class, how many points of its samples the model gets right no longer; classes without samples are left out."""
    before, after = finite_outputs(base_outputs), finite_outputs(outputs)
    return get_metric(metric).drop_by_class(before, after, np.asarray(targets), classes)


def finite_outputs(outputs: ArrayLike) -> Floats:
    """Outputs as float64. Raises ModelError where one is not finite."""
    values = np.asarray(outputs, dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        rows = np.unique(np.nonzero(bad)[0]) if values.ndim else np.array([0])
        raise ModelError(
            f"the model gave values that are not finite for {len(rows)} of {len(values) if values.ndim else 1} samples "
            f"(the first is sample {rows[0]}): no metric can be taken. Look for NaN in its weights or inputs."
        )
    return values
