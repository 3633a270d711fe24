"""How sure laws say they are, against what is true: intervals, refusals, and questions asked backwards.

    LEANFIT_DATA=/path/to/data python benchmarks/law_uncertainty.py          # a minute on one core

1. Chinchilla's 240 points with 4,000 bootstraps: ends of the 95 % intervals within 0.003 (alpha) and 0.005 (beta) of
   Epoch's, in at most 60 s.
2. Synthetic truth, 200 designs over four laws (12 to 60 points, noise of 0.5 to 3 %), for Huber's loss and for least
   squares: the 95 % intervals cover 90 to 99 % of the true parameters, and 90 % at least in each law (50 designs of one
   law have a standard error of 3 %); none of these well-posed designs is refused.
3. 50 Chinchilla designs with D = 20 N at every point: every one refused, with exit code 6.
4. solve, then predict, over all forms, by the law alone (without its points, between which the answer is theirs):
   relative error below 1e-6.
5. 200 designs again: the interval of `solve` covers the true size (95 % asked), and the split of a budget is the closed
   form's.

Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import LeanfitError
from evaluate.scaling import Chinchilla, optimum
from evaluate.scaling.diagnose.rules import Unidentified
from evaluate.scaling.fit.fitting import NotConverged
from evaluate.scaling.forms.form import LAWS
from evaluate.scaling.law import Law, law_class

Floats = NDArray[Any]
EPOCH = {"alpha": (0.317, 0.373, 0.003), "beta": (0.331, 0.415, 0.005)}
missed: list[str] = []


def bar(good: bool, text: str) -> None:
    """Print a result; remember a bar that is missed."""
    print(f"{'ok    ' if good else 'MISSED'} {text}", flush=True)
    if not good:
        missed.append(text)


def chinchilla(count: int) -> None:
    path = Path(os.environ.get("LEANFIT_DATA", "data")) / "scaling" / "chinchilla_epoch_245.csv"
    if not path.is_file():
        print(f"       no {path}: set LEANFIT_DATA; the Chinchilla points are left out")
        return
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["used_in_240_fit"] == "True"]
    x = {name: np.array([float(row[name]) for row in rows]) for name in ("N", "D")}
    began = time.perf_counter()
    law = Chinchilla(bootstrap=count).fit(x, [float(row["loss"]) for row in rows])
    seconds = time.perf_counter() - began
    for name, (low, high, near) in EPOCH.items():
        found = law.intervals_[name]
        off = max(abs(found[0] - low), abs(found[1] - high))
        bar(off <= near, f"{name} ({found[0]:.4f}, {found[1]:.4f}), Epoch's ({low}, {high}): off by {off:.4f}")
    print(f"       E ({law.intervals_['E'][0]:.4f}, {law.intervals_['E'][1]:.4f}), Epoch's (1.769, 1.871)")
    bar(seconds <= 60, f"{count} bootstraps in {seconds:.1f} s")
    bar(not law.warnings_, f"warnings on these points: {len(law.warnings_)}")
    split_of(law)


def split_of(law: Any) -> None:
    """The best split of a budget against Hoffmann's equation 4."""
    p = law.params_
    lead = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    worst = 0.0
    for budget in (1e18, 1e21, 5.76e23):
        best = lead * (budget / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))
        worst = max(worst, abs(optimum(law, "6*N*D", budget).values["N"] / best - 1))
    bar(worst < 1e-6, f"the split of 3 budgets is the closed form's to {worst:.1e}")


Design = tuple[Floats, dict[str, float]]


def of_power(rng: np.random.Generator, n: int) -> Design:
    return np.geomspace(1e3, 10 ** rng.uniform(5, 7), n), {"b": rng.uniform(1, 5), "c": -rng.uniform(0.1, 0.6)}


def of_floor(rng: np.random.Generator, n: int) -> Design:
    c, top = rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.6)
    x = np.geomspace(1e3, 10 ** rng.uniform(6, 7), n)
    return x, {"e": top * rng.uniform(0.1, 0.5) / 2, "b": top * 1e3**c, "c": -c}


def of_chinchilla(rng: np.random.Generator, n: int) -> Design:
    alpha, beta = rng.uniform(0.25, 0.5, 2)
    a, b = rng.uniform(1, 2) * 1e6**alpha, rng.uniform(1, 2) * 1e8**beta
    return _grid(n), {"E": rng.uniform(0.5, 1.5), "A": a, "B": b, "alpha": alpha, "beta": beta}


