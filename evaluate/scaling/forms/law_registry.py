"""The laws by the names that `--law` and JSON laws use; a law's module is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from evaluate.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


_HERE = "evaluate.scaling"
LAWS = {
    "power": ("forms.curves", "PowerLaw"),
    "power-floor": ("forms.curves", "PowerLawFloor"),
    "m3": ("forms.curves", "M3"),
    "m4": ("forms.curves", "M4"),
    "bnsl1": ("forms.curves", "BNSL1"),
    "bnsl2": ("forms.curves", "BNSL2"),
    "log-linear": ("forms.curves", "LogLinear"),
    "chinchilla": ("forms.joint", "Chinchilla"),
    "chinchilla-tied": ("forms.joint", "ChinchillaTied"),
    "effective": ("forms.joint", "EffectiveParameters"),
    "precision": ("forms.precision", "Precision"),
    "rosenfeld": ("forms.pruning", "Rosenfeld"),
    "frantar": ("forms.pruning", "Frantar"),
    "distillation": ("forms.precision", "Distillation"),
    "linear": ("forms.linear", "Linear"),
    "average": ("select.averaging", "Average"),
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
