"""The code that a result depends on: cached work is found again only for the same code."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from compress.core.files import hash_of
from evaluate.core.components import registries, source_of_module, source_of_target


def source_of(model: nn.Module) -> list[str]:
    """Source of a model's own classes, torch's left out, and of their modules, which their methods may call.

    forward() decides as much as the weights do. The methods stand for themselves as well: what is typed in has no file.
    """
    classes = {kind for module in model.modules() for kind in type(module).__mro__}
    own = [kind for kind in classes if not kind.__module__.startswith(("torch.", "builtins"))]
    methods = (f"{kind.__qualname__}.{name}: {source_of_function(f)}" for kind in own for name, f in _methods(kind))
    return sorted([*methods, *(source_of_module(module) for module in {kind.__module__ for kind in own})])


def _methods(kind: type) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(kind).items() if inspect.isfunction(value)]


def source_of_function(function: Any) -> str:
    """The source of a function, its bytecode where none is kept, or the type's name of another callable."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed in at a prompt: no source is kept
        code = getattr(function, "__code__", None)
        return type(function).__qualname__ if code is None else str(code.co_code.hex())


def sources_named(*settings: Any) -> dict[str, str]:
    """Hashes of the code of leanfit itself, and of every component from elsewhere that these settings name anywhere.

    A function among them stands for its code. A name that only happens to be that of a component makes a key change
    once too often, and never too seldom.
    """
    parts = list(_parts(settings))
    texts = {part for part in parts if isinstance(part, str)}
    known = [c for registry in registries().values() for c in registry.registered().values()]
    named = {c.address: c.source for c in known if not c.built_in and {c.name, c.address} & texts}
    functions = {f"{f.__module__}.{f.__qualname__}": source_of_target(f) for f in parts if inspect.isroutine(f)}
    return {"leanfit": source_of_module("compress.pipeline.chain")} | named | functions


def _parts(data: Any) -> Iterator[Any]:
    """Everything in nested plain data, keys as well."""
    if isinstance(data, Mapping):
        data = (*data, *data.values())
    if isinstance(data, list | tuple):
        for part in data:
            yield from _parts(part)
    else:
        yield data


def values_key(value: Any) -> str | None:
    """SHA-256, in hex, of a user's object: its code and the values it holds; None where one of them cannot be told."""
    try:
        return hash_of(_plain(value))
    except (TypeError, ValueError, RecursionError):
        return None


def structure_key(model: nn.Module, *beside: Any) -> str | None:
    """SHA-256, in hex, of all that a network computes by but the values of its weights, and of what is given `beside`.

    None where that cannot be told: hooks may do anything, and so may what a module holds that is no plain data.
    """
    torchs_own = vars(nn.Module()).keys()
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first = {id(tensor): name for name, tensor in reversed(tensors)}  # which names are one tensor
    parts = []
    for name, module in model.named_modules(remove_duplicate=False):
        if any(vars(module)[hooks] for hooks in ("_forward_hooks", "_forward_pre_hooks")) or "forward" in vars(module):
            return None
        own = {key: value for key, value in vars(module).items() if key not in torchs_own}
        parts.append([name, str(type(module)), module.extra_repr(), own])
    weights = [[name, first[id(t)], list(t.shape), str(t.dtype)] for name, t in tensors]
    return values_key([source_of(model), parts, weights, list(beside)])


def _plain(value: Any) -> Any:
    """JSON-able data that differs where the object does. Raises TypeError for what cannot be told."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path | torch.dtype | torch.device):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return sorted([str(key), _plain(item)] for key, item in value.items())
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()]
    if isinstance(value, nn.Module):
        held = [(type(m), _state(m)) for m in value.modules()]
        settings = [[str(kind), {k: v for k, v in state.items() if k[0] != "_"}] for kind, state in held]
        return [source_of(value), _plain(value.state_dict()), _plain(settings)]
    if inspect.isbuiltin(value):
        return [value.__module__, value.__qualname__]
    if inspect.ismethod(value):
        return [value.__name__, _plain(value.__self__)]
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [source_of_function(value), _plain(cells), _plain(value.__defaults__)]
    if isinstance(value, functools.partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    if hasattr(value, "__dict__") and not isinstance(value, type):
        return [source_of_target(type(value)), type(value).__qualname__, _plain(_state(value))]
    raise TypeError(f"{type(value).__name__} cannot be told apart")


def _state(value: Any) -> dict[str, Any]:
    """What an object holds, as it says itself when copied: torchmetrics leaves out methods that it wrapped."""
    state = value.__getstate__()
    return state if isinstance(state, dict) else vars(value)
