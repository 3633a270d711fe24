"""Quantization of a network in torch: exported, and quantized as a graph."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.conv import _ConvNd

from compress.graph.export import export_onnx
from compress.graph.model_state import ModelState
from compress.passes.base import Context, GraphContext, PassResult, Preview
from compress.passes.quantization.quantize_graph import quantize_graph, types_of
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import chosen, kinds_of
from compress.passes.quantization.trained import learn
from compress.tasks.splits import TensorSplit
from evaluate.runtime.session import Value


def preview_quantize(model: nn.Module, config: QuantizeConfig, context: Context) -> Preview:
    """The layers that would be quantized, without running anything."""
    kinds = {"Conv": _ConvNd, "Gemm": nn.Linear, "Gather": nn.Embedding, "LSTM": nn.LSTM}
    taken = tuple(kind for operator, kind in kinds.items() if operator in kinds_of(config))
    layers = tuple(n for n, m in model.named_modules() if isinstance(m, taken) and chosen(n, config))
    trains = () if config.train is None else (f"the file trains for {config.train.epochs} epochs, its rounding in",)
    return Preview(model, layers, float(config.bits), (types_of(config), *trains))


def quantize(model: ModelState, config: QuantizeConfig, context: Context) -> PassResult:
    """Weights, and by most modes activations, in integers. Raises as `quantize_graph`."""
    graph = export_onnx(model.module, context.task.example(2), opset=context.opset)
    layers = frozenset(name for name, _ in model.module.named_modules())
    of_graph = GraphContext(
        lambda count: NumpySplit(context.task.calibration(count, context.seed)), context.status, context.trials, layers,
        None if config.train is None else functools.partial(learn, config.train, model, context),
    )  # fmt: skip
    found = quantize_graph(graph, config, of_graph)
    kept = found.choice is not None and found.choice.kept
    after = model if kept else replace(model, graph=found.graph)
    return PassResult(after, found.changes, found.warnings, found.details, found.choice)


@dataclass(frozen=True)
class NumpySplit:
    """A split as numpy sees it."""

    split: TensorSplit

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, size: int) -> Iterator[tuple[int, Mapping[str, Value]]]:
        """Inputs by name, as arrays (size, ...)."""
        for inputs, _ in self.split.batches(size):
            arrays: dict[str, Value] = {name: tensor.cpu().numpy() for name, tensor in inputs.items()}
            yield len(next(iter(arrays.values()))), arrays
