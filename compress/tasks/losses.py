"""Losses by name: from a batch of outputs and targets to one number.

One of your own is one decorated function (outputs, targets) -> scalar tensor; its facts say what training may do with
it. A callable that is not registered may be a task's loss too, in Python only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from compress.core.registries import LOSSES
from evaluate.core.components import Component
from evaluate.core.errors import ModelError
from evaluate.metrics.class_ids import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

Loss: TypeAlias = "str | Callable[[Tensor, Tensor], Tensor]"
Kind: TypeAlias = Literal["classes", "labels", "values"]


def register_loss(
    name: str,
    *,
    labels: bool | None = None,
    class_weights: bool = False,
    blends: bool = False,
    kind: Kind | None = None,
) -> Callable[[Any], Any]:
    """Decorator of a function (outputs, targets) -> the mean loss of a batch, a scalar tensor; outputs are float32.

    labels        : whether targets are class ids (True), floats (False), or may be either (None).
    class_weights : whether it takes `weight` (classes,) and `smoothing`, the settings class_weights, label_smoothing.
    blends        : whether it takes targets that mixup has blended: shares (n, classes) of classes, or floats.
    kind          : what outputs describe, which distillation follows: "classes", the logits of one class of several
                    along axis 1; "labels", one logit each of answers that are 0 or 1 by themselves; "values", numbers.
                    None says nothing. Raises ValueError for another word.
    """
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"loss {name!r}: kind is one of {', '.join(get_args(Kind))} or None, got {kind!r}")
    return LOSSES.register(name, labels=labels, class_weights=class_weights, blends=blends, kind=kind)


def loss_of(loss: Loss) -> Component[Any]:
    """The component of a loss; of a callable without a name one that says nothing of itself. Raises RecipeError."""
    if isinstance(loss, str):
        return LOSSES.get(loss)
    named = next((found for found in LOSSES.all(installed=False).values() if found.target is loss), None)
    silent = {"labels": None, "class_weights": False, "blends": False, "kind": None}
    return named or Component("loss", "", loss, silent)


def task_loss(loss: Loss, outputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """The mean loss of a batch, in float32; `options` are weight and smoothing. Raises ModelError for other shapes."""
    value: Tensor = loss_of(loss).target(outputs.float(), targets, **options)
    return value


@register_loss("cross_entropy", labels=True, class_weights=True, blends=True, kind="classes")
def cross_entropy(outputs: Tensor, targets: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Of outputs (n, classes, ...), and class ids (n, ...), those of -100 left out, or shares of the outputs' shape."""
    shares = targets.is_floating_point()
    classes = targets.shape[1] if shares else int(targets.max()) + 1
    rest = outputs.shape[:1] + outputs.shape[2:]
    if (
        outputs.ndim < 2
        or outputs.shape[1] < classes
        or (targets.shape[2:] if shares else targets.shape[1:]) != rest[1:]
    ):
        raise ModelError(_unlike(outputs, targets, max(classes, 2)))
    if classes <= 0:  # all are left out, and a mean of none is no number
        return 0.0 * outputs.sum()
    from torch.nn import functional as F

    return F.cross_entropy(outputs, targets, weight=weight, label_smoothing=smoothing, ignore_index=IGNORED)


def _unlike(outputs: Tensor, targets: Tensor, classes: int) -> str:
    """What is wrong with outputs for these class ids or shares."""
    if targets.ndim > 1 and not targets.is_floating_point():
        return (
            f"outputs of shape {tuple(outputs.shape)} for class ids of shape {tuple(targets.shape)}, expected "
            f"(n, classes, ...) with at least {classes} classes and the ids' other axes after them; one-hot rows are "
            f"given as y.argmax(1)."
        )
    return (
        f"outputs of shape {tuple(outputs.shape)}, expected (n, classes) with at least {classes} classes: build the "
        f"model with as many classes as the task has."
    )


@register_loss("binary_cross_entropy", labels=False, blends=True, kind="labels")
def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of logits and targets from 0 to 1, one an answer of its own; they may differ in a last axis of 1."""
    from torch.nn import functional as F

    return F.binary_cross_entropy_with_logits(_as(targets, outputs), targets.to(outputs.dtype))


@register_loss("mse", labels=False, blends=True, kind="values")
def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared difference; outputs and targets may differ in a last axis of 1."""
    from torch.nn import functional as F

    return F.mse_loss(_as(targets, outputs), targets)


@register_loss("l1", labels=False, blends=True, kind="values")
def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean absolute difference; outputs and targets may differ in a last axis of 1."""
    from torch.nn import functional as F

    return F.l1_loss(_as(targets, outputs), targets)


@register_loss("huber", labels=False, blends=True, kind="values")
def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the square of a difference up to 1, linear beyond (Huber 1964): a few wild targets pull less.

    Outputs and targets may differ in a last axis of 1.
    """
    from torch.nn import functional as F

    return F.huber_loss(_as(targets, outputs), targets)


def _as(targets: Tensor, outputs: Tensor) -> Tensor:
    """The outputs in the targets' shape. Raises ModelError where they differ in more than a last axis of 1."""
    if outputs.shape != targets.shape and outputs.squeeze(-1).shape != targets.squeeze(-1).shape:
        raise ModelError(f"outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}.")
    return outputs.reshape(targets.shape)
