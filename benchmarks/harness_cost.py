"""What the harness adds: our median beside a bare loop over `session.run` with the same binding, in turns.

    python benchmarks/harness_cost.py           # a minute; a digits MLP, some microseconds a call

Asked: at most 1.03x.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
from models import exported

from evaluate import measure_latency, median_interval, open_session

X = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)


def ours(file: Path, seconds: float, seed: int) -> float:
    """Median seconds of one call by the harness."""

    def opener():  # noqa: ANN202
        return open_session(file).bind({"x": X.copy()}, try_once=False)

    return float(np.median(measure_latency({"a": opener}, seconds=seconds, seed=seed).samples["a"]))


def bare(file: Path, seconds: float) -> float:
    """Median over loops of the mean seconds of one call, with nothing of leanfit in between."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    times = []
    for _ in range(10):  # opened as often, since where a session lies matters too
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_cpu_input("x", X.copy())
        binding.bind_output(session.get_outputs()[0].name)
        until = time.perf_counter() + seconds / 10
        while time.perf_counter() < until:
            start = time.perf_counter()
            for _ in range(500):
                session.run_with_iobinding(binding)
            times.append((time.perf_counter() - start) / 500)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    file = exported(options.folder, "mlp", inputs=64, width=128, depth=2)
    ratios = []
    for turn in range(options.turns):
        pair = {}
        for who in np.random.default_rng(turn).permutation(["ours", "bare"]):
            pair[who] = ours(file, 1.5, turn) if who == "ours" else bare(file, 1.5)
        ratios.append(pair["ours"] / pair["bare"])
        print(
            f"{turn:2d} ours {1e6 * pair['ours']:.2f} us, bare {1e6 * pair['bare']:.2f} us: {ratios[-1]:.4f}",
            flush=True,
        )
    value, low, high = median_interval(ratios)
    print(f"ours over bare: {value:.4f} ({low:.4f} to {high:.4f})")


if __name__ == "__main__":
    main()
