"""Levels of a compression ("prune-int8", 4 bits, density 0.5) as codes, and which of them is the dense reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.scaling.fit.optimizer import Loss
from evaluate.scaling.forms.form import (
    SIZE_AND_DATA,
    Array,
    Form,
    Parameter,
    columns,
    grid,
    log_plus,
    middle,
    nonnegative,
    width,
)
from evaluate.scaling.law import Law

DENSE = ("dense", "fp32")


def label(value: Any) -> str:
    """The name of a level: 4, 4.0 and "4" are one and the same."""
    number = _number(value)
    return str(value).strip() if math.isnan(number) else f"{number:g}"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def levels_of(values: Iterable[Any]) -> tuple[str, ...]:
    """The levels that occur: numbers by size, then names by the alphabet."""
    names = {label(value) for value in values}
    return tuple(sorted(names, key=lambda name: (math.isnan(_number(name)), _number(name), name)))


def reference_of(levels: Sequence[str], asked: object | None) -> str:
    """The level whose efficiency is 1: the one asked for, else "dense" or "fp32", else the largest number.

    Raises UsageError where it cannot be told.
    """
    if asked is not None:
        name = label(asked)
        if name not in levels:
            raise UsageError(
                f"reference level {name!r} is not among the points{did_you_mean(name, levels)}; they have "
                f"{', '.join(levels)}"
            )
        return name
    named = [name for name in DENSE if name in levels]
    if named:
        return named[0]
    if all(not math.isnan(_number(name)) for name in levels):
        return max(levels, key=_number)
    raise UsageError(
        f'which of the levels {", ".join(levels)} is the uncompressed one? Give reference=..., or name it "dense"'
    )


def codes(values: Sequence[Any], levels: Sequence[str]) -> NDArray[np.float64]:
    """The place (n,) of each value among the levels. Raises DataError for one that is not there."""
    known = {name: float(place) for place, name in enumerate(levels)}
    names = [label(value) for value in values]
    strange = [name for name in names if name not in known]
    if strange:
        raise DataError(
            f"level {strange[0]!r} is not one the law was fitted to{did_you_mean(strange[0], levels)}; it knows "
            f"{', '.join(levels)}"
        )
    return np.array([known[name] for name in names])


HOFFMANN = "Hoffmann et al.: Training Compute-Optimal Large Language Models, NeurIPS 2022, arXiv:2203.15556"
BESIROGLU = "Besiroglu et al.: Chinchilla Scaling: A replication attempt, 2024, arXiv:2404.10102"
GADRE = "Gadre et al.: Language models scale reliably with over-training and on downstream tasks, arXiv:2403.08540"
COMPRESSION = (
    "Frantar, Evci, Park, Houlsby, Alistarh: Compression Scaling Laws: Unifying Sparsity and Quantization, 2025, "
    "arXiv:2502.16440"
)
QUEST = "Panferov et al.: QuEST, ICML 2025, arXiv:2502.05003"
EXPONENTS = (0.1, 0.2, 0.3, 0.45, 0.65, 0.9)


def _chinchilla(x: Array, theta: Array) -> Array:
    e, a, b, alpha, beta = columns(theta)
    log_n, log_d = np.log(x).T
    return log_plus(e, np.log(a) - alpha * log_n, np.log(b) - beta * log_d)


def _chinchilla_starts(x: Array, y: Array) -> Array:
    """Given the exponents the law is linear in E, A and B."""
    return np.array([_terms(x, y, alpha, beta) for alpha, beta in grid(EXPONENTS, EXPONENTS)])


def _terms(x: Array, y: Array, alpha: float, beta: float) -> tuple[float, ...]:
    (n, d), (n0, d0) = x.T, (middle(column) for column in x.T)
    parts = [np.ones(len(y)), (n / n0) ** -alpha, (d / d0) ** -beta]
    e, a, b = nonnegative(parts, y, positive=(False, True, True))
    return e, a * n0**alpha, b * d0**beta, alpha, beta


CHINCHILLA = Form(
    name="chinchilla",
    title="Chinchilla law",
    formula="y = E + A / N^alpha + B / D^beta",
    source=f"{HOFFMANN}; fitted as in {BESIROGLU}",
    variables=("N", "D"),
    parameters=SIZE_AND_DATA,
    log_y=_chinchilla,
    starts=_chinchilla_starts,
    floor="E",
)


def _tied(x: Array, theta: Array) -> Array:
    return _chinchilla(x, theta[..., [0, 1, 2, 3, 3]])


def _tied_starts(x: Array, y: Array) -> Array:
    exponents = np.exp(np.linspace(np.log(0.05), np.log(1.2), 12))
    return np.array([_terms(x, y, alpha, alpha)[:4] for alpha in exponents])


CHINCHILLA_TIED = Form(
    name="chinchilla-tied",
    title="Chinchilla law with one exponent",
    formula="y = E + A / N^alpha + B / D^alpha",
    source=GADRE,
    variables=("N", "D"),
    parameters=CHINCHILLA.parameters[:4],
    log_y=_tied,
    starts=_tied_starts,
    floor="E",
)


class Chinchilla(Law):
    """y = E + A / N^alpha + B / D^beta.

    N: parameters; D: tokens or samples of training; y: loss. E >= 0 the floor in units of y; A, B > 0 in units of y at
    N = 1 and D = 1; alpha, beta > 0. Fitted by the sum of Huber's loss (delta 1e-3) of log y, as published.
    Source: Hoffmann et al., Training Compute-Optimal Large Language Models, NeurIPS 2022 (arXiv:2203.15556);
    Besiroglu et al., Chinchilla Scaling: A replication attempt, 2024 (arXiv:2404.10102).
    """

    form = CHINCHILLA


class ChinchillaTied(Law):
    """y = E + A / N^alpha + B / D^alpha: Chinchilla's law with one exponent, for few points.

    Units and bounds as in `Chinchilla`. Source: Gadre et al., Language models scale reliably with over-training and on
    downstream tasks, 2024 (arXiv:2403.08540), where L = E + (a M^eta + b M^-eta) C^-eta with M = D / N, C = 6 N D.
    """

    form = CHINCHILLA_TIED


def _effective(reference: int, places: list[int], data: bool) -> Any:
    """log_y of the law whose efficiencies, at these places among the levels, follow the other parameters."""

    def log_y(x: Array, theta: Array) -> Array:
        count = 5 if data else 3
        efficiency = np.ones((*theta.shape[:-1], len(places) + 1), dtype=theta.dtype)
        efficiency[..., places] = theta[..., count:]
        log_eff = np.log(efficiency)[..., x[:, -1].astype(int)]
        if not data:
            e, a, alpha = columns(theta[..., :count])
            return log_plus(e, np.log(a) - alpha * (np.log(x[:, 0]) + log_eff))
        e, a, b, alpha, beta = columns(theta[..., :count])
        size = np.log(a) - alpha * (np.log(x[:, 0]) + log_eff)
        return log_plus(e, size, np.log(b) - beta * np.log(x[:, 1]))

    def starts(x: Array, y: Array) -> Array:
        """Given the exponents the law is linear in E, B and an A for each level."""
        pairs = grid((0.06, 0.15, 0.3, 0.5, 0.8), (0.15, 0.3, 0.5, 0.8) if data else (0.0,))
        return np.array([one(x, y, alpha, beta) for alpha, beta in pairs])

    def one(x: Array, y: Array, alpha: float, beta: float) -> tuple[float, ...]:
        n, level = x[:, 0], x[:, -1].astype(int)
        n0, d0 = middle(n), middle(x[:, 1]) if data else 1.0
        size = [(level == place) * (n / n0) ** -alpha for place in range(len(places) + 1)]
        more = [(x[:, 1] / d0) ** -beta] if data else []
        found = nonnegative([np.ones(len(y)), *more, *size], y, positive=[False, *[True] * (len(more) + len(size))])
        levels = found[1 + len(more) :]
        eff = (levels[places] / levels[reference]) ** (-1 / alpha)
        a = levels[reference] * n0**alpha
        if not data:
            return float(found[0]), a, alpha, *eff
        return float(found[0]), a, float(found[1]) * d0**beta, alpha, beta, *eff

    return log_y, starts


def effective_form(levels: tuple[str, ...], reference: str, data: bool) -> Form:
    """The law of effective parameters for these levels, with or without the amount of data as a variable."""
    places = [place for place, name in enumerate(levels) if name != reference]
    log_y, starts = _effective(levels.index(reference), places, data)
    wanted = CHINCHILLA.parameters if data else tuple(CHINCHILLA.parameters[i] for i in (0, 1, 3))
    return Form(
        name="effective",
        title="law of effective parameters",
        formula=f"y = E + A / (N eff(level))^alpha{' + B / D^beta' if data else ''}",
        source=f"{COMPRESSION}; {QUEST}",
        variables=("N", "D", "level") if data else ("N", "level"),
        parameters=(*wanted, *(Parameter(f"eff({levels[place]})") for place in places)),
        log_y=log_y,
        starts=starts,
        floor="E",
        domains={"level": (0.0, float(len(levels) - 1))},
    )


class EffectiveParameters(Law):
    """y = E + A / (N eff(level))^alpha + B / D^beta, with one fitted efficiency for each level of compression.

    N: parameters; D: tokens or samples; level: names or numbers (bits, density), the last column. Without D (two
    columns) the term of D is left out. eff of the reference level is 1: `reference`, else "dense" or "fp32", else the
    largest number; the others are > 0, the size of the dense model that is as good over the actual size. E >= 0, A and
    B > 0 in units of y; alpha, beta > 0. `levels_` are the names of the levels, by their codes.
    Source: Frantar, Evci, Park, Houlsby, Alistarh, Compression Scaling Laws: Unifying Sparsity and Quantization, 2025
    (arXiv:2502.16440); Panferov et al., QuEST, ICML 2025 (arXiv:2502.05003), who fit least squares of log y, as here.
    """

    form = effective_form(("compressed", "dense"), "dense", data=True)
    default_loss = Loss("squares")
    levels_: tuple[str, ...]
    reference_: str

    def __init__(self, *, reference: object | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.reference = reference

    def _read(self, x: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        self.form = effective_form(("compressed", "dense"), "dense", data=width(x) != 2)
        super()._read(x, y, sample_weight, groups)

    def encode(self, x: Array, *, fitting: bool) -> NDArray[np.float64]:
        """Columns as numbers, the levels as their codes."""
        if fitting:
            self.levels_ = levels_of(x[:, -1].tolist())
            if len(self.levels_) < 2:
                raise DataError(
                    f"all points are of level {self.levels_[0]!r}; give points of at least two, one uncompressed, or "
                    "fit chinchilla"
                )
            self.reference_ = reference_of(self.levels_, self.reference)
        numbers = super().encode(x[:, :-1], fitting=fitting)
        return np.column_stack([numbers, codes(x[:, -1].tolist(), self.levels_)])

    def form_for(self, x: Array) -> Form:
        """The form with a parameter for each level that is not the reference."""
        self.form = effective_form(self.levels_, self.reference_, data=x.shape[1] == 3)
        return self.form

    def names_of(self, variable: str) -> tuple[str, ...]:
        """The levels, for the last variable."""
        return self.levels_ if variable == self.variables[-1] else ()

    def _more_settings(self) -> dict[str, Any]:
        return {"levels": list(self.levels_), "reference": self.reference_, "data": len(self.form.variables) == 3}

    def _restore_settings(self, settings: Mapping[str, Any]) -> None:
        self.levels_, self.reference_ = tuple(map(str, settings["levels"])), str(settings["reference"])
        self.reference = self.reference_
        self.form = self.form_ = effective_form(self.levels_, self.reference_, data=bool(settings["data"]))
