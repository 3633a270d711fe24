"""Training on: the network keeps its shape and learns for a few more epochs, from labels alone or from a teacher too.

The teacher's softened outputs stand beside the labels (Hinton, Vinyals & Dean 2015).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from compress.core.traits import Traits
from compress.passes.base import Context, PassResult, Preview, register_pass
from compress.recipe.named_blocks import ModelBlock, Named
from compress.training.settings import DistillConfig, TrainConfig

if TYPE_CHECKING:
    from torch import nn

    from compress.graph.model_state import ModelState

TRAINING = Traits(trains=True, needs_data=True, keeps_constraints=True)


def preview_training(model: nn.Module, config: TrainConfig, context: Context) -> Preview:
    """Training leaves every shape and size as it is."""
    layers = tuple(n for n, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None)
    return Preview(model, layers, notes=(f"trains for {config.epochs} epochs; sizes stay as they are",))


def train_copy(model: ModelState, config: TrainConfig, context: Context, **teaching: Any) -> PassResult:
    """Train a copy of `model`, with `teacher` and `distill` as `Context.train` takes them; details hold the history."""
    from compress.core.forward import copy_model

    result = context.train(replace(model, module=copy_model(model.module)), config, **teaching)
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


class DistillPassConfig(TrainConfig, DistillConfig):
    """A training with a teacher: the settings of training, of distillation, and the teacher."""

    teacher: ModelBlock | None = Field(
        default=None, description="A registered model with `weights` to learn from; default: the uncompressed model."
    )

    def files(self) -> list[Path]:
        """The files whose content decides the result beside the settings. Raises ModelError where one is missing."""
        from compress.models.weights import find_weights

        weights = self.teacher.weights if self.teacher is not None else None
        return [] if weights is None else [find_weights(weights)]

    @field_validator("teacher", mode="after")
    @classmethod
    def _is_trained(cls, teacher: Named | None) -> Named | None:
        if teacher is not None and teacher.weights is None:
            raise ValueError("the teacher needs 'weights': an untrained model has nothing to teach")
        return teacher


@register_pass(
    "distill", DistillPassConfig, preview=preview_training, traits=replace(TRAINING, learns_from_original=True)
)
def distill(model: ModelState, config: DistillPassConfig, context: Context) -> PassResult:
    """Train on, from the outputs of a teacher as well as from the labels; the teacher is the uncompressed model."""
    distilling = DistillConfig(temperature=config.temperature, weight=config.weight)
    return train_copy(model, config, context, teacher=_teacher(config.teacher, context), distill=distilling)


def _teacher(named: Named | None, context: Context) -> nn.Module:
    """The uncompressed model, or the one that is named, with its weights. Raises ModelError where they do not fit."""
    from compress.core.seeding import derive_seed, seeded
    from compress.models.model_registry import build_model
    from compress.models.weights import load_weights

    if named is None or named.weights is None:
        return context.original
    with seeded(derive_seed(context.seed, "teacher")):
        teacher = build_model(named.name, **named.args)
    load_weights(teacher, named.weights)
    context.task.adopt(teacher.eval())
    return teacher
