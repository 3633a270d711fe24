"""How large a model is, in every unit a recipe may name: params, nonzero, MACs, bytes, packed bytes, bits."""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compress.core.forward import call
from compress.graph.onnx_graph import Sizes, graph_bits


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
