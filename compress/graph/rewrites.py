"""The changes of structure that come with leanfit; importing this registers them."""

from __future__ import annotations

from compress.graph import plain_weights, shortcuts, transposed_linear

__all__ = ["plain_weights", "shortcuts", "transposed_linear"]
