"""90 % prediction intervals beyond the points, by domain: how many held-out points they hold, and how wide they are.

    python benchmarks/intervals.py [--domain NAME]          # one core, about 4 minutes

Domains: curves (45 learning curves, the points behind the fitted ones), pruned (networks pruned step by step, and
vision transformers at fixed sparsity: the smallest and the largest third of the sizes held out), joint (Chinchilla's
and Gadre's models by size and data: the third with most compute held out of designs of 40 models), compressed
(Frantar's sparse and QuEST's quantized models by size, data and level: the third with most compute held out, and each
level that is at an end of the levels).

Beside the coverage stand the width in log y and the mean interval score in log y (Gneiting and Raftery 2007: width,
plus 2 / 0.1 times what a point lies outside; less is better). Exits 1 when a bar is missed: coverage of 88 to 93 % in
each domain.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before numpy is imported

import argparse
import csv
import pathlib
import sys
import warnings
from collections.abc import Iterator

import numpy as np
from both_ends import measured, rows
from learning_curves import tasks

from evaluate.core.errors import LeanfitError
from evaluate.scaling import select_law
from evaluate.scaling.points.scale import Scale

SHARE, LEAST, MOST = 0.9, 0.88, 0.93
Case = tuple[str, dict[str, np.ndarray], np.ndarray, np.ndarray, str]  # family, x, y, what is held out, end


def curves() -> Iterator[Case]:
    """The learning curves: what is not fitted is held out."""
    for (_, task, model), table in tasks().items():
        yield f"{task} {model}", {"n": table[:, 0]}, table[:, 1], table[:, 2] == 0, "high"


def pruned() -> Iterator[Case]:
    """Families of one column, both ends."""
    for domain in ("imp", "imp-1", "vit"):
        for column, table in measured()[domain]:
            sizes = np.unique(table[:, 0])
            third = len(sizes) // 3
            for end, out in (("low", sizes[:third]), ("high", sizes[-third:])):
                yield f"{domain} {end}", {column: table[:, 0]}, table[:, 1], np.isin(table[:, 0], out), end


def _columns(table: list[dict[str, str]], names: dict[str, str]) -> dict[str, np.ndarray]:
    return {name: np.array([float(row[column]) for row in table]) for name, column in names.items()}


def joint() -> Iterator[Case]:
    """Designs of 40 models of the smaller two thirds by compute, and all of the largest third."""
    chinchilla = pathlib.Path(os.environ.get("LEANFIT_DATA", "data")) / "scaling" / "chinchilla_epoch_245.csv"
    tables = {"gadre": (rows("gadre2024_openlm_rpj.csv"), "loss_c4_val")}
    if chinchilla.is_file():
        with chinchilla.open(newline="") as file:
            used = [row for row in csv.DictReader(file) if row["used_in_240_fit"] == "True"]
        tables["chinchilla"] = (used, "loss")
    for name, (table, target) in tables.items():
        found = _columns(table, {"N": "N", "D": "D", "y": target})
        held = found["N"] * found["D"] > np.quantile(found["N"] * found["D"], 2 / 3)
        for seed in range(10):
            small = np.flatnonzero(~held)
            few = np.random.default_rng(seed).choice(small, min(40, 2 * len(small) // 3), replace=False)
            at = np.concatenate([few, np.flatnonzero(held)])
            yield name, {"N": found["N"][at], "D": found["D"][at]}, found["y"][at], held[at], "high"


def compressed() -> Iterator[Case]:
    """Sparse and quantized models: the third with most compute, and the level at each end, of all there are."""
    sparse = {"sparsity": "sparsity", "N": "N_nonzero", "D": "D", "y": "val_loss"}
    for name, file, names in (
        ("t5", "frantar2023_t5_c4_sparsity.csv", sparse),
        ("vit", "frantar2023_vit_jft_sparsity.csv", sparse),
        ("quest", "quest_qat_scaling.csv", {"bits": "w_bits", "N": "N", "D": "D", "y": "loss"}),
    ):
        table = rows(file)
        if name == "quest":
            table = [row for row in table if row["w_bits"] == row["a_bits"]]
        found = _columns(table, names)
        y, level = found.pop("y"), found[next(iter(names))]
        compute = found["N"] * found["D"]
        for what, held in {
            "compute": compute > np.quantile(compute, 2 / 3),
            "lowest": level == level.min(),
            "highest": level == level.max(),
        }.items():
            yield f"{name} {what}", found, y, held, "high"


DOMAINS = {"curves": curves, "pruned": pruned, "joint": joint, "compressed": compressed}


def score(case: Case) -> np.ndarray:
    """Rows (held-out points, 4) of whether it is inside, the width, the score, and the error, in log y."""
    _, x, y, held, end = case
    rate = Scale(limit=1.0) if "density" in x else Scale()
    law = select_law({k: v[~held] for k, v in x.items()}, y[~held], end=end, force=True, scale=rate)
    found, low, high = law.predict({k: v[held] for k, v in x.items()}, interval=SHARE)
    truth, low, high = np.log(y[held]), np.log(np.maximum(low, 1e-12)), np.log(high)
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return np.column_stack([outside <= 0, high - low, high - low + 2 / (1 - SHARE) * outside, np.log(found) - truth])


def line(name: str, cases: int, scored: np.ndarray) -> str:
    """The figures of a family or a domain."""
    inside, width, points, error = scored.T
    figures = f"{inside.mean():8.1%} {np.median(width):7.3f} {points.mean():7.3f} {np.sqrt(np.mean(error**2)):7.3f}"
    return f"{name:18} {cases:5} {len(scored):6} {figures}"


def main() -> int:
    """Score, print, and say whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domain", choices=DOMAINS, help="only that domain")
    only = parser.parse_args().domain
    faults = []
    print(f"{'':18} {'cases':>5} {'points':>6} {'covered':>8} {'width':>7} {'score':>7} {'rms':>7}")
    for domain in [only] if only else DOMAINS:
        families: dict[str, list[np.ndarray]] = {}
        for case in DOMAINS[domain]():
            try:
                scored = score(case)
            except LeanfitError as error:
                print(f"  {case[0]}: {str(error)[:150]}")
                continue
            families.setdefault(case[0] if domain != "curves" else "", []).append(scored)
        for family, parts in families.items():
            if family and len(families) > 1:
                print(line(f"  {family}", len(parts), np.concatenate(parts)), flush=True)
        every = np.concatenate([part for parts in families.values() for part in parts])
        print(line(domain, sum(map(len, families.values())), every), flush=True)
        if not LEAST <= every[:, 0].mean() <= MOST:
            faults.append(f"{domain}: {every[:, 0].mean():.1%} are covered, not 88 to 93 %")
    print("\n".join(["missed:", *faults]) if faults else "all bars met")
    return 1 if faults else 0


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.exit(main())
