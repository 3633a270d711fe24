"""NIST's certified problems (Statistical Reference Datasets) that are laws of ours, in our parameters.

Each problem tells how its x and y become ours, its parameters from ours and ours from its, and what stays fixed.
nist.json holds the data and the certified values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.scaling.fit.fitting import fit, jacobian
from evaluate.scaling.forms.form import Loss
from evaluate.scaling.law import law_class

NIST = json.loads((Path(__file__).parent / "nist.json").read_text())
SQUARES = Loss("squares", space="raw")
Vector = Callable[[Any], Any]


@dataclass(frozen=True)
class Problem:
    """name : NIST's.  law : ours.  x, y : how NIST's values become ours.  ours : our parameters from NIST's b.

    theirs : NIST's b from ours, in arithmetic that also takes complex numbers.
    """

    name: str
    law: str
    ours: Vector
    theirs: Vector
    x: Vector = np.asarray
    y: Vector = np.asarray
    fixed: dict[str, float] = field(default_factory=dict)

    def solve(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Parameters and standard errors as NIST names them, from its starting point 0 or 1."""
        data = NIST[self.name]
        form = law_class(self.law).form
        x, y = self.x(np.array(data["x"]))[:, None], self.y(np.array(data["y"]))
        begin = np.array(self.ours(np.array(data["starts"][start])), dtype=float)
        found = fit(form, x, y, loss=SQUARES, starts=begin[None], fixed=self.fixed)
        r, slopes, scale = jacobian(form, x, y, found.theta, loss=SQUARES, fixed=self.fixed)
        size = np.linalg.norm(slopes, axis=0)
        half = np.linalg.pinv(slopes / size) / size[:, None] * scale[:, None]
        change = self._change(form.names, found.theta) @ half
        free = len(y) - slopes.shape[1]
        return self.theirs(found.theta), np.sqrt(np.sum(change**2, axis=1) * (r @ r) / free)

    def _change(self, names: tuple[str, ...], theta: np.ndarray) -> np.ndarray:
        """Derivatives of NIST's parameters by our free ones, by the complex step."""
        free = [place for place, name in enumerate(names) if name not in self.fixed]
        step = 1e-30
        rows = [self.theirs(theta + 1j * step * np.eye(len(theta))[place]) for place in free]
        return np.array(rows).imag.T / step

    def digits(self, start: int) -> tuple[float, float]:
        """Correct digits of the worst parameter and of the worst standard error."""
        found, errors = self.solve(start)
        data = NIST[self.name]
        return _digits(found, data["certified"]), _digits(errors, data["deviation"])


def _digits(found: np.ndarray, certified: list[float]) -> float:
    off = np.abs(np.asarray(found) / np.array(certified) - 1)
    return float(-np.log10(np.maximum(off, 1e-15)).min())


PROBLEMS = (
    Problem("DanWood", "power", ours=lambda b: b, theirs=lambda t: t),
    Problem(  # b1 b2 x / (1 + b2 x) = b1 b2 (1/x + b2)^-1
        "Misra1d",
        "m3",
        ours=lambda b: (b[0] * b[1], b[1], -1.0),
        theirs=lambda t: np.array([t[0] / t[1], t[1]]),
        fixed={"c": -1.0},
    ),
    Problem(  # b1 (b2 + x)^(-1/b3), of which all y are negative: M3 of 1/x and -y
        "Bennett5",
        "m3",
        ours=lambda b: (-b[0], b[1], -1.0 / b[2]),
        theirs=lambda t: np.array([-t[0], t[1], -1.0 / t[2]]),
        x=lambda x: 1.0 / x,
        y=lambda y: -y,
    ),
    Problem(  # b1 / (1 + exp(b2 - b3 x)): y / (b1 - y) is a power of exp(x)
        "Rat42",
        "m4",
        ours=lambda b: (0.0, b[0], 1.0, np.exp(-b[1]), b[2]),
        theirs=lambda t: np.array([t[1], -np.log(t[3]), t[4]]),
        x=np.exp,
        fixed={"e": 0.0, "a": 1.0},
    ),
    Problem(  # b1 (1 + exp(b2 - b3 x))^(-1/b4): flat up to one break, in exp(-x)
        "Rat43",
        "bnsl1",
        ours=lambda b: (0.0, b[0], 0.0, b[2] / b[3], np.exp(-b[1] / b[2]), 1.0 / b[2]),
        theirs=lambda t: np.array([t[1], -np.log(t[4]) / t[5], 1.0 / t[5], 1.0 / (t[3] * t[5])]),
        x=lambda x: np.exp(-x),
        fixed={"a": 0.0, "c0": 0.0},
    ),
)
