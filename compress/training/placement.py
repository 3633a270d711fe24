"""Where training runs, in which precision, and so that the same seed gives the same bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic
from torch import nn

from evaluate.core.errors import MachineError

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def check_device(device: str) -> str:
    """The type of a torch device, "cuda" for "cuda:1". Raises MachineError for one that is not there."""
    try:
        return torch.empty(0, device=device).device.type
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise MachineError(
            f"device {device!r} cannot be used ({reason}). Use cpu, or cuda where there is one."
        ) from error


def autocast_dtype(precision: str, device: str) -> torch.dtype | None:
    """bfloat16 where training shall use it, None for plain float32.

    Raises MachineError for a device that is not there, and for bf16 anywhere but on CUDA.
    """
    kind = check_device(device)
    if precision == "bf16" and kind != "cuda":
        raise MachineError(f"precision bf16 needs a CUDA device, and training runs on {device!r}: use auto or fp32.")
    able = kind == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if able and precision in ("auto", "bf16") else None


def place(model: nn.Module, device: str) -> None:
    """Move a model to its device, images in channels-last order, in which convolutions are faster."""
    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first tensor is; the CPU for a model without any."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


@contextmanager
def at_home(model: nn.Module) -> Iterator[None]:
    """Bring a model back to the device and the memory order it came in, whatever happens in the block."""
    home = device_of(model)
    try:
        yield
    finally:
        model.to(home)
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


@contextmanager
def deterministic(enabled: bool = True) -> Iterator[None]:
    """Allow only repeatable operations inside the block; torch raises RuntimeError for any other."""
    cudnn: Any = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    others = memory.fill_uninitialized_memory, cudnn.benchmark
    if enabled and torch.cuda.is_available():
        os.environ.setdefault(_CUBLAS, ":4096:8")  # cuBLAS refuses to be deterministic without it
    torch.use_deterministic_algorithms(enabled)
    memory.fill_uninitialized_memory, cudnn.benchmark = False, cudnn.benchmark and not enabled
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory, cudnn.benchmark = others
