"""Optimizers by name: each makes a torch optimizer of parameter groups, and says which defaults suit it.

One of your own is one decorated function (groups, learning_rate, ...) -> torch.optim.Optimizer. torch is imported where
one is made, so that recipes load quickly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compress.core.registries import OPTIMIZERS
from evaluate.core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Groups = list[dict[str, Any]]


def register_optimizer(name: str, **defaults: float) -> Callable[[Any], Any]:
    """Decorator of a function that takes parameter groups, and the settings of TrainConfig that it has arguments for.

    defaults : values that replace TrainConfig's own where the recipe gives none: learning_rate, weight_decay.
    Each group brings its own weight_decay.
    """
    return OPTIMIZERS.register(name, defaults=defaults)


@register_optimizer("sgd")
def sgd(groups: Groups, learning_rate: float, momentum: float, nesterov: bool) -> Optimizer:
    """Gradient descent with momentum."""
    import torch

    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=nesterov and momentum > 0)


@register_optimizer("adamw", learning_rate=0.001, weight_decay=0.01)
def adamw(groups: Groups, learning_rate: float) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    import torch

    return torch.optim.AdamW(groups, lr=learning_rate)


def make_optimizer(model: nn.Module, config: Any) -> Optimizer:
    """The optimizer of a TrainConfig over the parameters that take gradients.

    Those of one dimension (biases, norms) do not decay. Raises ModelError where there is no parameter to train.
    """
    params = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not params:
        raise ModelError(f"{type(model).__name__} has no parameter that takes gradients: there is nothing to train.")
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    build = OPTIMIZERS.get(config.optimizer).target
    wanted = list(inspect.signature(build).parameters)[1:]
    made: Optimizer = build(groups, **{name: getattr(config, name) for name in wanted})
    return made
