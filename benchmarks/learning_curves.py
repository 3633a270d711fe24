"""45 learning curves: a law is chosen on the smaller points of each and scored on the larger ones, which it never sees.

Run: python benchmarks/learning_curves.py [--tasks N]. One core. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before numpy is imported

import argparse
import csv
import gzip
import pathlib
import sys
import time
from dataclasses import dataclass

import numpy as np

from evaluate.scaling import select_law

POINTS = pathlib.Path(__file__).parent.parent / "studies" / "points" / "learning_curves_dev.csv.gz"
BARS = {"mean RMSLE": 0.0250, "coverage, least": 0.85, "coverage, most": 0.95, "seconds": 180.0}
SHARE = 0.9


@dataclass
class Scored:
    """One task: RMSLE, how many scored points its intervals hold, of how many, and the median width in log y."""

    domain: str
    law: str
    rmsle: float
    held: int
    count: int
    width: float


def tasks() -> dict[tuple[str, str, str], np.ndarray]:
    """(domain, task, model) -> rows of x, loss, whether it is fitted."""
    rows: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    with gzip.open(POINTS, "rt", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["domain"], row["task"], row["model"])
            rows.setdefault(key, []).append((float(row["x"]), float(row["loss"]), float(row["is_train"])))
    return {key: np.array(part) for key, part in rows.items()}


def score(key: tuple[str, str, str], rows: np.ndarray) -> Scored:
    """Choose on the points to be fitted, score on the others."""
    fitted, beyond = rows[rows[:, 2] == 1], rows[rows[:, 2] == 0]
    law = select_law(fitted[:, 0], fitted[:, 1], force=True)
    found, low, high = law.predict(beyond[:, 0], interval=SHARE)
    y = beyond[:, 1]
    rmsle = float(np.sqrt(np.mean((np.log(found) - np.log(y)) ** 2)))
    inside = int(np.sum((low <= y) & (y <= high)))
    return Scored(key[0], law.name, rmsle, inside, len(y), float(np.median(np.log(high / low))))


def table(scored: list[Scored]) -> str:
    """The figures by domain."""
    lines = [f"{'domain':8} {'tasks':>5} {'mean':>7} {'median':>7} {'covered':>8} {'by task':>8} {'width':>6}"]
    for domain in ("all", *dict.fromkeys(one.domain for one in scored)):
        part = [one for one in scored if domain in ("all", one.domain)]
        errors = [one.rmsle for one in part]
        covered = sum(one.held for one in part) / sum(one.count for one in part)
        by_task = float(np.mean([one.held / one.count for one in part]))
        width = float(np.median([one.width for one in part]))
        lines.append(
            f"{domain:8} {len(part):5} {np.mean(errors):7.4f} {np.median(errors):7.4f} {covered:8.1%} {by_task:8.1%} "
            f"{width:6.3f}"
        )
    return "\n".join(lines)


def main() -> int:
    """Score, print, and say whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=0, help="only the first so many")
    parser.add_argument("--each", action="store_true", help="a line for each task")
    given = parser.parse_args()
    start = time.process_time()
    scored = []
    for key, rows in list(tasks().items())[: given.tasks or None]:
        scored.append(score(key, rows))
        if given.each:
            print(f"{' / '.join(key):44} {scored[-1].law:12} {scored[-1].rmsle:.4f} "
                  f"{scored[-1].held / scored[-1].count:5.0%} {scored[-1].width:.3f}", flush=True)  # fmt: skip
    seconds = time.process_time() - start
    print(table(scored))
    print(f"one core: {seconds:.0f} s of processor time")
    covered = sum(one.held for one in scored) / sum(one.count for one in scored)
    mean = float(np.mean([one.rmsle for one in scored]))
    missed = [
        text
        for text, bad in (
            (f"mean RMSLE {mean:.4f} above {BARS['mean RMSLE']}", mean > BARS["mean RMSLE"]),
            (f"coverage {covered:.1%} outside 85 to 95 %", not 0.85 <= covered <= 0.95),
            (f"{seconds:.0f} s above {BARS['seconds']:.0f}", seconds > BARS["seconds"]),
        )
        if bad
    ]
    print("missed: " + "; ".join(missed) if missed else "all bars are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
