"""The registry of networks, and `build_model`, which makes one from a name and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from compress.core.arguments import arguments_of, build, check_arguments
from compress.core.registries import MODELS
from evaluate.core.components import Component

if TYPE_CHECKING:
    from torch import nn


def register_model(
    name: str, *, takes: str = "", trained: bool | str = False, file: bool = False
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register a builder under the `name` a recipe calls it by.

    The builder takes annotated keyword arguments and returns a module; a recipe may give those arguments and no
    others. Ranges are annotated as `Annotated[int, Field(ge=1)]`.

    takes   : the argument that `name:TEXT` gives in short.
    trained : whether what it builds has its trained weights, or the name of the argument that says so.
    file    : whether it stands for an ONNX file, which is compressed as it is.
    """
    return MODELS.register(name, takes=takes, trained=trained, file=file)


def build_model(name: str, /, **kwargs: Any) -> nn.Module:
    """The network `name` of these arguments, freshly initialised from torch's global random state.

    `module.leanfit_spec = {"name": ..., "args": {...}}` holds all that is needed to build it again. Raises
    RecipeError (all wrong arguments at once), or ModelError where arguments do not go together.
    """
    component = MODELS.get(name)
    module, args = build(component, kwargs)
    module.leanfit_spec = {"name": component.address, "args": args}
    network: nn.Module = module
    return network


def check_model(name: str, /, **kwargs: Any) -> dict[str, Any]:
    """The complete arguments of a model, defaults filled in, without building it. Raises RecipeError."""
    return check_arguments(MODELS.get(name), kwargs)


def model_args(name: str) -> type[BaseModel]:
    """The arguments of a model as a pydantic class, for validation elsewhere and for a JSON schema."""
    return arguments_of(MODELS.get(name))


def model_names() -> list[str]:
    """Names of all registered models."""
    return list(MODELS.all())


def models() -> dict[str, Component[Any]]:
    """All registered models by name; `summary` is one line for a list."""
    return MODELS.all()
