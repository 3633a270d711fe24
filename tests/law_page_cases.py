"""Laws fitted to real points, and trials of a study, for tests of what is shown of them."""

from __future__ import annotations

import copy
import csv
import functools
from pathlib import Path

import numpy as np

POINTS = Path(__file__).parent.parent / "studies" / "points"


def rows(name):
    with (POINTS / name).open() as file:
        return list(csv.DictReader(file))


def column(table, name):
    return np.array([float(row[name]) for row in table])


@functools.cache
def trials():
    """Iterative pruning of MLPs, as the trials of a study; one of them failed."""
    table = [r for r in rows("imp_mnist1d_mlp.csv") if r["n_train"] == "2000" and int(r["round"]) % 4 == 0]
    found = [_trial(row) for row in table]
    found[5] |= {"status": "failed", "reason": {"kind": "MachineError", "message": "no space"}, "error": None}
    return found


def _trial(row):
    n, full, error = int(row["params_nonzero"]), int(row["params_total_prunable"]), float(row["test_err"])
    dense = row["round"] == "0"
    level = {"name": "dense", "bits": 32} if dense else {"name": "prune", "density": round(n / full, 3), "bits": 32}
    sizes = {"params": n, "nonzero": n, "macs": n, "bytes": 4 * n + 900, "packed_bytes": 3 * n, "bits": 32}
    return {
        "schema": 1, "kind": "trial", "id": f"{row['width']}-{row['seed']}-{row['round']}", "study": "imp",
        "status": "finished", "role": "dense" if dense else "compressed", "level": level, "seed": int(row["seed"]),
        "size": {"width": int(row["width"]), "depth": 2}, "data": {}, "task": {"name": "mnist1d"}, "sizes": sizes,
        "retained": {"params": n / full, "bytes": (4 * n + 900) / (4 * full + 900)},
        "accuracy": {"metric": "accuracy", "value": 100 * (1 - error)},
        "error": error, "seconds": 31.5,
    }  # fmt: skip


@functools.cache
def fitted(name):
    """(JSON of a law fitted to real points, its points by name)."""
    law, columns, target = LAWS[name]()
    points = {**columns, target: columns.pop(target)}
    return law.fit(columns, points[target]).to_dict() | {"target": target}, points


def _floor():
    from evaluate.scaling import PowerLawFloor

    table = [r for r in rows("imp_mnist1d_mlp.csv") if r["n_train"] == "2000" and int(r["round"]) == 0]
    columns = {"params": column(table, "params_nonzero"), "error": column(table, "test_err")}
    return PowerLawFloor(bootstrap=20, force=True), columns, "error"


def _joint():
    from evaluate.scaling import Chinchilla

    table = rows("gadre2024_openlm_rpj.csv")
    columns = {"N": column(table, "N"), "D": column(table, "D"), "loss": column(table, "loss_c4_val")}
    return Chinchilla(bootstrap=20, force=True), columns, "loss"


def _sparse():
    from evaluate.scaling import Frantar

    table = rows("frantar2023_t5_c4_sparsity.csv")
    columns = {"S": column(table, "sparsity"), "N": column(table, "N_nonzero"), "D": column(table, "D")}
    return Frantar(bootstrap=20, force=True), {**columns, "loss": column(table, "val_loss")}, "loss"


LAWS = {"floor": _floor, "joint": _joint, "sparse": _sparse}


def stored(name, **changes):
    return copy.deepcopy(fitted(name)[0]) | changes
