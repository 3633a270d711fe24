"""The settings of training: schedule, augmentation, distillation. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from compress.core.config import Config

_USED_BY = {
    "final": ("cosine", "linear", "exponential", "one_cycle"),
    "milestones": ("step",),
    "gamma": ("step",),
    "rate": ("inverse_time",),
    "start": ("one_cycle",),
    "peak_at": ("one_cycle",),
}


class ScheduleConfig(Config):
    """How the learning rate moves, step by step, from the first step of training to the last."""

    kind: Literal["constant", "cosine", "linear", "exponential", "step", "inverse_time", "one_cycle"] = Field(
        default="cosine", description="The shape of the curve after the warm-up."
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Epochs over which the rate rises linearly from zero to its peak."
    )
    warmup_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="The same as a fraction of all steps; give one of the two."
    )
    final: float = Field(
        default=0.0, ge=0, le=1, description="Rate at the end over peak rate (cosine, linear, exponential, one_cycle)."
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75), description="step: where the rate is multiplied by `gamma`, as fractions of the training."
    )
    gamma: float = Field(default=0.1, gt=0, lt=1, description="step: the factor at each milestone.")
    rate: float = Field(default=0.1, gt=0, description="inverse_time: a in peak / (1 + a t), t in epochs.")
    start: float = Field(default=0.04, gt=0, le=1, description="one_cycle: first rate over peak rate.")
    peak_at: float = Field(
        default=0.3, gt=0, lt=1, description="one_cycle: where the peak lies, as a fraction of the training."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(_unused_fields(self))
        if self.warmup_epochs and self.warmup_fraction:
            problems.append("give warmup_epochs or warmup_fraction, not both")
        if self.kind == "one_cycle" and (self.warmup_epochs or self.warmup_fraction):
            problems.append("one_cycle has its own warm-up: use peak_at and start in place of warmup_*")
        if self.kind == "exponential" and self.final == 0:
            problems.append("an exponential schedule never reaches zero: give final above 0, for instance 0.01")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _unused_fields(schedule: ScheduleConfig) -> list[str]:
    """A field that differs from its default though this kind of schedule never reads it."""
    return [
        f"{name} has no effect on a {schedule.kind} schedule (only on {', '.join(kinds)})"
        for name, kinds in _USED_BY.items()
        if schedule.kind not in kinds and getattr(schedule, name) != ScheduleConfig.model_fields[name].default
    ]


class AugmentConfig(Config):
    """Random changes to the training images, in this order: flip, crop, cutout, mixup. All off by default."""

    flip: bool = Field(default=False, description="Mirror each image left to right with probability 1/2.")
    crop: int = Field(
        default=0, ge=0, description="Shift each image by up to this many pixels: pad with zeros, crop at random."
    )
    cutout: int = Field(
        default=0, ge=0, description="Side in pixels of a square set to zero at a random place (DeVries & Taylor 2017)."
    )
    mixup: float = Field(
        default=0.0, ge=0, description="Alpha of the Beta distribution that blends pairs of images (Zhang et al. 2018)."
    )

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return bool(self.flip or self.crop or self.cutout or self.mixup)


class DistillConfig(Config):
    """Learning from a teacher's outputs as well as from the labels (Hinton, Vinyals & Dean 2015)."""

    temperature: float = Field(default=4.0, gt=0, description="T: how far both outputs are softened.")
    weight: float = Field(
        default=0.9, ge=0, le=1, description="Share of the teacher's term; 1 - weight is the share of the labels."
    )


class TrainConfig(Config):
    """One training run. Weight decay applies to weights of two and more dimensions, not to biases and norms."""

    epochs: int = Field(default=10, ge=1, description="Passes over the training split.")
    batch_size: int = Field(default=128, ge=1, description="Samples a step; a DataLoader brings its own.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd or adamw.")
    learning_rate: float = Field(default=0.05, gt=0, description="Peak rate; default 0.05 for sgd, 0.001 for adamw.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd: momentum; 0 is plain gradient descent.")
    nesterov: bool = Field(default=True, description="sgd: Nesterov's form, where there is momentum.")
    weight_decay: float = Field(
        default=5e-4, ge=0, description="Default 5e-4 for sgd, 0.01 for adamw; biases and norms are left out."
    )
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="How the learning rate moves.")
    clip_norm: float | None = Field(default=None, gt=0, description="Largest gradient norm; null does not clip.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of each label spread over all classes.")
    class_weights: Literal["balanced"] | tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        default=None, description="Weight of each class in the loss; balanced is n / (classes x count)."
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many epochs without a better validation metric."
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="Weights to end with: of the best epoch on validation, or of the last."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="bf16 needs CUDA; auto takes bf16 there and fp32 elsewhere."
    )
    augment: AugmentConfig = Field(default=AugmentConfig(), description="Random changes to the training images.")
    deterministic: bool = Field(
        default=True, description="Use only operations that repeat bit for bit; an error names one that cannot."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_optimizer(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("optimizer") == "adamw":
            return {"learning_rate": 0.001, "weight_decay": 0.01, **values}
        return values

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.schedule.warmup_epochs >= self.epochs and self.schedule.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.schedule.warmup_epochs:g} leaves nothing of {self.epochs} epochs")
        return self


class RecoverConfig(TrainConfig):
    """A short training that brings accuracy back after a pass, from a teacher too where `distill` is given."""

    epochs: int = Field(default=3, ge=1, description="Passes over the training split.")
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(kind="one_cycle"), description="How the learning rate moves."
    )
    distill: DistillConfig | None = Field(default=None, description="Learn from the uncompressed model as well.")
