"""Laws of bits: precision in training and after it, the capacity of a format, groups that share a scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from evaluate.core.errors import UsageError
from evaluate.scaling.forms.form import (
    EXPONENT,
    POSITIVE,
    SIZE_AND_DATA,
    Array,
    Form,
    LawKind,
    Parameter,
    columns,
    grid,
    log_plus,
    log_sum_exp,
    middle,
    named,
    nonnegative,
    register_kind,
    register_law,
)
from evaluate.scaling.points.cells import width

GROUPS = "Chen et al.: Scaling Law for Quantization-Aware Training, 2025, arXiv:2505.14302"
KUMAR = "Kumar et al.: Scaling Laws for Precision, ICLR 2025, arXiv:2411.04330"
BITS = ("P", "P_a", "P_kv")
AFTER = "P_post"


def _log_kept(bits: Array, gamma: Any) -> Array:
    """log(1 - exp(-bits / gamma)): the share of the parameters that this precision leaves in effect."""
    return np.asarray(np.log(1.0 - np.exp(-bits / gamma)))


def _log_y(count: int, after: bool) -> Callable[[Array, Array], Array]:
    def log_y(x: Array, theta: Array) -> Array:
        e, a, b, alpha, beta, *more = columns(theta)
        log_n, log_d = np.log(x[:, 0]), np.log(x[:, 1])
        log_eff = log_n + sum(_log_kept(x[:, 2 + i], more[i]) for i in range(count))
        parts = [np.log(a) - alpha * log_eff, np.log(b) - beta * log_d]
        if after:
            c_t, gamma_d, gamma_n, gamma_post = more[count:]
            parts.append(np.log(c_t) + gamma_d * log_d - gamma_n * log_n - x[:, -1] / gamma_post)
        return log_plus(e, *parts)

    return log_y


def _starts(count: int, after: bool) -> Callable[[Array, Array], Array]:
    def starts(x: Array, y: Array) -> Array:
        """Given the exponents and the gammas the law is linear in E, A, B and C_T."""
        exponents, widths = ((0.2, 0.5), (0.12, 0.4)) if after else ((0.12, 0.3, 0.6), (0.08, 0.2, 0.5))
        after_exponents = ((0.2, 0.6), (0.2, 0.6), (0.1, 0.3)) if after else ((0.0,),) * 3
        free = grid(exponents, exponents, widths if count else (1.0,), *after_exponents)
        return np.array([one(x, y, *values) for values in free])

    def one(
        x: Array, y: Array, alpha: float, beta: float, share: float, gamma_d: float, gamma_n: float, share_post: float
    ) -> tuple[float, ...]:
        n0, d0 = middle(x[:, 0]), middle(x[:, 1])
        n, d, bits = x[:, 0] / n0, x[:, 1] / d0, x[:, 2 : 2 + count]
        gammas = [share * middle(column) for column in bits.T]
        kept = np.exp(sum((_log_kept(column, gamma) for column, gamma in zip(bits.T, gammas)), np.zeros(len(y))))
        parts = [np.ones(len(y)), (n * kept) ** -alpha, d**-beta]
        gamma_post = share_post * middle(x[:, -1])
        if after:
            parts.append(d**gamma_d * n**-gamma_n * np.exp(-x[:, -1] / gamma_post))
        e, a, b, *c_t = nonnegative(parts, y, positive=[False, *[True] * (len(parts) - 1)])
        found = (e, a * n0**alpha, b * d0**beta, alpha, beta, *gammas)
        if not after:
            return found
        return (*found, c_t[0] * d0**-gamma_d * n0**gamma_n, gamma_d, gamma_n, gamma_post)

    return starts


def precision_form(count: int, after: bool) -> Form:
    """The law with so many precisions in training (0 to 3), with or without that of quantization after it."""
    bits = (*BITS[:count], *([AFTER] if after else []))
    gammas = [Parameter(f"gamma_{name[2:] or 'w'}") for name in BITS[:count]]
    kept = "".join(f" (1 - exp(-{name} / gamma_{name[2:] or 'w'}))" for name in BITS[:count])
    post = named(C_T=POSITIVE, gamma_D=EXPONENT, gamma_N=EXPONENT, gamma_post=POSITIVE)
    penalty = " + C_T D^gamma_D / N^gamma_N exp(-P_post / gamma_post)" if after else ""
    return Form(
        name="precision",
        title="law of precision",
        formula=f"y = E + A / (N{kept})^alpha + B / D^beta{penalty}",
        source=KUMAR,
        variables=("N", "D", *bits),
        parameters=(*SIZE_AND_DATA, *gammas, *(post if after else ())),
        log_y=_log_y(count, after),
        starts=_starts(count, after),
        floor="E",
    )


@register_kind("precision")
class PrecisionKind(LawKind):
    """y = E + A / (N (1 - exp(-P / gamma_w)) ...)^alpha + B / D^beta [+ C_T D^gamma_D / N^gamma_N exp(-P_post / gamma_post)].

    N: parameters; D: tokens or samples; then the bits of one to three precisions in training (weights P, activations
    P_a, cache P_kv), each with its gamma > 0 in bits; with post_training=True the last column is the bits after
    training, P_post, and the term in brackets is there: C_T > 0 in units of y, gamma_D, gamma_N > 0, gamma_post > 0 in
    bits. E >= 0, A and B > 0 in units of y; alpha, beta > 0.
    Source: Kumar et al., Scaling Laws for Precision, ICLR 2025 (arXiv:2411.04330).
    """  # noqa: E501

    form = precision_form(1, after=False)
    options: Mapping[str, Any] = {"post_training": False}
    any_columns = True
    competes = (("size", "data", "bits"),)

    def form_for(self, x: Any, **options: Any) -> Form:
        """For as many precisions as x has columns for."""
        after = bool(options["post_training"])
        count = width(x) - 2 - after
        if not (1 - after <= count <= len(BITS)):
            wanted = f"N, D, up to {len(BITS)} precisions in training{' and P_post' if after else ''}"
            raise UsageError(f"precision takes {wanted}; x has {width(x)} columns")
        return precision_form(count, after)

    def saved(self, form: Form) -> dict[str, Any]:
        """How many columns, and whether the last is that after training."""
        return {"post_training": AFTER in form.variables, "columns": len(form.variables)}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """By the number of columns."""
        after, columns_ = bool(settings["post_training"]), int(settings["columns"])
        if not 3 <= columns_ <= 2 + len(BITS) + after:
            raise ValueError(f"a law of precision has no {columns_} columns")
        return precision_form(columns_ - 2 - after, after)


PANFEROV = "Panferov et al.: Unified Scaling Laws for Compressed Representations, 2025, arXiv:2506.01863"
MAX = "Max: Quantizing for Minimum Distortion, IRE Transactions on Information Theory 6, 1960"
# log_4 of 1 / (mean squared error) of the best uniform quantizer of a standard Gaussian with 1 to 12 bits.
RESOLVED = (0.7302, 1.5364, 2.3696, 3.2184, 4.0802, 4.9546, 5.8410, 6.7386, 7.6462, 8.5624, 9.4861, 10.4163)
EACH_FURTHER = 0.93


def resolved(bits: Array) -> Array:
    """How much of a Gaussian a format of so many bits resolves: log_4 of 1 over its mean squared error."""
    known = np.interp(bits, np.arange(len(RESOLVED) + 1), (0.0, *RESOLVED))
    return np.asarray(known + EACH_FURTHER * np.maximum(bits - len(RESOLVED), 0.0))


def _log_capacity(bits: Array, f: Array, c: Array) -> Array:
    """log tanh(F r^C), exact where it is small."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.tanh(f * resolved(bits) ** c)))


