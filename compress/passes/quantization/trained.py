"""Training with the quantizers in: the graph that is deployed runs in torch, and what it learns is written into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from compress.core.forward import CLASSES_LAST, JUDGED, run_model
from compress.graph.graph_network import GraphNetwork
from compress.graph.model_state import ModelState
from compress.graph.onnx_graph import serialise
from compress.passes.base import Context, Learnt
from compress.passes.quantization.noise import decibel, noise_of, outputs_of
from compress.passes.quantization.quantize_settings import QuantizedTrainConfig
from compress.training.evaluation import better, evaluate_split
from evaluate.metrics.base import get_metric

COMPARED = 32  # validation samples that torch and the file are compared on


def learn(
    config: QuantizedTrainConfig,
    model: ModelState,
    context: Context,
    graph: onnx.ModelProto,
    floats: Mapping[str, NDArray[Any]],
    most: int,
) -> Learnt:
    """Train a graph in static integers on the task; as it came, where that makes validation no better.

    model : whose constraints hold in training; `graph`, `floats`, `most` are as GraphNetwork takes them.
    Raises ModelError where torch cannot run the graph, or where training diverges.
    """
    network, task = GraphNetwork(graph, floats, most), context.task
    for attribute in (JUDGED, CLASSES_LAST):
        if hasattr(model.module, attribute):
            setattr(network, attribute, getattr(model.module, attribute))

    def found() -> dict[str, float]:
        return evaluate_split(network, task.validation, task.loss, task.metric, device=context.device)

    context.status("quantize: validation before training", 0, 1)
    before, teacher = found(), None if config.distill is None else context.original
    result = context.train(replace(model, module=network), config, teacher=teacher, distill=config.distill)
    after = found()
    details: dict[str, Any] = {
        "history": result.history,
        "best_epoch": result.best_epoch,
        "validation_before_training": float(f"{before['metric']:.6g}"),
    }
    if not better(get_metric(task.metric), after, before):
        warning = (
            f"Training made validation no better ({after['metric']:.4g}, {before['metric']:.4g} before): the file is "
            "as it was calibrated. Next: a lower learning_rate, more epochs, or distill: {}."
        )
        return Learnt(graph, {**details, "trained": False}, (warning,))
    written = network.written()
    details |= {"trained": True, "torch_vs_file_db": _apart(network, written, context)}
    return Learnt(written, details)


def _apart(network: GraphNetwork, written: onnx.ModelProto, context: Context) -> float | None:
    """How far the trained network is from its file, run without any fusion: what rounding to the other side makes."""
    inputs = context.task.validation.first(COMPARED)
    with torch.no_grad():
        torch_outputs = run_model(network, inputs).float().numpy().astype(np.float64).reshape(-1)
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    found = decibel(noise_of(outputs_of(serialise(written), [feeds], optimize=False), torch_outputs))
    return found if found is None else round(found, 1)
