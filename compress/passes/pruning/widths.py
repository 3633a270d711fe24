"""How many channels each group keeps: those that matter least for the cost they save go first, until the target is met.

Removing channels costs importance and saves MACs (or params, or bytes). Choosing widths is a multiple-choice knapsack,
except that a layer's cost is a product of two widths; so the cost is always asked of an exact model of it, which is
fast enough to be asked thousands of times. In that model a tensor of a layer shrinks in proportion to the outputs and
the inputs that are kept, and the MACs of a layer are the size of its weight times the number of places where it is
applied, which is measured once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
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
from compress.passes.pruning.layer_times import LayerTable
from compress.passes.pruning.prune_settings import LATENCY, UNITS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_Key = tuple[str, Side]
COUNTED: dict[str, Callable[[nn.Module, Mapping[str, Tensor]], int]] = {
    "params": lambda model, example: count_params(model),
    "macs": count_macs,
}


def measure(model: nn.Module, example: Mapping[str, Tensor], unit: str) -> int:
    """The size of a model in one of UNITS."""
    counted, factor = UNITS[unit]
    return factor * COUNTED[counted](model, example)


def achieved(model: nn.Module, original: nn.Module, example: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """The size of a model in all UNITS, and its ratio to the uncompressed one's; JSON-able."""
    sizes = {unit: (measure(model, example, unit), measure(original, example, unit)) for unit in UNITS}
    return {unit: {"value": now, "ratio": round(now / was, 4)} for unit, (now, was) in sizes.items()}


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
class _Timed:
    """A layer whose time is known at each of its widths: (columns of the shares, full width) of inputs and outputs."""

    table: LayerTable
    inputs: tuple[int, int]
    outputs: tuple[int, int]

    def ms(self, shares: Floats) -> Floats:
        ins, outs = (shares[..., column] * width for column, width in (self.inputs, self.outputs))
        return self.table.at(ins, outs)


@dataclass(frozen=True)
class Costs:
    """MACs, params and bytes as functions of the units that each group keeps.

    units : (groups,) units of each group.
    loss  : (groups, sides + 1) share of each layer side that one removed unit takes; the last side never shrinks.
    """

    units: Ints
    loss: Floats
    terms: Mapping[str, _Terms]
    timed: Sequence[_Timed] = ()

    def of(self, unit: str, kept: Ints | Floats) -> Floats:
        """The cost (...) of `kept` (..., groups) units, in one of UNITS, or the milliseconds of the timed layers."""
        shares = 1.0 - (self.units - kept) @ self.loss
        if unit == LATENCY:
            return np.asarray(sum(layer.ms(shares) for layer in self.timed))
        counted, factor = UNITS[unit]
        return self.terms[counted].total(shares) * factor


def measure_costs(
    model: nn.Module, example: Mapping[str, Tensor], groups: Sequence[Group], tables: Sequence[LayerTable] = ()
) -> Costs:
    """The cost model of `model`. `example` maps input names to tensors (n, ...); the first sample is used.

    tables : how long layers take over their widths, where latency is asked.
    """
    keys: list[_Key] = sorted({(target.layer, target.side) for g in groups for target in g.targets})
    column = {key: i for i, key in enumerate(keys)}
    fixed = len(keys)
    loss = np.zeros((len(groups), fixed + 1))
    for row, group in zip(loss, groups, strict=True):
        for target in group.targets:
            row[column[target.layer, target.side]] += len(target.indices[0]) / side_width(
                model, target.layer, target.side
            )
    places = layer_places(model, example)
    macs, params = [], []
    for name in sorted({name for name, _ in keys}):
        out, into = column.get((name, "out"), fixed), column.get((name, "in"), fixed)
        for size, sides in _tensors(model, name):
            params.append((size, out if "out" in sides else fixed, into if "in" in sides else fixed))
        if name in places:
            macs.append((places[name] * model.get_parameter(f"{name}.weight").numel(), out, into))
    terms = {"macs": _terms(macs, count_macs(model, example)), "params": _terms(params, count_params(model))}
    both: tuple[Side, ...] = ("in", "out")
    timed = [
        _Timed(t, *((column.get((t.name, side), fixed), side_width(model, t.name, side)) for side in both))
        for t in tables
    ]
    return Costs(np.array([len(g.units) for g in groups]), loss, terms, timed)


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


def layer_places(model: nn.Module, example: Mapping[str, Tensor]) -> dict[str, float]:
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


TOLERANCE = 0.02
_ALL_AT_ONCE = 100_000
_PAIRS = 20_000


@dataclass(frozen=True)
class Choices:
    """What one group may keep.

    kept : (options,) units, ascending; the last is the full width, or the only one where the user fixed it.
    loss : (options,) what keeping so many loses; 0 for all, larger for fewer.
    """

    kept: Ints
    loss: Floats


@dataclass(frozen=True)
class Allocation:
    """Units that each group keeps, and what that costs in the unit asked for."""

    kept: Ints
    cost: float


