"""leanfit's device side: how accurate, how fast and how large a deployed model is. Needs only numpy and onnxruntime.

Names load on first use, so that `import evaluate` costs nothing. (Hugging Face has a package of the same name;
`__leanfit__` tells the two apart.)
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.benchmark.compare import Comparison, Measurement, compare, measure, serve
    from evaluate.benchmark.latency import measure_latency
    from evaluate.core.errors import LeanfitError
    from evaluate.core.journal import Journal, find_records
    from evaluate.core.stats import mcnemar, median_interval, paired_drop, verdict, wilson
    from evaluate.metrics.base import drop, score
    from evaluate.metrics.samples import Samples, predict
    from evaluate.runtime.session import Session, open_session

__leanfit__ = True
__all__ = [
    "Comparison",
    "LeanfitError",
    "Journal",
    "Measurement",
    "Samples",
    "Session",
    "compare",
    "drop",
    "find_records",
    "mcnemar",
    "measure",
    "measure_latency",
    "median_interval",
    "open_session",
    "paired_drop",
    "predict",
    "score",
    "serve",
    "verdict",
    "wilson",
]

# `environment()` shares its module's name and is therefore imported from it.
_HOMES = {
    "Comparison": "evaluate.benchmark.compare",
    "Measurement": "evaluate.benchmark.compare",
    "Samples": "evaluate.metrics.samples",
    "compare": "evaluate.benchmark.compare",
    "measure": "evaluate.benchmark.compare",
    "LeanfitError": "evaluate.core.errors",
    "Journal": "evaluate.core.journal",
    "Session": "evaluate.runtime.session",
    "drop": "evaluate.metrics.base",
    "find_records": "evaluate.core.journal",
    "mcnemar": "evaluate.core.stats",
    "measure_latency": "evaluate.benchmark.latency",
    "median_interval": "evaluate.core.stats",
    "open_session": "evaluate.runtime.session",
    "paired_drop": "evaluate.core.stats",
    "predict": "evaluate.metrics.samples",
    "score": "evaluate.metrics.base",
    "serve": "evaluate.benchmark.compare",
    "verdict": "evaluate.core.stats",
    "wilson": "evaluate.core.stats",
}


_RENAMED = {"EvaluateError": "LeanfitError"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"evaluate.{name} is now evaluate.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        return __getattr__(_RENAMED[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluate' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
