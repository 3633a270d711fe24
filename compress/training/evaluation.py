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
    samples, losses, twins = 0, 0.0, 0.0
    parts: list[NDArray[np.float64]] = []
    twin = (
        metric.built_in and isinstance(loss, str) and metric.name in LOSSES.all(installed=False)
    )  # a loss too, as mse is
    for inputs, targets in split.batches(batch_size, device=device):
        outputs = run_model(model, inputs)
        samples, losses = samples + len(targets), losses + float(task_loss(loss, outputs, targets)) * len(targets)
        if twin:
            twins += float(task_loss(metric.name, outputs, targets)) * len(targets)
        else:
            parts.append(metric.per_sample(outputs.double().cpu().numpy(), targets.cpu().numpy()))
    return {"loss": losses / samples, "metric": twins / samples if twin else metric.value(np.concatenate(parts))}


def better(metric: Metric, new: dict[str, float], old: dict[str, float]) -> bool:
    """Whether one result of evaluate_split beats another: by the metric, then by the loss."""
    if new["metric"] != old["metric"]:
        return metric.better(new["metric"], old["metric"])
    return new["loss"] < old["loss"]
