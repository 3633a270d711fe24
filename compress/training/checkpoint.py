"""Training state on disk: tensors and JSON in one safetensors file, which is replaced by one rename. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from compress.core.files import write_bytes
from evaluate.core.errors import MachineError

_HEADER = "leanfit"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able `info`, which holds the "key" by which they are recognised, as one file.

    Raises MachineError where the disk is full or read-only; an earlier file is whole then.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save(plain, {_HEADER: json.dumps(dict(info), allow_nan=False)}))
    except OSError as error:
        raise MachineError(
            f"{path}: the checkpoint cannot be written ({error.strerror or error}). Free some space and run again: "
            f"training goes on from its last finished epoch."
        ) from error


def load_tensors(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `save_tensors` wrote under this key; None where there is no file, or a damaged or a foreign one."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            info: dict[str, Any] = json.loads(file.metadata()[_HEADER])
            if info["key"] != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, info  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def merge(**groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One flat dict of several: merge(model=a) has the names "model/<name>"."""
    return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}


def split_off(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """The tensors of one group that `merge` put together, under their own names."""
    prefix = f"{group}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def state_hash(model: nn.Module) -> str:
    """sha256 (hex) over the names and values of a model's parameters and buffers, and its class."""
    digest = hashlib.sha256(type(model).__qualname__.encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of every parameter under "<index>/<name>", such as "3/momentum_buffer"."""
    state = optimizer.state_dict()["state"].items()
    return merge(**{str(n): {k: v for k, v in kept.items() if isinstance(v, Tensor)} for n, kept in state})


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, into an optimizer over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, entry = name.partition("/")
        state.setdefault(int(index), {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
