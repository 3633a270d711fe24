"""Fewer blocks: which of those that hand on what they are given in the same shape go. Torch loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.traits import Traits
from compress.passes.base import Context, PassResult, Preview, register_pass
from compress.passes.depth.shorten_settings import ShortenConfig

if TYPE_CHECKING:
    from torch import nn

    from compress.graph.model_state import ModelState


def _preview(model: nn.Module, config: ShortenConfig, context: Context) -> Preview:
    from compress.passes.depth.shorten import preview_shorten

    return preview_shorten(model, config, context)


@register_pass(
    "shorten", ShortenConfig, preview=_preview,
    traits=Traits(trains=True, reshapes=True, needs_data=True, keeps_constraints=True),
)  # fmt: skip
def _shorten(model: ModelState, config: ShortenConfig, context: Context) -> PassResult:
    """Leave out whole blocks, those that validation misses least first, until a target is met, then recover."""
    from compress.passes.depth.shorten import shorten

    return shorten(model, config, context)
