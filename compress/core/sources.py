"""The source of a user's own code, where a result depends on it: cached work is found again only for the same code."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn


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
