"""Structured pruning: which channels go together, what each is worth, what is cut. Torch loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.traits import Traits
from compress.passes.base import Context, PassResult, Preview, register_pass
from compress.passes.pruning.prune_settings import PruneConfig

if TYPE_CHECKING:
    from torch import nn

    from compress.graph.model_state import ModelState


def _preview(model: nn.Module, config: PruneConfig, context: Context) -> Preview:
    from compress.passes.pruning.prune import preview_prune

    return preview_prune(model, config, context)


@register_pass(
    "prune",
    PruneConfig,
    preview=_preview,
    traits=Traits(trains=True, reshapes=True, needs_data=True, keeps_constraints=True),
)
def _prune(model: ModelState, config: PruneConfig, context: Context) -> PassResult:
    """Remove whole channels until a target in params, MACs or bytes is met, then recover."""
    from compress.passes.pruning.prune import prune

    return prune(model, config, context)
