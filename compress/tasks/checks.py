"""What data must be like before anything is trained or measured on it. Every failure is a DataError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluate.core.errors import DataError
from evaluate.metrics.class_ids import IGNORED

_INTEGERS = (torch.int32, torch.int64)
_ALL_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool)


def as_tensor(value: Any, where: str) -> Tensor:
    """A detached CPU tensor of `value` (tensor or numeric array); floats become float32."""
    if isinstance(value, np.ndarray):
        value = _from_numpy(value, where)
    if not isinstance(value, Tensor):
        raise DataError(f"{where}: expected a torch tensor or a numpy array, got {type(value).__name__}.")
    if value.is_complex() or value.is_sparse or value.is_quantized:
        raise DataError(f"{where}: expected a dense real tensor, got {value.dtype} ({value.layout}).")
    if value.ndim == 0:
        raise DataError(f"{where}: expected one entry a sample, got a single value without dimensions.")
    tensor: Tensor = value.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _from_numpy(value: np.ndarray[Any, Any], where: str) -> Tensor:
    if value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
        raise DataError(
            f"{where}: arrays of dtype {value.dtype} hold no plain numbers. Convert it, for instance by "
            f".astype('float32')."
        )
    plain = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
    return torch.from_numpy(plain if plain.flags.writeable else plain.copy())


def as_inputs(value: Any, where: str) -> dict[str, Tensor]:
    """Named input tensors; a single tensor or array is named "input". Raises DataError for dtypes no layer takes."""
    if isinstance(value, Mapping):
        if not value:
            raise DataError(f"{where}: the dict of inputs is empty. Give at least one name -> tensor.")
        inputs = {str(name): as_tensor(item, f"{where} input {str(name)!r}") for name, item in value.items()}
    else:
        inputs = {"input": as_tensor(value, f"{where} inputs")}
    for name, tensor in inputs.items():
        if not tensor.is_floating_point() and tensor.dtype not in (*_INTEGERS, torch.bool):
            raise DataError(
                f"{where} input {name!r}: dtype {str(tensor.dtype).removeprefix('torch.')}, expected float32 (or int64 "
                f"for token ids). For images: x.astype('float32') / 255, or x.float() / 255."
            )
    return inputs


def as_targets(value: Any, where: str) -> Tensor:
    """Targets: int64 class ids from any integer dtype, or float32, of any shape (n, ...).

    Whether ids of more axes than (n,) are meant is the Task's to say, which knows the metric: `check_axes`.
    """
    targets = as_tensor(value, f"{where} targets")
    if targets.is_floating_point():
        return targets
    if targets.dtype not in _ALL_INTEGERS:
        raise DataError(f"{where} targets: dtype {targets.dtype}, expected int64 class ids or float32 values.")
    return targets.long()


def check_axes(targets: Tensor, dense: bool, where: str) -> None:
    """Integer targets are (n,), or (n, ...) where they are judged one by one (`dense`), as of tokens or pixels."""
    if targets.ndim != 1 and not dense:
        raise DataError(
            f"{where} targets: integer targets are class ids of shape (n,), got {tuple(targets.shape)}. For one-hot "
            f"rows use y.argmax(1); for regression use y.float(); for a class of every token or pixel give a metric of "
            f"those, such as token_accuracy or miou."
        )


def check_lengths(inputs: Mapping[str, Tensor], targets: Tensor, where: str) -> None:
    """At least one sample, and as many in every input as in the targets."""
    if len(targets) == 0:
        raise DataError(f"{where}: no samples. Every split needs at least one.")
    for name, tensor in inputs.items():
        if len(tensor) != len(targets):
            raise DataError(f"{where}: input {name!r} has {len(tensor)} samples and the targets have {len(targets)}.")
        if tensor.numel() == 0:
            raise DataError(f"{where}: input {name!r} has shape {tuple(tensor.shape)}: samples without values.")


def check_finite(tensor: Tensor, where: str) -> None:
    """No NaN and no infinity; the message says how many samples are affected and which is the first."""
    if not tensor.is_floating_point():
        return
    bad = ~torch.isfinite(tensor).flatten(1).all(1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
    if bad.any():
        raise DataError(
            f"{where}: {int(bad.sum())} of {len(bad)} samples hold NaN or infinite values (as float32), the first at "
            f"index {int(bad.nonzero()[0])}. Drop or repair them."
        )


def check_labels(targets: Tensor, classes: int, where: str) -> None:
    """Class ids within 0 .. classes - 1; among (n, ...) ids -100 has no label."""
    known = targets if targets.ndim == 1 else targets[targets != IGNORED]
    if known.numel() == 0:
        raise DataError(f"{where}: every target is {IGNORED}, which is no label. Give at least one.")
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{where}: class ids run from {low} to {high}, expected 0 to {classes - 1} for {classes} classes. Number "
            f"the classes from 0, or give `classes` with every name."
        )


def check_shares(targets: Tensor, where: str) -> None:
    """Targets of answers that are 0 or 1, or between them."""
    low, high = float(targets.min()), float(targets.max())
    if low < 0 or high > 1:
        raise DataError(f"{where}: targets run from {low:g} to {high:g}, expected 0 and 1 for answers of yes and no.")
