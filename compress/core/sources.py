"""The code that a result depends on: cached work is found again only for the same code."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from evaluate.core.components import registries, source_of_module


def source_of(model: nn.Module) -> list[str]:
    """Source of the methods of a model's own classes, torch's left out: forward() decides as much as the weights do."""
    classes = {kind for module in model.modules() for kind in type(module).__mro__}
    own = [kind for kind in classes if not kind.__module__.startswith(("torch.", "builtins"))]
    return sorted(f"{kind.__qualname__}.{name}: {source_of_function(f)}" for kind in own for name, f in _methods(kind))


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
    """Hashes of the code of leanfit itself, and of every component from elsewhere that plain data names anywhere.

    A name that only happens to be that of a component makes a key change once too often, and never too seldom.
    """
    texts = set(_texts(settings))
    own = (c for registry in registries().values() for c in registry.all(installed=False).values())
    named = {c.address: c.source for c in own if not c.built_in and {c.name, c.address} & texts}
    return {"leanfit": source_of_module("compress.pipeline.chain")} | named


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list | tuple):
        for part in data if not isinstance(data, Mapping) else (*data, *data.values()):
            yield from _texts(part)
