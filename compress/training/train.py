"""One training loop for baseline, recovery and distillation: deterministic under the seed, resumable by the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compress.core.progress import Status, silent
from compress.core.seeding import seeded
from compress.tasks.task import Task
from compress.training.augment import check_augment
from compress.training.determinism import deterministic
from compress.training.devices import at_home, autocast_dtype
from compress.training.loop import Training
from compress.training.settings import DistillConfig, TrainConfig
from compress.training.teacher import Teacher, TeacherMode
from evaluate.core.errors import ModelError


@dataclass(frozen=True)
class TrainResult:
    """What a training gave.

    module     : the model that was handed in, in eval mode, on the device where it was.
    history    : a dict an epoch: epoch (from 1), learning_rate (of its last step), loss (mean over the epoch, as
                 trained on), validation_loss, validation_metric, seconds. JSON-able.
    best_epoch : the epoch with the best validation metric, from 1; its weights are kept where config.keep is "best".
    seconds    : time spent on all epochs, those before an interruption included.
    teacher    : whether its outputs were "computed once" or "run each batch"; "none" without one.
    stopped    : whether patience ended the training before config.epochs.
    resumed    : epochs that were found finished on disk.
    """

    module: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int
    seconds: float
    teacher: TeacherMode = "none"
    stopped: bool = False
    resumed: int = 0


def train(
    model: nn.Module,
    task: Task,
    config: TrainConfig,
    *,
    seed: int,
    device: str = "cpu",
    folder: Path | None = None,
    teacher: nn.Module | None = None,
    distill: DistillConfig | None = None,
    status: Status = silent,
) -> TrainResult:
    """Train `model` in place on the task's training split, watching its validation split after every epoch.

    Every random number comes from `seed` and the epoch, so that the same call gives the same weights bit for bit, with
    or without an interruption: a checkpoint is written to `folder` after each epoch, and a later call with the same
    arguments goes on after the last finished one. With `distill` the loss is weight * T^2 KL(teacher || student) +
    (1 - weight) * the task's own (Hinton, Vinyals & Dean 2015), from `teacher` in eval mode.
    `status` is called with (message, steps done, steps in all) after each step. A batch of one sample that is left over
    at the end of an epoch is skipped: batch normalisation cannot use it.

    Raises ModelError where the model cannot run or the loss is no longer finite, RecipeError where settings do not fit
    the task, MachineError for a device that is not there, bf16 without CUDA, or a full disk.
    """
    if distill is not None and teacher is None:
        raise ModelError("distillation needs a teacher: hand in the trained model to learn from.")
    autocast = autocast_dtype(config.precision, device)
    check_augment(config.augment, task)
    guide = Teacher(teacher, task.train, config, device) if teacher is not None and distill is not None else None
    with at_home(model), deterministic(config.deterministic), seeded(seed):
        training = Training(model, task, config, seed=seed, device=device, autocast=autocast, folder=folder)
        training.learn_from(guide, distill, status)
        resumed = training.resume()
        training.run(status)
        training.finish()
    return TrainResult(
        module=model,
        history=training.history,
        best_epoch=training.best_epoch,
        seconds=sum(entry["seconds"] for entry in training.history),
        teacher=guide.mode if guide is not None else "none",
        stopped=training.stopped,
        resumed=resumed,
    )
