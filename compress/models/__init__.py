"""Networks of varying size: build_model(name, width=..., depth=...). A user's own are added by `register_model`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compress.models import file_model, libraries, own_networks
from compress.models.model_registry import build_model, check_model, model_args, model_names, models, register_model

if TYPE_CHECKING:
    from compress.models.resnet import PadShortcut
    from compress.models.weights import load_weights

__all__ = [
    "PadShortcut",
    "build_model",
    "check_model",
    "file_model",
    "libraries",
    "load_weights",
    "model_args",
    "model_names",
    "models",
    "own_networks",
    "register_model",
]
_HOMES = {"PadShortcut": "compress.models.resnet", "load_weights": "compress.models.weights"}  # which need torch


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compress.models' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
