"""A block that was left out: what it was given is handed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compress.graph.model_state import Rewrite, register_rewrite
from compress.graph.shortcuts import put_in_place


class Skip(nn.Module):
    """Hands on its first input, by itself or as a tuple of one; other inputs (masks, positions) are not looked at."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, x: Tensor, *others: Any, **more: Any) -> Tensor | tuple[Tensor]:
        return (x,) if self.as_tuple else x


@register_rewrite("skipped")
class Skipped(Rewrite):
    """A block in whose place what it was given is handed on."""

    as_tuple: bool = False

    @classmethod
    def apply(cls, model: nn.Module, example: Mapping[str, Tensor]) -> tuple[Skipped, ...]:
        """None: no block is superfluous by itself. Which go, the pass `shorten` decides."""
        return ()

    def describe(self) -> str:
        """What was done, in words."""
        return "what it was given, in place of a block"

    def rebuild(self, model: nn.Module) -> None:
        """Leave the block out again."""
        put_in_place(model, self.layer, Skip(self.as_tuple))
