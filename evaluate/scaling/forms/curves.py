"""Laws of one variable: how an error or a loss falls with size, data or compute.

x is any positive size (parameters, samples, MACs, density); y is positive (an error as a fraction, a loss in nats).
All of them are fitted to residuals of log y.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
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
    least_squares,
    log_plus,
    named,
    nonnegative,
    register_kind,
    register_law,
    slope,
    softplus,
    spread,
)

MOHR = "Mohr, Viering, Loog, van Rijn: LCDB 1.0: an extensive learning curves database, ECML PKDD 2022"
ALABDULMOHSIN = (
    "Alabdulmohsin, Neyshabur, Zhai: Revisiting Neural Scaling Laws in Language and Vision, NeurIPS 2022, "
    "arXiv:2209.06640"
)
CABALLERO = "Caballero, Gupta, Rish, Krueger: Broken Neural Scaling Laws, ICLR 2023, arXiv:2210.14891"
GELMAN = "Gelman, Hill: Data Analysis Using Regression and Multilevel/Hierarchical Models, 2007, chapter 12"
BREAK_WIDTHS = (0.02, 5.0)
LARGE = 600.0


def _power_starts(x: Array, y: Array) -> Array:
    c, level = slope(x[:, 0], y)
    return np.array([[np.exp(level), c + shift] for shift in (0.0, -0.2, 0.2)])


@register_law(
    "power",
    title="power law",
    formula="y = b x^c",
    source=f"M1 of {ALABDULMOHSIN}",
    parameters=named(b=POSITIVE, c=ANY_EXPONENT),
    starts=_power_starts,
)
def power(x: Array, theta: Array) -> Array:
    """y = b x^c.

    b > 0 in units of y at x = 1; c of any sign, without unit (negative where y falls with x).
    Source: M1 of Alabdulmohsin et al., NeurIPS 2022 (arXiv:2209.06640); long known for learning curves
    (Hestness et al. 2017, arXiv:1712.00409).
    """
    b, c = columns(theta)
    return np.asarray(np.log(b) + c * np.log(x[:, 0]))


def _floor_and_height(size: Array, y: Array, c: float) -> tuple[float, float]:
    """e and b of e + b size^c: given c, both are linear."""
    middle = np.exp(np.mean(np.log(size)))
    e, b = nonnegative([np.ones(len(y)), (size / middle) ** c], y, positive=(False, True))
    return e, b * middle**-c


def _power_floor_starts(x: Array, y: Array) -> Array:
    """Least squares of the floor and b for exponents from flat to steep, both ways."""
    c = slope(x[:, 0], y)[0]
    exponents = np.sign(c or -1.0) * np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
    return np.array([(*_floor_and_height(x[:, 0], y, steep), steep) for steep in (c, *exponents)])


@register_law(
    "power-floor",
    title="power law with a floor",
    formula="y = e + b x^c",
    source=f"M2 of {ALABDULMOHSIN}",
    parameters=named(e=FLOOR, b=POSITIVE, c=ANY_EXPONENT),
    starts=_power_floor_starts,
    floor="e",
)
def power_floor(x: Array, theta: Array) -> Array:
    """y = e + b x^c.

    e >= 0 in units of y, the floor: what is left for large x where c < 0, for small x where c > 0; b > 0 in units of y
    at x = 1; c of any sign.
    Source: M2 of Alabdulmohsin et al., NeurIPS 2022 (arXiv:2209.06640).
    """
    e, b, c = columns(theta)
    return log_plus(e, np.log(b) + c * np.log(x[:, 0]))


def pooled_form(exponent: float) -> Form:
    """power-floor with c as given."""

    def starts(x: Array, y: Array) -> Array:
        e, b = _floor_and_height(x[:, 0], y, exponent)
        return np.array([(share * e, b) for share in (1.0, 0.9)])

    return Form(
        name="pooled",
        title="power law with a floor and the exponent of its sisters",
        formula=f"y = e + b x^{exponent:.3g}",
        source=GELMAN,
        variables=("x",),
        parameters=named(e=FLOOR, b=POSITIVE),
        log_y=lambda x, theta: power_floor(x, np.insert(theta, 2, exponent, axis=-1)),
        starts=starts,
        floor="e",
        given={"c": exponent},
    )


@register_kind("pooled")
class PooledKind(LawKind):
    """y = e + b x^c, with c as given: that which the curves of one study share.

    e >= 0 the floor and b > 0, in units of y, as of power-floor; c of any sign but 0 is the option `exponent`, or what
    the points of sister curves tell (`leanfit fit --pool`, select_law(sisters=...)): there it is one of the candidates.
    Source: partial pooling, Gelman and Hill, Data Analysis Using Regression and Multilevel/Hierarchical Models, 2007.
    """

    form = pooled_form(-0.5)
    loss = Loss("huber", 1e-2)
    options: Mapping[str, Any] = {"exponent": -0.5}

    def form_for(self, x: Any, **options: Any) -> Form:
        """With that exponent. Raises UsageError where it is none."""
        exponent = options["exponent"]
        if not (isinstance(exponent, (int, float)) and math.isfinite(exponent) and exponent):
            raise UsageError(f"the law pooled takes an exponent other than 0, as exponent=-0.5; got {exponent!r}")
        return pooled_form(float(exponent))

    def saved(self, form: Form) -> dict[str, Any]:
        """The exponent."""
        return {"exponent": form.given["c"]}

    def restored(self, settings: Mapping[str, Any]) -> Form:
        """With the exponent that was saved."""
        return pooled_form(float(settings["exponent"]))


def _m3_starts(x: Array, y: Array) -> Array:
    """Given g, log y is a straight line in log(1/x + g)."""
    inverse = 1.0 / x[:, 0]
    starts = []
    for g in (*spread(inverse, (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)), 3.0 * inverse.max()):
        c, level = slope(inverse + g, y)
        starts.append((np.exp(np.clip(level, -LARGE, LARGE)), g, c))
    return np.array(starts)


@register_law(
    "m3",
    title="M3, a power law that saturates",
    formula="y = b (1/x + g)^c",
    source=f"M3 of {ALABDULMOHSIN}",
    parameters=named(b=POSITIVE, g=FLOOR, c=ANY_EXPONENT),
    starts=_m3_starts,
)
def m3(x: Array, theta: Array) -> Array:
    """y = b (1/x + g)^c.

    g >= 0 in units of 1/x: at x of about 1/g the fall slows down, and y tends to b g^c; b > 0; c of any sign, c > 0
    where y falls with x.
    Source: M3 of Alabdulmohsin et al., NeurIPS 2022 (arXiv:2209.06640).
    """
    b, g, c = columns(theta)
    return np.asarray(np.log(b) + c * np.log(1.0 / x[:, 0] + g))


def _pow4_starts(x: Array, y: Array) -> Array:
    """Given c and d, the floor and b are linear."""
    size, starts = x[:, 0], []
    for share, c in grid((0.0, 0.1, 1.0, 10.0, 100.0), (0.1, 0.3, 0.6, 1.0, 2.0)):
        d = share * size.min()
        middle = np.exp(np.mean(np.log(size + d)))
        e, b = nonnegative([np.ones(len(y)), ((size + d) / middle) ** -c], y, positive=(False, True))
        starts.append((e, b * middle**c, c, d))
    return np.array(starts)


@register_law(
    "pow4",
    title="power law with a floor and an offset",
    formula="y = e + b (x + d)^-c",
    source=MOHR,
    parameters=named(e=FLOOR, b=POSITIVE, c=EXPONENT, d=FLOOR),
    starts=_pow4_starts,
    floor="e",
)
def pow4(x: Array, theta: Array) -> Array:
    """y = e + b (x + d)^-c.

    e >= 0 the floor in units of y; b > 0; c > 0; d >= 0 in units of x: below it the curve is level.
    Source: POW4 of Mohr et al., LCDB 1.0, ECML PKDD 2022.
    """
    e, b, c, d = columns(theta)
    return log_plus(e, np.log(b) - c * np.log(x[:, 0] + d))


def _mmf4_starts(x: Array, y: Array) -> Array:
    """Given both plateaus, log(h / (y - e) - 1) is a straight line in log x."""
    starts = []
    for low, high in grid((0.0, 0.6, 0.95), (1.02, 1.3, 3.0)):
        e, h = low * y.min(), high * y.max() - low * y.min()
        d, level = slope(x[:, 0], h / (y - e) - 1.0)
        starts.append((e, h, np.exp(np.clip(-level / (d or 1e-3), -LARGE, LARGE)), d))
    return np.array(starts)


@register_law(
    "mmf4",
    title="MMF, a sigmoid between two plateaus",
    formula="y = e + h / (1 + (x / m)^d)",
    source=f"{MOHR}; Morgan, Mercer, Flodin, PNAS 1975",
    parameters=named(e=FLOOR, h=POSITIVE, m=POSITIVE, d=ANY_EXPONENT),
    starts=_mmf4_starts,
    floor="e",
)
def mmf4(x: Array, theta: Array) -> Array:
    """y = e + h / (1 + (x / m)^d).

    e >= 0 the floor and h > 0 how far above it the curve begins, both in units of y; m > 0 in units of x, where half of
    h is gone; d of any sign, positive where y falls with x.
    Source: MMF4 of Mohr et al., LCDB 1.0, ECML PKDD 2022; Morgan, Mercer and Flodin 1975.
    """
    e, h, m, d = columns(theta)
    return log_plus(e, np.log(h) - softplus(np.asarray(d * (np.log(x[:, 0]) - np.log(m)))))


def _m4_starts(x: Array, y: Array) -> Array:
    """Given e, e0 and a the equation is a straight line in logs."""
    low, high = y.min(), y.max()
    starts = []
    for share, above, a in grid((0.0, 0.6, 0.95), (1.02, 1.3, 3.0), (0.3, 1.0, 3.0)):
        e, e0 = share * low, above * high
        c, level = slope(x[:, 0], (y - e) / (e0 - y) ** a)
        starts.append((e, e0, a, np.exp(level), c))
    return np.array(starts)


@register_law(
    "m4",
    title="M4, a sigmoid between chance and a floor",
    formula="(y - e) / (e0 - y)^a = b x^c",
    source=f"M4 of {ALABDULMOHSIN}",
    parameters=named(e=FLOOR, e0=POSITIVE, a=Parameter("", 0.01, 100.0), b=POSITIVE, c=ANY_EXPONENT),
    starts=_m4_starts,
    floor="e",
)
def m4(x: Array, theta: Array) -> Array:
    """(y - e) / (e0 - y)^a = b x^c, solved for y between e and e0.

    e >= 0 the floor and e0 > 0 the value at chance, both in units of y; a in [0.01, 100] the slowness of the start;
    b > 0; c of any sign, negative where y falls with x.
    Source: M4 of Alabdulmohsin et al., NeurIPS 2022 (arXiv:2209.06640).
    """
    # With y = e + (e0 - e) s and t = log(s / (1 - s)), a softplus(t) - softplus(-t) = log K rises in t with a slope
    # between 1 and a, and Newton finds it. The root is sought in real numbers; one more step, complex where theta is,
    # carries the derivatives.
    e, e0, a, b, c = columns(theta)
    log_k = np.log(b) + c * np.log(x[:, 0]) + (a - 1.0) * np.log(e0 - e)
    t = _m4_root(log_k.real, a.real)
    if np.iscomplexobj(theta):
        t = t - _m4_gap(t, a, log_k)
    return np.asarray(np.log(e + (e0 - e) * np.exp(-softplus(-t))))


def _m4_gap(t: Array, a: Array, log_k: Array) -> Array:
    """Newton's step at t."""
    down = softplus(-t)
    share = np.exp(-down)
    return np.asarray((a * (t + down) - down - log_k) / (1.0 - share + a * share))


