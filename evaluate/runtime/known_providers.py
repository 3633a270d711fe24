"""What runs models, all of it: importing this registers every built-in provider, by Python's own library alone."""

from __future__ import annotations

from evaluate.core import execution_providers
from evaluate.runtime import litert_runtime, openvino_runtime

__all__ = ["execution_providers", "litert_runtime", "openvino_runtime"]
