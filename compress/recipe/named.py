"""The blocks of a recipe that name something registered and give its arguments: `model` and `task`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler, PlainSerializer, PlainValidator, create_model
from pydantic_core import CoreSchema

from compress.core.components import Builder
from compress.core.errors import RecipeError
from compress.recipe.check import Finding, as_error, check
from compress.recipe.expectations import got, slip
from compress.recipe.plain import plain

BLOCK = "x-leanfit"
WEIGHTS = "Trained weights: a .safetensors file or a torch state dict; looked up here, then in $LEANFIT_DATA."

Block = Literal["model", "task"]
OWN_KEYS: dict[Block, tuple[str, ...]] = {"model": ("name", "weights"), "task": ("name",)}


@dataclass(frozen=True)
class Named:
    """A model or task of a recipe: its registered name, and its checked settings."""

    block: Block
    settings: BaseModel

    @property
    def name(self) -> str:
        """What the registry knows it by; `package.module:name` for one of the user's own."""
        return str(self.settings.name)  # type: ignore[attr-defined]

    @property
    def weights(self) -> str | None:
        """The file of a model's trained weights, where it has one."""
        return getattr(self.settings, "weights", None) if self.block == "model" else None

    @property
    def args(self) -> dict[str, Any]:
        """The complete arguments, defaults filled in, as the builder takes them."""
        own = OWN_KEYS[self.block]
        return {key: getattr(self.settings, key) for key in type(self.settings).model_fields if key not in own}

    def dump(self) -> dict[str, Any]:
        """Plain data that reads back as an equal block."""
        return {"name": self.name} | plain(self.settings)


def read_model(data: Any) -> Named:
    """A `model` block. Raises ValidationError with every finding."""
    return _read_named(data, "model", _model_builder)


def read_task(data: Any) -> Named:
    """A `task` block. Raises ValidationError with every finding."""
    return _read_named(data, "task", _task_builder)


def _read_named(data: Any, block: Block, find: Callable[[str], Builder[Any]]) -> Named:
    if isinstance(data, Named):
        return data
    if not isinstance(data, dict):
        example = f"{{name: {data}}}" if isinstance(data, str) else "{name: ...}"
        raise as_error(block, [Finding((), f"expected a block of keys such as {example}; got {got(data)}")])
    name = data.get("name")
    if "name" not in data:
        message = f"missing key 'name': expected the name of a {block}{slip('name', data)}"
        raise as_error(block, [Finding((), message, "block")])
    if not isinstance(name, str):
        raise as_error(block, [Finding(("name",), f"expected the name of a {block}; got {got(name)}")])
    try:
        builder = find(name)
    except RecipeError as error:
        raise as_error(block, [Finding(("name",), str(error))]) from None
    return Named(block, check(block_class(builder.args, block), {**data, "name": builder.address}))


@lru_cache(maxsize=256)
def block_class(args: type[BaseModel], block: Block) -> type[BaseModel]:
    """The arguments of a builder together with the keys that every block of its sort has."""
    if block == "task":
        return create_model(args.__name__, __base__=args, name=(str, Field()))
    weights = Field(default=None, min_length=1, description=WEIGHTS)
    return create_model(args.__name__, __base__=args, name=(str, Field()), weights=(str | None, weights))


def _model_builder(name: str) -> Builder[Any]:
    from compress.models.model_registry import model_args, models

    args = model_args(name)
    return next(builder for builder in models().values() if builder.args is args)


def _task_builder(name: str) -> Builder[Any]:
    from compress.tasks.task_registry import task_args, tasks

    args = task_args(name)
    return next(builder for builder in tasks().values() if builder.args is args)


class BlockSchema:
    """Marks a place in a JSON schema that the registries fill in (see `compress.recipe.json_schema`)."""

    def __init__(self, block: str) -> None:
        self.block = block

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {BLOCK: self.block}


ModelBlock = Annotated[Named, PlainValidator(read_model), PlainSerializer(Named.dump), BlockSchema("model")]
TaskBlock = Annotated[Named, PlainValidator(read_task), PlainSerializer(Named.dump), BlockSchema("task")]
