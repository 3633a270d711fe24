"""What looks odd about the points of a fit, in sentences; nothing is changed by it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evaluate.scaling.cells import is_numeric
from evaluate.scaling.points import Chosen, Points

_RIGHT = ("accuracy", "acc", "top1", "top5", "precision", "recall", "f1")
_WRONG = ("error", "err", "error_rate", "test_err", "test_error", "train_err")


def hints(points: Points, chosen: Chosen, y: str, group: str | None = None) -> list[str]:
    """Sentences on the unit of y, on runs that are not independent, and on kinds of points that are mixed."""
    return [*_units(chosen, y), *_runs(points, chosen, group), *_roles(points, chosen)]


def _units(chosen: Chosen, y: str) -> Iterator[str]:
    name, top = y.lower(), float(chosen.y.max())
    share = float(np.mean(chosen.y > 1))
    if name in (*_RIGHT, *_WRONG) and 1 < top <= 100 and share > 0.5:
        yield f"{y} goes up to {top:.4g}: it looks like per cent, and then answers are in per cent too"
    elif name in (*_RIGHT, *_WRONG) and share > 0 and top > 1:
        yield f"{y} is mostly a fraction and goes up to {top:.4g}: are some rows in per cent?"
    if name in _RIGHT:
        yield f"{y} rises to a limit, and the laws fall to a floor: fit the error (1 - {y}) instead"


def _runs(points: Points, chosen: Chosen, group: str | None) -> Iterator[str]:
    if group is not None or "run" not in points.columns:
        return
    runs = points.columns["run"][chosen.rows]
    count = len(set(runs.tolist()))
    if 2 < count < len(runs):
        yield (
            f"{len(runs)} points come from {count} runs, and those of one run are not independent: --group run "
            "resamples by run and gives honest intervals"
        )


def _roles(points: Points, chosen: Chosen) -> Iterator[str]:
    for name in ("role", "level"):
        column = points.columns.get(name)
        if column is None or is_numeric(column):
            continue
        kinds, counts = np.unique(column[chosen.rows].astype(str), return_counts=True)
        if len(kinds) > 1 and not (set(chosen.columns) & {"level", "density", "bits", "role"}):
            told = ", ".join(f"{kind} {count}" for kind, count in list(zip(kinds, counts))[:5])
            yield f"one law is fitted to points of different {name} ({told}); --where {name}={kinds[0]} takes one"
            return


def target_hint(y: str, low: float, high: float, target: float) -> str:
    """Why a target looks as if it were in another unit than the points; empty where it does not."""
    asked = f"{y} goes from {low:.4g} to {high:.4g} and {target:g} was asked: if that is"
    if high <= 1 < target <= 100:
        return f"{asked} per cent, ask for {target / 100:g}"
    if low > 1 > target > 0 and high <= 100:
        return f"{asked} a fraction, ask for {target * 100:g}"
    return ""
