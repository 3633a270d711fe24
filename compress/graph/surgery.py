"""Making the layers of a network narrower.

All functions here work on names and shapes, so that an artifact repeats them without the data or the dependency graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from evaluate.core.errors import ModelError
from evaluate.core.text import a_few

Side = Literal["out", "in"]


def is_depthwise(module: nn.Module) -> bool:
    """Whether each channel is convolved alone, so that inputs, outputs and groups can only shrink together."""
    return isinstance(module, _ConvNd) and 1 < module.groups == module.in_channels == module.out_channels


def tensor_dims(module: nn.Module, side: Side) -> dict[str, int]:
    """Which dimension of which tensor holds the channels of one side: `{"weight": 0, "bias": 0}` for a conv's outputs.

    Empty where the layer has no such tensors, or where leanfit does not know how to make it narrower.
    """
    if isinstance(module, _ConvNd) and not is_depthwise(module):
        first: Side = "in" if isinstance(module, _ConvTransposeNd) else "out"
        return {"weight": 0 if side == first else 1} | ({"bias": 0} if side == "out" else {})
    if isinstance(module, nn.Linear):
        return {"weight": 0, "bias": 0} if side == "out" else {"weight": 1}
    if isinstance(module, nn.Embedding):
        return {"weight": 1}
    flat_norm = isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1
    one_sided = flat_norm or isinstance(module, _ConvNd | _BatchNorm | _InstanceNorm | nn.GroupNorm)
    if one_sided or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
        return {"weight": 0, "bias": 0, "running_mean": 0, "running_var": 0}
    return {}


def remove_channels(model: nn.Module, removed: Mapping[tuple[str, Side], Sequence[int]]) -> None:
    """Take channels out of layers, in place. `removed` maps (layer name, side) to the indices that go.

    The indices count the layer's channels as they are before the call. One-sided layers (norms, depthwise convolutions)
    take either side. The name of a bare parameter removes from its last dimension above 1.
    """
    for (name, side), indices in removed.items():
        if not indices:
            continue
        bare = bare_parameter(model, name)
        if bare is None:
            _narrow(model.get_submodule(name), side, indices)
        else:
            parent, _, key = name.rpartition(".")
            _cut(model.get_submodule(parent), key, last_dim(bare), indices)


def bare_parameter(model: nn.Module, name: str) -> nn.Parameter | None:
    """The parameter of this full name, or None where the name is that of a module."""
    parent, _, key = name.rpartition(".")
    return model.get_submodule(parent)._parameters.get(key)


def side_width(model: nn.Module, name: str, side: Side) -> int:
    """How many channels one side of a layer (or a bare parameter) has."""
    bare = bare_parameter(model, name)
    if bare is not None:
        return bare.shape[last_dim(bare)]
    module = model.get_submodule(name)
    for key, dim in tensor_dims(module, side).items():
        tensor = getattr(module, key, None)
        if isinstance(tensor, Tensor):
            groups = module.groups if dim == 1 and isinstance(module, _ConvNd) else 1
            return tensor.shape[dim] * groups
    raise ModelError(f"{name} ({type(module).__name__}) has no {side} channels that leanfit could count")


def last_dim(tensor: Tensor) -> int:
    """The last dimension longer than 1: where a bare parameter holds its channels."""
    return max((d for d, n in enumerate(tensor.shape) if n > 1), default=0)


def _narrow(module: nn.Module, side: Side, indices: Sequence[int]) -> None:
    for key, dim in tensor_dims(module, side).items():
        tensor = getattr(module, key, None)
        if isinstance(tensor, Tensor):
            # In a grouped convolution one dimension counts within a group, where all groups lose the same.
            _cut(module, key, dim, sorted({i % tensor.shape[dim] for i in indices}))
    _refresh(module)


def _cut(module: nn.Module, key: str, dim: int, indices: Sequence[int]) -> None:
    tensor = getattr(module, key)
    gone = set(indices)
    kept = torch.tensor([i for i in range(tensor.shape[dim]) if i not in gone], device=tensor.device)
    _put(module, key, tensor.detach().index_select(dim, kept))


def _put(module: nn.Module, key: str, value: Tensor) -> None:
    """Put a tensor of another shape in the place of a parameter or buffer."""
    old = getattr(module, key)
    setattr(module, key, nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value)


_WIDTHS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("out_features", "in_features"),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
    nn.GroupNorm: ("num_channels",),
    nn.PReLU: ("num_parameters",),
}


def _refresh(module: nn.Module) -> None:
    """Make the attributes of a standard layer agree with the shapes of its tensors."""
    weight = getattr(module, "weight", None)
    shape = tuple(weight.shape) if isinstance(weight, Tensor) else ()
    if isinstance(module, _ConvNd):
        transposed = isinstance(module, _ConvTransposeNd) and not is_depthwise(module)
        module.groups = shape[0] if is_depthwise(module) else module.groups
        widths = (shape[1] * module.groups, shape[0]) if transposed else (shape[0], shape[1] * module.groups)
        module.out_channels, module.in_channels = widths
    elif isinstance(module, nn.LayerNorm) and shape:
        module.normalized_shape = shape
    elif isinstance(module, _BatchNorm | _InstanceNorm):
        known = module.weight if module.weight is not None else module.running_mean
        module.num_features = module.num_features if known is None else len(known)
    for kind, names in _WIDTHS.items():
        if isinstance(module, kind):
            vars(module).update(zip(names, shape, strict=False))


def resize_like(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """Give the tensors of `model`, in place, the `shapes` of a state dict, ready for `load_state_dict`; returns it.

    Tensors whose shape changed are zero. Handles convolutions (also grouped, depthwise and transposed), linear layers,
    norms, PReLU, embeddings and bare parameters. Weights shared between layers stay shared, and need only one name.
    Raises ModelError where names differ, or where a shape could not come from making a layer narrower or wider.
    """
    state = model.state_dict(keep_vars=True)
    by_tensor = {id(tensor): shapes[name] for name, tensor in state.items() if name in shapes}
    _check_shapes(state, shapes, {id(tensor) for name, tensor in state.items() if name in shapes})
    fresh: dict[int, Tensor] = {}
    for module in list(model.modules()):
        tensors = [(k, t) for k, t in (*module._parameters.items(), *module._buffers.items()) if t is not None]
        changed = [(k, t) for k, t in tensors if tuple(t.shape) != tuple(by_tensor.get(id(t), t.shape))]
        for key, tensor in changed:
            if id(tensor) in fresh:
                setattr(module, key, fresh[id(tensor)])
            else:
                _put(module, key, tensor.new_zeros(tuple(by_tensor[id(tensor)])).detach())
                fresh[id(tensor)] = getattr(module, key)
        if changed:
            _refresh(module)
    return model


def _check_shapes(state: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], known: set[int]) -> None:
    missing = sorted(name for name, tensor in state.items() if id(tensor) not in known)
    unexpected = sorted(set(shapes) - set(state))
    if missing or unexpected:
        raise ModelError(
            f"the shapes are of another network: {_few('missing', missing)}{_few('unexpected', unexpected)}"
            "build the model with the arguments that it was compressed with."
        )
    for name, shape in shapes.items():
        old = tuple(state[name].shape)
        kernel = old[2:] if name.rpartition(".")[2] == "weight" else ()
        if len(shape) != len(old) or (kernel and tuple(shape[2:]) != kernel) or any(n < 1 for n in shape):
            raise ModelError(
                f"{name}: expected a shape like {old} with other channel counts, got {tuple(shape)}; "
                "build the model with the arguments that it was compressed with."
            )


def _few(what: str, names: Sequence[str]) -> str:
    return f"{what}: {a_few(names)}; " if names else ""


def layer_widths(module: nn.Module) -> list[dict[str, Any]]:
    """Output channels of every layer with weights, in the order of the network."""
    layers = ((n, getattr(m, "weight", None), m) for n, m in module.named_modules())
    return [
        {"layer": name, "channels": side_width(module, name, "out") if tensor_dims(layer, "out") else weight.shape[0]}
        for name, weight, layer in layers
        if isinstance(weight, nn.Parameter) and weight.ndim >= 2
    ]
