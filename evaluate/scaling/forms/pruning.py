"""Laws of pruning: how the error or the loss depends on how much of a network is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from evaluate.core.errors import UsageError
from evaluate.scaling.forms.form import (
    ANY_EXPONENT,
    EXPONENT,
    FLOOR,
    POSITIVE,
    Array,
    Form,
    LawKind,
    Loss,
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
    spread,
)
from evaluate.scaling.points.cells import names_of, width

FRANTAR = "Frantar et al.: Scaling Laws for Sparsely-Connected Foundation Models, ICLR 2024, arXiv:2309.08520"
ROSENFELD = (
    "Rosenfeld, Frankle, Carbin, Shavit: On the Predictability of Pruning Across Scales, ICML 2021, arXiv:2006.10621"
)
P2 = "Chen et al.: P2 Law: Scaling Law for Post-Training After Model Pruning, ACL 2025, arXiv:2411.10272"
NOTHING_LEFT = 1e-12
GAMMAS = (0.01, 100.0)
DATA = ("n", "d", "data", "samples")


def _log_kept(sparsity: Array) -> Array:
    return np.log(np.maximum(1.0 - sparsity, NOTHING_LEFT))


def _log_pruned(log_density: Array, log_dense: Any, log_up: Any, log_p: Any, gamma: Any) -> Array:
    """log of e_np |(d - i p (e_up / e_np)^(1 / gamma)) / (d - i p)|^gamma, with |d - i q|^2 = d^2 + q^2."""
    log_q = log_p + (log_up - log_dense) / gamma
    above = log_sum_exp(2 * log_density + 0 * log_q, 2 * log_q)
    return np.asarray(log_dense + 0.5 * gamma * (above - log_sum_exp(2 * log_density, 2 * log_p)))


def _one_network(x: Array, theta: Array) -> Array:
    e_np, e_up, p, gamma = columns(theta)
    return _log_pruned(np.log(x[:, 0]), np.log(e_np), np.log(e_up), np.log(p), gamma)


def _one_network_starts(x: Array, y: Array) -> Array:
    """The plateaus from the extremes of y; the fall between them from where the densities lie."""
    dense = float(np.median(y[x[:, 0] >= np.quantile(x[:, 0], 0.75)]))
    places = spread(x[:, 0], (0.0, 0.25, 0.5))
    return np.array(
        [(dense, up * y.max(), p, gamma) for up, p, gamma in grid((1.0, 1.3), places, (0.2, 0.5, 1.0, 3.0))]
    )


def _family(x: Array, theta: Array) -> Array:
    e_up, p, gamma, phi, psi = columns(theta)
    log_d, log_w, log_l, log_np = np.log(x[:, :4]).T
    return _log_pruned(log_d, log_np, np.log(e_up), np.log(p) - phi * log_l - psi * log_w, gamma)


def _family_starts(x: Array, y: Array) -> Array:
    w, depth = middle(x[:, 1]), middle(x[:, 2])
    starts = []
    for p, gamma, psi in grid(spread(x[:, 0], (0.0, 0.25, 0.5)), (0.2, 0.5, 1.0), (0.0, 1.0, 2.0)):
        starts.append((1.1 * y.max(), p * w**psi * depth ** (psi / 2), gamma, psi / 2, psi))
    return np.array(starts)


def _family_of_sizes(x: Array, theta: Array) -> Array:
    e_up, p, gamma, psi, c, b, beta = columns(theta)
    log_d, log_w = np.log(x[:, :2]).T
    log_np = log_plus(c, np.log(b) - beta * log_w)
    return _log_pruned(log_d, log_np, np.log(e_up), np.log(p) - psi * log_w, gamma)


def _family_of_sizes_starts(x: Array, y: Array) -> Array:
    """The dense error from the densest points, where it is linear in c and b given beta."""
    dense, w0 = x[:, 0] >= np.quantile(x[:, 0], 0.8), middle(x[:, 1])
    starts = []
    for beta, gamma, psi in grid((0.1, 0.3, 0.8), (0.2, 0.5, 1.0), (0.0, 0.5, 1.0)):
        parts = [np.ones(len(y)), (x[:, 1] / w0) ** -beta]
        c, b = nonnegative([part[dense] for part in parts], y[dense], positive=(False, True))
        for p in spread(x[:, 0], (0.0, 0.3)):
            starts.append((1.1 * y.max(), p * w0**psi, gamma, psi, c, b * w0**beta, beta))
    return np.array(starts)


def _family_of_data(x: Array, theta: Array) -> Array:
    e_up, p, gamma, phi, psi, c, a, alpha, b, beta = columns(theta)
    log_d, log_w, log_l, log_n = np.log(x[:, :4]).T
    log_np = log_plus(c, np.log(a) - alpha * log_n, np.log(b) - beta * (log_l + 2 * log_w))
    return _log_pruned(log_d, log_np, np.log(e_up), np.log(p) - phi * log_l - psi * log_w, gamma)


def _family_of_data_starts(x: Array, y: Array) -> Array:
    """The dense error from the densest points, where it is linear in c, a and b given its exponents."""
    dense = x[:, 0] >= np.quantile(x[:, 0], 0.8)
    size = x[:, 2] * x[:, 1] ** 2
    n0, size0 = middle(x[:, 3]), middle(size)
    starts: list[tuple[float, ...]] = []
    for alpha, beta in grid((0.2, 0.6), (0.2, 0.6)):
        parts = [np.ones(len(y)), (x[:, 3] / n0) ** -alpha, (size / size0) ** -beta]
        c, a, b = nonnegative([part[dense] for part in parts], y[dense], positive=(False, True, True))
        law = (c, a * n0**alpha, alpha, b * size0**beta, beta)
        starts.extend((*start, *law) for start in _family_starts(x, y)[1::4])
    return np.array(starts)


PLATEAU = named(e_up=POSITIVE, p=POSITIVE, gamma=Parameter("", *GAMMAS))
PLACES = named(phi=ANY_EXPONENT, psi=ANY_EXPONENT)
PRUNED = "e_np |(d - i p (e_up / e_np)^(1 / gamma)) / (d - i p)|^gamma"
NETWORK = Form(
    name="rosenfeld",
    title="pruning law of Rosenfeld",
    formula=f"y = {PRUNED}",
    source=ROSENFELD,
    variables=("density",),
    parameters=(*named(e_np=POSITIVE), *PLATEAU),
    log_y=_one_network,
    starts=_one_network_starts,
)
FAMILY = replace(
    NETWORK,
    formula=f"y = {PRUNED}, p = p' / (depth^phi width^psi)",
    variables=("density", "width", "depth", "e_np"),
    parameters=(*PLATEAU, *PLACES),
    log_y=_family,
    starts=_family_starts,
)
FAMILY_OF_SIZES = replace(
    NETWORK,
    formula=f"y = {PRUNED}, p = p' / size^psi, e_np = c + b size^-beta",
    variables=("density", "size"),
    parameters=(*PLATEAU, *named(psi=ANY_EXPONENT, c=FLOOR, b=POSITIVE, beta=EXPONENT)),
    log_y=_family_of_sizes,
    starts=_family_of_sizes_starts,
)
FAMILY_OF_DATA = replace(
    FAMILY,
    formula=f"{FAMILY.formula}, e_np = c + a n^-alpha + b (depth width^2)^-beta",
    variables=("density", "width", "depth", "n"),
    parameters=(
        *FAMILY.parameters,
        *named(c=FLOOR, a=POSITIVE, alpha=EXPONENT, b=POSITIVE, beta=EXPONENT),
    ),
    log_y=_family_of_data,
    starts=_family_of_data_starts,
)


@register_kind("rosenfeld")
class RosenfeldKind(LawKind):
    """y = e_np |(d - i p (e_up / e_np)^(1 / gamma)) / (d - i p)|^gamma: an error between a low and a high plateau.

    One network (one column): density d in (0, 1]; e_np > 0 the error of the dense network and e_up > 0 that of one
    pruned away, in units of y; p > 0 the density at which the error starts to rise; gamma in [0.01, 100] how steeply.
    A family (four columns): density, width, depth, and e_np as measured at density 1; p = p' / (depth^phi width^psi),
    with p' in "p" and phi, psi of any sign: the invariant of the paper is depth^phi width^psi d. Of two columns,
    density and one size (width, or parameters of the dense network): p = p' / size^psi, and the dense error is fitted
    too, e_np = c + b size^-beta. With a fourth column
    named n, D, data or samples, or with data=True, that is the amount of training data, and the dense error is fitted
    too: e_np = c + a n^-alpha + b (depth width^2)^-beta. Fitted by least squares of the relative deviation, as they do.
    Source: Rosenfeld, Frankle, Carbin, Shavit, On the Predictability of Pruning Across Scales, ICML 2021
    (arXiv:2006.10621); the dense error: Rosenfeld et al., ICLR 2020 (arXiv:1909.12673).
    """

    form = NETWORK
    loss = Loss("squares", space="relative")
    options: Mapping[str, Any] = {"data": None}
    any_columns = True
    competes = tuple((kept, *size) for kept in ("density", "sparsity") for size in ((), ("width",), ("size",)))

    def form_for(self, x: Any, **options: Any) -> Form:
        """Of one network, of a family by one size, of a family, or of a family with its amount of data."""
        count, names, data = width(x), names_of(x), options["data"]
        if count not in (1, 2, 4):
            raise UsageError(
                "rosenfeld takes density alone, density and a size (as width), or density, width, depth and the dense "
                f"error (or the amount of training data); x has {count} columns"
            )
        if count == 2:
            return FAMILY_OF_SIZES
        of_data = bool(data) if data is not None or names is None else names[-1].lower() in DATA
        return NETWORK if count == 1 else FAMILY_OF_DATA if of_data else FAMILY

    def saved(self, form: Form) -> dict[str, Any]:
        """The variables, which tell the form."""
        return {"columns": list(form.variables)}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """By its variables."""
        wanted = tuple(map(str, settings["columns"]))
        return next(form for form in (NETWORK, FAMILY_OF_SIZES, FAMILY, FAMILY_OF_DATA) if form.variables == wanted)


def _frantar_starts(x: Array, y: Array) -> Array:
    """Given the exponents the law is linear in a_S, c_S, a_D and c."""
    kept, n, d = np.exp(_log_kept(x[:, 0])), x[:, 1], x[:, 2]
    n0, d0 = middle(n), middle(d)
    starts = []
    for b_s, b_n, b_d in grid((0.4, 0.8, 1.5, 3.0), (0.15, 0.3, 0.6), (0.15, 0.4, 0.9)):
        size = (n / n0) ** -b_n
        parts = [kept**b_s * size, size, (d / d0) ** -b_d, np.ones(len(y))]
        a_s, c_s, a_d, c = nonnegative(parts, y, positive=(True, True, True, False))
        starts.append((a_s * n0**b_n, b_s, c_s * n0**b_n, b_n, a_d * d0**b_d, b_d, c))
    return np.array(starts)


@register_law(
    "frantar",
    title="sparsity law of Frantar",
    formula="y = (a_S (1 - S)^b_S + c_S) N^-b_N + a_D D^-b_D + c",
    source=FRANTAR,
    variables=("S", "N", "D"),
    parameters=named(a_S=POSITIVE, b_S=EXPONENT, c_S=POSITIVE, b_N=EXPONENT, a_D=POSITIVE, b_D=EXPONENT, c=FLOOR),
    starts=_frantar_starts,
    floor="c",
    domains={"S": (0.0, 1.0)},
    competes=[("sparsity", "size", "data")],
    data_term=("a_D D^-b_D", "D", "a_D", "b_D"),
)
def frantar(x: Array, theta: Array) -> Array:
    """y = (a_S (1 - S)^b_S + c_S) N^-b_N + a_D D^-b_D + c.

    S: sparsity, from 0 to 1; N: nonzero parameters; D: tokens or samples of training, whose term is left out where x
    has only the first two; y: loss. a_S, c_S > 0 in units of y at N = 1, a_D > 0 in units of y at D = 1 (the paper
    writes (a_D / D)^b_D: its a_D is ours to the power 1 / b_D); b_S, b_N, b_D > 0; c >= 0 the floor, in units of y.
    Fitted by Huber's loss (delta 1e-3) of log y as their language models are; their vision models take delta=0.01,
    space="raw".
    Source: Frantar et al., Scaling Laws for Sparsely-Connected Foundation Models, ICLR 2024 (arXiv:2309.08520).
    """
    a_s, b_s, c_s, b_n, a_d, b_d, c = columns(theta)
    log_n, log_d = np.log(x[:, 1]), np.log(x[:, 2])
    size = log_sum_exp(np.log(a_s) + b_s * _log_kept(x[:, 0]), np.log(c_s)) - b_n * log_n
    return log_plus(c, size, np.log(a_d) - b_d * log_d)


def _p2_starts(x: Array, y: Array) -> Array:
    """Given the exponents, what is lost is linear in N_C, D_C and E."""
    rho, n, d, dense = x.T
    n0, d0 = middle(n), middle(d)
    lost = np.maximum(y - dense, 1e-3 * y)
    starts = []
    for alpha, beta, gamma, delta in grid((0.2, 0.5), (0.2, 0.5), (-3.0, -1.0), (0.0, 0.3)):
        factor = rho**-gamma * (n / n0) ** -delta
        parts = [factor * (n / n0) ** -alpha, factor * (d / d0) ** -beta, factor]
        n_c, d_c, e = nonnegative(parts, lost, positive=(True, True, False))
        scale = n0**delta
        starts.append((n_c * n0**alpha * scale, alpha, d_c * d0**beta * scale, beta, e * scale, gamma, delta))
    return np.array(starts)


@register_law(
    "p2",
    title="law of pruning and recovery",
    formula="y = L_0 + rho^-gamma N^-delta (N_C / N^alpha + D_C / D^beta + E)",
    source=P2,
    variables=("rho", "N", "D", "L_0"),
    domains={"rho": (NOTHING_LEFT, 1.0)},
    parameters=named(
        N_C=POSITIVE, alpha=EXPONENT, D_C=POSITIVE, beta=EXPONENT, E=FLOOR, gamma=ANY_EXPONENT, delta=ANY_EXPONENT
    ),
    starts=_p2_starts,
)
def p2(x: Array, theta: Array) -> Array:
    """y = L_0 + rho^-gamma N^-delta (N_C / N^alpha + D_C / D^beta + E).

    rho: the part that was pruned, from above 0 to 1; N: parameters before pruning; D: tokens or samples of the
    training after it; L_0: loss before pruning; y: loss after both, never below L_0 in this law. N_C, D_C > 0 and
    E >= 0 in units of y at N = 1, D = 1, rho = 1; alpha, beta > 0; gamma and delta of any sign (gamma < 0 where more
    pruning costs more). Dense models, with rho 0, have no place in it: L_0 is theirs.
    Source: Chen et al., P2 Law: Scaling Law for Post-Training After Model Pruning, ACL 2025 (arXiv:2411.10272).
    """
    n_c, alpha, d_c, beta, e, gamma, delta = columns(theta)
    log_rho, log_n, log_d = np.log(x[:, :3]).T
    inner = log_plus(e, np.log(n_c) - alpha * log_n, np.log(d_c) - beta * log_d)
    return log_plus(x[:, 3], inner - gamma * log_rho - delta * log_n)
