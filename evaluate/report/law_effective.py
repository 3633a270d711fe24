"""What the compressed models of a study are worth: the dense size that would be as good, by a law of dense models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.text import clean
from evaluate.report.law_bars import Level, effective_picture
from evaluate.report.law_native import sizes_of
from evaluate.report.law_saving import LawPicture
from evaluate.report.law_view import Floats, View
from evaluate.report.law_words import quantity

SIZE = "params"


def worth_picture(view: View, points: Any, *, key: str = "law-worth") -> LawPicture | None:
    """Effective size over the dense model's, against the bytes that were kept, for the largest size compressed.

    view   : a law of dense models in params alone. points : of the study's trials, `Points` or name -> (n,).
    None where the law is another, or where nothing compressed can be placed on it.
    """
    if view.variables != (SIZE,):
        return None
    size, levels = effective_levels(view, getattr(points, "columns", points))
    if len(levels) < 2:
        return None
    return effective_picture(
        levels,
        variable="retained_bytes",
        label="effective over dense params",
        reference=lambda kept: kept,
        reference_name="what the bytes alone would give",
        title=f"What compression leaves of {size}",
        key=key,
    )


def effective_levels(view: View, columns: Mapping[str, Any]) -> tuple[str, list[Level]]:
    """(the largest size that was compressed, its levels): bytes kept, effective over dense params with interval.

    Levels whose mean is better than any dense model of the law, or worse than all, have no effective size and are left
    out.
    """
    needed = ("role", SIZE, "retained_bytes", view.target)
    if any(name not in columns for name in needed):
        return "", []
    role = np.asarray(columns["role"]).astype(str)
    params, kept, y = (np.asarray(columns[name], dtype=np.float64) for name in needed[1:])
    good = np.isfinite(kept) & np.isfinite(y) & (y > 0) & (kept > 0)
    sizes = sizes_of(columns, len(role))
    dense = {s: float(np.mean(params[(sizes == s) & (role == "dense")])) for s in set(sizes[role == "dense"])}
    made = good & (role == "compressed") & np.isin(sizes, list(dense))
    if not made.any():
        return "", []
    size = max(set(sizes[made]), key=lambda s: (dense[s], s))
    mine = made & (sizes == size)
    return size, _levels(view, dense[size], _means(columns, mine, kept, y))


def _means(
    columns: Mapping[str, Any], mine: NDArray[np.bool_], kept: Floats, y: Floats
) -> list[tuple[str, float, float]]:
    """(name, bytes kept, y) of each level, the mean over its seeds."""
    names = np.array([clean(v, 24) for v in columns.get("level", [""] * len(y))], dtype=object)
    params = np.asarray(columns[SIZE], dtype=np.float64)
    groups: dict[tuple[str, float], list[int]] = {}
    for row in np.flatnonzero(mine):
        groups.setdefault((names[row], params[row]), []).append(int(row))
    return [(name, float(np.mean(kept[rows])), float(np.mean(y[rows]))) for (name, _), rows in groups.items()]


def _levels(view: View, dense: float, means: list[tuple[str, float, float]]) -> list[Level]:
    from evaluate.scaling.query.crossing import effective_size

    found = effective_size(view.law, [y for _, _, y in means])
    shares = zip(means, found.size / dense, found.low / dense, found.high / dense)
    return [
        Level(f"{name} {quantity('retained_bytes', kept)}", kept, float(value), float(low), float(high))
        for (name, kept, _), value, low, high in shares
        if np.isfinite(value)
    ]
