"""The registry of tasks, and `get_task`, which makes one from a name and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from compress.core.components import Builder, Registry
from compress.core.progress import Status, silent
from compress.tasks.task import Task

_TASKS: Registry[Task] = Registry("task")


def register_task(name: str) -> Callable[[Callable[..., Task]], Callable[..., Task]]:
    """Register a builder of a Task under the `name` a recipe calls it by; its annotated keyword arguments are settings.

    A parameter called `status` is not a setting: it receives the callback (message, done, total).
    """
    return _TASKS.register(name)


def get_task(name: str, /, *, status: Status = silent, **kwargs: Any) -> Task:
    """The task `name` of these arguments. Raises RecipeError for wrong arguments, DataError for missing or bad data."""
    task, _ = _TASKS.build(name, kwargs, status=status)
    return task


def check_task(name: str, /, **kwargs: Any) -> dict[str, Any]:
    """The complete arguments of a task, defaults filled in, without reading any data. Raises RecipeError."""
    return _TASKS.check(name, kwargs)


def task_args(name: str) -> type[BaseModel]:
    """The arguments of a task as a pydantic class, for validation elsewhere and for a JSON schema."""
    return _TASKS.get(name).args


def task_names() -> list[str]:
    """Names of all registered tasks."""
    return list(_TASKS.builders())


def tasks() -> dict[str, Builder[Task]]:
    """All registered tasks by name; `summary` is one line for a list."""
    return _TASKS.builders()
