"""Tasks: data in three splits, loss and metric; built in are digits, fashion_mnist, cifar10, and tasks of files.

Names that need torch load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compress.tasks import cifar10, digits, fashion_mnist, from_files
from compress.tasks.losses import register_loss
from compress.tasks.task_registry import check_task, get_task, register_task, task_args, task_names, tasks

if TYPE_CHECKING:
    from compress.tasks.foreign_metric import whole_metric
    from compress.tasks.heads import Head
    from compress.tasks.splits import Batch, LoaderSplit, Normalize, Split, TensorSplit
    from compress.tasks.task import Task

__all__ = [
    "Batch",
    "Head",
    "LoaderSplit",
    "Normalize",
    "Split",
    "Task",
    "TensorSplit",
    "check_task",
    "cifar10",
    "digits",
    "fashion_mnist",
    "from_files",
    "get_task",
    "register_loss",
    "register_task",
    "task_args",
    "task_names",
    "tasks",
    "whole_metric",
]
_HOMES = {
    "Head": "heads", "Batch": "splits", "LoaderSplit": "splits", "Normalize": "splits", "Split": "splits",
    "TensorSplit": "splits", "Task": "task", "whole_metric": "foreign_metric",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compress.tasks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"compress.tasks.{_HOMES[name]}"), name)
