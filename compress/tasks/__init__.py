"""Tasks: data in three splits, loss and metric; built in are digits, fashion_mnist, cifar10, and tasks of files."""

from __future__ import annotations

from compress.tasks import cifar10, digits, fashion_mnist, from_files
from compress.tasks.heads import Head
from compress.tasks.losses import register_loss
from compress.tasks.splits import Batch, LoaderSplit, Normalize, Split, TensorSplit
from compress.tasks.task import Task, check_task, get_task, register_task, task_args, task_names, tasks
from compress.tasks.whole_metric import whole_metric

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
