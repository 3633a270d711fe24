"""The passes that come with leanfit; importing this package registers them in the order in which they are listed."""

from __future__ import annotations

from compress.passes import pruning  # isort: skip
from compress.passes import quantization  # isort: skip
from compress.passes import recovery  # isort: skip
from compress.passes import sparsity  # isort: skip
from compress.passes import factorization  # isort: skip
from compress.passes import sharing  # isort: skip
from compress.passes import depth  # isort: skip

__all__ = ["depth", "factorization", "pruning", "quantization", "recovery", "sharing", "sparsity"]
