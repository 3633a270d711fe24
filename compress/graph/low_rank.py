"""A layer of low rank: a convolution or linear layer in the form of two or three smaller ones, one after the other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from compress.graph.model_state import Rewrite, register_rewrite
from compress.graph.shortcuts import put_in_place

_Rank = Annotated[int, Field(ge=1, le=65_536)]


@register_rewrite("low_rank")
class LowRank(Rewrite):
    """A layer that became `first`, `second` (one rank), or `first`, `core`, `last` (Tucker-2: inputs, outputs)."""

    ranks: Annotated[tuple[_Rank, ...], Field(min_length=1, max_length=2)]

    @classmethod
    def apply(cls, model: nn.Module, example: Mapping[str, Tensor]) -> tuple[LowRank, ...]:
        """None: no layer is of low rank by itself. Which are, and of which rank, the pass `factorize` decides."""
        return ()

    def describe(self) -> str:
        """The layers, in words."""
        return f"a product of {len(self.ranks) + 1} smaller layers, of rank {' and '.join(map(str, self.ranks))}"

    def rebuild(self, model: nn.Module) -> None:
        """Put the smaller layers in its place; their weights are those of no training until they are loaded."""
        put_in_place(model, self.layer, parts_of(model.get_submodule(self.layer), self.ranks))


def parts_of(layer: nn.Module, ranks: tuple[int, ...]) -> nn.Sequential:
    """The layers that stand for `layer`, which is a linear layer or an ungrouped convolution. Raises TypeError."""
    biased = layer._parameters.get("bias") is not None
    if isinstance(layer, nn.Linear) and len(ranks) == 1:
        first = nn.Linear(layer.in_features, ranks[0], bias=False)
        return _named(layer, first=first, second=nn.Linear(ranks[0], layer.out_features, bias=biased))
    if not isinstance(layer, _ConvNd) or layer.transposed or layer.groups != 1:
        raise TypeError(f"{type(layer).__name__} is neither a linear layer nor an ungrouped convolution")
    kind: Any = type(layer)
    how: dict[str, Any] = {
        "kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding,
        "dilation": layer.dilation, "padding_mode": layer.padding_mode, "bias": False,
    }  # fmt: skip
    if len(ranks) == 1:
        first = kind(layer.in_channels, ranks[0], **how)
        return _named(layer, first=first, second=kind(ranks[0], layer.out_channels, 1, bias=biased))
    return _named(
        layer,
        first=kind(layer.in_channels, ranks[0], 1, bias=False),
        core=kind(ranks[0], ranks[1], **how),
        last=kind(ranks[1], layer.out_channels, 1, bias=biased),
    )


def _named(like: nn.Module, **layers: nn.Module) -> nn.Sequential:
    weight = like.get_parameter("weight")
    made = nn.Sequential(OrderedDict(layers)).to(device=weight.device, dtype=weight.dtype)
    return made.train(like.training).requires_grad_(weight.requires_grad)
