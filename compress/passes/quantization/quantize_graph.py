"""Static int8 of a graph: what the pass does where no network belongs to it, and to the graph of one that does."""

from __future__ import annotations

from dataclasses import replace

import onnx

from compress.core.errors import PassError
from compress.graph.onnx_graph import WEIGHTED
from compress.passes.base import Choice, GraphContext, GraphPreview, GraphResult
from compress.passes.quantization.choose import choose
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import (
    Quantizer,
    calls_of_layers,
    check_patterns,
    excluded_nodes,
    scheme_for,
    unweighted_nodes,
)


def preview_graph(graph: onnx.ModelProto, config: QuantizeConfig) -> GraphPreview:
    """The layers that would be quantized. Raises PassError where none is left."""
    check_patterns(graph, config)
    constants = {tensor.name for tensor in graph.graph.initializer}
    left = {*excluded_nodes(graph, config), *unweighted_nodes(graph, config)}
    layers = (n.name for n in graph.graph.node if n.op_type in WEIGHTED and constants.intersection(n.input))
    calls = calls_of_layers(graph)
    named = tuple(name for name in layers if name not in left and calls[name][0] == name)
    return GraphPreview(named, float(config.bits), (int8_types(config),))


def int8_types(config: QuantizeConfig) -> str:
    """Which integers a target gets, and why, for a preview."""
    scheme = scheme_for(config.target)
    return f"int8 for {scheme.target}: {scheme.reason}"


def quantize_graph(graph: onnx.ModelProto, config: QuantizeConfig, context: GraphContext) -> GraphResult:
    """Static int8 of a graph in fp32: weights and activations in 8 bits, ranges from calibration, types by the CPU.

    Which layers become integers is chosen by measurement where the settings say so and there is a device to time on.
    Raises PassError where no layer with weights is left to quantize, DataError for an activation that is NaN.
    """
    if config.choose == "fp32":
        return GraphResult(graph, choice=Choice(config, kept=True), warnings=("The recipe keeps this model in fp32.",))
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.graph.node):
        raise PassError("quantize: this graph holds integers already; give the file in fp32 that it was made of.")
    quantizer = Quantizer.calibrated(graph, config, context)
    if config.measured and context.trials is not None:
        return choose(quantizer, config, context.trials, context)
    found = quantizer.result(config, quantizer.written(config))
    if config.choose == "measured":
        return replace(found, warnings=(*found.warnings, "Nothing could be timed here: all layers became integers."))
    return found
