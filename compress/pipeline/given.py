"""What people hand to compress(): a network or its name, a task or its name. Anything else gets a sentence."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from compress.core.errors import RecipeError
from compress.core.files import WEIGHT_FILES
from compress.core.forward import copy_model
from compress.core.progress import Status, silent
from compress.core.registries import MODELS, TASKS
from compress.core.seeding import seeded
from compress.models import build_model, load_weights
from compress.recipe.named_blocks import Named, read_model, read_task
from compress.recipe.schema import Recipe
from compress.recipe.validate import issues_of
from compress.tasks import Task, get_task
from compress.tasks.task_registry import outlined_task
from evaluate.core.components import Registry
from evaluate.core.errors import DataError, LeanfitError, ModelError, quoted

_CALL = "compress(model, recipe, task=task)"


def given_model(model: Any, weights: str | Path | None = None, seed: int = 0) -> nn.Module:
    """The network that was handed in, or that a name or a recipe's block stands for, with `weights` if given.

    A name is one of a registered model, of a source (timm:resnet18, torchvision:resnet18, hf:FOLDER), or module:name of
    the user's own: a network, or what makes one without arguments. Raises ModelError or RecipeError.
    """
    if not isinstance(model, nn.Module):
        network = _network_of(model, seed)
    else:
        network = model if weights is None else copy_model(model)  # the caller's own is never changed
    if weights is not None:
        load_weights(network, weights)
    return network


def given_task(task: Any, status: Status = silent, *, outlined: bool = False) -> Task:
    """The task that was handed in, or that a name or a recipe's block stands for. Raises DataError or RecipeError.

    outlined : made-up samples of its shapes do, where the task is known to have them: no data are read.
    """
    if isinstance(task, Task):
        return task
    if isinstance(task, str | Named):
        named = task if isinstance(task, Named) else named_block(task, "task")
        make = outlined_task if outlined else get_task
        return make(named.name, status=status, **named.args) if named is not None else _task_of(str(task))
    raise DataError(_wrong_task(task))


def named_block(text: str, block: str) -> Named | None:
    """The model or task that a registered name or a source stands for; None for module:name of what is not registered.

    Raises RecipeError where it stands for nothing.
    """
    if not is_registered(text, block):
        return None
    try:
        return (read_model if block == "model" else read_task)({"name": text})
    except ValidationError as error:
        raise RecipeError("; ".join(f"{block} {text!r}: {issue.message}" for issue in issues_of(error))) from None


def is_registered(text: str, block: str) -> bool:
    """Whether a recipe could say this name; False for module:name of what its module, which is imported, only has."""
    registry: Registry[Any] = MODELS if block == "model" else TASKS
    module, _, name = text.partition(":")
    if not name or module in registry.all(installed=False):
        return True
    registry.load(module, text)
    return text in {found.address for found in registry.registered().values()}


def _network_of(model: Any, seed: int) -> nn.Module:
    if isinstance(model, Named):
        with seeded(seed):
            return build_model(model.name, **model.args)
    if not isinstance(model, str | Path):
        raise ModelError(_wrong_model(model))
    text = str(model)
    suffix = Path(text).suffix.lower()
    if suffix == ".onnx":
        raise ModelError(
            f"{text}: an ONNX file; compress takes a PyTorch network. It is compressed as it is by "
            f"leanfit.compress_onnx({text!r}, 'int8', data=...), and measured by leanfit bench {text}."
        )
    if suffix in WEIGHT_FILES or isinstance(model, Path):
        raise ModelError(
            f"{text}: a file of weights says nothing of the network that they belong to. Build it and load them, "
            f"model.load_state_dict(torch.load(path)), or name it: --model mypkg.net:MyNet --weights {text}"
        )
    named = named_block(text, "model")
    if named is not None:
        return _network_of(named, seed)
    with seeded(seed):
        network: nn.Module = _made(_attribute(text, "model"), text, nn.Module)
        return network


def _task_of(text: str) -> Task:
    task: Task = _made(_attribute(text, "task"), text, Task)
    return task


def _made(found: Any, text: str, kind: type[Any]) -> Any:
    """What `module:name` stands for: one of a kind, or what gives one when it is called without arguments."""
    if not isinstance(found, kind) and callable(found):
        try:
            found = found()
        except LeanfitError:
            raise
        except Exception as error:  # the user's own code
            raise ModelError(
                f"{text}() failed: {type(error).__name__}: {error}. It is called without arguments; register it "
                "(@register_model, @register_task) to give it arguments in a recipe."
            ) from error
    if not isinstance(found, kind):
        raise ModelError(f"{text} is a {type(found).__name__}, expected a {kind.__name__} or what makes one.")
    return found


def _attribute(text: str, block: str) -> Any:
    """What a module that is imported has under `module:name`. Raises RecipeError."""
    module, _, name = text.partition(":")
    found = sys.modules[module]
    if not hasattr(found, name):
        raise RecipeError(f"{block} {text!r}: module {module!r} has no {name!r}.")
    return getattr(found, name)


def _wrong_model(value: Any) -> str:
    """Why a value is no network, and what to hand in."""
    kind = type(value).__name__
    if isinstance(value, type):
        return f"model is the class {value.__name__}: make one, {value.__name__}(...), and load its weights."
    if isinstance(value, Recipe | Task):
        return f"model is a {kind}: the order is {_CALL}."
    if isinstance(value, Mapping) and value and all(isinstance(item, Tensor) for item in value.values()):
        return "model is a state dict: weights without their network. Build it, and model.load_state_dict(...) first."
    if isinstance(value, Mapping):
        return f"model is a {kind} of {quoted(', '.join(map(str, value)), 60)}, no network: the order is {_CALL}."
    if isinstance(value, Dataset | DataLoader):
        return f"model is a {kind}: data belongs into the task, {_CALL} with task=Task.from_dataset(...)."
    if callable(value):
        return f"model is the function {getattr(value, '__name__', kind)}: call it, compress takes a torch.nn.Module."
    return f"model is a {kind}, expected a torch.nn.Module or a name such as timm:resnet18: {_CALL}."


def _wrong_task(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, nn.Module | Recipe):
        return f"task is a {kind}: the order is {_CALL}."
    if isinstance(value, DataLoader):
        return "task is a DataLoader: three of them make one, task=Task.from_loaders(train, validation, test)."
    if isinstance(value, Dataset) or hasattr(value, "features"):
        return f"task is a {kind}: wrap it, task=Task.from_dataset(train, test=test)."
    if isinstance(value, tuple | list):
        return f"task is a {kind} of {len(value)}: task=Task.from_tensors((x, y), test=(x_test, y_test))."
    if isinstance(value, type) or callable(value):
        return f"task is {getattr(value, '__name__', kind)}, no task yet: call it, or make one by Task.from_tensors."
    return f"task is a {kind}, expected a name such as digits, or Task.from_tensors((x, y), test=(x_test, y_test))."