def _m4_root(log_k: Array, a: Array) -> Array:
    beyond = log_k - (a - 1.0) * np.log(2.0)
    t = np.where(beyond > 0, beyond / np.maximum(a, 1.0), beyond)
    for _ in range(40):
        step = _m4_gap(t, a, log_k)
        t = t - step
        if not np.any(np.abs(step) > 1e-9 * (1.0 + np.abs(t))):
            break
    return np.asarray(t)


BROKEN = "y = a + b x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i)"
BASE = named(a=FLOOR, b=POSITIVE, c0=ANY_EXPONENT)


def _bend(i: int) -> tuple[Parameter, ...]:
    return named(**{f"c{i}": ANY_EXPONENT, f"d{i}": POSITIVE, f"f{i}": Parameter("", *BREAK_WIDTHS)})


def _bnsl_starts(places: Sequence[Sequence[float]]) -> Callable[[Array, Array], Array]:
    """Given the floor, the places of the breaks and their widths, log(y - a) is linear in log b and the exponents."""

    def starts(x: Array, y: Array) -> Array:
        size, log_x = x[:, 0], np.log(x[:, 0])
        found = []
        for at, width, share in itertools.product(places, (0.1, 0.7), (0.0, 0.5, 0.9)):
            a, where = share * y.min(), spread(size, at)
            bends = [-width * softplus((log_x - np.log(d)) / width) for d in where]
            b, c0, *steep = least_squares([np.ones(len(y)), -log_x, *bends], np.log(y - a))
            found.append((a, np.exp(b), c0, *(part for c, d in zip(steep, where) for part in (c, d, width))))
        return np.array(found)

    return starts


