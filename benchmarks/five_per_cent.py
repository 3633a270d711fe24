"""A true difference of 5 %, compared many times: how often it is resolved the right way.

ResNet-122 has 60 blocks and ResNet-128 has 63: 5 % more of everything but stem and head. A long run first shows what
the difference is on this machine.

    python benchmarks/five_per_cent.py          # 40 comparisons of 60 s after one of 300 s: 45 minutes

Asked: resolved the right way in at least 36 of 40.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from models import busy, exported

from evaluate import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--long", type=float, default=300.0, help="seconds of the run that shows the true difference")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    deep, shallow = (exported(options.folder, "resnet", depth=depth, width=16) for depth in (128, 122))
    found = compare([deep, shallow], seconds=options.long, seed=12345)
    truth = found.results[1]["speedup"]
    print(f"over {options.long:.0f} s: {truth['value']:.4f} ({truth['low']:.4f} to {truth['high']:.4f})", flush=True)
    right, halves = 0, []
    for number in range(options.count):
        # The true answer is "faster" one way round and "slower" the other.
        pair, wanted = (([deep, shallow], "faster"), ([shallow, deep], "slower"))[number % 2]
        found = compare(pair, seconds=options.seconds, seed=number)
        entry = found.results[1]
        said = entry["speedup"]
        right += said["verdict"] == wanted
        halves.append((said["high"] - said["low"]) / 2)
        print(
            f"{number:3d} {said['value']:.4f} ({said['low']:.4f} to {said['high']:.4f}) floor "
            f"{100 * entry['noise_floor']:.2f} %, {found.record['seconds']:.1f} s, others "
            f"{busy(found.record)} cores: {said['verdict']}, should be {wanted}",
            flush=True,
        )
    print(f"resolved the right way: {right} of {options.count}; median half-width {100 * np.median(halves):.2f} %")


if __name__ == "__main__":
    main()
