"""Is a chance of keeping a target what it says? Sizes are held out, and their seeds asked whether they kept it.

Families: pruned MLPs (density of each network, three seeds) and the Records of the digits study (packed bytes of each
level, three seeds). Each size but the outermost is left out in turn; the chances of keeping each of 25 targets there
come from the other sizes, and are held against what the seeds of that size did. By tenths of the chance; cases of one
size hang together, so what is independent is the number of sizes.

Run: python benchmarks/sizing.py. One core, seconds. Exits 1 where a tenth with 30 cases is off by more than 5 points.
"""

from __future__ import annotations

import csv
import pathlib
import sys

import numpy as np

from evaluate.scaling.points.point_files import read_points
from evaluate.scaling.points.points import ALIKE
from evaluate.scaling.query.sizing import families_of

ROOT = pathlib.Path(__file__).parent.parent / "studies"
TARGETS, FEWEST, OFF = 25, 30, 5.0
Table = tuple[np.ndarray, np.ndarray, np.ndarray]  # costs, y, names of families, (n,) each


def tables() -> dict[str, Table]:
    """domain -> points of its families."""
    with (ROOT / "points" / "imp_mnist1d_mlp.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pruned = (
        np.array([float(row["params_nonzero"]) for row in rows]),
        np.array([float(row["test_err"]) for row in rows]),
        np.array([f"{row['width']}, {row['n_train']}" for row in rows]),
    )
    study = read_points(str(ROOT / "records" / "digits-resnet")).where("data=full").columns
    digits = (study["packed_bytes"], study["error"], study["level"].astype(str))
    return {"pruned MLPs": pruned, "digits study": digits}


def cases(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(chance (n,), whether it was kept (n,), which size (n,)) of every held-out seed and target."""
    costs, y, names = table
    chances, kept, sizes_of = [], [], []
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        sizes = np.sort(costs[own])
        designs = np.split(sizes, np.flatnonzero(np.diff(np.log(sizes)) > np.log(ALIKE)) + 1)
        for design in designs[1:-1]:
            held = own[(costs[own] >= design[0]) & (costs[own] <= design[-1])]
            rest = np.setdiff1d(np.arange(len(costs)), held)
            families, _ = families_of(costs[rest], y[rest], names[rest].tolist())
            family = next(one for one in families if one.name == name)
            for target in np.geomspace(y[own].min(), y[own].max(), TARGETS):
                chances += family.chance(costs[held], float(target)).tolist()
                kept += (y[held] <= target).tolist()
                sizes_of += [f"{name} {design[0]}"] * len(held)
    return np.array(chances), np.array(kept), np.array(sizes_of)


def main() -> int:
    """Score, print, and say whether the bar is met."""
    missed = []
    for domain, table in tables().items():
        chances, kept, sizes = cases(table)
        print(f"{domain}: {len(kept)} cases of {len(set(sizes))} sizes")
        print(f"{'chance':>12} {'cases':>6} {'sizes':>6} {'mean':>7} {'kept':>7} {'off':>6}")
        for low in range(0, 100, 10):
            inside = (chances >= low / 100) & (chances < (low + 10) / 100 + (low == 90))
            if not inside.any():
                continue
            mean, share = 100 * chances[inside].mean(), 100 * kept[inside].mean()
            known = f"{inside.sum():6} {len(set(sizes[inside])):6} {mean:6.1f}% {share:6.1f}% {share - mean:+6.1f}"
            print(f"{low:4} to {low + 10:3} % {known}")
            if inside.sum() >= FEWEST and abs(share - mean) > OFF:
                missed.append(f"{domain}, {low} to {low + 10} %: off by {share - mean:+.1f} points")
    print("\n".join(["missed:", *missed]) if missed else "all bars met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
