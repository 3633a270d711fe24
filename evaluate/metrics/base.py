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
from evaluate.metrics import resampling
from evaluate.metrics.resampling import Counts, Floats
from evaluate.metrics.shown import Shown

Array = NDArray[Any]
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
class Metric(Shown):
    """A mean over samples, judged by the values of each. A registered function fills `function`; a class overrides.

    What is no mean over samples gives (n, k) statistics a sample and says in `value` what they come to together; its
    interval and its paired drop follow by resampling samples.

    labels : whether targets are class ids (True), floats (n, ...) (False), or may be either (None).
    dense  : whether class ids may have more axes, (n, ...) for outputs (n, classes, ...); else they are (n,).
    """

    labels: bool | None = None
    dense: bool = False
    function: PerSample | None = None
    built_in: bool = False

    test = "sign test"  # what the p of a drop with gained and lost comes from

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n,) values in the metric's unit, or (n, k) of what `value` needs of each sample.

        A sample's row may not depend on the others: validation asks batch by batch. Raises DataError for shapes and ids
        that do not fit.
        """
        if self.function is None:
            raise NotImplementedError(f"metric {self.name} neither is a function nor defines per_sample")
        values = np.asarray(self.function(outputs, targets), dtype=np.float64)
        if values.shape != (len(targets),):
            raise DataError(
                f"metric {self.label} gave values of shape {list(values.shape)} for {len(targets)} samples: "
                f"one a sample is needed, [{len(targets)}]"
            )
        return values

    def value(self, values: Floats) -> float:
        """The metric of all samples, from what `per_sample` gave: the mean of (n,) values."""
        if values.ndim != 1:
            raise DataError(
                f"metric {self.label} gave statistics of shape {list(values.shape)}: its class has to define "
                f"value(values), what they come to together, or give one value a sample, [{len(values)}]"
            )
        return float(values.mean())

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) metrics of r resamples; counts (r, n) say how often each sample is in it, nan where it has none there.

        A class that can do all at once overrides it, for speed.
        """
        return np.array([self.value(np.repeat(values, row, axis=0)) for row in counts])

    @property
    def is_mean(self) -> bool:
        """Whether it is the mean of (n,) values, for which there are closed forms and faster ways."""
        return type(self).value is Metric.value

    def interval(self, values: Floats) -> Interval:
        """The value of n samples and its 95 % interval, by the percentile bootstrap over samples (Efron 1979).

        Samples that are all alike give it no width, which is no certainty: a share of right answers then has Wilson's
        interval, as of n answers.
        """
        value = self.value(values)
        if self.is_mean:
            found = stats.mean_interval(values)
        else:
            (drawn,) = resampling.replicates(self.resampled, values)
            found = resampling.percentile_interval(value, drawn)
        if not self.share or found.low < found.high:
            return found
        _, low, high = stats.wilson(round(value / 100 * len(values)), len(values))
        return Interval(value, min(value, 100 * low), max(value, 100 * high))

    def drop(self, before: Floats, after: Floats) -> Drop:
        """Baseline minus this model, of what `per_sample` gave for both on the same samples, with a paired interval.

        Of (n,) values gained and lost count the samples that got better and worse, and p is the sign test on them. Of
        (n, k) statistics no sample is better or worse by itself: gained and lost are None, and p is the paired
        bootstrap's, which is below 0.05 where the interval does not hold 0.
        """
        (value, low, high), p = self._gap(before, after)
        if before.ndim != 1:
            return Drop(value=value, low=low, high=high, gained=None, lost=None, p=p)
        better = after > before if self.higher_is_better else after < before
        gained, lost = int(np.sum(better)), int(np.sum(before != after)) - int(np.sum(better))
        return Drop(value=value, low=low, high=high, gained=gained, lost=lost, p=stats.mcnemar(gained, lost))

    def _gap(self, before: Floats, after: Floats) -> tuple[Interval, float]:
        """The difference with its interval, and the bootstrap's p, which is 1 for a mean: it has the sign test."""
        value, p = self.value(before) - self.value(after), 1.0
        if self.is_mean:
            found = stats.mean_interval(before - after)
        else:
            gaps = np.subtract(*resampling.replicates(self.resampled, before, after))
            found, p = resampling.percentile_interval(value, gaps), resampling.two_sided(gaps)
        if not self.share or found.low < found.high:
            return found, p
        right = round(self.value(after) / 100 * len(after))  # no sample differs from another in what was lost
        _, low, high = stats.newcombe(right, 0, 0, len(after) - right)
        return Interval(value, value + 100 * low, value + 100 * high), p

    def by_class(
        self, outputs: Floats, targets: Array, classes: Sequence[str]
    ) -> tuple[list[ClassScore], Macro | None]:
        """Precision, recall and F1 of each class and their means; nothing for a metric that knows no classes."""
        return [], None

    def drop_by_class(self, base: Floats, outputs: Floats, targets: Array, classes: Sequence[str]) -> list[ClassDrop]:
        """The drop of each class that has samples; nothing for a metric that knows no classes."""
        return []


