"""Which channels must be removed together: groups of coupled layers, found by torch-pruning's dependency graph.

Fang et al. 2023, "DepGraph: Towards Any Structural Pruning". The graph is only asked which indices belong together; the
removal itself is `compress.graph.surgery.remove_channels`, on names, so that every group can be tried on a copy first.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning import _helpers
from torch_pruning.dependency import Dependency, index_mapping
from torch_pruning.dependency import Group as RawGroup

from compress.core.errors import PassError
from compress.core.forward import call
from compress.graph.surgery import Side, is_depthwise, last_dim, tensor_dims
from evaluate.core.errors import ModelError

# What tracing, index mapping or a forward pass raises on a network that the dependency graph misunderstands.
TRACE_ERRORS = (
    ModelError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError,
)  # fmt: skip
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_BEYOND = 4  # times the widest layer: what is concatenated and read by no layer may be wider than any


@dataclass(frozen=True)
class PruneTarget:
    """What one side of one layer loses: `indices[u]` are its channels that go with unit u of the group.

    `weighted` is whether the layer is a convolution or a linear layer.
    """

    layer: str
    side: Side
    indices: tuple[tuple[int, ...], ...]
    weighted: bool


@dataclass(frozen=True)
class Group:
    """Channels of several layers that can only be removed together.

    units  : per unit, the channels of the root layer in it: one channel each, or one of every group of a grouped conv.
    targets   : everything that changes when a unit is removed.
    layers : the convolutions and linear layers whose outputs shrink, in the order of the model.
    raw    : torch-pruning's group over all channels of its root, for the importances.
    """

    name: str
    units: tuple[tuple[int, ...], ...]
    targets: tuple[PruneTarget, ...]
    layers: tuple[str, ...]
    normalised: bool
    raw: Any = field(compare=False, repr=False)

    @property
    def width(self) -> int:
        """Channels of the root layer."""
        return sum(len(u) for u in self.units)


@dataclass(frozen=True)
class SkippedLayer:
    """Layers that keep their channels, and why. `expected` where no user would want to hear of it."""

    layers: tuple[str, ...]
    reason: str
    expected: bool = False

    def __str__(self) -> str:
        return f"{', '.join(self.layers)}: {self.reason}"


class _Refused(Exception):
    """A group cannot be used, and why."""


def find_groups(model: nn.Module, example: Mapping[str, Tensor]) -> tuple[list[Group], list[SkippedLayer]]:
    """The groups of a model in the order of its layers, and those that cannot be used.

    The raw groups refer to the modules of `model` itself. Raises PassError where torch cannot trace the model.
    """
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    with one_by_one() as lost:
        graph = _trace(model, example)
        index_mapping.update_index_mapping(graph)
        walked = list(_raw_groups(graph, order))
    found: list[Group] = []
    left: list[SkippedLayer] = []
    for root, raw in walked:
        names = _out_layers(graph, raw, order) if raw is not None else (root,)
        try:
            if raw is None:
                raise _Refused("its dependencies could not be followed")
            if any(dep.layer in lost for dep, _ in raw):
                raise _Refused("its channels reach an operation whose channels cannot be followed")
            found.append(_group(model, graph, raw, names))
        except _Refused as refused:
            left.append(SkippedLayer(names, str(refused)))
    return sorted(found, key=lambda g: order[g.layers[0]]), left


def removal(groups: Sequence[Group], chosen: Sequence[Sequence[int]]) -> dict[tuple[str, Side], list[int]]:
    """What `remove_channels` must take out where unit indices `chosen[g]` of each group go."""
    gone: dict[tuple[str, Side], set[int]] = {}
    for group, units in zip(groups, chosen, strict=True):
        for target in group.targets:
            gone.setdefault((target.layer, target.side), set()).update(i for u in units for i in target.indices[u])
    return {key: sorted(indices) for key, indices in gone.items()}


def _trace(model: nn.Module, example: Mapping[str, Tensor]) -> tp.DependencyGraph:
    with tracing(model):
        try:
            inputs = {name: t[:1] for name, t in example.items()}
            return tp.DependencyGraph().build_dependency(model, inputs, forward_fn=_every_output, verbose=False)
        except TRACE_ERRORS as error:
            raise PassError(
                f"prune: cannot follow the layers of {type(model).__name__}: {type(error).__name__}: {error}. "
                "Does forward() run with gradients enabled?"
            ) from error


@contextlib.contextmanager
def one_by_one() -> Iterator[set[Any]]:
    """Inside, an operation whose indices torch-pruning cannot map is put into the set; it would end the whole walk."""
    lost: set[Any] = set()
    names = [name for name in vars(index_mapping) if re.fullmatch(r"update_\w+_index_mapping", name)]
    theirs = {name: getattr(index_mapping, name) for name in names}

    def guarded(update: Any) -> Any:
        def run(graph: Any, node: Any) -> None:
            try:
                update(graph, node)
            except TRACE_ERRORS:
                lost.add(node.module)

        return run

    for name, update in theirs.items():
        setattr(index_mapping, name, guarded(update))
    try:
        yield lost
    finally:
        for name, update in theirs.items():
            setattr(index_mapping, name, update)


def _every_output(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    return list(call(model, inputs).values())


@contextlib.contextmanager
def tracing(model: nn.Module) -> Iterator[None]:
    """Eval mode, with every parameter in the autograd graph; mode and flags are restored afterwards."""
    training, flags = model.training, [(p, p.requires_grad) for p in model.parameters()]
    model.eval().requires_grad_(True)
    try:
        yield
    finally:
        model.train(training)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _raw_groups(graph: tp.DependencyGraph, order: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    """(root layer, torch-pruning's group or None where it fails), each output layer in one group only.

    As DependencyGraph.get_all_groups, except that one bad group does not end the walk.
    """
    roots = {name: m for m, name in graph._module2name.items() if isinstance(m, _WEIGHTED) and m in graph.module2node}
    visited: set[str] = set()
    for name in sorted(roots, key=lambda n: order[n]):
        module = roots[name]
        if name in visited or is_depthwise(module):
            continue
        pruner = graph.get_pruner_of_module(module)
        try:
            width = range(pruner.get_out_channels(module))
            raw = coupled(graph, module, pruner.prune_out_channels, width)
        except TRACE_ERRORS:
            visited.add(name)
            yield name, None
            continue
        visited.update(_out_layers(graph, raw, order))
        yield name, raw


def _parameters(layer: Any) -> Iterable[Tensor]:
    return (layer,) if isinstance(layer, nn.Parameter) else layer.parameters(recurse=False)


def coupled(graph: tp.DependencyGraph, layer: nn.Module, cut: Any, channels: Iterable[int]) -> Any:
    """What `graph.get_pruning_group` gives: all that loses channels when `cut` takes these from `layer`.

    Theirs follows every list of channels that arrives at a layer, of which there may be exponentially many where halves
    are swapped or repeated (rotary embeddings, shuffles). Each channel of a layer is followed once here: what a layer
    loses is the union in the end. The index maps are those of the last `index_mapping.update_index_mapping`.

    Raises ValueError where the maps lead to channels that nothing can have, as they do in circles that shift.
    """
    limit = _BEYOND * max((n for m in graph.module2node for p in _parameters(m) for n in p.shape), default=1)
    root = graph.module2node[layer]
    start = [_helpers._HybridIndex(idx=c, root_idx=c) for c in channels]
    first = Dependency(cut, cut, source=root, target=root)
    found: dict[Any, tuple[Any, dict[int, Any]]] = {(root, cut): (first, {c.idx: c for c in start})}
    waiting = [(first, start)]
    while waiting:
        dep, indices = waiting.pop()
        for onward in dep.target.dependencies:
            if not onward.is_triggered_by(dep.handler):
                continue
            new = indices
            for mapping in onward.index_mapping:
                new = mapping(new) if mapping is not None else new
            key = (onward.target, onward.handler)
            _, held = found.setdefault(key, (onward, {}))
            fresh: dict[int, Any] = {}
            for channel in new:  # in order: torch-pruning's importances do not all read the indices
                if channel.idx not in held:
                    fresh.setdefault(channel.idx, channel)
            if fresh and (max(fresh) >= limit or min(fresh) < 0):
                raise ValueError(f"channel {max(fresh)} of a network whose layers have at most {limit // _BEYOND}")
            if fresh:
                held.update(fresh)
                waiting.append((onward, list(fresh.values())))
    group = RawGroup()
    group._DG = graph
    for dep, held in found.values():
        if held:
            group.add_dep(dep, list(held))
            group[len(group) - 1].root_idxs = [c.root_idx for c in held.values()]
    return group


def _out_layers(graph: tp.DependencyGraph, raw: Any, order: Mapping[str, int]) -> tuple[str, ...]:
    weighted = [dep for dep, _ in raw if isinstance(dep.layer, _WEIGHTED)]
    makes = [dep.layer for dep in weighted if graph.is_out_channel_pruning_fn(dep.handler) or is_depthwise(dep.layer)]
    names = {graph._module2name[layer] for layer in makes}
    return tuple(sorted(names, key=lambda n: order[n]))


def _group(model: nn.Module, graph: tp.DependencyGraph, raw: Any, layers: tuple[str, ...]) -> Group:
    split = max((_conv_groups(dep.layer) for dep, _ in raw), default=1)
    roots = len(raw[0].idxs)
    if roots % split or split == roots:
        raise _Refused(f"{roots} channels in {split} groups leave nothing to remove evenly")
    units = tuple(tuple(range(u, roots, roots // split)) for u in range(roots // split))
    shared = _shared_layers(model)
    targets = []
    for item in raw:
        name = _cut_name(model, graph, item.dep, shared)
        if name:
            weighted = isinstance(item.dep.layer, _WEIGHTED)
            targets.append(PruneTarget(name, _side(graph, item.dep), _indices(item, units), weighted))
    normalised = any(isinstance(dep.layer, nn.LayerNorm | nn.GroupNorm) for dep, _ in raw)
    return Group(layers[0], units, tuple(targets), layers, normalised, raw)


def _conv_groups(layer: nn.Module) -> int:
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups
    if isinstance(layer, nn.modules.conv._ConvNd) and not is_depthwise(layer):
        return layer.groups
    return 1


def _side(graph: tp.DependencyGraph, dep: Any) -> Side:
    """`out` also for one-sided layers, whichever of their two names the graph used."""
    one_sided = isinstance(dep.layer, nn.Parameter) or tensor_dims(dep.layer, "in") == tensor_dims(dep.layer, "out")
    return "out" if one_sided or graph.is_out_channel_pruning_fn(dep.handler) else "in"


def _cut_name(model: nn.Module, graph: tp.DependencyGraph, dep: Any, shared: frozenset[str]) -> str:
    """The name of the layer that shrinks; empty for an operation without tensors. Raises _Refused with the reason."""
    layer = dep.layer
    if isinstance(layer, nn.Parameter):
        if dep.target.pruning_dim % layer.ndim != last_dim(layer):
            raise _Refused("a bare parameter would be cut along an unusual dimension")
        return str(graph._param_to_name[layer])
    name = graph._module2name.get(layer)
    if name is None or not has_channels(layer):
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
            raise _Refused(f"{name} has no weights from which its width could be read back")
        return ""
    if torch.nn.utils.parametrize.is_parametrized(layer):
        raise _Refused(f"{name} is parametrized; remove the parametrization first")
    if not tensor_dims(layer, "out"):
        raise _Refused(f"{name} is of type {type(layer).__name__}, which cannot be made narrower")
    if name in shared:
        raise _Refused(f"{name} shares its weights with another layer")
    return str(name)


def has_channels(layer: nn.Module) -> bool:
    """Whether a layer has tensors that shrink with its channels; one slope for all does not."""
    return bool(layer.state_dict()) and not (isinstance(layer, nn.PReLU) and layer.num_parameters == 1)


def _shared_layers(model: nn.Module) -> frozenset[str]:
    """Layers that hold a parameter which another layer holds too."""
    holders = [(name, id(p)) for name, m in model.named_modules() for p in m._parameters.values() if p is not None]
    times = Counter(identity for _, identity in holders)
    return frozenset(name for name, identity in holders if times[identity] > 1)


def _indices(item: Any, units: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Per unit, the channels of this layer that go with it. Raises _Refused where units differ in what they take."""
    by_root: dict[int, list[int]] = {}
    for index, root in zip(item.idxs, item.root_idxs, strict=True):
        if root is None:
            raise _Refused("its channels are repeated along the way")
        by_root.setdefault(root, []).append(index)
    indices = tuple(tuple(i for root in unit for i in by_root.get(root, ())) for unit in units)
    if len({len(i) for i in indices}) > 1:
        raise _Refused("its channels are used unevenly by the layers that follow")
    return indices
