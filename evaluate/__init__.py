"""leanfit's device side: how accurate, how fast and how large a deployed model is. Needs only numpy and onnxruntime.

Names load on first use, so that `import evaluate` costs nothing. (Hugging Face has a package of the same name;
`__leanfit__` tells the two apart.)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.accuracy import drop, predict, score
    from evaluate.comparison import Comparison, Measurement, compare, measure, serve
    from evaluate.errors import EvaluateError
    from evaluate.latency import measure_latency
    from evaluate.results import Journal, find_records
    from evaluate.samples import Samples
    from evaluate.session import Session, open_session
    from evaluate.stats import mcnemar, median_interval, paired_drop, verdict, wilson

__leanfit__ = True
__all__ = [
    "Comparison",
    "EvaluateError",
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
    "Comparison": "evaluate.comparison",
    "Measurement": "evaluate.comparison",
    "Samples": "evaluate.samples",
    "compare": "evaluate.comparison",
    "measure": "evaluate.comparison",
    "EvaluateError": "evaluate.errors",
    "Journal": "evaluate.results",
    "Session": "evaluate.session",
    "drop": "evaluate.accuracy",
    "find_records": "evaluate.results",
    "mcnemar": "evaluate.stats",
    "measure_latency": "evaluate.latency",
    "median_interval": "evaluate.stats",
    "open_session": "evaluate.session",
    "paired_drop": "evaluate.stats",
    "predict": "evaluate.accuracy",
    "score": "evaluate.accuracy",
    "serve": "evaluate.comparison",
    "verdict": "evaluate.stats",
    "wilson": "evaluate.stats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluate' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