def register_metric(
    name: str, *, higher_is_better: bool, unit: str = "", labels: bool | None = None, dense: bool = False
) -> Callable[[Any], Any]:
    """Decorator of a function (outputs, targets) -> (n,) values in `unit`, or of a subclass of Metric.

    outputs : (n, ...) float64, as the exported file gave them; targets as the task has them. `Metric` says the rest.
    """
    return METRICS.register(name, unit=unit, higher_is_better=higher_is_better, labels=labels, dense=dense)


def get_metric(name: str | Metric) -> Metric:
    """The metric of a name or of `package.module:name`, or itself. Raises UsageError where there is none."""
    if isinstance(name, Metric):
        return name
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


def _seen(metric: Metric, outputs: ArrayLike, truth: Array) -> Floats:
    """Finite outputs; of class ids with more axes than (n,), with the classes along axis 1 though they came last.

    Where both could be meant, outputs of (n, 16, 16), they are along axis 1.
    """
    values, axes = finite_outputs(outputs), truth.shape[1:]
    last = bool(axes) and values.shape[1:-1] == axes and values.shape[2:] != axes
    return np.moveaxis(values, -1, 1) if metric.dense and last and truth.dtype.kind in "iu" else values


def score(
    outputs: ArrayLike, targets: ArrayLike, metric: str | Metric = "accuracy", classes: Sequence[str] = ()
) -> Score:
    """The metric of these outputs, with interval and per class.

    outputs : (n, classes) logits or probabilities for accuracy; (n, classes, ...) or (n, ..., classes) for class ids
              (n, ...); any shape equal to the targets' for mse.
    targets : (n,) integer class ids, or floats for mse.
    classes : names by id; the ids themselves where none are given.
    Shares of right samples have Wilson's interval; others a bootstrap interval over samples. A precision, recall or F1
    that would divide by zero is 0. Raises ModelError for outputs that are not finite, DataError for shapes and ids that
    do not fit, UsageError for an unknown metric.
    """
    asked, truth = get_metric(metric), np.asarray(targets)
    values = _seen(asked, outputs, truth)
    value, low, high = asked.interval(asked.per_sample(values, truth))
    per_class, macro = asked.by_class(values, truth, classes)
    found = Score(metric=asked.name, value=value, low=low, high=high, n=len(truth), per_class=per_class, macro=macro)
    return found if asked.built_in else {**found, "unit": asked.unit, "higher_is_better": asked.higher_is_better}


def drop(base_outputs: ArrayLike, outputs: ArrayLike, targets: ArrayLike, metric: str | Metric = "accuracy") -> Drop:
    """Baseline metric minus this model's metric on the same samples, with a paired interval.

    For accuracy, per cent points: positive is worse; `stats.paired_drop` names the methods. For another, in its unit:
    `Metric.drop`. Raises as `score` does.
    """
    asked, truth = get_metric(metric), np.asarray(targets)
    before, after = (asked.per_sample(_seen(asked, values, truth), truth) for values in (base_outputs, outputs))
    return asked.drop(before, after)


def per_class_drop(
    base_outputs: ArrayLike,
    outputs: ArrayLike,
    targets: ArrayLike,
    classes: Sequence[str] = (),
    metric: str | Metric = "accuracy",
) -> list[ClassDrop]:
    """By class, how many points of its samples the model gets right no longer; classes without samples are left out."""
    asked, truth = get_metric(metric), np.asarray(targets)
    before, after = (_seen(asked, values, truth) for values in (base_outputs, outputs))
    return asked.drop_by_class(before, after, truth, classes)


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
