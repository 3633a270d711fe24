"""The laws by the names that `--law` and JSON laws use; a law's module is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from evaluate.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


_HERE = "evaluate.scaling"
LAWS = {
    "power": ("curves", "PowerLaw"),
    "power-floor": ("curves", "PowerLawFloor"),
    "m3": ("curves", "M3"),
    "m4": ("curves", "M4"),
    "bnsl1": ("curves", "BNSL1"),
    "bnsl2": ("curves", "BNSL2"),
    "log-linear": ("curves", "LogLinear"),
    "chinchilla": ("joint", "Chinchilla"),
    "chinchilla-tied": ("joint", "ChinchillaTied"),
    "effective": ("joint", "EffectiveParameters"),
    "precision": ("precision", "Precision"),
    "rosenfeld": ("pruning", "Rosenfeld"),
    "frantar": ("pruning", "Frantar"),
    "distillation": ("distillation", "Distillation"),
    "linear": ("linear", "Linear"),
    "average": ("averaging", "Average"),
}


def names_of_laws() -> tuple[str, ...]:
    """Every known name."""
    return tuple(LAWS)


def law_class(name: str) -> type[Law]:
    """The class of a law by its name. Raises UsageError."""
    if name not in LAWS:
        raise UsageError(f"there is no law {name!r}{did_you_mean(name, LAWS)}; known: {', '.join(LAWS)}")
    module, class_name = LAWS[name]
    found: type[Law] = getattr(importlib.import_module(f"{_HERE}.{module}"), class_name)
    return found
