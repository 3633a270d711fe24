"""Metrics of a whole set that come from elsewhere: a torchmetrics object, or any function of outputs and targets.

Such a metric says nothing of single samples. Its interval and its paired drop come from the bootstrap over samples, so
that it is computed some thousand times: seconds for ten thousand samples of a cheap metric.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluate.core.errors import DataError, ModelError
from evaluate.metrics.base import Metric
from evaluate.metrics.resampling import Floats


@dataclass(frozen=True)
class WholeMetric(Metric):
    """A metric that `compute` gives for all samples: outputs (n, ...) float32, targets as the task has them."""

    compute: Callable[[Tensor, Tensor], Any] = field(kw_only=True)

    def per_sample(self, outputs: Floats, targets: Any) -> Floats:
        """(n, k): the shapes of a sample's output and target, then all their numbers, for `value` to take apart.

        Each row says the shapes by itself: the metric remembers nothing, so that use does not change the task's key.
        """
        shapes = [outputs.shape[1:], targets.shape[1:]]
        head = [targets.dtype.kind in "iu", *(n for shape in shapes for n in (len(shape), *shape))]
        parts = [np.tile(np.array(head, float), (len(targets), 1)), outputs, targets]
        return np.concatenate([np.reshape(part, (len(targets), -1)) for part in parts], 1, dtype=float)

    def value(self, values: Floats) -> float:
        """What `compute` gives. Raises ModelError where that is no single number."""
        head, count = values[0].astype(int), len(values)
        dims = 2 + head[1]
        output, target = tuple(head[2:dims]), tuple(head[dims + 1 : dims + 1 + head[dims]])
        start = dims + 1 + len(target)
        between = start + math.prod(output)
        outputs = torch.from_numpy(values[:, start:between].reshape(count, *output)).float()
        targets = torch.from_numpy(values[:, between:].reshape(count, *target))
        targets = targets.long() if head[0] else targets.float()
        try:
            found = torch.as_tensor(self.compute(outputs, targets))
        except Exception as error:  # any code of the user's may run here
            raise ModelError(
                f"metric {self.label} failed on outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} "
                f"{str(targets.dtype)[6:]}: {type(error).__name__}: {error}"
            ) from error
        if found.numel() != 1:
            raise ModelError(f"metric {self.label} gives {found.numel()} values; one is needed (average='macro'?)")
        return float(found)


def whole_metric(
    function: Callable[..., Any] | Metric, *, higher_is_better: bool | None = None, unit: str = "", name: str = ""
) -> Metric:
    """A metric of a torchmetrics object, or of a function (outputs, targets) -> one number for all samples.

    higher_is_better : which way it points; a torchmetrics object mostly says it itself.
    unit             : "%" for a share of right answers, 100 being all of them, or "".
    Raises DataError where nothing says which way it points.
    """
    if isinstance(function, Metric):
        return function
    shown = name or getattr(function, "__name__", type(function).__name__)
    better = higher_is_better if higher_is_better is not None else getattr(function, "higher_is_better", None)
    if not callable(function) or better is None:
        raise DataError(
            f"the metric {shown} does not say which way it points: give "
            "metric=leanfit.whole_metric(function, higher_is_better=True), or register one by @register_metric."
        )
    return WholeMetric(shown, unit, bool(better), compute=_computed(function))


def _computed(function: Any) -> Callable[[Tensor, Tensor], Any]:
    """One call of what torchmetrics does in three; its object is copied and stays as it was."""
    if not all(hasattr(function, part) for part in ("reset", "update", "compute")):
        return function  # type: ignore[no-any-return]
    own = copy.deepcopy(function)
    own.reset()

    def compute(outputs: Tensor, targets: Tensor) -> Any:
        try:
            own.update(outputs, targets)
            return own.compute()
        finally:
            own.reset()  # samples held would be part of the task's key

    return compute
