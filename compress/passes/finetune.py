"""Training on: the network keeps its shape and learns for a few more epochs."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch import nn

from compress.core.traits import Traits
from compress.graph.model_state import ModelState
from compress.passes.base import Context, PassResult, Preview, register_pass
from compress.training.settings import TrainConfig
from compress.training.train import train

TRAINING = Traits(trains=True, needs_data=True, keeps_constraints=True)


def preview_training(model: nn.Module, config: TrainConfig, context: Context) -> Preview:
    """Training leaves every shape and size as it is."""
    layers = tuple(n for n, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None)
    return Preview(model, layers, notes=(f"trains for {config.epochs} epochs; sizes stay as they are",))


def train_copy(model: ModelState, config: TrainConfig, context: Context, **teaching: Any) -> PassResult:
    """Train a copy of `model`, with `teacher` and `distill` as `train` takes them; details hold the history."""
    result = train(
        copy.deepcopy(model.module),
        context.task,
        config,
        seed=context.seed,
        device=context.device,
        folder=context.folder,
        status=context.status,
        **teaching,
    )
    details = {
        "history": result.history,
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped,
        "teacher_outputs": result.teacher,
    }
    return PassResult(replace(model, module=result.module), details=details)


@register_pass("finetune", TrainConfig, preview=preview_training, traits=TRAINING)
def finetune(model: ModelState, config: TrainConfig, context: Context) -> PassResult:
    """Train on, from the labels of the task alone."""
    return train_copy(model, config, context)
