"""Down and up: the smallest, or the largest, third of the sizes of a family is held out and predicted from the rest.

Families: networks pruned step by step (imp: means of seeds' curves; imp-1: one seed), vision transformers at fixed
sparsity and data, quantized language models at fixed tokens a parameter, and curves made by rule (flat, noisy, exact,
stepped). Beside the choice: the choice to which the other families of the domain lend their exponent (pooled), the last
value, and every single form.

Run: python benchmarks/both_ends.py [--end low|high]. One core, about 5 minutes. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before numpy is imported

import argparse
import csv
import pathlib
import sys
import warnings
from collections import defaultdict

import numpy as np

from evaluate.core.errors import LeanfitError
from evaluate.scaling import select_law
from evaluate.scaling.law import law_class
from evaluate.scaling.points.scale import Scale

POINTS = pathlib.Path(__file__).parent.parent / "studies" / "points"
SINGLE = ("power", "power-floor", "m3", "rosenfeld")
MEASURED, BY_RULE = ("imp", "imp-1", "vit", "quest"), ("flat", "noisy", "exact", "stepped")
FAR = 1.2  # of the last value, the most that the choice may miss curves by rule

Family = tuple[str, np.ndarray]  # the column's name; rows of x, y


def rows(name: str) -> list[dict[str, str]]:
    """A table of points."""
    with (POINTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def measured() -> dict[str, list[Family]]:
    """domain -> families, of five sizes at least."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows("imp_mnist1d_mlp.csv"):
        key = f"{row['width']}, {row['n_train']}, {row['hidden_layers']}"
        found["imp", key, "density"].append((float(row["density"]), float(row["test_err"])))
        if row["seed"] == "0":
            found["imp-1", key, "density"].append((float(row["density"]), float(row["test_err"])))
    for row in rows("frantar2023_vit_jft_sparsity.csv"):
        found["vit", f"{row['sparsity']}, {row['D']}", "params"].append(
            (float(row["N_nonzero"]), float(row["val_loss"]))
        )
    for row in rows("quest_qat_scaling.csv"):
        found["quest", f"{row['grp']}, {round(float(row['DN']), -1):.0f}", "params"].append(
            (float(row["N"]), float(row["loss"]))
        )
    families: dict[str, list[Family]] = defaultdict(list)
    for (domain, _, column), points in found.items():
        table = np.array(sorted(points))
        if len(np.unique(table[:, 0])) >= 5:
            families[domain].append((column, table))
    return families


def by_rule() -> dict[str, list[Family]]:
    """domain -> six curves of nine sizes."""
    rng, x = np.random.default_rng(1), np.geomspace(1e3, 1e6, 9)
    families: dict[str, list[Family]] = defaultdict(list)
    for i in range(6):
        curves = {
            "flat": 0.08 * np.exp(0.01 * rng.standard_normal(9)),
            "noisy": (0.05 + 3 * x**-0.45) * np.exp(0.08 * rng.standard_normal(9)),
            "exact": 0.02 * i + 3 * x ** -(0.2 + 0.05 * i),
            "stepped": np.where(x < 10 ** (3.6 + 0.3 * i), 0.4, 0.1) * np.exp(0.02 * rng.standard_normal(9)),
        }
        for domain, y in curves.items():
            families[domain].append(("params", np.column_stack([x, y])))
    return families


def missed(prediction: np.ndarray, y: np.ndarray) -> float:
    """The rms of log prediction - log y."""
    return float(np.sqrt(np.mean((np.log(prediction) - np.log(y)) ** 2)))


def split(family: Family, end: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x, y that are kept, and the third of the sizes at that end."""
    _, table = family
    sizes = np.unique(table[:, 0])
    third = len(sizes) // 3
    held = np.isin(table[:, 0], sizes[:third] if end == "low" else sizes[-third:])
    return table[~held], table[held]


def scores(family: Family, end: str, sisters: list[Family]) -> dict[str, float]:
    """method -> what it missed the held-out third by; "top": the largest prediction of the choice."""
    column = family[0]
    (x, y), (far, truth) = (part.T for part in split(family, end))
    last = np.mean(y[x == (x.min() if end == "low" else x.max())])
    found = {"last value": missed(np.full(len(truth), last), truth)}
    for name in ("auto", *(["pooled"] if sisters else []), *SINGLE):
        if name == "rosenfeld" and column != "density":
            continue
        try:
            if name in ("auto", "pooled"):
                rate = Scale(limit=1.0) if column == "density" else Scale()
                others = [tuple(split(one, end)[0].T) for one in sisters] if name == "pooled" else []
                law = select_law({column: x}, y, end=end, force=True, bootstrap=2, scale=rate, sisters=others)
                found["top"] = max(found.get("top", 0.0), float(np.max(law.predict({column: far}))))
            else:
                law = law_class(name)(force=True, bootstrap=2).fit({column: x}, y)
            found[name] = missed(law.predict({column: far}), truth)
        except LeanfitError:
            found[name] = np.nan  # of a single form that does not converge
    return found


def main() -> int:
    """Score, print, and say whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--end", choices=("low", "high"), help="only that end")
    ends = [parser.parse_args().end] if parser.parse_args().end else ["low", "high"]
    families, faults = {**measured(), **by_rule()}, []
    methods = ("auto", "pooled", "last value", *SINGLE)
    for end in ends:
        print(f"the {'smallest' if end == 'low' else 'largest'} third held out: mean rms of log over the families")
        print(f"{'domain':8} {'n':>3} " + " ".join(f"{name:>11}" for name in methods))
        means: dict[str, dict[str, float]] = {}
        for domain in (*MEASURED, *BY_RULE):
            all_scores = []
            for family in families[domain]:
                sisters = [one for one in families[domain] if one is not family] if domain in MEASURED else []
                all_scores.append(scores(family, end, sisters))
            means[domain] = {
                name: float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
                for name in methods
                for values in [np.array([one.get(name, np.nan) for one in all_scores])]
            }
            shown = " ".join(f"{means[domain][name]:11.3f}" for name in methods)
            print(f"{domain:8} {len(all_scores):3} {shown}", flush=True)
            top = max(one.get("top", 0.0) for one in all_scores)
            if domain.startswith("imp") and top > 1:
                faults.append(f"{end}: {domain}: an error rate of {top:.3g} is predicted")
        for domain in BY_RULE:
            if means[domain]["auto"] > FAR * means[domain]["last value"]:
                faults.append(f"{end}: {domain}: {means[domain]['auto']:.3f} above {FAR} times the last value's")
        if end == "low":
            over = {name: np.nanmean([means[domain][name] for domain in MEASURED]) for name in methods}
            print("mean over the measured families: " + ", ".join(f"{name} {mean:.3f}" for name, mean in over.items()))
            faults += [
                f"low: {name} is better than the choice"
                for name in methods[2:]
                if np.nanmean([means[d][name] - means[d]["auto"] for d in MEASURED]) < 0
            ]
    print("\n".join(["missed:", *faults]) if faults else "all bars met")
    return 1 if faults else 0


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.exit(main())
