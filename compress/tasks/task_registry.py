"""The registry of tasks, and `get_task`, which makes one from a name and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from compress.core.arguments import arguments_of, build, check_arguments
from compress.core.progress import Status, silent
from compress.core.registries import TASKS
from evaluate.core.components import Component

if TYPE_CHECKING:
    from compress.tasks.task import Task


def register_task(
    name: str, *, takes: str = "", outline: Callable[[], Task] | None = None, file: bool = False
) -> Callable[[Callable[..., Task]], Callable[..., Task]]:
    """Register a builder of a Task under the `name` a recipe calls it by; its annotated keyword arguments are settings.

    A parameter called `status` is not a setting: it receives the callback (message, done, total).

    takes   : the argument that `name:TEXT` gives in short.
    outline : gives a Task of a few made-up samples, with the inputs, classes, loss and metric of the real one, where
              these are known without its data. A dry run then reads and fetches nothing.
    file    : whether it is what an ONNX file is judged on, and no Task.
    """
    return TASKS.register(name, takes=takes, outline=outline, file=file)


def get_task(name: str, /, *, status: Status = silent, **kwargs: Any) -> Task:
    """The task `name` of these arguments. Raises RecipeError for wrong arguments, DataError for missing or bad data."""
    task: Task = build(TASKS.get(name), kwargs, status=status)[0]
    return task


def outlined_task(name: str, /, *, status: Status = silent, **kwargs: Any) -> Task:
    """A task of made-up samples like those of `name`, where it has an outline; else that task. Raises as `get_task`."""
    outline = TASKS.get(name).facts.get("outline")
    if outline is None:
        return get_task(name, status=status, **kwargs)
    check_task(name, **kwargs)
    made: Task = outline()
    return made


def check_task(name: str, /, **kwargs: Any) -> dict[str, Any]:
    """The complete arguments of a task, defaults filled in, without reading any data. Raises RecipeError."""
    return check_arguments(TASKS.get(name), kwargs)


def task_args(name: str) -> type[BaseModel]:
    """The arguments of a task as a pydantic class, for validation elsewhere and for a JSON schema."""
    return arguments_of(TASKS.get(name))


def task_names() -> list[str]:
    """Names of all registered tasks."""
    return list(TASKS.all())


def tasks() -> dict[str, Component[Any]]:
    """All registered tasks by name; `summary` is one line for a list."""
    return TASKS.all()
