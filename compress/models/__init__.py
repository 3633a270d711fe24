"""Networks of varying size: build_model(name, width=..., depth=...). A user's own are added by `register_model`."""

from __future__ import annotations

from compress.models import libraries, mlp, mobilenet, resnet, vit
from compress.models.model_registry import build_model, check_model, model_args, model_names, models, register_model
from compress.models.resnet import PadShortcut
from compress.models.weights import load_weights

__all__ = [
    "PadShortcut",
    "build_model",
    "check_model",
    "libraries",
    "load_weights",
    "mlp",
    "mobilenet",
    "model_args",
    "model_names",
    "models",
    "register_model",
    "resnet",
    "vit",
]
