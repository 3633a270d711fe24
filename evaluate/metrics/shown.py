"""How a metric's figures are shown, and which way they point: names, headings, points, decimals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluate.core.text import decimals_for, finite, four_digits


@dataclass(frozen=True)
class Shown:
    """A name, a unit and a direction.

    name             : what a Record calls it by, `module:name` for one that is not leanfit's own.
    unit             : "%" for a share of right answers, 100 being all of them, or "".
    higher_is_better : which way it points.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True

    @property
    def label(self) -> str:
        """Its name without the module: for tables and sentences."""
        return self.name.rpartition(":")[2]

    @property
    def heading(self) -> str:
        """For a column or an axis: `accuracy, %`, or `mse, lower is better`."""
        return f"{self.label}, {self.unit or ('higher' if self.higher_is_better else 'lower') + ' is better'}"

    @property
    def points(self) -> str:
        """What follows a difference of it in a sentence: ` points` of per cent."""
        return " points" if self.unit == "%" else ""

    @property
    def share(self) -> bool:
        """Whether it is a share of right answers in per cent: 100 minus it is the share of wrong ones."""
        return self.unit == "%" and self.higher_is_better

    def as_loss(self, value: float, low: float, high: float) -> tuple[float, float, float]:
        """A drop with its interval, so that more is worse, whichever way the metric points."""
        return (value, low, high) if self.higher_is_better else (-value, -high, -low)

    def better(self, new: float, old: float) -> bool:
        """Whether one value beats another."""
        return new > old if self.higher_is_better else new < old

    def decimals(self, *values: Any) -> int:
        """Decimals to show these values with: two of per cent, else four digits of the largest."""
        return 2 if self.unit == "%" else four_digits(max((abs(v) for v in values if finite(v)), default=0.0))

    def drop_decimals(self, value: Any, low: Any, high: Any) -> int:
        """Decimals to show a drop with: two of points, else what its interval resolves."""
        if self.unit != "%" and finite(low) and finite(high):
            return decimals_for(low, high, most=9, parts=10)
        return self.decimals(value)
