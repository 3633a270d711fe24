"""Scaling laws: how performance depends on size, data, compute and on what compression retained; and how sure that is.

Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.scaling.averaging import Average
    from evaluate.scaling.break_even import break_even
    from evaluate.scaling.budget import optimum
    from evaluate.scaling.curves import BNSL1, BNSL2, M3, M4, LogLinear, PowerLaw, PowerLawFloor
    from evaluate.scaling.distillation import Distillation
    from evaluate.scaling.inverse import solve
    from evaluate.scaling.joint import Chinchilla, ChinchillaTied, EffectiveParameters
    from evaluate.scaling.law import Law
    from evaluate.scaling.law_files import load_law, read_law, write_law
    from evaluate.scaling.linear import Linear
    from evaluate.scaling.points import Points, read_points
    from evaluate.scaling.precision import Precision
    from evaluate.scaling.pruning import Frantar, Rosenfeld
    from evaluate.scaling.selection import select_law

_HOMES = {
    "Average": "averaging",
    "BNSL1": "curves",
    "BNSL2": "curves",
    "Chinchilla": "joint",
    "ChinchillaTied": "joint",
    "Distillation": "distillation",
    "EffectiveParameters": "joint",
    "Frantar": "pruning",
    "Law": "law",
    "Linear": "linear",
    "LogLinear": "curves",
    "M3": "curves",
    "M4": "curves",
    "Points": "points",
    "PowerLaw": "curves",
    "PowerLawFloor": "curves",
    "Precision": "precision",
    "Rosenfeld": "pruning",
    "break_even": "break_even",
    "load_law": "law_files",
    "optimum": "budget",
    "read_law": "law_files",
    "read_points": "points",
    "select_law": "selection",
    "solve": "inverse",
    "write_law": "law_files",
}
__all__ = [
    "Average",
    "BNSL1",
    "BNSL2",
    "Chinchilla",
    "ChinchillaTied",
    "Distillation",
    "EffectiveParameters",
    "Frantar",
    "Law",
    "Linear",
    "LogLinear",
    "M3",
    "M4",
    "Points",
    "PowerLaw",
    "PowerLawFloor",
    "Precision",
    "Rosenfeld",
    "break_even",
    "load_law",
    "optimum",
    "read_law",
    "read_points",
    "select_law",
    "solve",
    "write_law",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluate.scaling' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"evaluate.scaling.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
