"""Quantization of a graph: what the pass does where no network belongs to it, and to the graph of one that does."""

from __future__ import annotations

from dataclasses import replace

import onnx

from compress.core.errors import PassError
from compress.graph.compact import compacted, sorted_graph
from compress.graph.onnx_graph import INTEGERS
from compress.passes.base import Choice, GraphContext, GraphPreview, GraphResult, Learn
from compress.passes.quantization.choose import choose
from compress.passes.quantization.integer_types import scheme_for
from compress.passes.quantization.qdq import widened_on_loading
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import (
    Quantizer,
    calls_of_layers,
    check_patterns,
    excluded_nodes,
    unweighted_nodes,
)


def preview_graph(graph: onnx.ModelProto, config: QuantizeConfig) -> GraphPreview:
    """The layers that would be quantized. Raises PassError where none is left."""
    check_patterns(graph, config)
    _check_trainable(config, None)
    left = {*excluded_nodes(graph, config), *unweighted_nodes(graph, config)}
    constants = {tensor.name for tensor in graph.graph.initializer}
    calls = calls_of_layers(graph, config)
    weighted = (node.name for node in graph.graph.node if constants.intersection(node.input))
    named = tuple(name for name in weighted if name in calls and name not in left and calls[name][0] == name)
    return GraphPreview(named, float(config.bits), (types_of(config),))


def types_of(config: QuantizeConfig) -> str:
    """Which integers a file gets, and why, for a preview."""
    if config.bits == 16:
        return "weights in float16, widened when the file is loaded"
    if config.mode == "weight-only":
        return f"weights in int{config.bits}, by blocks of {config.blocks.size} ({config.blocks.method})"
    scheme = scheme_for(config.target)
    if config.bits == 4:
        return "static: weights in int4, which compute in int8 once the file is loaded; activations in int8"
    return f"{config.mode} int8 for {scheme.target}: {scheme.reason}"


def quantize_graph(graph: onnx.ModelProto, config: QuantizeConfig, context: GraphContext) -> GraphResult:
    """A graph in fp32 with weights, and by most modes activations, in integers: types by the CPU.

    Which layers become integers is chosen by measurement where the settings say so and there is a device to time on.
    Raises PassError where no layer with weights is left to quantize, and where there is nothing to train on though the
    settings ask for it; DataError for an activation that is NaN.
    """
    if config.choose == "fp32":
        return GraphResult(graph, choice=Choice(config, kept=True), warnings=("The recipe keeps this model in fp32.",))
    if any(node.op_type in INTEGERS for node in graph.graph.node):
        raise PassError("quantize: this graph holds integers already; give the file in fp32 that it was made of.")
    _check_trainable(config, context.learn)
    quantizer = Quantizer.calibrated(graph, config, context)
    if config.measured and context.trials is not None:
        trials = context.trials if config.train is None else replace(context.trials, limit=None)  # it wins points back
        found, chosen = choose(quantizer, config, trials, context)
        if chosen is None or context.learn is None or config.train is None:
            return found
        return replace(_learnt(chosen.quantizer, chosen.config, context.learn), choice=found.choice)
    if config.train is not None and context.learn is not None:
        found = _learnt(quantizer, config, context.learn)
    else:
        found = quantizer.result(config, quantizer.written(config))
    if config.choose == "measured":
        return replace(found, warnings=(*found.warnings, "Nothing could be timed here: all layers became integers."))
    return found


def _learnt(quantizer: Quantizer, config: QuantizeConfig, learn: Learn) -> GraphResult:
    """The graph that was trained with its rounding in."""
    floats = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantizer.graph.graph.initializer}
    learnt = learn(sorted_graph(quantizer.with_pairs(config)), floats, quantizer.scheme.largest)
    found = quantizer.result(config, compacted(widened_on_loading(learnt.graph)))
    details = {**found.details, **learnt.details}
    return replace(found, warnings=(*found.warnings, *learnt.warnings), details=details)


def _check_trainable(config: QuantizeConfig, learn: Learn | None) -> None:
    if config.train is not None and learn is None:
        raise PassError(
            "quantize: `train` needs a network in torch and a task with labels, and this is an ONNX file. Next: leave "
            "`train` out, or give the network that the file was exported from."
        )
