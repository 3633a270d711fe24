"""Laws of several variables: size with data, width with depth, size with the level of a compression or a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluate.core.errors import DataError
from evaluate.scaling.forms.form import (
    ANY_EXPONENT,
    EXPONENT,
    POSITIVE,
    SIZE_AND_DATA,
    Array,
    Form,
    LawKind,
    Loss,
    Parameter,
    columns,
    grid,
    log_plus,
    middle,
    named,
    nonnegative,
    register_kind,
    register_law,
    softplus,
)
from evaluate.scaling.points.cells import as_columns, levels_of, reference_of, width

HOFFMANN = "Hoffmann et al.: Training Compute-Optimal Large Language Models, NeurIPS 2022, arXiv:2203.15556"
BESIROGLU = "Besiroglu et al.: Chinchilla Scaling: A replication attempt, 2024, arXiv:2404.10102"
GADRE = "Gadre et al.: Language models scale reliably with over-training and on downstream tasks, arXiv:2403.08540"
COMPRESSION = (
    "Frantar, Evci, Park, Houlsby, Alistarh: Compression Scaling Laws: Unifying Sparsity and Quantization, 2025, "
    "arXiv:2502.16440"
)
QUEST = "Panferov et al.: QuEST, ICML 2025, arXiv:2502.05003"
ROSENFELD = (
    "Rosenfeld, Rosenfeld, Belinkov, Shavit: A Constructive Prediction of the Generalization Error Across Scales, "
    "ICLR 2020, arXiv:1909.12673"
)
EXPONENTS = (0.1, 0.2, 0.3, 0.45, 0.65, 0.9)


def _terms(x: Array, y: Array, alpha: float, beta: float) -> tuple[float, ...]:
    """Given the exponents the law is linear in E, A and B."""
    (n, d), (n0, d0) = x.T, (middle(column) for column in x.T)
    parts = [np.ones(len(y)), (n / n0) ** -alpha, (d / d0) ** -beta]
    e, a, b = nonnegative(parts, y, positive=(False, True, True))
    return e, a * n0**alpha, b * d0**beta, alpha, beta


def _two_exponents(x: Array, y: Array) -> Array:
    return np.array([_terms(x, y, alpha, beta) for alpha, beta in grid(EXPONENTS, EXPONENTS)])


@register_law(
    "chinchilla",
    title="Chinchilla law",
    formula="y = E + A / N^alpha + B / D^beta",
    source=f"{HOFFMANN}; fitted as in {BESIROGLU}",
    variables=("N", "D"),
    parameters=SIZE_AND_DATA,
    competes=[("size", "data")],
    starts=_two_exponents,
    floor="E",
)
def chinchilla(x: Array, theta: Array) -> Array:
    """y = E + A / N^alpha + B / D^beta.

    N: parameters; D: tokens or samples of training; y: loss. E >= 0 the floor in units of y; A, B > 0 in units of y at
    N = 1 and D = 1; alpha, beta > 0. Fitted by the sum of Huber's loss (delta 1e-3) of log y, as published.
    Source: Hoffmann et al., Training Compute-Optimal Large Language Models, NeurIPS 2022 (arXiv:2203.15556);
    Besiroglu et al., Chinchilla Scaling: A replication attempt, 2024 (arXiv:2404.10102).
    """
    e, a, b, alpha, beta = columns(theta)
    log_n, log_d = np.log(x).T
    return log_plus(e, np.log(a) - alpha * log_n, np.log(b) - beta * log_d)


def _tied_starts(x: Array, y: Array) -> Array:
    exponents = np.exp(np.linspace(np.log(0.05), np.log(1.2), 12))
    return np.array([_terms(x, y, alpha, alpha)[:4] for alpha in exponents])


@register_law(
    "chinchilla-tied",
    title="Chinchilla law with one exponent",
    formula="y = E + A / N^alpha + B / D^alpha",
    source=GADRE,
    variables=("N", "D"),
    parameters=SIZE_AND_DATA[:4],
    competes=[("size", "data")],
    starts=_tied_starts,
    floor="E",
)
def chinchilla_tied(x: Array, theta: Array) -> Array:
    """y = E + A / N^alpha + B / D^alpha: Chinchilla's law with one exponent, for few points.

    Units and bounds as in `Chinchilla`. Source: Gadre et al., Language models scale reliably with over-training and on
    downstream tasks, 2024 (arXiv:2403.08540), where L = E + (a M^eta + b M^-eta) C^-eta with M = D / N, C = 6 N D.
    """
    return chinchilla(x, theta[..., [0, 1, 2, 3, 3]])


@register_law(
    "width-depth",
    title="law of width and depth",
    formula="y = E + A / width^alpha + B / depth^beta",
    source=ROSENFELD,
    variables=("width", "depth"),
    parameters=SIZE_AND_DATA,
    competes=[("width", "depth")],
    starts=_two_exponents,
    floor="E",
)
def width_depth(x: Array, theta: Array) -> Array:
    """y = E + A / width^alpha + B / depth^beta.

    width: channels or units of a layer; depth: layers; y: error or loss at one amount of data. E >= 0 the floor in
    units of y; A, B > 0 in units of y at width 1 and depth 1; alpha, beta > 0. Each alone leaves what the other lacks.
    Source: Rosenfeld et al., A Constructive Prediction of the Generalization Error Across Scales, ICLR 2020
    (arXiv:1909.12673), where width and depth have exponents of their own.
    """
    return chinchilla(x, theta)


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
    wanted = SIZE_AND_DATA if data else tuple(SIZE_AND_DATA[i] for i in (0, 1, 3))
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
        levels=levels,
    )


@register_kind("effective")
class EffectiveKind(LawKind):
    """y = E + A / (N eff(level))^alpha + B / D^beta, with one fitted efficiency for each level of compression.

    N: parameters; D: tokens or samples; level: names or numbers (bits, density), the last column. Without D (two
    columns) the term of D is left out. eff of the reference level is 1: `reference`, else "dense" or "fp32", else the
    largest number; the others are > 0, the size of the dense model that is as good over the actual size. E >= 0, A and
    B > 0 in units of y; alpha, beta > 0. `levels_` are the names of the levels, by their codes.
    Source: Frantar, Evci, Park, Houlsby, Alistarh, Compression Scaling Laws: Unifying Sparsity and Quantization, 2025
    (arXiv:2502.16440); Panferov et al., QuEST, ICML 2025 (arXiv:2502.05003), who fit least squares of log y, as here.
    """

    form = effective_form(("compressed", "dense"), "dense", data=True)
    loss = Loss("squares")
    options: Mapping[str, Any] = {"reference": None}
    any_columns = by_level = True
    competes = (("size", "data", "level"), ("size", "level"))

    def form_for(self, x: Any, **options: Any) -> Form:
        """With a parameter for each level that is not the reference."""
        data = width(x) != 2
        levels = levels_of(as_columns(x, self.form.variables if data else ("N", "level"))[0][:, -1].tolist())
        if len(levels) < 2:
            raise DataError(
                f"all points are of level {levels[0]!r}; give points of at least two, one uncompressed, or "
                "fit chinchilla"
            )
        return effective_form(levels, reference_of(levels, options["reference"]), data)

    def saved(self, form: Form) -> dict[str, Any]:
        """The levels, which of them is the reference, and whether the amount of data is a variable."""
        return {"levels": list(form.levels), "reference": reference_in(form), "data": len(form.variables) == 3}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """By the levels."""
        levels, reference = tuple(map(str, settings["levels"])), str(settings["reference"])
        return effective_form(levels, reference, data=bool(settings["data"]))


def reference_in(form: Form) -> str:
    """The level of an effective form that has no parameter, since its efficiency is 1."""
    return next(level for level in form.levels if f"eff({level})" not in form.names)


BUSBRIDGE = "Busbridge et al.: Distillation Scaling Laws, ICML 2025, arXiv:2502.08606"
BREAK_WIDTHS = (0.02, 5.0)


def _gain(x: Array, c0: Array, c1: Array, d1: Array, f1: Array) -> Array:
    """log of L_T^-c0 (1 + (L_T / (L_S d1))^(1 / f1))^(-c1 f1)."""
    log_teacher, log_alone = np.log(x[:, 2]), np.log(x[:, 3])
    bend = softplus(np.asarray((log_teacher - log_alone - np.log(d1)) / f1))
    return np.asarray(-c0 * log_teacher - c1 * f1 * bend)


def _distillation_starts(x: Array, y: Array) -> Array:
    """Given the rest, and gamma 1, what the student lacks is linear in A and B."""
    n0, d0 = middle(x[:, 0]), middle(x[:, 1])
    lacks = np.maximum(y - x[:, 2], 0.01 * y)
    starts = []
    for alpha, beta, c1, d1, f1 in grid((0.2, 0.5), (0.2, 0.5), (0.5, 5.0), (0.9, 1.3), (0.1, 0.5)):
        gain = np.exp(_gain(x, *(np.array(value) for value in (1.0, c1, d1, f1))))
        a, b = nonnegative([(x[:, 0] / n0) ** -alpha, (x[:, 1] / d0) ** -beta], lacks / gain, positive=(True, True))
        starts.append((1.0, c1, d1, f1, a * n0**alpha, alpha, b * d0**beta, beta, 1.0))
    return np.array(starts)


@register_law(
    "distillation",
    title="law of distillation",
    formula="y = L_T + L_T^-c0 (1 + (L_T / (L_S d1))^(1 / f1))^(-c1 f1) (A / N^alpha + B / D^beta)^gamma",
    source=BUSBRIDGE,
    variables=("N", "D", "L_T", "L_S"),
    parameters=(
        *named(c0=ANY_EXPONENT, c1=ANY_EXPONENT, d1=POSITIVE, f1=Parameter("", *BREAK_WIDTHS)),
        *named(A=POSITIVE, alpha=EXPONENT, B=POSITIVE, beta=EXPONENT, gamma=EXPONENT),
    ),
    starts=_distillation_starts,
)
def distillation(x: Array, theta: Array) -> Array:
    """y = L_T + L_T^-c0 (1 + (L_T / (L_S d1))^(1 / f1))^(-c1 f1) (A / N^alpha + B / D^beta)^gamma.

    N: parameters of the student; D: tokens or samples it is distilled on; L_T: loss of the teacher; L_S: loss of the
    same student trained alone on the same D; y: loss of the distilled student, never below L_T in this law. c0, c1 of
    any sign; d1 > 0, the ratio of losses at which a teacher becomes too strong; f1 in [0.02, 5], how wide that change
    is; A, B > 0; alpha, beta, gamma > 0. It needs students, amounts of data and teachers varied one against the other.
    Source: Busbridge et al., Distillation Scaling Laws, ICML 2025 (arXiv:2502.08606).
    """
    c0, c1, d1, f1, a, alpha, b, beta, gamma = columns(theta)
    capacity = np.log(np.exp(np.log(a) - alpha * np.log(x[:, 0])) + np.exp(np.log(b) - beta * np.log(x[:, 1])))
    return log_plus(x[:, 2], _gain(x, c0, c1, d1, f1) + gamma * capacity)
