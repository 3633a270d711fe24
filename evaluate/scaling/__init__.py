"""Scaling laws: how performance depends on size, data, compute and on what compression retained; and how sure that is.

Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.scaling.forms.form import Parameter, columns, register_law
    from evaluate.scaling.law import (
        BNSL1,
        BNSL2,
        M3,
        M4,
        Average,
        Chinchilla,
        ChinchillaTied,
        Distillation,
        EffectiveParameters,
        Frantar,
        Law,
        Linear,
        LogLinear,
        PowerLaw,
        PowerLawFloor,
        Precision,
        Rosenfeld,
        load_law,
        read_law,
        select_law,
        write_law,
    )
    from evaluate.scaling.points.point_files import read_points
    from evaluate.scaling.points.points import Points
    from evaluate.scaling.query.budget import optimum
    from evaluate.scaling.query.crossing import break_even
    from evaluate.scaling.query.solve import solve

_HOMES = {
    "Parameter": "forms.form", "Points": "points.points", "break_even": "query.crossing", "columns": "forms.form",
    "optimum": "query.budget", "read_points": "points.point_files", "register_law": "forms.form",
    "solve": "query.solve",
}  # fmt: skip
__all__ = [
    "Average", "BNSL1", "BNSL2", "Chinchilla", "ChinchillaTied", "Distillation", "EffectiveParameters", "Frantar",
    "Law", "Linear", "LogLinear", "M3", "M4", "Parameter", "Points", "PowerLaw", "PowerLawFloor", "Precision",
    "Rosenfeld", "break_even", "columns", "load_law", "optimum", "read_law", "read_points", "register_law",
    "select_law", "solve", "write_law",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'evaluate.scaling' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"evaluate.scaling.{_HOMES.get(name, 'law')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
