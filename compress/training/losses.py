"""Losses and metrics on torch outputs, and the one place where a model is called on a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.core.errors import RecipeError
from compress.tasks.splits import Split
from compress.tasks.task import Loss, Task
from compress.training.settings import TrainConfig
from evaluate.core.errors import ModelError


def run_model(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Outputs (n, ...) of a model called with the inputs in their order. Raises ModelError where it cannot run."""
    try:
        outputs = model(*inputs.values())
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the device has too little memory for a batch of {_count(inputs)}: lower batch_size."
        ) from error
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
        shapes = ", ".join(f"{name} {tuple(t.shape)} {str(t.dtype)[6:]}" for name, t in inputs.items())
        raise ModelError(
            f"{type(model).__name__} cannot run on a batch of the task ({shapes}): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != _count(inputs):
        got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ModelError(f"{type(model).__name__} must return one tensor with a row a sample, got {got}. Wrap it.")
    return outputs


def _count(inputs: Mapping[str, Tensor]) -> int:
    return len(next(iter(inputs.values())))


def task_loss(
    loss: Loss, outputs: Tensor, targets: Tensor, *, weight: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """The mean loss of a batch, in float32.

    cross_entropy takes outputs (n, classes) and class ids (n,) or shares (n, classes); mse takes outputs of the
    targets' size. Raises ModelError for outputs of another shape.
    """
    outputs = outputs.float()
    if callable(loss):
        return loss(outputs, targets)
    if loss == "mse":
        return F.mse_loss(_like(outputs, targets), targets)
    check_logits(outputs, targets)
    return F.cross_entropy(outputs, targets, weight=weight, label_smoothing=smoothing)


def _like(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape and outputs.squeeze(-1).shape != targets.squeeze(-1).shape:
        raise ModelError(f"outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}.")
    return outputs.reshape(targets.shape)


def check_logits(outputs: Tensor, targets: Tensor) -> None:
    """Raise ModelError unless outputs are (n, classes) with a column for every class id in `targets`."""
    classes = targets.shape[1] if targets.is_floating_point() else int(targets.max()) + 1
    if outputs.ndim != 2 or outputs.shape[1] < classes:
        raise ModelError(
            f"outputs of shape {tuple(outputs.shape)}, expected (n, classes) with at least {classes} classes: build "
            f"the model with as many classes as the task has."
        )


def distillation_loss(loss: Loss, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far a student is from its teacher, both of shape (n, ...), averaged over the batch.

    T^2 KL(softmax(teacher / T) || softmax(outputs / T)), so that its gradient does not shrink with T (Hinton, Vinyals &
    Dean 2015, section 2.1); the mean squared difference for a task whose loss is mse.
    """
    if outputs.shape != teacher.shape:
        raise ModelError(
            f"the teacher's outputs {tuple(teacher.shape)} are unlike the student's {tuple(outputs.shape)}."
        )
    if loss == "mse":
        return F.mse_loss(outputs.float(), teacher.float())
    student = F.log_softmax(outputs.float() / temperature, dim=-1)
    target = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(student, target, reduction="batchmean", log_target=True)


class TaskLoss:
    """The loss that a training configuration makes of a task's: class weights and label smoothing included."""

    def __init__(self, loss: Loss, weight: Tensor | None, smoothing: float) -> None:
        self.loss, self.weight, self.smoothing = loss, weight, smoothing

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return task_loss(self.loss, outputs, targets, weight=self.weight, smoothing=self.smoothing)


def training_loss(task: Task, config: TrainConfig, device: str) -> TaskLoss:
    """Raises RecipeError where class weights or label smoothing do not fit the task."""
    if (config.class_weights is not None or config.label_smoothing) and task.loss != "cross_entropy":
        raise RecipeError(
            f"class_weights and label_smoothing need loss cross_entropy; task {task.name!r} has {task.loss!r}."
        )
    if config.class_weights is None:
        weight = None
    elif config.class_weights == "balanced":
        weight = _balanced(task.train, len(task.classes))
    else:
        weight = _given(config.class_weights, task)
    return TaskLoss(task.loss, None if weight is None else weight.to(device), config.label_smoothing)


def _balanced(split: Split, classes: int) -> Tensor:
    counts = torch.bincount(split.all_targets(), minlength=classes).clamp(min=1)
    return counts.sum() / (classes * counts.float())


def _given(weights: Sequence[float], task: Task) -> Tensor:
    if len(weights) != len(task.classes):
        raise RecipeError(
            f"class_weights has {len(weights)} numbers and task {task.name!r} has {len(task.classes)} classes: "
            f"{', '.join(task.classes)}."
        )
    if not any(weights):
        raise RecipeError("class_weights are all zero: nothing would be learnt.")
    return torch.tensor(weights)
