"""The loss and the metric of a torch model on a split: for decisions on validation, never for the final table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.tasks.splits import Split
from compress.tasks.task import Loss
from compress.training.losses import check_logits, run_model, task_loss


def evaluate_split(
    model: nn.Module,
    split: Split,
    loss: Loss = "cross_entropy",
    metric: str = "accuracy",
    *,
    batch_size: int = 256,
    device: str = "cpu",
) -> dict[str, float]:
    """{"loss": mean loss of a sample, "metric": accuracy in per cent, or mse}, in eval mode and float32.

    The model's mode and device are left as they were. Raises ModelError where it cannot run on the split.
    """
    training, home = model.training, _device_of(model)
    model.eval().to(device)
    try:
        with torch.no_grad():
            return _totals(model, split, loss, metric, batch_size, device)
    finally:
        model.train(training).to(home)


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def _totals(model: nn.Module, split: Split, loss: Loss, metric: str, batch_size: int, device: str) -> dict[str, float]:
    samples, loss_sum, score_sum = 0, 0.0, 0.0
    for inputs, targets in split.batches(batch_size, device=device):
        outputs = run_model(model, inputs)
        samples += len(targets)
        loss_sum += float(task_loss(loss, outputs, targets)) * len(targets)
        score_sum += _score_sum(metric, outputs, targets)
    return {"loss": loss_sum / samples, "metric": score_sum / samples}


def _score_sum(metric: str, outputs: Tensor, targets: Tensor) -> float:
    if metric == "mse":
        return float(task_loss("mse", outputs, targets)) * len(targets)
    check_logits(outputs, targets)
    return 100.0 * int((outputs.argmax(1) == targets).sum())


def better(metric: str, new: dict[str, float], old: dict[str, float]) -> bool:
    """Whether one result of evaluate_split beats another: by the metric, then by the loss."""
    sign = 1 if metric == "accuracy" else -1
    return (sign * new["metric"], -new["loss"]) > (sign * old["metric"], -old["loss"])
