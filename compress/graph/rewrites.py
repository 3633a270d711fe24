"""The changes of structure that come with leanfit; importing this registers them."""

from __future__ import annotations

from compress.graph import shortcuts, transposed_linear

__all__ = ["shortcuts", "transposed_linear"]
