"""How large a model is, in every unit a recipe may name: params, nonzero, MACs, bytes, packed bytes, bits."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, cast

import onnx
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compress.core.forward import call

# Operators of ONNX Runtime (docs/ContribOperators.md there) that read weights packed in bytes: which input holds them.
_PACKED = {"MatMulNBits": 1, "MatMulBnb4": 1, "GatherBlockQuantized": 0}


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
    """Multiply-adds of one sample through convolutions, linear, recurrent and attention layers; each is one MAC.

    `example` maps input names to tensors of batch size 1. Counted by torch's own counter from the operators that ran,
    so that functional calls are seen as well as modules; the model's mode is left as it was.
    """
    training, fast = model.training, torch.backends.mha.get_fastpath_enabled()
    model.eval()
    # Attention, or an LSTM of oneDNN, in one operator is not seen by the counter; as plain matrix products it is.
    torch.backends.mha.set_fastpath_enabled(False)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = cast(Any, _Whole())
    try:
        with sdpa_kernel(SDPBackend.MATH), _without_onednn(), counter, torch.no_grad():
            call(model, {name: t[:1] for name, t in example.items()})
    finally:
        model.train(training)
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops()) // 2


class _Whole(contextlib.AbstractContextManager[None]):
    """The network as one, in place of torch's tracker of modules, which fails on some networks without gradients."""

    parents = ("Global",)

    def __exit__(self, *error: object) -> None:
        return None


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    library: Any = torch.backends.mkldnn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of graphics cards that nobody asked about
        with library.flags(enabled=False):
            yield


def graph_bits(graph: onnx.ModelProto) -> float:
    """Average stored bits per weight of an ONNX model; 32.0 where it holds none.

    The weights are the elements of its initializers of rank 2 and above, and those packed in bytes for an operator of
    `_PACKED`. Their block-wise scales and zero points are stored for their sake: these add bits, and no weights.
    Not counted are scales of whole channels (rank 1) and biases.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    weights = {name: math.prod(tensor.dims) for name, tensor in tensors.items() if len(tensor.dims) > 1}
    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            weights |= {name: 0 for name in node.input[1:] if name in weights}
        elif node.op_type in _PACKED and node.input[_PACKED[node.op_type]] in tensors:
            packed = node.input[_PACKED[node.op_type]]
            weights[packed] = _packed_weights(node, tensors[packed])
            weights |= {name: 0 for name in node.input[2:4] if name in tensors}  # scales and zero points
    bits = sum(math.prod(tensors[name].dims) * _element_bits(tensors[name]) for name in weights)
    return bits / sum(weights.values()) if any(weights.values()) else 32.0


def _packed_weights(node: onnx.NodeProto, tensor: onnx.TensorProto) -> int:
    """How many weights of `bits` each an operator reads from a tensor; a matrix says so itself, without its padding."""
    known: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    if {"K", "N"} <= set(known):
        return int(known["K"] * known["N"])
    return int(math.prod(tensor.dims) * _element_bits(tensor) // known.get("bits", 4))


def _element_bits(tensor: onnx.TensorProto) -> int:
    """Stored bits of an element, which the name of its type tells: INT4, FLOAT8E4M3FN, BFLOAT16, and FLOAT for 32."""
    name = str(onnx.TensorProto.DataType.Name(tensor.data_type))
    width = re.search(r"\d+", name)
    return int(width[0] if width else {"FLOAT": 32, "DOUBLE": 64}.get(name, 8))


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
