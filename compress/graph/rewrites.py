"""The changes of structure that come with leanfit; importing this registers them."""

from __future__ import annotations

from compress.graph import low_rank, plain_weights, shortcuts, skipped, transposed_linear

__all__ = ["low_rank", "plain_weights", "shortcuts", "skipped", "transposed_linear"]
