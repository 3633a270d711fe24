"""What a network costs for any choice of widths: exact, and fast enough to ask thousands of times.

A tensor of a layer shrinks in proportion to the outputs and the inputs that are kept. The MACs of a layer are the size
of its weight times the number of places where it is applied, which is measured once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from compress.graph.sizes import count_macs, count_params
from compress.graph.surgery import Side, bare_parameter, is_depthwise, side_width, tensor_dims
from compress.passes.pruning.channel_groups import Group

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_Key = tuple[str, Side]


@dataclass(frozen=True)
class _Terms:
    """constant + the sum over k of size[k] * share[first[k]] * share[second[k]]."""

    constant: float
    size: Floats
    first: Ints
    second: Ints

    def total(self, shares: Floats) -> Floats:
        parts = shares[..., self.first] * shares[..., self.second] * self.size
        return np.asarray(np.rint(self.constant + parts.sum(-1)))


@dataclass(frozen=True)
class Costs:
    """MACs, params and bytes as functions of the units that each group keeps.

    units : (groups,) units of each group.
    loss  : (groups, sides + 1) share of each layer side that one removed unit takes; the last side never shrinks.
    """

    units: Ints
    loss: Floats
    terms: Mapping[str, _Terms]

    def of(self, unit: str, kept: Ints | Floats) -> Floats:
        """The cost (...) of `kept` (..., groups) units in `macs` of a sample, `params`, or `bytes` of fp32 weights."""
        shares = 1.0 - (self.units - kept) @ self.loss
        return self.terms["params"].total(shares) * 4 if unit == "bytes" else self.terms[unit].total(shares)


def measure_costs(model: nn.Module, example: Mapping[str, Tensor], groups: Sequence[Group]) -> Costs:
    """The cost model of `model`. `example` maps input names to tensors (n, ...); the first sample is used."""
    keys: list[_Key] = sorted({(cut.layer, cut.side) for g in groups for cut in g.cuts})
    column = {key: i for i, key in enumerate(keys)}
    fixed = len(keys)
    loss = np.zeros((len(groups), fixed + 1))
    for row, group in zip(loss, groups, strict=True):
        for cut in group.cuts:
            row[column[cut.layer, cut.side]] += len(cut.indices[0]) / side_width(model, cut.layer, cut.side)
    places = _places(model, example)
    macs, params = [], []
    for name in sorted({name for name, _ in keys}):
        out, into = column.get((name, "out"), fixed), column.get((name, "in"), fixed)
        for size, sides in _tensors(model, name):
            params.append((size, out if "out" in sides else fixed, into if "in" in sides else fixed))
        if name in places:
            macs.append((places[name] * model.get_parameter(f"{name}.weight").numel(), out, into))
    terms = {"macs": _terms(macs, count_macs(model, example)), "params": _terms(params, count_params(model))}
    return Costs(np.array([len(g.units) for g in groups]), loss, terms)


def _terms(rows: Sequence[tuple[float, int, int]], measured: int) -> _Terms:
    """What no group touches is in the constant: the sum at full width is what was measured."""
    size, first, second = np.array(rows, float).reshape(-1, 3).T
    return _Terms(measured - float(size.sum()), size, first.astype(np.int64), second.astype(np.int64))


def _tensors(model: nn.Module, name: str) -> list[tuple[int, tuple[Side, ...]]]:
    """The sizes of the parameters of a layer (or of a bare parameter), each with the sides along which it shrinks."""
    bare = bare_parameter(model, name)
    if bare is not None:
        return [(bare.numel(), ("out",))]
    module = model.get_submodule(name)
    two_sided = isinstance(module, _ConvNd | nn.Linear) and not is_depthwise(module)
    sides: tuple[Side, ...] = ("out", "in") if two_sided else ("out",)
    parameters = {key: p for key, p in module._parameters.items() if p is not None}
    return [(p.numel(), tuple(s for s in sides if key in tensor_dims(module, s))) for key, p in parameters.items()]


def _places(model: nn.Module, example: Mapping[str, Tensor]) -> dict[str, float]:
    """Per convolution and linear layer, at how many places of one sample its weight is applied, over all calls."""
    names: dict[nn.Module, str] = {m: n for n, m in model.named_modules() if isinstance(m, _ConvNd | nn.Linear)}
    found: dict[str, float] = {}

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        tensor = inputs[0] if isinstance(module, _ConvTransposeNd) else output
        channels = tensor.shape[-1] if isinstance(module, nn.Linear) else tensor.shape[1]
        found[names[module]] = found.get(names[module], 0.0) + tensor.numel() / channels

    hooks = [module.register_forward_hook(hook) for module in names]
    try:
        with torch.no_grad():
            count_macs(model, example)
    finally:
        for handle in hooks:
            handle.remove()
    return found
