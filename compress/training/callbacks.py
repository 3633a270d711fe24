"""What takes part in a training beside the loop: callbacks, and further terms of the loss.

class Sparse(LossTerm):
    def __call__(self, step):
        return step.features["layer2"].abs().mean()

train(model, task, config, seed=0, terms=[Sparse(weight=1e-4, needs=["layer2"])])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compress.core.progress import Status
from compress.core.sources import values_key
from compress.tasks.task import Task
from compress.training.settings import TrainConfig


@dataclass
class TrainingState:
    """A training under way. A callback may set `stopped`, which ends it after the epoch.

    history    : what `TrainResult` says of each finished epoch.
    best_epoch : from 1, by the validation metric; 0 before the first.
    steps      : of the whole training; epoch_steps of one epoch.
    folder     : where the checkpoint lies; None keeps none.
    """

    model: nn.Module
    task: Task
    config: TrainConfig
    seed: int
    device: str
    folder: Path | None
    optimizer: torch.optim.Optimizer
    steps: int
    epoch_steps: int
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: bool = False


@dataclass(frozen=True)
class Step:
    """One batch as the model saw it, after augmentation, and what it gave.

    epoch, number     : from 0; `number` counts the steps of all epochs.
    inputs            : name -> (n, ...); targets (n,) class ids, (n, classes) shares or (n, ...) floats.
    indices           : (n,) of the samples in the training split; None for a loader's.
    flipped           : (n,) bool, which images are mirrored; None without such augmentation.
    outputs, features : (n, ...) of the model, and of the modules that a term needs, by name.
    mean_loss         : over the epoch so far, this step included; for callbacks, 0 while the loss is being made.
    """

    epoch: int
    number: int
    inputs: Mapping[str, Tensor]
    targets: Tensor
    indices: Tensor | None
    flipped: Tensor | None
    outputs: Tensor
    features: Mapping[str, Tensor]
    mean_loss: float = 0.0


class Callback:
    """Called as training goes on. What it changes must follow from its values: they are part of the checkpoint's key.

    A callback that holds a value whose content cannot be told (an open file) makes the training start anew after an
    interruption; override `key` where such a value does not change the result.
    """

    def on_start(self, state: TrainingState) -> None:
        """Before the first step, and before the first after an interruption."""

    def on_step(self, state: TrainingState, step: Step) -> None:
        """After the optimizer's step."""

    def on_epoch(self, state: TrainingState) -> None:
        """After an epoch and its validation, before the checkpoint; `state.history` ends with it."""

    def on_end(self, state: TrainingState) -> None:
        """When the model has the weights that it keeps."""

    def key(self) -> str | None:
        """Differs where the result would; None where that cannot be told."""
        return values_key(self)

    def tensors(self) -> dict[str, Tensor]:
        """What must be there again after an interruption; kept in the checkpoint."""
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave."""


class LossTerm(Callback):
    """One more term of the loss: `weight` times what it gives for a step is added.

    needs : names of modules of the model whose outputs it reads, as `step.features`.
    """

    def __init__(self, weight: float = 1.0, needs: Sequence[str] = ()) -> None:
        self.weight, self.needs = weight, tuple(needs)

    def __call__(self, step: Step) -> Tensor:
        """A scalar tensor with gradients."""
        raise NotImplementedError

    def join(self, loss: Tensor, step: Step) -> Tensor:
        """The loss so far and this term together."""
        return loss + self.weight * self(step)


class Constraint(Protocol):
    """What holds for a module's weights whatever trains them, such as a mask."""

    def apply(self, module: nn.Module) -> object:
        """Impose it, in place."""


class KeepConstraints(Callback):
    """Imposes constraints on the model again after every step of the optimizer."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.constraints = tuple(constraints)

    def on_start(self, state: TrainingState) -> None:
        """Impose them on the weights that training starts from."""
        for constraint in self.constraints:
            constraint.apply(state.model)

    def on_step(self, state: TrainingState, step: Step) -> None:
        """Impose them on what the step has made of the weights."""
        self.on_start(state)


class Progress(Callback):
    """Tells `status` of every step; changes nothing."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def on_step(self, state: TrainingState, step: Step) -> None:
        """`epoch 2 of 10, loss 0.1234`, with the steps done and in all."""
        message = f"epoch {step.epoch + 1} of {state.config.epochs}, loss {step.mean_loss:.4f}"
        self.status(message, step.number + 1, state.steps)

    def key(self) -> str:
        """The same for all: it changes nothing."""
        return ""
