"""The one place where a network is called on a batch, and where what its modules give on the way is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compress.core.errors import RecipeError
from evaluate.core.errors import ModelError, did_you_mean


def run_model(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Outputs (n, ...) of a model called with the inputs in their order. Raises ModelError where it cannot run."""
    try:
        outputs = model(*inputs.values())
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the device has too little memory for a batch of {_count(inputs)}: lower batch_size."
        ) from error
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
        shapes = ", ".join(f"{name} {tuple(t.shape)} {str(t.dtype)[6:]}" for name, t in inputs.items())
        raise ModelError(
            f"{type(model).__name__} cannot run on a batch of the task ({shapes}): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != _count(inputs):
        got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ModelError(f"{type(model).__name__} must return one tensor with a row a sample, got {got}. Wrap it.")
    return outputs


def _count(inputs: Mapping[str, Tensor]) -> int:
    return len(next(iter(inputs.values())))


@contextmanager
def features_of(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, the dict holds what each named module gave in the model's latest call. Raises RecipeError by name."""
    modules, found = dict(model.named_modules()), dict[str, Tensor]()
    for name in names:
        if name not in modules:
            near = did_you_mean(name, modules) or f". It has {', '.join(list(modules)[1:9])}, ..."
            raise RecipeError(f"features: {type(model).__name__} has no module {name!r}{near}")

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(name, output)

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(modules[name].register_forward_hook(keep(name)).remove)
        yield found
