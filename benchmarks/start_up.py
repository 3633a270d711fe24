"""What commands that only read cost before they answer, in CPU seconds beside bare Python and torch, interleaved.

python benchmarks/start_up.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

LEANFIT = [sys.executable, "-m", "compress"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    "import compress, evaluate": [sys.executable, "-c", "import compress, evaluate"],
    "leanfit --help": [*LEANFIT, "--help"],
    "leanfit list": [*LEANFIT, "list"],
    "leanfit check RECIPE": [*LEANFIT, "check", "recipes/digits-resnet-half-int8.yaml"],
    "leanfit compress MISSPELT": [*LEANFIT, "compress", "digits-resnet-haf"],
    "leanfit compress --dry-run": [*LEANFIT, "compress", "digits-resnet-half-int8", "--dry-run"],
}


def cpu_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(parser.parse_args().rounds + 1):  # the first round warms the file cache and is dropped
        for name, command in COMMANDS.items():
            began = cpu_seconds()
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds[name].append(cpu_seconds() - began)
    torch = statistics.median(seconds["python -c 'import torch'"][1:])
    for name, taken in seconds.items():
        median = statistics.median(taken[1:])
        print(f"{name:<28}{median:6.2f} s of CPU  ({median / torch:.2f} of importing torch)")


if __name__ == "__main__":
    main()
