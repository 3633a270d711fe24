"""What a component may be given: its signature as a pydantic model, so that a recipe's values are checked like any."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, core_schema

from compress.core.errors import RecipeError
from evaluate.core.components import Component, Registry
from evaluate.core.errors import did_you_mean

T = TypeVar("T")

INJECTED = ("status",)  # given by the caller of `build`, never a setting of a recipe


def arguments_of(component: Component[Any]) -> type[BaseModel]:
    """The annotated keyword arguments of a component's function: types, ranges, no unknown names.

    Raises ValueError where its signature cannot be validated (*args, **kwargs, positional-only).
    """
    return _model(component.name, component.target)


@lru_cache(maxsize=256)
def _model(name: str, function: Any) -> type[BaseModel]:
    hints = _hints(function)
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise ValueError(f"builder {name!r}: *args, **kwargs and positional-only parameters cannot be validated")
        if key not in INJECTED:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[key] = (hints.get(key, Any), Field(default))
    config = ConfigDict(extra="forbid", strict=False, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(f"{name}_args", __config__=config, **fields)


def _hints(function: Any) -> dict[str, Any]:
    """The annotations of the parameters; that of what is returned may name what is only imported for type checkers."""
    own = function.__init__ if isinstance(function, type) else inspect.unwrap(function)  # type: ignore[misc]
    named = {key: hint for key, hint in getattr(own, "__annotations__", {}).items() if key != "return"}
    scope = getattr(own, "__globals__", {})
    return typing.get_type_hints(types.SimpleNamespace(__annotations__=named), scope, include_extras=True)


def check_arguments(component: Component[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The complete arguments, defaults filled in. Raises RecipeError with every problem at once."""
    args = arguments_of(component)
    try:
        checked = args.model_validate(dict(values))
    except ValidationError as error:
        lines = "\n".join(f"  {_problem(item, args)}" for item in error.errors())
        raise RecipeError(
            f"{component.kind} {component.name!r} cannot be built from these arguments:\n{lines}"
        ) from error
    return {key: getattr(checked, key) for key in args.model_fields}


def build(component: Component[Any], values: Mapping[str, Any], **injected: Any) -> tuple[Any, dict[str, Any]]:
    """What a component's function makes of `values`, and the complete arguments it was given."""
    args = check_arguments(component, values)
    wanted = inspect.signature(component.target).parameters
    return component.target(**args, **{k: v for k, v in injected.items() if k in INJECTED and k in wanted}), args


def _problem(item: Any, args: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = ", ".join(args.model_fields)
        return f"unknown argument {key!r}{did_you_mean(key, args.model_fields) or '.'} Known: {known}."
    if item["type"] == "missing":
        return f"{key} is required"
    return f"{key}: {item['msg'].removeprefix('Value error, ')}; got {item['input']!r}"


@dataclass(frozen=True)
class ComponentName:
    """Annotates a text that names a component of `registry`; one of the user's own is named as module:name."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._address, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        own = {"type": "string", "pattern": r"^[\w.]+:\w+$", "x-words": "module:name"}
        built_in = self._built_in()
        return {"anyOf": [{"enum": built_in, "type": "string"}, own]} if built_in else own

    def _built_in(self) -> list[str]:
        return [name for name, found in self.registry.all(installed=False).items() if found.built_in]

    def _address(self, name: str) -> str:
        try:
            return self.registry.get(name).address
        except RecipeError as error:
            if ":" in name:
                raise ValueError(str(error)) from None
        known = self._built_in()
        if not known:
            raise ValueError(f"expected a {self.registry.kind} of your own, as package.module:name; got {name!r}")
        listed = " or ".join(", ".join(f"{k!r}" for k in part) for part in (known[:-1], known[-1:]))
        near = did_you_mean(name.lower(), known) or "."
        raise ValueError(f"expected {listed}; got {name!r}{near} One of your own is named as package.module:name.")
