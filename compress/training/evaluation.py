"""The loss and the metric of a torch model on a split: for decisions on validation, never for the final table."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.core.forward import run_model
from compress.core.registries import LOSSES
from compress.tasks.losses import Loss, task_loss
from compress.tasks.splits import Split
from compress.training.placement import device_of
from evaluate.metrics.base import Metric, get_metric
from evaluate.metrics.class_ids import IGNORED


def evaluate_split(
    model: nn.Module,
    split: Split,
    loss: Loss = "cross_entropy",
    metric: str | Metric = "accuracy",
    *,
    batch_size: int = 256,
    device: str = "cpu",
) -> dict[str, float]:
    """{"loss": mean loss of a sample, "metric": the metric of all samples}, in eval mode and float32.

    Of ids of tokens or pixels it is the mean loss of those that are labelled.

    The model's mode and device are left as they were. Raises ModelError where it cannot run on the split.
    """
    training, home = model.training, device_of(model)
    model.eval().to(device)
    try:
        with torch.no_grad():
            return _judged(model, split, loss, get_metric(metric), batch_size, device)
    finally:
        model.train(training).to(home)


def _judged(
    model: nn.Module, split: Split, loss: Loss, metric: Metric, batch_size: int, device: str
) -> dict[str, float]:
    labels, losses, twins, samples = 0, 0.0, 0.0, 0
    parts: list[NDArray[np.float64]] = []
    twin = (
        metric.built_in and isinstance(loss, str) and metric.name in LOSSES.all(installed=False)
    )  # a loss too, as mse is
    for inputs, targets in split.batches(batch_size, device=device):
        outputs = run_model(model, inputs)
        dense = targets.ndim > 1 and not targets.is_floating_point()
        told = int((targets != IGNORED).sum()) if dense else len(targets)
        labels, losses = labels + told, losses + float(task_loss(loss, outputs, targets)) * told
        samples += len(targets)
        if twin:
            twins += float(task_loss(metric.name, outputs, targets)) * len(targets)
        else:
            parts.append(metric.per_sample(outputs.double().cpu().numpy(), targets.cpu().numpy()))
    return {"loss": losses / max(1, labels), "metric": twins / samples if twin else metric.value(np.concatenate(parts))}


def better(metric: Metric, new: dict[str, float], old: dict[str, float]) -> bool:
    """Whether one result of evaluate_split beats another: by the metric, then by the loss."""
    if new["metric"] != old["metric"]:
        return metric.better(new["metric"], old["metric"])
    return new["loss"] < old["loss"]
