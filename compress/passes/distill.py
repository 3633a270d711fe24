"""Training on with a teacher: its softened outputs beside the labels (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator
from torch import nn

from compress.core.seeding import derive_seed, seeded
from compress.graph.model_state import ModelState
from compress.models import build_model, load_weights
from compress.models.weights import find_weights
from compress.passes.base import Context, PassResult, register_pass
from compress.passes.finetune import TRAINING, preview_training, train_copy
from compress.recipe.named import ModelBlock, Named
from compress.training.settings import DistillConfig, TrainConfig


class DistillPassConfig(TrainConfig, DistillConfig):
    """A training with a teacher: the settings of training, of distillation, and the teacher."""

    teacher: ModelBlock | None = Field(
        default=None, description="A registered model with `weights` to learn from; default: the uncompressed model."
    )

    def files(self) -> list[Path]:
        """The files whose content decides the result beside the settings. Raises ModelError where one is missing."""
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
    if named is None or named.weights is None:
        return context.original
    with seeded(derive_seed(context.seed, "teacher")):
        teacher = build_model(named.name, **named.args)
    load_weights(teacher, named.weights)
    return teacher.eval()
