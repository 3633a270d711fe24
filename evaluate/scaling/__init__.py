"""Scaling laws: how performance depends on size, data, compute and on what compression retained; and how sure that is.

Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.scaling.forms.curves import BNSL1, BNSL2, M3, M4, LogLinear, PowerLaw, PowerLawFloor
    from evaluate.scaling.forms.joint import Chinchilla, ChinchillaTied, EffectiveParameters
    from evaluate.scaling.forms.linear import Linear
    from evaluate.scaling.forms.precision import Distillation, Precision
    from evaluate.scaling.forms.pruning import Frantar, Rosenfeld
    from evaluate.scaling.law import Law
    from evaluate.scaling.law_files import load_law, read_law, write_law
    from evaluate.scaling.points.point_files import read_points
    from evaluate.scaling.points.points import Points
    from evaluate.scaling.query.budget import optimum
    from evaluate.scaling.query.crossing import break_even
    from evaluate.scaling.query.solve import solve
    from evaluate.scaling.select.averaging import Average
    from evaluate.scaling.select.selection import select_law

_HOMES = {
    "Average": "select.averaging",
    "BNSL1": "forms.curves",
    "BNSL2": "forms.curves",
    "Chinchilla": "forms.joint",
    "ChinchillaTied": "forms.joint",
    "Distillation": "forms.precision",
    "EffectiveParameters": "forms.joint",
    "Frantar": "forms.pruning",
    "Law": "law",
    "Linear": "forms.linear",
    "LogLinear": "forms.curves",
    "M3": "forms.curves",
    "M4": "forms.curves",
    "Points": "points.points",
    "PowerLaw": "forms.curves",
    "PowerLawFloor": "forms.curves",
    "Precision": "forms.precision",
    "Rosenfeld": "forms.pruning",
    "break_even": "query.crossing",
    "load_law": "law_files",
    "optimum": "query.budget",
    "read_law": "law_files",
    "read_points": "points.point_files",
    "select_law": "select.selection",
    "solve": "query.solve",
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