def _capacity_starts(x: Array, y: Array) -> Array:
    """Given the exponents and the capacity the law is linear in E, A and B."""
    n0, d0 = middle(x[:, 0]), middle(x[:, 1])
    n, d, starts = x[:, 0] / n0, x[:, 1] / d0, []
    for alpha, beta, f, c in grid((0.08, 0.2, 0.5), (0.12, 0.3, 0.6), (0.05, 0.15, 0.5), (1.0, 2.0)):
        kept = np.exp(_log_capacity(x[:, 2], np.array(f), np.array(c)))
        parts = [np.ones(len(y)), (n * kept) ** -alpha, d**-beta]
        e, a, b = nonnegative(parts, y, positive=[False, True, True])
        starts.append((e, a * n0**alpha, b * d0**beta, alpha, beta, f, c))
    return np.array(starts)


@register_law(
    "capacity",
    title="law of capacity",
    formula="y = E + A / (N tanh(F r^C))^alpha + B / D^beta, r = log_4(1 / error of the bits on a Gaussian)",
    source=f"{PANFEROV}; r of the best uniform quantizer: {MAX}",
    variables=("N", "D", "bits"),
    parameters=(*SIZE_AND_DATA, *named(F=POSITIVE, C=EXPONENT)),
    starts=_capacity_starts,
    floor="E",
    competes=[("size", "data", "bits"), ("size", "bits")],
    data_term=("B / D^beta", "D", "B", "beta"),
)
def capacity(x: Array, theta: Array) -> Array:
    """y = E + A / (N tanh(F r^C))^alpha + B / D^beta, with r = log_4(1 / error of the bits on a Gaussian).

    N: parameters; D: tokens or samples; bits: of a parameter. Without D (two columns) its term is left out.
    tanh(F r^C) is the share of the parameters that a format leaves in effect, from the mean squared error that its best
    uniform quantizer makes on Gaussian data: so a number of bits that was not trained is predicted from others.
    E >= 0, A and B > 0 in units of y; alpha, beta, F, C > 0.
    Source: Panferov et al., Unified Scaling Laws for Compressed Representations, 2025 (arXiv:2506.01863); errors as in
    Max, Quantizing for Minimum Distortion, 1960.
    """
    e, a, b, alpha, beta, f, c = columns(theta)
    log_eff = np.log(x[:, 0]) + _log_capacity(x[:, 2], f, c)
    return log_plus(e, np.log(a) - alpha * log_eff, np.log(b) - beta * np.log(x[:, 1]))


