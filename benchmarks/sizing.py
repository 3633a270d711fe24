"""Is a chance of keeping a target what it says? A size and a seed are held out, and it is asked whether that kept it.

Families: pruned MLPs (density of each network, three seeds) and the Records of three studies (packed bytes of each
level, two or three seeds). Each size but the outermost and each seed is left out in turn: nothing of that size, and
nothing of that seed at any size, is known, since the chance is that of a model trained anew. The chances of keeping
each of 25 targets there are held against what the held-out model did. By tenths of the chance. Cases of one size hang
together, so what is independent is the number of sizes: "by chance" is the standard error that so many would have.

Run: python benchmarks/sizing.py. One core, seconds. Exits 1 where a tenth with 30 cases is off by more than 5 points.
"""

from __future__ import annotations

import csv
import itertools
import pathlib
import sys

import numpy as np

from evaluate.scaling.points.measured import ALIKE
from evaluate.scaling.points.point_files import read_points
from evaluate.scaling.query.sizing import families_of

ROOT = pathlib.Path(__file__).parent.parent / "studies"
TARGETS, FEWEST, OFF = 25, 30, 5.0
STUDIES = ("digits-resnet", "fashion-cnn", "cifar10-resnet8")
Table = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # costs, y, names of families, seeds, (n,) each


def tables() -> dict[str, Table]:
    """domain -> points of its families."""
    with (ROOT / "points" / "imp_mnist1d_mlp.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pruned = (
        np.array([float(row["params_nonzero"]) for row in rows]),
        np.array([float(row["test_err"]) for row in rows]),
        np.array([f"{row['width']}, {row['n_train']}" for row in rows]),
        np.array([row["seed"] for row in rows]),
    )
    return {"pruned MLPs": pruned, **{f"{name} study": _study(name) for name in STUDIES}}


def _study(name: str) -> Table:
    columns = read_points(str(ROOT / "records" / name)).where("data=full").columns
    return columns["packed_bytes"], columns["error"], columns["level"].astype(str), columns["seed"].astype(str)


def cases(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(chance (n,), whether it was kept (n,), which size (n,)) of every held-out model and target."""
    costs, y, names, seeds = table
    chances, kept, sizes_of = [], [], []
    for name, seed in itertools.product(np.unique(names), np.unique(seeds)):
        own = names == name
        sizes = np.sort(costs[own])
        for design in np.split(sizes, np.flatnonzero(np.diff(np.log(sizes)) > np.log(ALIKE)) + 1)[1:-1]:
            here = own & (costs >= design[0]) & (costs <= design[-1])
            rest, held = ~here & (seeds != seed), here & (seeds == seed)
            families, _ = families_of(costs[rest], y[rest], names[rest].tolist())
            family = next(one for one in families if one.name == name)
            for target in np.geomspace(y[own].min(), y[own].max(), TARGETS):
                chances += family.chance(costs[held], float(target)).tolist()
                kept += (y[held] <= target).tolist()
                sizes_of += [f"{name} {design[0]}"] * int(held.sum())
    return np.array(chances), np.array(kept), np.array(sizes_of)


def main() -> int:
    """Score, print, and say whether the bar is met."""
    missed, scored = [], {domain: cases(table) for domain, table in tables().items()}
    scored["all"] = tuple(np.concatenate(parts) for parts in zip(*scored.values(), strict=True))
    for domain, (chances, kept, sizes) in scored.items():
        print(f"{domain}: {len(kept)} cases of {len(set(sizes))} sizes")
        print(f"{'chance':>12} {'cases':>6} {'sizes':>6} {'mean':>7} {'kept':>7} {'off':>6} {'by chance':>9}")
        for low in range(0, 100, 10):
            inside = (chances >= low / 100) & (chances < (low + 10) / 100 + (low == 90))
            if not inside.any():
                continue
            mean, share, count = 100 * chances[inside].mean(), 100 * kept[inside].mean(), len(set(sizes[inside]))
            known = f"{inside.sum():6} {count:6} {mean:6.1f}% {share:6.1f}% {share - mean:+6.1f}"
            print(f"{low:4} to {low + 10:3} % {known} {np.sqrt(mean * (100 - mean) / count):9.1f}")
            if inside.sum() >= FEWEST and abs(share - mean) > OFF:
                missed.append(f"{domain}, {low} to {low + 10} %: off by {share - mean:+.1f} points")
    print("\n".join(["missed:", *missed]) if missed else "all bars met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
