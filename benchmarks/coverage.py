"""A true difference of 2 % put into recorded noise: how often does the interval cover it?

noise.npz holds samples of one model under three names, recorded by false_verdicts.py --keep on a quiet and on a loaded
machine: what they differ by is noise. Runs are drawn from it, four neighbouring session runs at a time, so that
autocorrelation and tails stay as they were; which of the three candidates plays which part is drawn for every session
run, so that the true ratio is 1 exactly; then one candidate is made 2 % faster.

    python benchmarks/coverage.py               # a minute

Asked: covered in 93 to 97 of 100. A share of 100 alone has a standard error of 2.2, so 2,000 are shown beside it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmark.bench_record import judge
from evaluate.core.stats import wilson

TRUTH = 1.02
NEIGHBOURS = 4
Runs = dict[str, NDArray[np.float64]]


def recorded(file: Path) -> dict[str, Runs]:
    """Run -> candidate -> (session runs, rounds, samples) seconds."""
    runs: dict[str, Runs] = defaultdict(dict)
    with np.load(file) as stored:
        for key in stored.files:
            run, candidate = key.rsplit("-", 1)
            runs[run][candidate] = stored[key].astype(np.float64)
    return dict(runs)


def drawn(run: Runs, rng: np.random.Generator) -> Runs:
    """A run of as many session runs out of a recorded one, with a candidate that is truly faster."""
    candidates = list(run.values())
    samples = min(candidate.shape[2] for candidate in candidates)
    count = len(candidates[0])
    starts = rng.integers(0, count, -(-count // NEIGHBOURS))
    order = np.concatenate([(start + np.arange(NEIGHBOURS)) % count for start in starts])[:count]
    parts = [[candidates[part][session_run, :, :samples] for part in rng.permutation(3)] for session_run in order]
    base, control, other = (np.stack([part[i] for part in parts]) for i in range(3))
    return {"base": base, "control": control, "other": other / TRUTH}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=Path, default=Path(__file__).with_name("noise.npz"))
    parser.add_argument("--many", type=int, default=2000)
    options = parser.parse_args()
    runs = recorded(options.noise)
    names, rng = sorted(runs), np.random.default_rng(0)
    covered, resolved, wide = [], [], []
    for number in range(options.many):
        candidates = drawn(runs[names[number % len(names)]], rng)
        (judged,) = judge([candidates], "base", "control", seed=number)
        found = judged.speedups["other"]
        covered.append(found["low"] <= TRUTH <= found["high"])
        resolved.append(found["verdict"] == "faster")
        wide.append((found["high"] - found["low"]) / 2)
    session_runs = [len(run["base"]) for run in runs.values()]
    print(
        f"{len(names)} recorded runs of {min(session_runs)} to {max(session_runs)} session runs; the truth is {TRUTH}"
    )
    for count in sorted({min(100, options.many), options.many}):
        share, low, high = (100 * x for x in wilson(sum(covered[:count]), count))
        print(
            f"first {count}: the interval covers the truth in {share:.1f} of 100 ({low:.1f} to {high:.1f}), "
            f"faster in {100 * np.mean(resolved[:count]):.1f}"
        )
    print(f"median half-width {100 * np.median(wide):.2f} %")


if __name__ == "__main__":
    main()
