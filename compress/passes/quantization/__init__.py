"""Quantization: static and dynamic int8, and weights alone, written into the graph. Torch loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.traits import Traits
from compress.passes.base import (
    Context,
    GraphContext,
    GraphPass,
    GraphPreview,
    GraphResult,
    PassResult,
    Preview,
    register_pass,
)
from compress.passes.quantization.quantize_settings import QuantizeConfig

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from compress.graph.model_state import ModelState


def _preview(model: nn.Module, config: QuantizeConfig, context: Context) -> Preview:
    from compress.passes.quantization.quantize import preview_quantize

    return preview_quantize(model, config, context)


def _on_graph(graph: onnx.ModelProto, config: QuantizeConfig, context: GraphContext) -> GraphResult:
    from compress.passes.quantization.quantize_graph import quantize_graph

    return quantize_graph(graph, config, context)


def _graph_preview(graph: onnx.ModelProto, config: QuantizeConfig) -> GraphPreview:
    from compress.passes.quantization.quantize_graph import preview_graph

    return preview_graph(graph, config)


@register_pass(
    "quantize",
    QuantizeConfig,
    preview=_preview,
    traits=Traits(writes_graph=True, needs_data=True),
    on_graph=GraphPass(_on_graph, _graph_preview, samples=lambda config: config.calibrate.samples),
)
def _quantize(model: ModelState, config: QuantizeConfig, context: Context) -> PassResult:
    """Integers without training: static or dynamic int8, types by the target CPU; or weights alone in 8 or 4 bits."""
    from compress.passes.quantization.quantize import quantize

    return quantize(model, config, context)
