"""Weights in weight norm, direction and length apart (Salimans & Kingma 2016), become plain ones of equal values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm

from compress.graph.model_state import Rewrite, register_rewrite


@register_rewrite("plain_weights")
class PlainWeights(Rewrite):
    """A layer whose weight norm was taken off; it computes what it computed, and can be made narrower.

    Other parametrizations stay: they may be promises, as an orthogonal matrix is, which training has to keep.
    """

    @classmethod
    def apply(cls, model: nn.Module, example: Mapping[str, Tensor]) -> tuple[PlainWeights, ...]:
        """Take off, in place, the weight norm of every layer that has nothing else."""
        layers = [name for name, module in model.named_modules() if _in_weight_norm(module)]
        done = tuple(cls(layer=name) for name in layers)
        for rewrite in done:
            rewrite.rebuild(model)
        return done

    def describe(self) -> str:
        """What was done, in words."""
        return "plain weights, in place of direction and length"

    def rebuild(self, model: nn.Module) -> None:
        """Take them off again."""
        module = model.get_submodule(self.layer)
        if not _in_weight_norm(module):
            return
        # Not by torch's remove_parametrizations: copies share the class from which that takes the computed weight.
        names = list(module.parametrizations)  # type: ignore[arg-type]
        values = {name: getattr(module, name).detach().clone() for name in names}
        del module._modules["parametrizations"]
        module.__class__ = type(module).__bases__[0]
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))


def _in_weight_norm(module: nn.Module) -> bool:
    if not parametrize.is_parametrized(module):
        return False
    lists: Any = module.parametrizations
    return all(type(one) is _WeightNorm for several in lists.values() for one in several)
