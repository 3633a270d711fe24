"""Checking plain data against a pydantic class, with messages for people: all problems at once, each with its path.

The class's JSON schema says what was expected, which keys are known, and which scalars pydantic would silently convert
(`"12"` or `true` for a number), which a recipe may not do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError

from compress.recipe.expectations import describe, got, nearest, options, scalar_fits
from compress.recipe.positions import Key
from evaluate.core.errors import did_you_mean

M = TypeVar("M", bound=BaseModel)
_OURS = "recipe_"


class _Schema(GenerateJsonSchema):
    """A field that has no JSON schema (a callable, a user's class) may be anything."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


@lru_cache(maxsize=256)
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a class, shared: not to be changed."""
    return model.model_json_schema(schema_generator=_Schema)


class Finding:
    """One problem in plain data. `at` says where a caret belongs: at the `key`, the `value`, or the `block` around."""

    def __init__(self, path: Key, message: str, at: str = "value") -> None:
        self.path, self.message, self.at = path, message, at

    def details(self) -> InitErrorDetails:
        kind = PydanticCustomError(_OURS + self.at, "{message}", {"message": self.message})
        return {"type": kind, "loc": self.path, "input": None}


def as_error(title: str, found: Iterable[Finding]) -> ValidationError:
    """Findings as the error a pydantic validator raises; an outer class puts its own path before theirs."""
    return ValidationError.from_exception_data(title, [f.details() for f in found])


def findings(error: ValidationError) -> list[Finding]:
    """The findings in an error that `check` raised."""
    return [Finding(e["loc"], e["msg"], e["type"].removeprefix(_OURS)) for e in error.errors()]


def check(model: type[M], data: Any, extra: Iterable[Finding] = ()) -> M:
    """An instance of `model` made of `data`. Raises ValidationError, of findings only, where anything is wrong."""
    found = [*extra]
    instance = None
    try:
        instance = model.model_validate(data)
    except ValidationError as error:
        found += _explained(error.errors(include_url=False), data, schema_of(model))
    taken = {f.path for f in found}
    found += [f for f in _converted(options(schema_of(model)), schema_of(model), data, ()) if f.path not in taken]
    if found or instance is None:
        raise as_error(model.__name__, found)
    return instance


def _explained(errors: list[ErrorDetails], data: Any, schema: dict[str, Any]) -> list[Finding]:
    found: dict[tuple[Key, str], Finding] = {}
    for error in errors:
        path = _path(error["loc"], data)
        finding = _finding(error, path, data, schema)
        found.setdefault((finding.path, finding.message), finding)
    paths = {f.path for f in found.values()}
    return [f for f in found.values() if f.at != "branch" or not any(_inside(p, f.path) for p in paths)]


def _inside(path: Key, block: Key) -> bool:
    return len(path) > len(block) and path[: len(block)] == block


def _path(loc: Key, data: Any) -> Key:
    """A pydantic location without the tags of unions, which are not in the data."""
    path: list[str | int] = []
    for part in loc:
        if (isinstance(data, dict) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        ):
            data = data[part]  # type: ignore[index]
            path.append(part)
    return tuple(path)


def _finding(error: ErrorDetails, path: Key, data: Any, schema: dict[str, Any]) -> Finding:
    kind, message = error["type"], error["msg"]
    if kind.startswith(_OURS):
        return Finding((*path, *error["loc"][len(path) :]), message, kind.removeprefix(_OURS))
    if kind == "missing":
        name = str(error["loc"][-1])
        wanted = describe(_at(schema, (*path, name), data), schema)
        return Finding(path, f"missing key {name!r}" + (f": expected {wanted}" if wanted else ""), "block")
    if kind == "extra_forbidden":
        return Finding(path, _unknown_key(path, data, schema), "key")
    if kind in ("value_error", "assertion_error", "amount"):
        return Finding(path, message.removeprefix("Value error, ").removeprefix("Assertion failed, "), _place(error))
    return Finding(path, _unfit(_at(schema, path, data), schema, error["input"], message), _place(error, len(path)))


def _place(error: ErrorDetails, depth: int | None = None) -> str:
    """A block that is wrong as a whole is shown by its key; one branch of a union gives way to problems further in."""
    if isinstance(error["input"], dict | list | tuple) and depth is not None and depth < len(error["loc"]):
        return "branch"
    return "key" if isinstance(error["input"], dict) else "value"


def _unknown_key(path: Key, data: Any, schema: dict[str, Any]) -> str:
    known = list(dict.fromkeys(k for o in _at(schema, path[:-1], data) for k in o.get("properties", {})))
    name = str(path[-1])
    listed = f"; known keys: {', '.join(known)}" if known else "; no keys are known here"
    return f"unknown key {name!r}{did_you_mean(name, known) or listed}"


def _unfit(here: list[dict[str, Any]], schema: dict[str, Any], value: Any, fallback: str) -> str:
    wanted = describe(here, schema, value)
    if not wanted:
        return f"{fallback[:1].lower()}{fallback[1:]}; got {got(value)}"
    return f"expected {wanted}; got {got(value)}{nearest(value, here)}"


def _at(schema: dict[str, Any], path: Key, data: Any) -> list[dict[str, Any]]:
    """The alternatives of the schema that may stand at `path`."""
    here = options(schema)
    for part in path:
        here = [o for h in here for o in _inner(h, part, schema)]
    return here


def _inner(schema: dict[str, Any], part: str | int, root: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(part, str):
        inner = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
    else:
        prefix = schema.get("prefixItems", [])
        inner = prefix[part] if part < len(prefix) else schema.get("items")
    return options(inner, root) if isinstance(inner, dict) else []


def _converted(here: list[dict[str, Any]], root: dict[str, Any], data: Any, path: Key) -> Iterator[Finding]:
    """Scalars of a kind that the schema does not name here, though pydantic may have converted them."""
    parts = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list | tuple) else None
    if parts is not None:
        for part, value in parts:
            yield from _converted([o for h in here for o in _inner(h, part, root)], root, value, (*path, part))
    elif data is not None and here and not any(scalar_fits(data, option) for option in here):
        yield Finding(path, _unfit(here, root, data, "not allowed"))
