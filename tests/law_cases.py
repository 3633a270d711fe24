"""The one table of tiny cases: a row for every law, with parameters that made its points. It drives shared tests."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from evaluate.scaling.fit.fitted import read_problem
from evaluate.scaling.fit.fitting import fit
from evaluate.scaling.law import law_class

LEVELS = np.array(["dense", "int8", "int4"], dtype=object)


def read(law, x, y=None):
    """What a law makes of points before it is fitted; y (n,) of any values where None."""
    count = len(next(iter(x.values())))
    y = np.linspace(1, 2, count) if y is None else y
    return read_problem(law.kind, x, y, None, None, law.settings)


@dataclass(frozen=True, eq=False)
class Case:
    """law: its name. true: the parameters that make y. design: columns of x by name. tolerance: relative.

    noisy: how far off the prediction may be, inside the design, from points with 1 % of noise.
    """

    law: str
    true: dict[str, float]
    design: dict[str, np.ndarray]
    tolerance: float = 1e-6
    noisy: float = 0.02
    options: dict[str, object] = field(default_factory=dict)
    id: str = ""

    def new(self, **options):
        """The law, unfitted."""
        return law_class(self.law)(**{"bootstrap": 20, "force": True, **self.options, **options})

    @functools.cache  # noqa: B019 - the table lives as long as the tests
    def read(self):
        """(the problem: form, loss, points; x (n, k) as numbers, y (n,) without noise)."""
        problem = read(self.new(), self.design)
        x = problem.data.x
        return problem, x, problem.form.predict(x, problem.form.vector(self.true))

    @functools.cache  # noqa: B019
    def noisy_fit(self):
        """The fit to points with 1 % of noise."""
        law, x, _ = self.read()
        return fit(law.form, x, self.points(noise=0.01)[1], loss=law.loss)

    def points(self, noise=0.0, seed=0):
        """(columns of x by name, y (n,)) with lognormal noise."""
        y = self.read()[2]
        return self.design, y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(y)))


def crossed(**axes):
    """All combinations of the values of each axis, as columns."""
    parts = np.meshgrid(*axes.values(), indexing="ij")
    return dict(zip(axes, (part.reshape(-1) for part in parts), strict=True))


SIZES = np.geomspace(1e3, 1e7, 30)
N, D = np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 6)
JOINT = {"E": 1.7, "A": 400.0, "B": 1000.0, "alpha": 0.33, "beta": 0.36}
PRUNED = {"e_up": 0.7, "p": 2.0, "gamma": 0.5, "phi": 0.9, "psi": 1.1}
DENSITY = np.geomspace(0.01, 1, 16)
FAMILY = crossed(density=DENSITY, width=np.array([16.0, 64.0]), depth=np.array([2.0, 6.0]))
CASES = [
    Case("power", {"b": 5.0, "c": -0.25}, {"x": SIZES}),
    Case("power", {"b": 0.3, "c": 0.1}, {"x": SIZES}, id="power-rising"),
    Case("power-floor", {"e": 0.05, "b": 8.0, "c": -0.4}, {"x": SIZES}),
    Case("power-floor", {"e": 0.08, "b": 0.4, "c": 2.0}, {"x": np.linspace(0.05, 0.95, 25)}, id="power-floor-rising"),
    Case("pooled", {"e": 0.05, "b": 8.0}, {"x": SIZES}, options={"exponent": -0.4}),
    Case("m3", {"b": 9.0, "g": 3e-6, "c": 0.4}, {"x": SIZES}),
    Case("pow4", {"e": 0.05, "b": 20.0, "c": 0.5, "d": 3e3}, {"x": np.geomspace(1e2, 1e7, 40)}),
    Case("mmf4", {"e": 0.05, "h": 0.8, "m": 1e4, "d": 0.8}, {"x": np.geomspace(1e2, 1e7, 40)}),
    Case("m4", {"e": 0.05, "e0": 0.9, "a": 0.7, "b": 300.0, "c": -0.7}, {"x": np.geomspace(1e2, 1e6, 40)}),
    Case(
        "bnsl1",
        {"a": 0.02, "b": 0.9, "c0": 0.05, "c1": 0.4, "d1": 1e4, "f1": 0.4},
        {"x": np.geomspace(1e2, 1e7, 40)},
    ),
    Case(
        "bnsl2",
        {"a": 0.01, "b": 0.9, "c0": 0.05, "c1": 0.5, "d1": 1e4, "f1": 0.3, "c2": -0.3, "d2": 1e6, "f2": 0.3},
        {"x": np.geomspace(1e2, 1e8, 50)},
    ),
    Case("log-linear", {"b0": 0.9, "b1": -0.04}, {"x": SIZES}),
    Case("linear", {"b0": 3.0, "b1": 0.5, "b2": -0.2}, crossed(u=np.arange(6.0), v=np.linspace(-2, 5, 5))),
    Case("chinchilla", JOINT, crossed(N=N, D=D)),
    Case("chinchilla-tied", {"E": 1.7, "A": 400.0, "B": 1000.0, "alpha": 0.33}, crossed(N=N, D=D)),
    Case("effective", {**JOINT, "eff(int4)": 0.4, "eff(int8)": 0.9}, crossed(N=N, D=D, level=LEVELS)),
    Case(
        "effective",
        {"E": 1.7, "A": 400.0, "alpha": 0.33, "eff(int4)": 0.4, "eff(int8)": 0.9},
        crossed(N=np.geomspace(1e5, 1e9, 12), level=LEVELS),
        id="effective-sizes",
    ),
    Case("precision", {**JOINT, "gamma_w": 2.7}, crossed(N=N[::2], D=D[::2], P=np.array([2.0, 3, 4, 6, 8, 16]))),
    Case(
        "precision",
        {**JOINT, "C_T": 0.06, "gamma_D": 0.5, "gamma_N": 0.35, "gamma_post": 0.6},
        crossed(N=N[::2], D=D[::2], P_post=np.array([3.0, 4, 5, 6, 8])),
        options={"post_training": True},
        id="precision-after",
    ),
    Case("capacity", {**JOINT, "F": 0.06, "C": 2.4}, crossed(N=N[::2], D=D[::2], bits=np.array([1.0, 2, 3, 4, 8]))),
    Case(
        "capacity",
        {"E": 1.7, "A": 400.0, "alpha": 0.33, "F": 0.06, "C": 2.4},
        crossed(N=np.geomspace(1e5, 1e9, 6), bits=np.array([1.0, 2, 3, 4, 8])),
        id="capacity-sizes",
    ),
    Case("rosenfeld", {"e_np": 0.3, "e_up": 0.75, "p": 0.05, "gamma": 0.6}, {"density": np.geomspace(0.003, 1, 30)}),
    Case("rosenfeld", PRUNED, {**FAMILY, "e_np": 0.5 - 0.002 * FAMILY["width"]}, id="rosenfeld-family"),
    Case(
        "rosenfeld",
        {"e_up": 0.8, "p": 2.0, "gamma": 0.6, "psi": 1.0, "c": 0.05, "b": 1.2, "beta": 0.4},
        crossed(density=np.geomspace(0.005, 1, 16), size=np.array([8.0, 16, 32, 64, 128])),
        id="rosenfeld-sizes",
    ),
    Case(
        "rosenfeld",
        {**PRUNED, "c": 0.05, "a": 12.0, "alpha": 0.5, "b": 3.0, "beta": 0.4},
        crossed(
            density=DENSITY[::3], width=np.array([8.0, 32, 128]), depth=np.array([2.0, 8]), n=np.array([1e3, 8e3, 6e4])
        ),
        id="rosenfeld-data",
    ),
    Case(
        "frantar",
        {"a_S": 16.8, "b_S": 0.8, "c_S": 45.0, "b_N": 0.25, "a_D": 2000.0, "b_D": 0.35, "c": 0.65},
        crossed(S=np.array([0.0, 0.5, 0.75, 0.875]), N=np.geomspace(1e6, 1e9, 5), D=np.geomspace(1e9, 1e12, 4)),
    ),
    Case(
        "frantar",
        {"a_S": 16.8, "b_S": 0.8, "c_S": 45.0, "b_N": 0.25, "c": 0.65},
        crossed(S=np.array([0.0, 0.5, 0.75, 0.875]), N=np.geomspace(1e6, 1e9, 6)),
        id="frantar-sizes",
    ),
    Case(
        "p2",
        {"N_C": 2e4, "alpha": 0.3, "D_C": 2e5, "beta": 0.4, "E": 20.0, "gamma": -1.6, "delta": 0.2},
        crossed(
            rho=np.array([0.15, 0.25, 0.35, 0.5]),
            N=np.geomspace(5e8, 8e9, 4),
            D=np.geomspace(1e8, 2e10, 5),
            L_0=np.array([2.1, 2.6]),
        ),
    ),
    Case(
        "qat-groups",
        {**JOINT, "k": 0.2, "gamma_D": 0.25, "gamma_G": 0.8, "gamma_N": 0.3},
        crossed(N=N[::2], D=D[::2], group=np.array([32.0, 64, 128, 256, 1024])),
    ),
    Case(
        "width-depth",
        {"E": 0.03, "A": 1.2, "B": 0.6, "alpha": 0.7, "beta": 0.9},
        crossed(width=np.geomspace(2, 64, 6), depth=np.array([2.0, 4, 8, 16, 32])),
    ),
    Case(
        "distillation",
        {"c0": 1.0, "c1": 3.0, "d1": 1.2, "f1": 0.2, "A": 400.0, "alpha": 0.35, "B": 2e3, "beta": 0.4, "gamma": 0.8},
        crossed(N=N[::2], D=D[::2], L_T=np.array([1.6, 2.0, 2.6]), L_S=np.array([1.8, 2.3, 3.2])),
    ),
]
NAMES = [case.id or case.law for case in CASES]
