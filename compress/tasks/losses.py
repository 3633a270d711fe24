"""Losses by name: from a batch of outputs and targets to one number.

One of your own is one decorated function (outputs, targets) -> scalar tensor; its facts say what training may do with
it. A callable that is not registered may be a task's loss too, in Python only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import Tensor

from compress.core.registries import LOSSES
from evaluate.core.components import Component
from evaluate.core.errors import ModelError

Loss: TypeAlias = str | Callable[[Tensor, Tensor], Tensor]


def register_loss(
    name: str, *, labels: bool | None = None, class_weights: bool = False, blends: bool = False
) -> Callable[[Any], Any]:
    """Decorator of a function (outputs, targets) -> the mean loss of a batch, a scalar tensor; outputs are float32.

    labels        : whether targets are class ids (True), floats (False), or may be either (None).
    class_weights : whether it takes `weight` (classes,) and `smoothing`, the settings class_weights, label_smoothing.
    blends        : whether it takes targets that mixup has blended: shares (n, classes) of classes, or floats.
    """
    return LOSSES.register(name, labels=labels, class_weights=class_weights, blends=blends)


def loss_of(loss: Loss) -> Component[Any]:
    """The component of a loss; of a callable without a name one that says nothing of itself. Raises RecipeError."""
    if isinstance(loss, str):
        return LOSSES.get(loss)
    named = next((found for found in LOSSES.all(installed=False).values() if found.target is loss), None)
    return named or Component("loss", "", loss, {"labels": None, "class_weights": False, "blends": False})


def task_loss(loss: Loss, outputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """The mean loss of a batch, in float32; `options` are weight and smoothing. Raises ModelError for other shapes."""
    value: Tensor = loss_of(loss).target(outputs.float(), targets, **options)
    return value


@register_loss("cross_entropy", labels=True, class_weights=True, blends=True)
def cross_entropy(outputs: Tensor, targets: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Of outputs (n, classes), and class ids (n,) or shares (n, classes)."""
    classes = targets.shape[1] if targets.is_floating_point() else int(targets.max()) + 1
    if outputs.ndim != 2 or outputs.shape[1] < classes:
        raise ModelError(
            f"outputs of shape {tuple(outputs.shape)}, expected (n, classes) with at least {classes} classes: build "
            f"the model with as many classes as the task has."
        )
    return F.cross_entropy(outputs, targets, weight=weight, label_smoothing=smoothing)


@register_loss("mse", labels=False, blends=True)
def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared difference; outputs and targets may differ in a last axis of 1."""
    if outputs.shape != targets.shape and outputs.squeeze(-1).shape != targets.squeeze(-1).shape:
        raise ModelError(f"outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}.")
    return F.mse_loss(outputs.reshape(targets.shape), targets)
