"""Units of y and x: an accuracy is fitted as what it lacks, per cent as fractions, a sparsity as what it keeps.

The laws fall to a floor and their sizes are positive, so that is what they are given; questions and answers stay in
the unit of the table. One table of accuracies, errors, fractions or per cent gives one and the same law.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling.points.cells import Column, number

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

    @property
    def rate(self) -> bool:
        """Whether y is a share of answers, right or wrong."""
        return self.limit == 1.0

    def read(self, text: str | float) -> float:
        """A target as a user writes it, a number of the table's unit or "90%" of a rate. Raises UsageError."""
        value, per_cent = read_target(text)
        if per_cent and not self.rate:
            raise UsageError(f"{text} of what? y is no rate here; give the target in its unit")
        return value * (self.unit / 100 if per_cent else 1.0)

    def kept(self, share: float, reference: float) -> float:
        """The y that keeps a share of the accuracy of `reference`. Raises UsageError where y is no rate."""
        if not self.rate:
            raise UsageError(
                "a share is kept of an accuracy or an error rate, and y is neither: give the target itself (--solve), "
                "or how much may be lost (--drop)"
            )
        return share * reference if self.higher else self.unit - share * (self.unit - reference)

    def dropped(self, points: float, reference: float) -> float:
        """The y that is worse than `reference` by so many points: per cent of a rate, units of y else."""
        lost = points * (self.unit / 100 if self.rate else 1.0)
        return reference - lost if self.higher else reference + lost

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Scale:
        """From `plain`. Raises ValueError, TypeError for anything else."""
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        limit = known.get("limit")
        found = cls(**{**known, "limit": math.inf if limit is None else limit})
        if not (isinstance(found.higher, bool) and found.unit > 0 and math.isfinite(found.top) and found.limit > 0):
            raise ValueError(f"y: no scale of a law ({str(dict(data))[:80]})")
        return found


def read_target(text: str | float) -> tuple[float, bool]:
    """(90.0, True) of "90%": a number, and whether it is in per cent. Raises UsageError."""
    bare = text.strip() if isinstance(text, str) else text
    per_cent = isinstance(bare, str) and bare.endswith("%")
    found = number(bare[:-1].rstrip() if isinstance(bare, str) and per_cent else bare)
    if found is None or not math.isfinite(found):
        raise UsageError(f"a target is a valid number in the unit of y, or 92% of a rate; got {text!r}")
    return found, per_cent


PLAIN = Scale()
FLIPPED = Scale(True)


def share_scale(y: NDArray[np.float64], name: str = "y") -> Scale:
    """The scale of a metric y (n,) of which more is better: a fraction, or per cent where values go past 1.

    Raises DataError where the best there can be is not known, or where fractions and per cent are mixed.
    """
    low, high = float(np.min(y)), float(np.max(y))
    if not (low >= 0 and high <= 100):
        raise DataError(
            f"{name} goes from {low:.4g} to {high:.4g}: of a metric of which more is better the best must be known, so "
            "a fraction or per cent is expected; give what is lacking to the best instead"
        )
    _refuse_mixed(name, y, 1.0)
    unit = 100.0 if high > 1 else 1.0
    return Scale(True, unit, unit, 1.0)


_WORSE = re.compile(r"err|error|loss|perplexity|ppl|nll|ce|mse|mae|rmse|wer|cer|bpb|bpc|regret")
_RATE = re.compile(r"err|error")
_BETTER = re.compile(
    r"acc|accuracy|correct|top\d+|precision|recall|sensitivity|specificity|f\d|m?iou|m?ap|m?ap\d+|auc|auroc|auprc|dice|"
    r"ndcg|mrr|r2|kappa|mcc|bleu|em|hits?"
)
RISES = 0.8  # Spearman's rank correlation from which on y is taken to rise with size
FEW = 5  # points that a rank correlation needs


def y_scale(name: str, y: NDArray[np.float64], x: Column | None, higher: bool | None) -> tuple[Scale, str]:
    """The scale of a column y (n,) by its name and values, and a sentence where it is a guess.

    x (n,) : the one size it is fitted along; None for several.  higher : whether more is better, where the user says.
    Without that, by the words in the name; else a y within 0 and 1 that rises with size is taken as an accuracy.
    Raises DataError as share_scale does.
    """
    parts = re.findall(r"[a-z0-9]+", name.lower())
    words = {*parts, *(part.rstrip("0123456789") for part in parts)}
    worse, better = (any(map(pattern.fullmatch, words)) for pattern in (_WORSE, _BETTER))
    if higher or (higher is None and better and not worse):
        return share_scale(y, name), ""
    if any(map(_RATE.fullmatch, words)) and np.min(y) >= 0 and np.max(y) <= 100:
        _refuse_mixed(name, y, APART)
        unit = 100.0 if np.mean(y > 1) > 0.5 else 1.0
        return (Scale(False, unit, unit, 1.0) if np.max(y) <= unit else PLAIN), ""
    if worse or higher is False or x is None or x.dtype == object or len(y) < FEW:
        return PLAIN, ""
    if not (0 <= np.min(y) < np.max(y) <= 1) or np.ptp(x) == 0:
        return PLAIN, ""
    ranks = [np.unique(np.asarray(values, dtype=float), return_inverse=True)[1] for values in (x, y)]
    rank = float(np.asarray(np.corrcoef(ranks))[0, 1])
    if rank < RISES:
        return PLAIN, ""
    return share_scale(y, name), (
        f"{name or 'y'} rises with size (rank correlation {rank:.2f}) within 0 and 1, so more of it is taken as "
        "better; --lower-is-better says that it is not"
    )


APART = 10.0  # times that a gap about 1 is, from which on rates below it and above it are of two units


def _refuse_mixed(name: str, y: NDArray[np.float64], apart: float) -> None:
    """Raise DataError for rates (n,) of which some are fractions and some per cent."""
    fractions, per_cent = y[(y <= 1) & (y > 0)], y[y > 1]
    if len(fractions) and len(per_cent) and np.min(per_cent) >= apart * np.max(fractions):
        raise DataError(
            f"{name} is at most {np.max(fractions):.4g} in {len(fractions)} rows and at least "
            f"{np.min(per_cent):.4g} in {len(per_cent)}: some are fractions and some per cent; write all in one unit"
        )


def x_scale(name: str, x: NDArray[np.float64]) -> Scale:
    """The scale of a column x: of a sparsity, what it keeps is fitted; the column itself else."""
    if name.lower() not in SPARSE or not len(x) or np.min(x) < 0:
        return PLAIN
    most = float(np.max(x))
    return FLIPPED if most <= 1 else Scale(True, 100.0, 100.0) if most <= 100 else PLAIN