@register_law(
    "bnsl1",
    title="broken neural scaling law, one break",
    formula=BROKEN,
    source=CABALLERO,
    parameters=(*BASE, *_bend(1)),
    starts=_bnsl_starts([(q,) for q in (0.2, 0.4, 0.6, 0.8)]),
    floor="a",
)
def bnsl1(x: Array, theta: Array) -> Array:
    """y = a + b x^-c0 (1 + (x / d1)^(1 / f1))^(-c1 f1): a power law that bends once.

    a >= 0 the floor in units of y; b > 0; c0 the first exponent and c0 + c1 the second, of any sign; d1 > 0 in units
    of x, where it bends; f1 in [0.02, 5], how wide the bend is in log x.
    Source: Caballero et al., Broken Neural Scaling Laws, ICLR 2023 (arXiv:2210.14891).
    """
    a, b, c0, *breaks = columns(theta)
    log_x = np.log(x[:, 0])
    total = np.log(b) - c0 * log_x
    for c, d, f in zip(breaks[0::3], breaks[1::3], breaks[2::3]):
        total = total - c * f * softplus((log_x - np.log(d)) / f)
    return log_plus(a, total)


@register_law(
    "bnsl2",
    title="broken neural scaling law, 2 breaks",
    formula=BROKEN,
    source=CABALLERO,
    parameters=(*BASE, *_bend(1), *_bend(2)),
    starts=_bnsl_starts([(0.2, 0.5), (0.2, 0.8), (0.5, 0.8), (0.35, 0.65)]),
    floor="a",
)
def bnsl2(x: Array, theta: Array) -> Array:
    """As BNSL1 with a second bend: c2, d2, f2. It overfits short curves.

    Source: Caballero et al., Broken Neural Scaling Laws, ICLR 2023 (arXiv:2210.14891).
    """
    return bnsl1(x, theta)
