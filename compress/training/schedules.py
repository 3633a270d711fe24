"""Learning-rate schedules: each a pure function from the progress of training to the factor of the peak rate.

A schedule of your own is one decorated function (schedule, moment) -> factor. Needs no torch, so that recipes load
quickly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from compress.core.arguments import ComponentName
from compress.core.config import Config
from compress.core.registries import SCHEDULES


class Moment(NamedTuple):
    """A step after the warm-up, from 0; a training has `steps`, `warmup` of them first, and `epoch_steps` an epoch."""

    step: int
    steps: int
    warmup: int
    epoch_steps: int

    @property
    def progress(self) -> float:
        """How far it is from the end of the warm-up, 0, to the end of the training, 1."""
        return (self.step - self.warmup) / max(1, self.steps - self.warmup)


class ScheduleConfig(Config):
    """How the learning rate moves, step by step, from the first step of training to the last."""

    kind: Annotated[str, ComponentName(SCHEDULES)] = Field(
        default="cosine", description="The shape of the curve after the warm-up."
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, le=1e6, description="Epochs over which the rate rises linearly from zero to its peak."
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
    rate: float = Field(default=0.1, gt=0, le=1e6, description="inverse_time: a in peak / (1 + a t), t in epochs.")
    start: float = Field(default=0.04, gt=0, le=1, description="one_cycle: first rate over peak rate.")
    peak_at: float = Field(
        default=0.3, gt=0, lt=1, description="one_cycle: where the peak lies, as a fraction of the training."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        facts = SCHEDULES.get(self.kind).facts
        problems = list(_unused_fields(self))
        if self.warmup_epochs and self.warmup_fraction:
            problems.append("give warmup_epochs or warmup_fraction, not both")
        if facts["own_warmup"] and (self.warmup_epochs or self.warmup_fraction):
            problems.append(f"{self.kind} has its own warm-up: use {facts['own_warmup']} in place of warmup_*")
        if facts["above_zero"] and self.final == 0:
            problems.append(
                f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind} schedule never reaches zero: give final above "
                f"0, for instance 0.01"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _unused_fields(schedule: ScheduleConfig) -> list[str]:
    """A field that differs from its default though this kind of schedule never reads it."""
    readers = {name: found.facts["uses"] for name, found in SCHEDULES.all(installed=False).items()}
    unused = {field for uses in readers.values() for field in uses} - {*SCHEDULES.get(schedule.kind).facts["uses"]}
    return [
        f"{name} has no effect on a {schedule.kind} schedule "
        f"(only on {', '.join(kind for kind, uses in readers.items() if name in uses)})"
        for name, field in ScheduleConfig.model_fields.items()
        if name in unused and getattr(schedule, name) != field.default
    ]


Curve = Callable[[ScheduleConfig, Moment], float]


def register_schedule(
    name: str, *, uses: tuple[str, ...] = (), own_warmup: str = "", above_zero: bool = False
) -> Callable[[Curve], Curve]:
    """Decorator of a function (schedule, moment) -> the rate over its peak, for every step after the warm-up.

    uses       : the fields of ScheduleConfig that it reads; another one that is set is an error.
    own_warmup : where it warms up by itself: which fields to use in place of warmup_*, in words.
    above_zero : whether `final` may not be 0.
    """
    return SCHEDULES.register(name, uses=uses, own_warmup=own_warmup, above_zero=above_zero)


def rate_factor(config: ScheduleConfig, step: int, steps: int, epoch_steps: int) -> float:
    """The learning rate at `step` (from 0) of `steps`, over the peak rate; `epoch_steps` are the steps of one epoch.

    The warm-up rises linearly and reaches 1 with its last step; the curve then runs over the steps that remain, and
    reaches its end value right after the last one, so that no step is made with a rate of zero.
    """
    warmup = round(max(config.warmup_epochs * epoch_steps, config.warmup_fraction * steps))
    if step < warmup:
        return (step + 1) / warmup
    curve: Curve = SCHEDULES.get(config.kind).target
    return float(curve(config, Moment(step, steps, warmup, epoch_steps)))


@register_schedule("constant")
def constant(config: ScheduleConfig, at: Moment) -> float:
    """The peak rate all along."""
    return 1.0


@register_schedule("cosine", uses=("final",))
def cosine(config: ScheduleConfig, at: Moment) -> float:
    """Half a cosine down to `final`."""
    return _cosine(1.0, config.final, at.progress)


@register_schedule("linear", uses=("final",))
def linear(config: ScheduleConfig, at: Moment) -> float:
    """A line down to `final`."""
    return 1.0 + (config.final - 1.0) * at.progress


@register_schedule("exponential", uses=("final",), above_zero=True)
def exponential(config: ScheduleConfig, at: Moment) -> float:
    """The same ratio with every step, down to `final`."""
    return float(config.final**at.progress)


@register_schedule("step", uses=("milestones", "gamma"))
def step(config: ScheduleConfig, at: Moment) -> float:
    """Times `gamma` at each of the `milestones`."""
    return config.gamma ** sum(at.step / at.steps >= milestone for milestone in config.milestones)


@register_schedule("inverse_time", uses=("rate",))
def inverse_time(config: ScheduleConfig, at: Moment) -> float:
    """1 / (1 + `rate` t), t in epochs."""
    return 1.0 / (1.0 + config.rate * (at.step - at.warmup) / at.epoch_steps)


@register_schedule("one_cycle", uses=("final", "start", "peak_at"), own_warmup="peak_at and start")
def one_cycle(config: ScheduleConfig, at: Moment) -> float:
    """Up from `start` to 1 and down to `final`, along half cosines (Smith & Topin 2018, as in torch's OneCycleLR)."""
    if at.progress < config.peak_at:
        return _cosine(config.start, 1.0, at.progress / config.peak_at)
    return _cosine(1.0, config.final, (at.progress - config.peak_at) / (1.0 - config.peak_at))


def _cosine(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1.0 + math.cos(math.pi * progress)) / 2.0
