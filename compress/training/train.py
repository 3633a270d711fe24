"""One training loop for baseline, recovery and distillation: deterministic under the seed, resumable by the epoch."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.core.errors import RecipeError
from compress.core.forward import not_finite
from compress.core.progress import Status, silent
from compress.core.seeding import seeded
from compress.tasks.losses import loss_of, task_loss
from compress.tasks.splits import Split
from compress.tasks.task import Task
from compress.training.augment import check_augment
from compress.training.callbacks import Callback, Constraint, KeepConstraints, LossTerm, Progress
from compress.training.distillation import Distillation, TeacherMode, check_distillation
from compress.training.loop import BatchLoss, Training
from compress.training.optimizers import make_optimizer
from compress.training.placement import at_home, autocast_dtype, deterministic, place
from compress.training.settings import DistillConfig, RecoverConfig, TrainConfig
from compress.training.trainers import run_trainer, takes
from evaluate.core.errors import LeanfitError, ModelError
from evaluate.core.text import a_few
from evaluate.metrics.class_ids import IGNORED


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
    terms: Sequence[LossTerm] = (),
    callbacks: Sequence[Callback] = (),
    constraints: Sequence[Constraint] = (),
    status: Status = silent,
) -> TrainResult:
    """Train `model` in place on the task's training split, watching its validation split after every epoch.

    Every random number comes from `seed` and the epoch, so that the same call gives the same weights bit for bit, with
    or without an interruption: a checkpoint is written to `folder` after each epoch, and a later call with the same
    arguments goes on after the last finished one. With `distill` the loss is weight * T^2 KL(teacher || student) +
    (1 - weight) * the task's own (Hinton, Vinyals & Dean 2015), from `teacher` in eval mode; `terms` are added to it,
    `callbacks` are called as training goes on, and `constraints` hold after each step.
    `status` is called with (message, steps done, steps in all) after each step. A batch of one sample that is left over
    at the end of an epoch is skipped: batch normalisation cannot use it.

    Where `config.fn` names a loop of the user's own, that trains instead, with what it takes of these arguments;
    constraints hold when it ends, and there is no history.

    Raises ModelError where the model cannot run or the loss is no longer finite, RecipeError where settings do not fit
    the task, MachineError for a device that is not there, bf16 without CUDA, or a full disk.
    """
    if distill is not None and teacher is None:
        raise ModelError("distillation needs a teacher: hand in the trained model to learn from.")
    if config.fn is not None:
        more = {"task": task, "config": config, "teacher": teacher if distill is not None else None, "status": status}
        return _trained_by(config.fn, model, constraints, device, seed, more)
    autocast = autocast_dtype(config.precision, device)
    check_augment(config.augment, task)
    if teacher is not None and distill is not None:
        terms = (Distillation(teacher, distill, task, config, device, status), *terms)
    callbacks = (*((KeepConstraints(constraints),) if constraints else ()), *callbacks, Progress(status))
    with at_home(model), deterministic(config.deterministic), seeded(seed):
        place(model, device)
        training = Training(
            model=model, task=task, config=config, seed=seed, device=device, folder=folder,
            optimizer=make_optimizer(model, config), loss=training_loss(task, config, device), autocast=autocast,
            terms=terms, callbacks=callbacks,
        )  # fmt: skip
        resumed = training.run()
    return TrainResult(
        module=model,
        history=training.history,
        best_epoch=training.best_epoch,
        seconds=sum(entry["seconds"] for entry in training.history),
        teacher=next((term.teacher.mode for term in terms if isinstance(term, Distillation)), "none"),
        stopped=training.stopped,
        resumed=resumed,
    )


def _trained_by(
    name: str, model: nn.Module, constraints: Sequence[Constraint], device: str, seed: int, more: dict[str, Any]
) -> TrainResult:
    """Train by a loop of the user's own. Raises ModelError where it fails, or leaves what is no longer that network."""
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    began = time.perf_counter()
    try:
        with at_home(model), seeded(seed):
            model.to(device)
            run_trainer(name, model=model, device=device, seed=seed, **more)
    except LeanfitError:
        raise
    except Exception as error:  # any code of the user's runs here
        raise ModelError(f"trainer {name} failed: {type(error).__name__}: {error}") from error
    after = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    if after != shapes:
        changed = [key for key in {**shapes, **after} if shapes.get(key) != after.get(key)]
        raise ModelError(f"trainer {name} changed the network itself, not its values alone: {a_few(changed)}.")
    bad = not_finite(model.named_parameters())
    if bad:
        raise ModelError(f"trainer {name} left weights that are NaN or infinite: {a_few(bad)}.")
    for constraint in constraints:
        constraint.apply(model)
    model.eval()
    return TrainResult(model, history=[], best_epoch=0, seconds=time.perf_counter() - began)


def check_training(config: TrainConfig, task: Task) -> None:
    """Raise RecipeError where settings do not fit the task, before anything is trained."""
    taught = isinstance(config, DistillConfig) or (isinstance(config, RecoverConfig) and config.distill is not None)
    if config.fn is not None:
        if taught and not takes(config.fn, "teacher"):
            raise RecipeError(
                f"fn {config.fn}: distillation needs a `teacher` among its parameters, and it takes none."
            )
        return
    check_augment(config.augment, task)
    if taught:
        check_distillation(task)
    training_loss(task, config, "cpu")


def training_loss(task: Task, config: TrainConfig, device: str) -> BatchLoss:
    """The task's loss with the configuration's class weights and label smoothing.

    Raises RecipeError where they do not fit the task.
    """
    if config.class_weights is None and not config.label_smoothing:
        return functools.partial(task_loss, task.loss)
    if not loss_of(task.loss).facts["class_weights"]:
        raise RecipeError(
            f"class_weights and label_smoothing need loss cross_entropy; task {task.name!r} has {task.loss!r}."
        )
    if config.class_weights is None:
        weight = None
    elif config.class_weights == "balanced":
        weight = _balanced(task.train, len(task.classes)).to(device)
    else:
        weight = _given(config.class_weights, task).to(device)
    return functools.partial(task_loss, task.loss, weight=weight, smoothing=config.label_smoothing)


def _balanced(split: Split, classes: int) -> Tensor:
    targets = split.all_targets()
    counts = torch.bincount(targets[targets != IGNORED], minlength=classes).clamp(min=1)
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
