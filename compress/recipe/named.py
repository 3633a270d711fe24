"""The blocks of a recipe that name something registered and give its arguments: `model` and `task`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler, PlainSerializer, PlainValidator, create_model
from pydantic_core import CoreSchema

from compress.core.arguments import arguments_of
from compress.core.errors import RecipeError
from compress.core.registries import MODELS, TASKS
from compress.recipe.check import Finding, as_error, check
from compress.recipe.expectations import got, slip
from compress.recipe.plain import plain

BLOCK = "x-leanfit"
WEIGHTS = "Trained weights: a .safetensors file or a torch state dict; looked up here, then in $LEANFIT_DATA."

Block = Literal["model", "task"]
REGISTRIES = {"model": MODELS, "task": TASKS}
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
    return _read_named(data, "model")


def read_task(data: Any) -> Named:
    """A `task` block. Raises ValidationError with every finding."""
    return _read_named(data, "task")


def _read_named(data: Any, block: Block) -> Named:
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
        component = REGISTRIES[block].get(name)
    except RecipeError as error:
        raise as_error(block, [Finding(("name",), str(error))]) from None
    return Named(block, check(block_class(arguments_of(component), block), {**data, "name": component.address}))


@lru_cache(maxsize=256)
def block_class(args: type[BaseModel], block: Block) -> type[BaseModel]:
    """The arguments of a builder together with the keys that every block of its sort has."""
    if block == "task":
        return create_model(args.__name__, __base__=args, name=(str, Field()))
    weights = Field(default=None, min_length=1, description=WEIGHTS)
    return create_model(args.__name__, __base__=args, name=(str, Field()), weights=(str | None, weights))


class BlockSchema:
    """Marks a place in a JSON schema that the registries fill in (see `compress.recipe.json_schema`)."""

    def __init__(self, block: str) -> None:
        self.block = block

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {BLOCK: self.block}


ModelBlock = Annotated[Named, PlainValidator(read_model), PlainSerializer(Named.dump), BlockSchema("model")]
TaskBlock = Annotated[Named, PlainValidator(read_task), PlainSerializer(Named.dump), BlockSchema("task")]
