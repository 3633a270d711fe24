"""leanfit: make a trained PyTorch model smaller and faster by a recipe, and prove it. Names load on first use.

import leanfit
artifact = leanfit.compress(model, "int8", task=leanfit.Task.from_dataset(data, input="image", target="label"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compress import __version__

if TYPE_CHECKING:
    from compress import (
        Artifact,
        Head,
        Recipe,
        Task,
        compress,
        compress_onnx,
        load_recipe,
        plan,
        register_loss,
        register_model,
        register_pass,
        register_task,
        register_trainer,
        verify,
        whole_metric,
    )
    from evaluate.benchmark.compare import compare as bench
    from evaluate.core.errors import LeanfitError
    from evaluate.metrics.base import register_metric
    from evaluate.scaling.forms.form import register_law
    from evaluate.scaling.law import select_law as fit_law

_HOMES = {
    "Artifact": "compress.Artifact", "Head": "compress.Head", "LeanfitError": "evaluate.core.errors.LeanfitError",
    "Recipe": "compress.Recipe", "Task": "compress.Task", "bench": "evaluate.benchmark.compare.compare",
    "compress": "compress.compress", "compress_onnx": "compress.compress_onnx",
    "fit_law": "evaluate.scaling.law.select_law", "load_recipe": "compress.load_recipe", "plan": "compress.plan",
    "register_law": "evaluate.scaling.forms.form.register_law", "register_loss": "compress.register_loss",
    "register_metric": "evaluate.metrics.base.register_metric", "register_model": "compress.register_model",
    "register_pass": "compress.register_pass", "register_task": "compress.register_task",
    "register_trainer": "compress.register_trainer",
    "verify": "compress.verify", "whole_metric": "compress.whole_metric",
}  # fmt: skip
__all__ = [
    "Artifact", "Head", "LeanfitError", "Recipe", "Task", "__version__", "bench", "compress", "compress_onnx",
    "fit_law", "load", "load_recipe", "plan", "register_law", "register_loss", "register_metric", "register_model",
    "register_pass", "register_task", "register_trainer", "verify", "whole_metric",
]  # fmt: skip


def load(path: Any) -> Artifact:
    """The artifact in a folder that `compress` wrote. Raises ArtifactError where there is none."""
    from compress import Artifact

    return Artifact.load(path)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'leanfit' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _HOMES[name].rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
