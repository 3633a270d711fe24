"""A training loop of one's own, in place of leanfit's, in every block that trains: `recover: {fn: mypkg.loop:mine}`.

@register_trainer("mine")
def mine(model, task, config):
    trainer = lightning.Trainer(max_epochs=config.epochs)
    trainer.fit(MyModule(model), MyData())
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from compress.core.registries import TRAINERS
from evaluate.core.errors import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

GIVEN = ("model", "task", "config", "device", "seed", "teacher", "status")


def register_trainer(name: str) -> Callable[[F], F]:
    """Decorator of a function that trains a network in place; what it gives back is not looked at.

    It takes by name what it wants of: model (nn.Module, on `device`), task (Task), config (the settings of the block,
    whose `epochs` and `learning_rate` are its to follow), device (a torch device), seed (an int, under which torch's
    and numpy's generators were started), teacher (the uncompressed network where the block says `distill`, else None),
    status (called with message, done, total). Raises ValueError for a parameter that is none of these.
    """

    def decorate(function: F) -> F:
        for parameter in inspect.signature(function).parameters:
            if parameter not in GIVEN:
                near = did_you_mean(parameter, GIVEN) or "."
                raise ValueError(f"trainer {name!r}: unknown parameter {parameter!r}{near} Known: {', '.join(GIVEN)}.")
        return TRAINERS.register(name)(function)

    return decorate


def takes(name: str, parameter: str) -> bool:
    """Whether the trainer of this name wants to be given `parameter`."""
    return parameter in inspect.signature(TRAINERS.get(name).target).parameters


def run_trainer(name: str, **given: Any) -> None:
    """Call the trainer of this name with what it takes of `given`, which are GIVEN."""
    TRAINERS.get(name).target(**{key: value for key, value in given.items() if takes(name, key)})
