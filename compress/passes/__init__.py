"""The passes that come with leanfit; importing this package registers them in the order in which they are listed."""

from __future__ import annotations

from compress.passes.pruning import prune  # isort: skip
from compress.passes import quantize  # isort: skip
from compress.passes import recovery  # isort: skip

__all__ = ["prune", "quantize", "recovery"]
