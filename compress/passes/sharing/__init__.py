"""Shared weights: a few values for all weights of a layer, and where each is used. Torch loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.traits import Traits
from compress.passes.base import Context, PassResult, Preview, register_pass
from compress.passes.sharing.share_settings import ShareConfig

if TYPE_CHECKING:
    from torch import nn

    from compress.graph.model_state import ModelState


def _preview(model: nn.Module, config: ShareConfig, context: Context) -> Preview:
    from compress.passes.sharing.share import preview_share

    return preview_share(model, config, context)


@register_pass(
    "share", ShareConfig, preview=_preview,
    traits=Traits(trains=True, needs_data=True, keeps_constraints=True, writes_graph=True),
)  # fmt: skip
def _share(model: ModelState, config: ShareConfig, context: Context) -> PassResult:
    """Give all weights of a layer a few values, by k-means, and store which one each has; fewer bytes, no speed."""
    from compress.passes.sharing.share import share

    return share(model, config, context)
