"""The callback through which long work reports: (message, done, total)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Status: TypeAlias = Callable[[str, float, float], None]


def silent(message: str, done: float, total: float) -> None:
    """The status callback that shows nothing."""