def widths_allowed(width: int, block: int, smallest: int, split: int = 1, *, below: bool = True) -> list[int]:
    """The channel counts a group of `width` may have, ascending: multiples of the device's `block`, and `width` itself.

    Under one block, powers of two (where `below`, or where the group has no more than a block to begin with): part of a
    vector register is used then, which is still better than none. Never under `smallest`, which is at least 1, and
    always multiples of `split`, the number of groups of a grouped convolution.
    """
    counts = {width, *range(block, width, block)}
    if below or width <= block:
        counts |= {2**k for k in range(block.bit_length()) if 2**k < min(block, width)}
    return sorted(c for c in counts if c % split == 0 and c >= max(1, smallest)) or [width]


def importance_losses(scores: Floats, kept: Ints, layers: int) -> Floats:
    """Loss (options,) of keeping the `kept` most important units: -layers * log of the share of importance that stays.

    The logarithm makes the last channels of a group ever dearer, so that no group collapses while others are whole;
    `layers` is the number of layer sides that shrink with the group, so that groups compare by what they touch.
    """
    ranked = np.sort(np.maximum(scores, 1e-3 * scores.mean()))[::-1].cumsum()
    return np.asarray(-layers * np.log(ranked[kept - 1] / ranked[-1]))


def even_losses(kept: Ints, units: int, share: float) -> Floats:
    """Loss (options,) that is least where a group keeps the `share` that all are to keep."""
    return np.asarray((kept / units - share) ** 2)


def even_share(costs: Costs, choices: Sequence[Choices], unit: str, target: float) -> float:
    """The share of units which, kept in every group without any rounding, costs `target`."""
    low, high = 0.0, 1.0
    most, least = (np.array([c.kept[i] for c in choices], float) for i in (-1, 0))
    for _ in range(40):
        middle = (low + high) / 2
        kept = np.clip(most * middle, least, most)
        low, high = (low, middle) if float(costs.of(unit, kept)) > target else (middle, high)
    return low


def allocate(costs: Costs, choices: Sequence[Choices], unit: str, target: float, over: float = 0.0) -> Allocation:
    """The allocation of least loss within 2 % below `target`; where there is none, the costliest one below it.

    Small spaces are searched whole. Others greedily, the least loss per cost saved first, then by exchanging steps of
    one group for steps of another. `over` allows the target to be passed by that share, for a second try.
    Returns the smallest allocation where even that is above the target.
    """
    search = _Search(costs, choices, unit, target * (1 + over), target * (1 - TOLERANCE))
    if np.prod([float(len(c.kept)) for c in choices]) <= _ALL_AT_ONCE:
        options = np.array(list(itertools.product(*(range(len(c.kept)) for c in choices))))
        return search.allocation(options[search.best(options)])
    return search.allocation(search.refined(search.greedy()))


@dataclass(frozen=True)
class _Search:
    """Search over option indices (..., groups) into the choices."""

    costs: Costs
    choices: Sequence[Choices]
    unit: str
    ceiling: float
    floor: float

    def kept(self, options: Ints) -> Ints:
        return np.stack([c.kept[options[..., g]] for g, c in enumerate(self.choices)], -1)

    def cost(self, options: Ints) -> Floats:
        return self.costs.of(self.unit, self.kept(options))

    def loss(self, options: Ints) -> Floats:
        return np.asarray(sum(c.loss[options[..., g]] for g, c in enumerate(self.choices)))

    def allocation(self, options: Ints) -> Allocation:
        return Allocation(self.kept(options), float(self.cost(options)))

    def ranks(self, options: Ints) -> tuple[Floats, Floats]:
        """(class, value) of each candidate, both as small as possible: too dear, too cheap, or within the band."""
        cost = self.cost(options)
        within, above = (cost >= self.floor) & (cost <= self.ceiling), cost > self.ceiling
        value = np.where(within, self.loss(options), np.where(above, cost, -cost))
        return np.where(within, 0.0, np.where(above, 2.0, 1.0)), np.asarray(value)

    def best(self, options: Ints) -> int:
        kind, value = self.ranks(options)
        return int(np.lexsort((value, kind))[0])

    def greedy(self) -> Ints:
        """From the full widths down, one step of one group at a time, until the ceiling is met or nothing is left."""
        now = np.array([len(c.kept) - 1 for c in self.choices])
        while float(self.cost(now)) > self.ceiling and now.any():
            steps = now - np.eye(len(now), dtype=np.int64)[now > 0]
            saved = np.maximum(self.cost(now) - self.cost(steps), 1e-9)
            now = steps[int(np.argmin((self.loss(steps) - self.loss(now)) / saved))]
        return now

    def refined(self, now: Ints) -> Ints:
        """Local search: some steps up or down of one group, alone or against some of another, while it helps."""
        for _ in range(10 * len(now) + 100):
            near = self._neighbours(now)
            chosen = near[self.best(near)]
            if (chosen == now).all():
                break
            now = chosen
        return now

    def _neighbours(self, now: Ints) -> Ints:
        """The present choice first, so that it wins a tie and the search ends; steps as long as there is room for."""
        reach = max(1, math.isqrt(2 * _PAIRS) // (2 * len(now)))
        one = np.eye(len(now), dtype=np.int64)
        single = np.concatenate([step * one for step in range(-reach, reach + 1) if step])
        first, second = np.triu_indices(len(single) if len(single) ** 2 <= 4 * _PAIRS else 0, 1)
        near = now + np.concatenate([0 * one[:1], single, single[first] + single[second]])
        top = np.array([len(c.kept) - 1 for c in self.choices])
        return np.asarray(near[((near >= 0) & (near <= top)).all(-1)])
