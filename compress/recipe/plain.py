"""Between configurations and plain data: what a recipe shows again, and what a recipe given in Python becomes."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from compress.core.amounts import Amount
from compress.core.errors import RecipeError

MAX_DEPTH = 40


def plain(model: BaseModel) -> dict[str, Any]:
    """JSON-able data of a configuration, defaults spelled out; a null that is the default is left out."""
    data = model.model_dump(mode="json")
    return {key: _plain(getattr(model, key), data[key]) for key in data if not _default_null(model, key, data[key])}


def _plain(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        return plain(value)
    if isinstance(value, Mapping) and isinstance(dumped, dict) and len(value) == len(dumped):
        return {key: _plain(v, d) for (key, d), v in zip(dumped.items(), value.values(), strict=True)}
    if isinstance(value, list | tuple) and isinstance(dumped, list):
        return [_plain(v, d) for v, d in zip(value, dumped, strict=True)]
    return dumped


def _default_null(model: BaseModel, key: str, dumped: Any) -> bool:
    field = type(model).model_fields.get(key)
    return dumped is None and field is not None and field.get_default(call_default_factory=False) is None


def plain_data(value: Any, depth: int = 0) -> Any:
    """Mappings and sequences as dicts and lists, configurations and numpy's numbers as plain values.

    So a recipe given in Python is checked like one in a file. What has no plain form is left as it is. Raises
    RecipeError where it is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise RecipeError(f"recipe: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, BaseModel):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(key): plain_data(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item, depth + 1) for item in value]
    return _plain_scalar(value.dump() if hasattr(value, "dump") else value)


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, Amount):
        return value.written
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value
