"""Learning-rate schedules as one pure function: the factor of the peak rate at a step."""

from __future__ import annotations

import math

from compress.training.settings import ScheduleConfig


def rate_factor(config: ScheduleConfig, step: int, steps: int, epoch_steps: int) -> float:
    """The learning rate at `step` (from 0) of `steps`, over the peak rate; `epoch_steps` are the steps of one epoch.

    The warm-up rises linearly and reaches 1 with its last step; the curve then runs over the steps that remain, and
    reaches its end value right after the last one, so that no step is made with a rate of zero.
    """
    warmup = round(max(config.warmup_epochs * epoch_steps, config.warmup_fraction * steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    match config.kind:
        case "cosine":
            return _cosine(1.0, config.final, progress)
        case "linear":
            return 1.0 + (config.final - 1.0) * progress
        case "exponential":
            return float(config.final**progress)
        case "step":
            return config.gamma ** sum(step / steps >= milestone for milestone in config.milestones)
        case "inverse_time":
            return 1.0 / (1.0 + config.rate * (step - warmup) / epoch_steps)
        case "one_cycle":
            return _one_cycle(config, progress)
        case "constant":
            return 1.0


def _cosine(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1.0 + math.cos(math.pi * progress)) / 2.0


def _one_cycle(config: ScheduleConfig, progress: float) -> float:
    """Up from `start` to 1 and down to `final`, along half cosines (Smith & Topin 2018, as in torch's OneCycleLR)."""
    if progress < config.peak_at:
        return _cosine(config.start, 1.0, progress / config.peak_at)
    return _cosine(1.0, config.final, (progress - config.peak_at) / (1.0 - config.peak_at))
