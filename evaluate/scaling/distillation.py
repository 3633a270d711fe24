"""The law of distillation: what a student learns from a teacher of a given loss."""

from __future__ import annotations

import numpy as np

from evaluate.scaling.form import Array, Form, Parameter
from evaluate.scaling.law import Law
from evaluate.scaling.starting import columns, grid, log_plus, middle, nonnegative, softplus

BUSBRIDGE = "Busbridge et al.: Distillation Scaling Laws, ICML 2025, arXiv:2502.08606"
ANY = -np.inf
BREAK_WIDTHS = (0.02, 5.0)


def _gain(x: Array, c0: Array, c1: Array, d1: Array, f1: Array) -> Array:
    """log of L_T^-c0 (1 + (L_T / (L_S d1))^(1 / f1))^(-c1 f1)."""
    log_teacher, log_alone = np.log(x[:, 2]), np.log(x[:, 3])
    bend = softplus(np.asarray((log_teacher - log_alone - np.log(d1)) / f1))
    return np.asarray(-c0 * log_teacher - c1 * f1 * bend)


def _distillation(x: Array, theta: Array) -> Array:
    c0, c1, d1, f1, a, alpha, b, beta, gamma = columns(theta)
    capacity = np.log(np.exp(np.log(a) - alpha * np.log(x[:, 0])) + np.exp(np.log(b) - beta * np.log(x[:, 1])))
    return log_plus(x[:, 2], _gain(x, c0, c1, d1, f1) + gamma * capacity)


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


DISTILLATION = Form(
    name="distillation",
    title="law of distillation",
    formula="y = L_T + L_T^-c0 (1 + (L_T / (L_S d1))^(1 / f1))^(-c1 f1) (A / N^alpha + B / D^beta)^gamma",
    source=BUSBRIDGE,
    variables=("N", "D", "L_T", "L_S"),
    parameters=(
        Parameter("c0", ANY, scale="linear", exponent=True),
        Parameter("c1", ANY, scale="linear", exponent=True),
        Parameter("d1"),
        Parameter("f1", *BREAK_WIDTHS),
        Parameter("A"),
        Parameter("alpha", exponent=True),
        Parameter("B"),
        Parameter("beta", exponent=True),
        Parameter("gamma", exponent=True),
    ),
    log_y=_distillation,
    starts=_distillation_starts,
)


class Distillation(Law):
    """y = L_T + L_T^-c0 (1 + (L_T / (L_S d1))^(1 / f1))^(-c1 f1) (A / N^alpha + B / D^beta)^gamma.

    N: parameters of the student; D: tokens or samples it is distilled on; L_T: loss of the teacher; L_S: loss of the
    same student trained alone on the same D; y: loss of the distilled student, never below L_T in this law. c0, c1 of
    any sign; d1 > 0, the ratio of losses at which a teacher becomes too strong; f1 in [0.02, 5], how wide that change
    is; A, B > 0; alpha, beta, gamma > 0. It needs students, amounts of data and teachers varied one against the other.
    Source: Busbridge et al., Distillation Scaling Laws, ICML 2025 (arXiv:2502.08606).
    """

    form = DISTILLATION