def of_tied(rng: np.random.Generator, n: int) -> Design:
    x, truth = of_chinchilla(rng, n)
    shared = truth["alpha"]
    truth["B"] *= 1e8 ** (shared - truth.pop("beta"))
    return x, truth


def _grid(n: int) -> Floats:
    """Sizes and data, each on its own, as many of each as n points allow."""
    side = max(4, round(n**0.5))
    sizes = np.meshgrid(np.geomspace(1e6, 1e9, side), np.geomspace(1e8, 1e11, max(3, n // side)))
    return np.stack([part.ravel() for part in sizes], axis=1)


DESIGNS: dict[str, Callable[[np.random.Generator, int], Design]] = {
    "power": of_power, "power-floor": of_floor, "chinchilla": of_chinchilla, "chinchilla-tied": of_tied,
}  # fmt: skip


def coverage(designs: int, loss: str, bootstrap: int) -> None:
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    solved: list[bool] = []
    refused: list[str] = []
    for name, design in DESIGNS.items():
        for at in range(designs // len(DESIGNS)):
            rng = np.random.default_rng([at, len(name)])
            x, truth = design(rng, int(rng.integers(12, 61)))
            law = law_class(name)(loss=loss, bootstrap=bootstrap)
            true = law.form.predict(np.asarray(x).reshape(len(x), -1), law.form.vector(truth))
            noise = np.exp(np.exp(rng.uniform(np.log(0.005), np.log(0.03))) * rng.standard_normal(len(x)))
            try:
                law.fit(x, true * noise)
            except (Unidentified, NotConverged) as error:
                refused.append(f"{name} {at}: {error}")
                continue
            for parameter, (low, high) in law.intervals_.items():
                hits[name][parameter].append(low <= truth[parameter] <= high)
            solved.append(solve_covers(law, truth, x))
    bar(not refused, f"{loss}, {designs} well-posed designs, {bootstrap} bootstraps: {len(refused)} refused")
    for text in refused:
        print(f"         {text[:150]}")
    for name, found in hits.items():
        shares = "  ".join(f"{parameter} {100 * np.mean(hit):.0f}" for parameter, hit in found.items())
        share = 100 * float(np.mean([hit for column in found.values() for hit in column]))
        bar(share >= 90, f"{loss} {name}: {share:.1f} % covered ({shares})")
    every = 100 * float(np.mean([hit for found in hits.values() for column in found.values() for hit in column]))
    bar(90 <= every <= 99, f"{loss}, all parameters: {every:.1f} % covered at 95 %")
    inside = 100 * float(np.mean(solved))
    bar(90 <= inside <= 99, f"{loss}, the size that solve gives: {inside:.1f} % covered at 95 %")


def solve_covers(law: Any, truth: dict[str, float], x: Floats) -> bool:
    """Whether the interval of `solve`, for a y inside the points, holds the true size."""
    first = law.variables[0]
    table = np.asarray(x).reshape(len(x), -1)
    row = np.array([np.exp(np.mean(np.log(column))) for column in table.T])[None]
    y = float(law.form.predict(row, law.form.vector(truth))[0])
    given = dict(zip(law.variables[1:], row[0, 1:].tolist(), strict=True))
    found = law.solve(y, first, given, interval=0.95)
    return bool(found.low <= row[0, 0] <= found.high)


def refusals(count: int) -> None:
    refused, named = 0, 0
    for at in range(count):
        rng = np.random.default_rng([7, at])
        _, truth = of_chinchilla(rng, 16)
        n = np.geomspace(1e6, 10 ** rng.uniform(8, 10), int(rng.integers(12, 61)))
        x = np.stack([n, 20 * n], axis=1)
        true = Chinchilla.form.predict(x, Chinchilla.form.vector(truth))
        try:
            Chinchilla().fit(x, true * np.exp(rng.uniform(0.005, 0.03) * rng.standard_normal(len(n))))
        except LeanfitError as error:
            refused += error.exit_code == 6
            named += "alpha" in str(error) and "D = 20 N" in str(error)
    bar(refused == count, f"{refused} of {count} designs with D = 20 N refused with exit code 6")
    bar(named == count, f"{named} of {count} refusals name the exponents and say D = 20 N")


def round_trips() -> None:
    worst: dict[str, float] = {}
    asked: dict[str, int] = defaultdict(int)
    for name in LAWS.all():
        try:
            with_points, questions = fitted(name)
            law = Law.from_dict({key: part for key, part in with_points.to_dict().items() if key != "cells"})
        except (ImportError, AttributeError) as error:
            bar(False, f"{name}: not there ({error})")
            continue
        for variable, given in questions:
            low, high = law.range_[variable]
            for share in (0.02, 0.2, 0.5, 0.8, 0.98):
                value = low * (high / low) ** share if low > 0 else low + share * (high - low)
                columns = {name: np.array([given.get(name, value)]) for name in law.variables}
                y = float(law.predict(columns)[0])
                found = law.solve(y, variable, given)
                if "stays below" in found.reason:  # every value reaches it: there is no root to go back from
                    continue
                columns[variable] = np.array([found.value])
                error = abs(float(law.predict(columns)[0]) / y - 1) if found.reachable else np.inf
                worst[name] = max(worst.get(name, 0.0), error)
                asked[name] += 1
    for name, error in worst.items():
        bar(error < 1e-6, f"{name}: solve, then predict, is off by {error:.1e} ({asked[name]} questions)")


def fitted(name: str) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """A law fitted to points that its own form could have made, and what to ask it: each variable, the others given."""
    rng = np.random.default_rng(3)
    kind = law_class(name)
    law = kind(bootstrap=50) if name == "average" else kind(force=True, bootstrap=50)
    variables = ("x",) if name in ("linear", "average") else law.form.variables
    x = {variable: column(variable, rng) for variable in variables}
    law.fit(x, made(law, name, x) * np.exp(0.003 * rng.standard_normal(COUNT)))
    middle = {variable: values[len(values) // 2] for variable, values in x.items()}
    return law, [
        (variable, {other: middle[other] for other in variables if other != variable})
        for variable in variables
        if x[variable].dtype.kind == "f"
    ]


COUNT = 60
COLUMNS: dict[str, Floats] = {
    "S": np.array([0.0, 0.25, 0.5, 0.75, 0.875]),
    "density": np.array([0.05, 0.1, 0.2, 0.4, 0.7, 1.0]),
    "P": np.array([2.0, 3.0, 4.0, 6.0, 8.0, 16.0]),
    "level": np.array(["dense", "int8", "int4", "pruned"]),
    "depth": np.array([4.0, 8.0, 14.0, 20.0, 32.0]),
    "width": np.array([4.0, 8.0, 16.0, 32.0, 64.0]),
    "x": np.geomspace(1e3, 1e7, COUNT),
    "L_T": np.geomspace(2.0, 3.0, 8),
}


def column(variable: str, rng: np.random.Generator) -> Floats:
    """Values (n,) of a variable, each on its own."""
    values = COLUMNS.get(variable, np.geomspace(1e6, 1e9, 6))
    return values if len(values) == COUNT else rng.permutation(np.resize(values, COUNT))


def made(law: Any, name: str, x: dict[str, Floats]) -> Floats:
    """y (n,) by the law's own form, at the middle one of the starts that it derives from a plain fall."""
    if name in ("linear", "average"):
        return 0.05 + 3 * x["x"] ** -0.3 if name == "average" else 0.2 + 1e-8 * x["x"]
    size = [(v / v.min()) ** -0.2 for v in x.values() if v.dtype.kind == "f" and v.min() > 0]
    table = np.empty((COUNT, len(x)), dtype=object)
    for at, values in enumerate(x.values()):
        table[:, at] = values
    form = law.kind.form_for(table, **law.settings.options)
    numbers = form.encode(table)
    starts = form.starts(numbers, 0.1 + 0.5 * np.prod(size, axis=0))
    values = [form.predict(numbers, theta) for theta in starts]
    whole = [y for y in values if np.all(np.isfinite(y) & (y > 0)) and np.ptp(np.log(y)) > 0.2]
    return whole[len(whole) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=200, help="resamples of a synthetic design")
    parser.add_argument("--resamples", type=int, default=4000, help="of Chinchilla's points")
    asked = parser.parse_args()
    chinchilla(asked.resamples)
    refusals(50)
    round_trips()
    for loss in ("huber", "squares"):
        coverage(asked.designs, loss, asked.bootstrap)
    print(f"{len(missed)} bars missed" if missed else "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
