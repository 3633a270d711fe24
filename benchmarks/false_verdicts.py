"""A model against itself, many times: how often is a difference claimed? Every second time one core is kept busy.

    python benchmarks/false_verdicts.py                 # 100 comparisons of 10 s: 17 minutes
    python benchmarks/false_verdicts.py --keep noise.npz    # and keep the samples, for coverage.py

Asked: at most 5 of 100 verdicts other than "not resolved".
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from models import busy, exported

from evaluate import compare

BUSY = "while True: sum(i * i for i in range(10_000))"


@contextlib.contextmanager
def loaded(wanted: bool) -> Iterator[None]:
    """A process that keeps one core busy, where wanted."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--keep", type=Path, help="where the samples of all comparisons go, as .npz")
    options = parser.parse_args()
    files = [
        exported(options.folder, "resnet", depth=20, width=16),
        exported(options.folder, "resnet", depth=8, width=8),
        exported(options.folder, "mlp", inputs=64, width=128, depth=2),
    ]
    kept, false = {}, {"quiet": [], "loaded": []}
    floors: dict[str, list[float]] = {"quiet": [], "loaded": []}
    for number in range(options.count):
        state, file = ("quiet", "loaded")[number % 2], files[number // 2 % len(files)]
        with loaded(state == "loaded"):
            found = compare([file, file], seconds=options.seconds, seed=number)
        base, same = found.results
        said = same["speedup"]
        false[state].append(said["verdict"] != "not resolved")
        floors[state].append(same["noise_floor"])
        for candidate, samples in (
            ("base", base["samples"]),
            ("twin", found.record["floors"][0]["samples"]),
            ("same", same["samples"]),
        ):
            kept[f"{number}-{state}-{candidate}"] = np.array(samples, dtype=np.float32)
        print(
            f"{number:3d} {state:6s} {file.stem:24s} {said['value']:.4f} ({said['low']:.4f} to {said['high']:.4f}) "
            f"floor {100 * same['noise_floor']:.2f} %, {found.record['seconds']:.2f} s, others "
            f"{busy(found.record)} cores: {said['verdict']}",
            flush=True,
        )
    for state, verdicts in false.items():
        print(
            f"{state}: {sum(verdicts)} false verdicts of {len(verdicts)}; "
            f"median floor {100 * np.median(floors[state]):.2f} %"
        )
    print(f"all: {sum(map(sum, false.values()))} of {options.count} (asked: at most 5 of 100)")
    if options.keep:
        np.savez_compressed(options.keep, **kept)


if __name__ == "__main__":
    main()
