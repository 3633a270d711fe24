"""Layers as products of smaller ones: which rank each has, and what it is made of. Torch loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.traits import Traits
from compress.passes.base import Context, PassResult, Preview, register_pass
from compress.passes.factorization.factorize_settings import FactorizeConfig

if TYPE_CHECKING:
    from torch import nn

    from compress.graph.model_state import ModelState


def _preview(model: nn.Module, config: FactorizeConfig, context: Context) -> Preview:
    from compress.passes.factorization.factorize import preview_factorize

    return preview_factorize(model, config, context)


@register_pass(
    "factorize", FactorizeConfig, preview=_preview,
    traits=Traits(trains=True, reshapes=True, needs_data=True, keeps_constraints=True),
)  # fmt: skip
def _factorize(model: ModelState, config: FactorizeConfig, context: Context) -> PassResult:
    """Replace layers by products of smaller ones of low rank, until a target is met, then recover."""
    from compress.passes.factorization.factorize import factorize

    return factorize(model, config, context)
