"""A law from the plain data that `Law.to_dict` gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.errors import ArtifactError, UsageError
from evaluate.scaling.law import SCHEMA
from evaluate.scaling.law_registry import LAWS, law_class

if TYPE_CHECKING:
    from evaluate.scaling.law import Law


def restore(data: Mapping[str, Any]) -> Law:
    """A fitted law, ready to predict. Raises ArtifactError for data that is no law, or of another version."""
    if not isinstance(data, Mapping) or data.get("kind") != "law":
        raise ArtifactError(
            'this is no law of leanfit (it has no "kind": "law"); write one with `leanfit fit ... --out`'
        )
    if data.get("schema") != SCHEMA:
        raise ArtifactError(
            f"this law has schema {data.get('schema')!r}, and this leanfit reads {SCHEMA}; update leanfit"
        )
    if data.get("law") not in LAWS:
        raise ArtifactError(
            f"this file holds a law {data.get('law')!r}, which this leanfit does not know; update leanfit"
        )
    kind = law_class(str(data["law"]))
    try:
        return kind._restored(data)
    except (LookupError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ArtifactError(
            f"this law is damaged ({type(error).__name__}: {error}); write it again with `leanfit fit ... --out`"
        ) from error


def fill(law: Law, data: Mapping[str, Any]) -> None:
    """Give a law the attributes that a fit would have given it."""
    from evaluate.scaling.spread import Spread

    law.variables = tuple(map(str, data["variables"]))
    law.params_ = {str(name): float(value) for name, value in data["params"].items()}
    law.intervals_ = {
        str(name): (_end(low, -math.inf), _end(high, math.inf)) for name, (low, high) in data["intervals"].items()
    }
    law.objective_ = float(data["objective"])
    law.agreed_ = (int(data["agreed"][0]), int(data["agreed"][1]))
    law.warnings_ = [str(text) for text in data["warnings"]]
    law.n_ = int(data["n"])
    law.range_ = {str(name): _ends(law, str(name), pair) for name, pair in data["range"].items()}
    law.criteria_ = {str(name): float(value) for name, value in data["criteria"].items()}
    law.residuals_ = np.asarray(data["residuals"], dtype=float)
    law.draws_ = np.asarray(data["draws"], dtype=float).reshape(-1, len(law.params_))
    law.theta_ = np.array([law.params_[name] for name in law.form_.names])
    law._spread = Spread.from_dict(data["spread"])
    law._holdout = dict(data["holdout"])
    if not np.isfinite(law.theta_).all():
        raise ValueError("a parameter is no number")


def _end(value: Any, open_: float) -> float:
    """The end of an interval; JSON has null for one that is infinite."""
    return open_ if value is None else float(value)


def _ends(law: Law, name: str, pair: Any) -> tuple[float, float]:
    """The range of a variable; of one whose values are names, that of their codes."""
    if law.names_of(name):
        return 0.0, float(len(law.names_of(name)) - 1)
    low, high = pair
    return float(low), float(high)
