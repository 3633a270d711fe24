"""Is the baseline sane? Asked before any pass is paid for: is it better than a constant answer, and as was expected?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.core.forward import run_model
from compress.tasks import Task
from compress.tasks.heads import HeadMetric
from evaluate.core.errors import LeanfitError, ModelError
from evaluate.metrics.base import Metric, get_metric, metric_of

MOST = 2000  # validation samples that are looked at
FEWEST = 100  # with fewer nothing is refused
BATCH = 256
_POINT = 1.0  # of a metric in per cent; of others one per cent of what was expected


@dataclass(frozen=True)
class Sanity:
    """The baseline's metric on n validation samples, with its 95 % interval, and that of the best constant answer.

    constant : None where no constant answer has a value (a rank correlation).
    repeated : how many test samples are training samples too.
    unit, higher_is_better : of the metric.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    constant: float | None
    repeated: int
    unit: str = ""
    higher_is_better: bool = True

    @property
    def shown(self) -> Metric:
        """The metric, to show figures by."""
        return metric_of({"metric": self.metric, "unit": self.unit, "higher_is_better": self.higher_is_better})

    def as_dict(self) -> dict[str, float | int | str | None]:
        """JSON-able."""
        return asdict(self)

    def told(self) -> str:
        """`accuracy 93.10 (91.92 to 94.13) on 2000 validation samples`."""
        metric = self.shown
        decimals = metric.decimals(self.value, self.high)
        value, low, high = (f"{number:.{decimals}f}" for number in (self.value, self.low, self.high))
        unit = f" {metric.unit}" if metric.unit else ""
        return f"{metric.label} {value}{unit} ({low} to {high}) on {self.n} validation samples"

    def no_better(self) -> bool:
        """Whether the interval holds what a constant answer gets, or worse."""
        if self.constant is None:
            return False
        return self.low <= self.constant if self.higher_is_better else self.high >= self.constant


def examine(model: nn.Module, task: Task, seed: int) -> Sanity:
    """Measure the baseline in torch on at most MOST validation samples, drawn by the seed. Raises as metrics do."""
    metric = get_metric(task.metric)
    split = task.validation.take(MOST, seed)
    parts = []
    with torch.no_grad():
        for inputs, _ in split.batches(BATCH):
            parts.append(run_model(model, inputs).double().numpy())
    outputs, targets = np.concatenate(parts), split.all_targets().numpy()
    value, low, high = metric.interval(metric.per_sample(outputs, targets))
    constant = _of_constant(metric, task, outputs.shape, targets)
    return Sanity(
        metric.name, float(value), float(low), float(high), len(targets), constant, _repeated(task), metric.unit,
        metric.higher_is_better,
    )  # fmt: skip


def require_sane(found: Sanity, expected: Mapping[str, float] | None, trained: bool, force: bool) -> list[str]:
    """What a Record warns of. Raises ModelError where the baseline is no good and nobody said that it shall go on."""
    problems = []
    if found.no_better():
        said = f"the baseline has {found.told()}, no better than one and the same answer to everything"
        problems.append(f"{said} ({found.constant:.4g})")
    for value in (expected or {}).values():
        metric = found.shown
        slack = _POINT if metric.unit == "%" else abs(value) * _POINT / 100
        if found.high < value - slack if metric.higher_is_better else found.low > value + slack:
            problems.append(f"the baseline has {found.told()}, where {value:g} was expected")
    if problems and not force and found.n >= FEWEST:
        reasons = (
            "its training has learnt nothing: train longer, or with another learning_rate"
            if trained
            else "inputs normalised otherwise than in its training (the task's `normalize`), classes in another order, "
            "weights of another network"
        )
        raise ModelError(
            f"{'; '.join(problems)}. The likely reasons: {reasons}. force=True (--force) goes on all the same."
        )
    if found.repeated:
        problems.append(
            f"{found.repeated} of the test samples are training samples too: what is measured on them is too good. "
            "Take them out of one of the two"
        )
    return [f"{problem[0].upper()}{problem[1:]}." for problem in problems]


def _of_constant(metric: Metric, task: Task, shape: tuple[int, ...], targets: NDArray[np.generic]) -> float | None:
    """The metric of the best answer that does not look at its input: the shares of the classes, or the mean."""
    known = task.train.all_targets()
    if isinstance(metric, HeadMetric):
        head = metric.head
        metric, shape, known, targets = (
            head.metric,
            (shape[0], head.width),
            head.targets.of(known),
            head.targets.of(targets),
        )
        shape = shape if head.targets.labelled else (shape[0], *head.targets.shape)
    answer = _shares(known, shape) if not known.is_floating_point() else known.double().mean(0).numpy()
    try:
        constant = np.broadcast_to(answer, shape) if known.is_floating_point() else np.broadcast_to(answer[None], shape)
        value = float(metric.interval(metric.per_sample(np.array(constant), targets))[0])
    except (LeanfitError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _shares(targets: Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(classes, 1, ...) logarithms of the share of each class, for outputs (n, classes, ...)."""
    classes = shape[1] if len(shape) > 1 else 1
    counts = np.bincount(targets[targets >= 0].flatten().numpy(), minlength=classes)[:classes] + 1.0
    return np.asarray(np.log(counts / counts.sum()).reshape(classes, *[1] * (len(shape) - 2)))


def _repeated(task: Task) -> int:
    """How many test samples have the very inputs of a training sample."""
    return int(np.isin(task.test.rows(), task.train.rows()).sum())
