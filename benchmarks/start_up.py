"""How long `import compress, evaluate` and `leanfit --help` take beside bare Python, interleaved.

python benchmarks/start_up.py [--rounds 20]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import compress, evaluate": [sys.executable, "-c", "import compress, evaluate"],
    "leanfit --help": [sys.executable, "-m", "compress", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(parser.parse_args().rounds + 1):  # the first round warms the file cache and is dropped
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - began)
    bare = statistics.median(times["python -c pass"][1:])
    for name, taken in times.items():
        median = statistics.median(taken[1:])
        print(f"{name:<28}{median:.3f} s  ({median - bare:+.3f} s)")


if __name__ == "__main__":
    main()
