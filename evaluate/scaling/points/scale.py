"""Units of y and x: an accuracy is fitted as what it lacks, per cent as fractions, a sparsity as what it keeps.

The laws fall to a floor and their sizes are positive, so that is what they are given; questions and answers stay in
the unit of the table. One table of accuracies, errors, fractions or per cent gives one and the same law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError

SPARSE = ("sparsity", "pruned", "removed")


@dataclass(frozen=True)
class Scale:
    """How a number of the table becomes what is fitted, and back.

    higher : more is better, so top - value is fitted.  top : the best there can be, in the table's unit.
    unit   : what 1 is in the table, 100 where it has per cent.  limit : the most that is fitted, 1 for a rate.
    """

    higher: bool = False
    top: float = 1.0
    unit: float = 1.0
    limit: float = math.inf

    def fitted(self, value: Any) -> Any:
        """What is fitted, of a number or an array of the table."""
        return (self.top - value) / self.unit if self.higher else value / self.unit

    def told(self, fitted: Any) -> Any:
        """Back in the table's unit."""
        inside = fitted * self.unit
        return self.top - inside if self.higher else inside

    def told_ends(self, low: Any, high: Any) -> tuple[Any, Any]:
        """The ends of an interval, in the table's unit, the lower one first."""
        ends = self.told(low), self.told(high)
        return ends[::-1] if self.higher else ends

    @property
    def text(self) -> str:
        """What is fitted, as a formula of y: "1 - y", "y / 100"; "y" where it is y itself."""
        inside = f"{self.top:g} - y" if self.higher else "y"
        if self.unit == 1:
            return inside
        return f"({inside}) / {self.unit:g}" if self.higher else f"{inside} / {self.unit:g}"

    def plain(self) -> dict[str, Any]:
        """As JSON; a limit that is none is null."""
        return {**asdict(self), "limit": self.limit if math.isfinite(self.limit) else None}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Scale:
        """From `plain`. Raises ValueError, TypeError for anything else."""
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        limit = known.get("limit")
        found = cls(**{**known, "limit": math.inf if limit is None else limit})
        if not (isinstance(found.higher, bool) and found.unit > 0 and math.isfinite(found.top) and found.limit > 0):
            raise ValueError(f"y: no scale of a law ({str(dict(data))[:80]})")
        return found


PLAIN = Scale()
FLIPPED = Scale(True)


def share_scale(y: NDArray[np.float64]) -> Scale:
    """The scale of a metric y (n,) of which more is better: a fraction, or per cent where values go past 1.

    Raises DataError where the best there can be is not known.
    """
    low, high = float(np.min(y)), float(np.max(y))
    if not (low >= 0 and high <= 100):
        raise DataError(
            f"y goes from {low:.4g} to {high:.4g}: of a metric of which more is better the best must be known, so a "
            "fraction or per cent is expected; give what is lacking to the best instead"
        )
    unit = 100.0 if high > 1 else 1.0
    return Scale(True, unit, unit, 1.0)


def x_scale(name: str, x: NDArray[np.float64]) -> Scale:
    """The scale of a column x: of a sparsity, what it keeps is fitted; the column itself else."""
    if name.lower() not in SPARSE or not len(x) or np.min(x) < 0:
        return PLAIN
    most = float(np.max(x))
    return FLIPPED if most <= 1 else Scale(True, 100.0, 100.0) if most <= 100 else PLAIN
