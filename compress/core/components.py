"""Builders found by name: what the registries of models and of tasks have in common."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from compress.core.errors import RecipeError
from evaluate.core.errors import did_you_mean

T = TypeVar("T")

INJECTED = ("status",)  # given by the caller of `build`, never a setting of a recipe


@dataclass(frozen=True)
class Builder(Generic[T]):
    """A registered function. `args` is its signature as a pydantic model: types, ranges, no unknown names."""

    name: str
    function: Callable[..., T]
    args: type[BaseModel]
    summary: str

    @property
    def address(self) -> str:
        """What a recipe or an artifact calls it by in a fresh process: plain for built-ins, else `module:name`."""
        module = self.function.__module__
        return self.name if module.startswith("compress.") or module == "__main__" else f"{module}:{self.name}"


class Registry(Generic[T]):
    """Named builders of one kind ("model", "task"). Errors are RecipeErrors with the nearest known name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._builders: dict[str, Builder[T]] = {}

    def register(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorator. The function's keyword arguments, annotated, become the settings a recipe may give."""

        def decorate(function: Callable[..., T]) -> Callable[..., T]:
            known = self._builders.get(name)
            if known is not None and _identity(known.function) != _identity(function):
                raise ValueError(f"a {self.kind} named {name!r} is registered already, by {_identity(known.function)}")
            summary = (function.__doc__ or "").strip().split("\n")[0]
            self._builders[name] = Builder(name, function, _args_model(name, function), summary)
            return function

        return decorate

    def builders(self) -> dict[str, Builder[T]]:
        """All builders by name, in the order of registration."""
        return dict(self._builders)

    def get(self, name: str) -> Builder[T]:
        """The builder of a name, or of `package.module:name`, whose module is imported and must have registered it.

        Raises RecipeError where there is none.
        """
        if ":" in name:
            return self._imported(name)
        if name not in self._builders:
            known = ", ".join(self._builders)
            raise RecipeError(
                f"unknown {self.kind} {name!r}{did_you_mean(name, self._builders) or '.'} Known: {known}; "
                f"one of your own is named as package.module:name."
            )
        return self._builders[name]

    def _imported(self, address: str) -> Builder[T]:
        module, _, name = address.partition(":")
        _import(module, self.kind, address)
        own = {n: b for n, b in self._builders.items() if b.function.__module__ == module}
        if name in own:
            return own[name]
        listed = ", ".join(own) or "nothing"
        raise RecipeError(
            f"{self.kind} {address!r}: module {module!r} registers no {self.kind} named {name!r}"
            f"{did_you_mean(name, own) or '.'} It registers {listed}. Only a function decorated with "
            f"@register_{self.kind}({name!r}) in that module can be used from a recipe."
        )

    def check(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The complete arguments, defaults filled in. Raises RecipeError with every problem at once."""
        builder = self.get(name)
        try:
            checked = builder.args.model_validate(dict(values))
        except ValidationError as error:
            lines = "\n".join(f"  {line}" for line in _problems(error, builder.args))
            raise RecipeError(f"{self.kind} {name!r} cannot be built from these arguments:\n{lines}") from error
        return {key: getattr(checked, key) for key in builder.args.model_fields}

    def build(self, name: str, values: Mapping[str, Any], **injected: Any) -> tuple[T, dict[str, Any]]:
        """What the builder makes of `values`, and the complete arguments it was given."""
        args = self.check(name, values)
        function = self.get(name).function
        extra = {k: v for k, v in injected.items() if k in INJECTED and k in inspect.signature(function).parameters}
        return function(**args, **extra), args


def _identity(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _import(module: str, kind: str, address: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise RecipeError(
            f"{kind} {address!r}: importing {module!r} failed: {type(error).__name__}: {error}. Install it, or put its "
            f"folder on PYTHONPATH (for the current folder: PYTHONPATH=. leanfit ...)."
        ) from error


def _args_model(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise ValueError(f"builder {name!r}: *args, **kwargs and positional-only parameters cannot be validated")
        if key not in INJECTED:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[key] = (hints.get(key, Any), Field(default))
    config = ConfigDict(extra="forbid", strict=False, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(f"{name}_args", __config__=config, **fields)


def _problems(error: ValidationError, args: type[BaseModel]) -> list[str]:
    return [_problem(item["loc"], item["type"], item["msg"], item["input"], args) for item in error.errors()]


def _problem(loc: tuple[int | str, ...], kind: str, message: str, got: Any, args: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        known = ", ".join(args.model_fields)
        return f"unknown argument {key!r}{did_you_mean(key, args.model_fields) or '.'} Known: {known}."
    if kind == "missing":
        return f"{key} is required"
    return f"{key}: {message.removeprefix('Value error, ')}; got {got!r}"
