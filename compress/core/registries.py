"""The registries of compress. Whoever only reads a recipe needs these, and neither passes nor models nor tasks.

The built-in components of a kind are registered by importing its room, which a registry does at the first look-up.
"""

from __future__ import annotations

from typing import Any

from compress.core.errors import RecipeError
from evaluate.core.components import Registry
from evaluate.core.errors import ModelError

PASSES: Registry[Any] = Registry("pass", "compress.passes", RecipeError)
MODELS: Registry[Any] = Registry("model", "compress.models", RecipeError)
REWRITES: Registry[Any] = Registry("rewrite", "compress.graph.rewrites", ModelError, inner=True)
CONSTRAINTS: Registry[Any] = Registry("constraint", "compress.graph.model_state", ModelError, inner=True)
TASKS: Registry[Any] = Registry("task", "compress.tasks", RecipeError)
LOSSES: Registry[Any] = Registry("loss", "compress.tasks", RecipeError)
OPTIMIZERS: Registry[Any] = Registry("optimizer", "compress.training.optimizers", RecipeError)
SCHEDULES: Registry[Any] = Registry("schedule", "compress.training.schedules", RecipeError)
TRAINERS: Registry[Any] = Registry("trainer", error=RecipeError)
