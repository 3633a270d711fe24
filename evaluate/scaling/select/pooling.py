"""What curves of one study lend each other: their exponent, as far as they are alike.

Each curve is y = e + b x^c with a floor and a height of its own. The exponents are taken for draws from one
distribution, whose middle and width the curves tell (empirical Bayes; Gelman and Hill 2007, ch. 12: partial pooling):
where they lie close, one that its own points tell badly comes from the others; where they do not, it stays its own. The
form with that exponent then competes for each curve (candidate_fits.py), with the share that its held-out points give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evaluate.scaling.forms.curves import pooled_form
from evaluate.scaling.forms.form import Array, Form

STEEPNESS = np.geomspace(0.02, 4.0, 120)
EXPONENTS = np.concatenate([-STEEPNESS, STEEPNESS])
APART = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])  # of log exponents: standard deviation over the curves
FEWEST = 3  # points of a curve, beside its floor and height
LEAST_NOISE = 1e-3  # of y: an exactly found curve does not decide alone


def form_of_sisters(curves: Sequence[tuple[Array, Array]], within: tuple[float, float], end: str) -> Form | None:
    """The form for the first of these curves, with the exponent that all of them tell by their points in that range.

    None where fewer than two curves have points enough.

    curves : (x (n,), y (n,)) each, positive.  end : "high" or "low", where the form is to predict: points there count
    by how near they are to it.
    """
    told = [
        _likelihood(x[kept], y[kept], end) if len(np.unique(x[kept])) >= FEWEST else None
        for x, y in curves
        for kept in [(x >= within[0]) & (x <= within[1])]
    ]
    known = np.array([one for one in told if one is not None])
    if len(known) < 2:
        return None
    rises = int(np.argmax(np.log(known).sum(axis=0))) // len(STEEPNESS)
    known = known[:, _signed(rises)]
    # By how far apart the exponents lie (a), and their middle (m): the prior (a, n, m) and its likelihood (a, m).
    log_c = np.log(STEEPNESS)
    priors = np.exp(-0.5 * (np.subtract.outer(log_c, log_c) / APART[:, None, None]) ** 2)
    priors /= priors.sum(axis=1, keepdims=True)
    fits = np.log(np.maximum(known @ priors, 1e-300)).sum(axis=1)
    apart, middle = np.unravel_index(np.argmax(fits), fits.shape)
    own = 1.0 if told[0] is None else told[0][_signed(rises)]
    steep = math.exp(float(np.average(log_c, weights=own * priors[apart, :, middle])))
    return pooled_form(steep if rises else -steep)


def _signed(rises: int) -> slice:
    return slice(rises * len(STEEPNESS), (rises + 1) * len(STEEPNESS))


def _likelihood(x: Array, y: Array, end: str) -> Array:
    """The likelihood by each exponent, over the greatest, with the best floor, height and noise: relative deviation."""
    weights = x / x.max() if end == "high" else x.min() / x
    weights = weights * len(x) / weights.sum()
    one = 1.0 / y
    rise = np.exp(EXPONENTS[:, None] * (np.log(x) - np.mean(np.log(x)))) / y
    a, b, c = np.sum(weights * one**2), np.sum(weights * one * rise, axis=1), np.sum(weights * rise**2, axis=1)
    to_one, to_rise = np.sum(weights * one), np.sum(weights * rise, axis=1)
    floor = (to_one * c - to_rise * b) / np.maximum(a * c - b * b, 1e-300)
    floor = np.clip(floor, 0.0, to_one / a)  # neither a floor nor a height below 0
    height = (to_rise - floor * b) / c
    missed = np.mean(weights * (floor[:, None] * one + height[:, None] * rise - 1.0) ** 2, axis=1)
    misfit = 0.5 * len(x) * np.log(missed + LEAST_NOISE**2)
    return np.asarray(np.maximum(np.exp(misfit.min() - misfit), 1e-300))