def _groups_starts(x: Array, y: Array) -> Array:
    """Given the exponents the law is linear in E, A, B and k."""
    n, d, groups = x.T
    n0, d0, g0 = middle(n), middle(d), middle(np.log2(groups))
    starts = []
    for alpha, beta, rises, coarse, falls in grid((0.2, 0.5), (0.2, 0.5), (0.1, 0.4), (0.5, 1.5), (0.2, 0.5)):
        rest = (d / d0) ** rises * (np.log2(groups) / g0) ** coarse * (n / n0) ** -falls
        e, a, b, k = nonnegative(
            [np.ones(len(y)), (n / n0) ** -alpha, (d / d0) ** -beta, rest], y, positive=(False, True, True, True)
        )
        k = k * d0**-rises * g0**-coarse * n0**falls
        starts.append((e, a * n0**alpha, b * d0**beta, alpha, beta, k, rises, coarse, falls))
    return np.array(starts)


@register_law(
    "qat-groups",
    title="law of quantization-aware training by groups",
    formula="y = E + A / N^alpha + B / D^beta + k D^gamma_D (log2 G)^gamma_G / N^gamma_N",
    source=GROUPS,
    variables=("N", "D", "group"),
    parameters=(
        *SIZE_AND_DATA,
        *named(k=POSITIVE, gamma_D=EXPONENT, gamma_G=EXPONENT, gamma_N=EXPONENT),
    ),
    starts=_groups_starts,
    floor="E",
    domains={"group": (1.0 + 1e-9, 1e9)},
    competes=[("size", "data", "group")],
)
def qat_groups(x: Array, theta: Array) -> Array:
    """y = E + A / N^alpha + B / D^beta + k D^gamma_D (log2 G)^gamma_G / N^gamma_N.

    N: parameters; D: tokens or samples; G: how many weights share one scale, above 1; y: loss of a network trained in
    few bits. The last term is what these bits cost: it falls with size and rises with data and with coarser groups.
    E >= 0, A, B > 0 in units of y; k > 0 in units of y at N = 1, D = 1, G = 2; the exponents > 0. It is fitted to
    networks of one number of bits.
    Source: Chen et al., Scaling Law for Quantization-Aware Training, 2025 (arXiv:2505.14302).
    """
    e, a, b, alpha, beta, k, gamma_d, gamma_g, gamma_n = columns(theta)
    log_n, log_d = np.log(x[:, :2]).T
    cost = np.log(k) + gamma_d * log_d + gamma_g * np.log(np.log2(x[:, 2])) - gamma_n * log_n
    return log_plus(e, log_sum_exp(np.log(a) - alpha * log_n, np.log(b) - beta * log_d, cost))
