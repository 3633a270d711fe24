"""The settings of training, augmentation and distillation. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from compress.core.arguments import ComponentName
from compress.core.config import Config
from compress.core.errors import RecipeError
from compress.core.registries import OPTIMIZERS, TRAINERS
from compress.training.schedules import ScheduleConfig


class AugmentConfig(Config):
    """Random changes to the training images, in this order: flip, crop, cutout, mixup. All off by default."""

    flip: bool = Field(default=False, description="Mirror each image left to right with probability 1/2.")
    crop: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Shift each image by up to this many pixels: pad with zeros, crop at random.",
    )
    cutout: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Side in pixels of a square set to zero at a random place (DeVries & Taylor 2017).",
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Alpha of the Beta distribution that blends pairs of images (Zhang et al. 2018).",
    )

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return bool(self.flip or self.crop or self.cutout or self.mixup)


class DistillConfig(Config):
    """Learning from a teacher's outputs as well as from the labels (Hinton, Vinyals & Dean 2015)."""

    temperature: float = Field(default=4.0, gt=0, le=1000, description="T: how far both outputs are softened.")
    weight: float = Field(
        default=0.9, ge=0, le=1, description="Share of the teacher's term; 1 - weight is the share of the labels."
    )


class TrainConfig(Config):
    """One training run. Weight decay applies to weights of two and more dimensions, not to biases and norms."""

    epochs: int = Field(default=10, ge=1, le=1_000_000, description="Passes over the training split.")
    batch_size: int = Field(default=128, ge=1, le=1_000_000, description="Samples a step; a DataLoader brings its own.")
    optimizer: Annotated[str, ComponentName(OPTIMIZERS)] = Field(
        default="sgd", description="sgd, adamw, or one of your own as module:name."
    )
    learning_rate: float = Field(
        default=0.05, gt=0, le=1000, description="Peak rate; default 0.05 for sgd, 0.001 for adamw."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd: momentum; 0 is plain gradient descent.")
    nesterov: bool = Field(default=True, description="sgd: Nesterov's form, where there is momentum.")
    weight_decay: float = Field(
        default=5e-4, ge=0, le=100, description="Default 5e-4 for sgd, 0.01 for adamw; biases and norms are left out."
    )
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="How the learning rate moves.")
    clip_norm: float | None = Field(
        default=None, gt=0, le=1e9, description="Largest gradient norm; null does not clip."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of each label spread over all classes.")
    class_weights: Literal["balanced"] | tuple[Annotated[float, Field(ge=0, le=1e9)], ...] | None = Field(
        default=None, description="Weight of each class in the loss; balanced is n / (classes x count)."
    )
    patience: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Stop after this many epochs without a better validation metric."
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="Weights to end with: of the best epoch on validation, or of the last."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="bf16 needs CUDA; auto takes bf16 there and fp32 elsewhere."
    )
    fn: Annotated[str, ComponentName(TRAINERS)] | None = Field(
        default=None, description="A training loop of your own as module:name, in place of leanfit's."
    )
    augment: AugmentConfig = Field(default=AugmentConfig(), description="Random changes to the training images.")
    deterministic: bool = Field(
        default=True, description="Use only operations that repeat bit for bit; an error names one that cannot."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_optimizer(cls, values: Any) -> Any:
        name = values.get("optimizer") if isinstance(values, dict) else None
        if not isinstance(name, str):
            return values
        try:
            return {**OPTIMIZERS.get(name).facts["defaults"], **values}
        except RecipeError:  # said of the field itself
            return values

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.schedule.warmup_epochs >= self.epochs and self.schedule.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.schedule.warmup_epochs:g} leaves nothing of {self.epochs} epochs")
        return self


Recalibrate = Annotated[
    int,
    Field(
        ge=0,
        le=1_000_000,
        description="Batches of 128 samples to estimate batch-norm statistics from; 0 keeps the old.",
    ),
]
"""What passes ask before they recover; 32 is theirs by default."""


class RecoverConfig(TrainConfig):
    """A short training that brings accuracy back after a pass, from a teacher too where `distill` is given."""

    epochs: int = Field(default=3, ge=1, le=1_000_000, description="Passes over the training split.")
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(kind="one_cycle"), description="How the learning rate moves."
    )
    distill: DistillConfig | None = Field(default=None, description="Learn from the uncompressed model as well.")
