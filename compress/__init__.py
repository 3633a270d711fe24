"""leanfit: make a trained PyTorch model smaller and faster by a recipe. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.models import build_model, register_model
    from compress.passes.base import register_pass
    from compress.pipeline.artifact import Artifact, verify
    from compress.pipeline.onnx_run import compress_onnx
    from compress.pipeline.plan import plan
    from compress.pipeline.run import compress
    from compress.recipe.load import load_recipe
    from compress.recipe.schema import Recipe
    from compress.tasks import Head, Task, get_task, register_loss, register_task, whole_metric
    from compress.training.trainers import register_trainer

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "Head",
    "Recipe",
    "Task",
    "build_model",
    "compress",
    "compress_onnx",
    "get_task",
    "load_recipe",
    "plan",
    "register_loss",
    "register_model",
    "register_pass",
    "register_task",
    "register_trainer",
    "verify",
    "whole_metric",
]

_HOMES = {
    "Artifact": "compress.pipeline.artifact",
    "Head": "compress.tasks",
    "Recipe": "compress.recipe.schema",
    "Task": "compress.tasks",
    "build_model": "compress.models",
    "compress": "compress.pipeline.run",
    "compress_onnx": "compress.pipeline.onnx_run",
    "get_task": "compress.tasks",
    "load_recipe": "compress.recipe.load",
    "plan": "compress.pipeline.plan",
    "register_loss": "compress.tasks",
    "register_model": "compress.models",
    "register_pass": "compress.passes.base",
    "register_task": "compress.tasks",
    "register_trainer": "compress.training.trainers",
    "verify": "compress.pipeline.artifact",
    "whole_metric": "compress.tasks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compress' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
