"""Sparse weights: which of them become zero, and stay it. Torch loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.traits import Traits
from compress.passes.base import Context, PassResult, Preview, register_pass
from compress.passes.sparsity.sparsify_settings import SparsifyConfig

if TYPE_CHECKING:
    from torch import nn

    from compress.graph.model_state import ModelState


def _preview(model: nn.Module, config: SparsifyConfig, context: Context) -> Preview:
    from compress.passes.sparsity.sparsify import preview_sparsify

    return preview_sparsify(model, config, context)


@register_pass(
    "sparsify", SparsifyConfig, preview=_preview, traits=Traits(trains=True, needs_data=True, keeps_constraints=True)
)
def _sparsify(model: ModelState, config: SparsifyConfig, context: Context) -> PassResult:
    """Set single weights to zero, in a pattern or none, and keep them zero; storage, not speed."""
    from compress.passes.sparsity.sparsify import sparsify

    return sparsify(model, config, context)
