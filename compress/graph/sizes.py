"""How large a model is, in every unit a recipe may name: params, nonzero, MACs, bytes, packed bytes, bits."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    import onnx


class Sizes(TypedDict):
    """The sizes of one deployed model. `bytes` is the ONNX file, `packed_bytes` the same after zlib level 9."""

    params: int
    nonzero: int
    macs: int
    bytes: int
    packed_bytes: int
    bits: float


def count_params(model: nn.Module) -> int:
    """Unique parameters; tied weights are counted once."""
    return sum(p.numel() for p in model.parameters())


def count_nonzero(model: nn.Module) -> int:
    """Unique parameters that are not exactly zero."""
    return sum(int(torch.count_nonzero(p)) for p in model.parameters())


def count_macs(model: nn.Module, example: Mapping[str, Tensor]) -> int:
    """Multiply-adds of one sample through convolutions, linear layers and attention; one multiply-add is one MAC.

    `example` maps input names to tensors of batch size 1. Counted by torch's own counter from the operators that ran,
    so that functional calls are seen as well as modules; the model's mode is left as it was.
    """
    training, fast = model.training, torch.backends.mha.get_fastpath_enabled()
    model.eval()
    # Attention in one fused operator is not seen by the counter; as plain matrix products it is.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            model(*(t[:1] for t in example.values()))
    finally:
        model.train(training)
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops()) // 2


def graph_bits(graph: onnx.ModelProto) -> float:
    """Average stored bits per element of the weights (initializers of rank 2 and above) of an ONNX model."""
    from onnx import helper

    bits = elements = 0
    for tensor in graph.graph.initializer:
        if len(tensor.dims) < 2:
            continue
        n = 1
        for d in tensor.dims:
            n *= d
        elements += n
        bits += n * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    return bits / elements if elements else 32.0


def measure_sizes(model: nn.Module, example: Mapping[str, Tensor], graph: onnx.ModelProto, data: bytes) -> Sizes:
    """All sizes of a model whose exported file is `data` (the serialised `graph`)."""
    return Sizes(
        params=count_params(model),
        nonzero=count_nonzero(model),
        macs=count_macs(model, example),
        bytes=len(data),
        packed_bytes=len(zlib.compress(data, 9)),
        bits=round(graph_bits(graph), 3),
    )
