"""Torch in a state where the same seed gives the same bits, and back again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


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
