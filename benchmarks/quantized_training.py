"""Training with the quantizers in: MLPerf Tiny's ResNet-8 on CIFAR-10, with weights of 4 and of 8 bits.

Each row is a run of its own through compress(): what was calibrated alone, what was trained for two epochs with its
rounding in, and, so that it is seen what the epochs themselves give, the fp32 network trained for as long by the same
settings. Test accuracy with its interval, and the paired difference from the network as it came.

Run: LEANFIT_DATA=... python benchmarks/quantized_training.py [--epochs 2] [--out runs/quantized-training]
(a quarter of an hour on two cores). Needs cifar-10-batches-bin and mlperf_tiny_resnet8_cifar10.pt (docs/data.md).
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from mlperf_resnet8 import cifar10_raw, reference

from compress import compress
from evaluate.core.records import CompressRecord
from evaluate.hardware.environment import cpu_model, int8_path


def rows(epochs: int) -> dict[str, dict[str, Any]]:
    """What is compared: each a pass."""
    train: dict[str, Any] = {"epochs": epochs}
    fixed = {"kind": "quantize", "choose": "fixed"}
    return {
        "8/8 calibrated": fixed,
        "8/8 trained": {**fixed, "train": train},
        "4/8 calibrated": {**fixed, "bits": 4},
        "4/8 trained": {**fixed, "bits": 4, "train": train},
        "fp32 trained on": {
            "kind": "finetune",
            "optimizer": "adamw",
            "weight_decay": 0.0,
            "learning_rate": 1e-4,
            **train,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", default="runs/quantized-training")
    arguments = parser.parse_args()
    print(f"{cpu_model()}, {int8_path()}; {arguments.epochs} epochs")
    print(
        f"{'weights/activations':<22} {'kB':>6}  {'top-1 %':<24} {'points lost':<26} {'speed':<22} file from torch, dB"
    )
    network, task = reference(), cifar10_raw()
    for name, step in rows(arguments.epochs).items():
        out = pathlib.Path(arguments.out) / name.replace(" ", "-").replace("/", "-")
        recipe = {"version": 1, "passes": [step], "benchmark": {"seconds": 3, "threads": 1}}
        found = CompressRecord.of(compress(network, recipe, task=task, out=out).figures)
        accuracy, drop, kilobytes = found.compressed.accuracy, found.drop, (found.compressed.sizes.bytes or 0) / 1000
        scored = f"{accuracy.value:.2f} ({accuracy.low:.2f} to {accuracy.high:.2f})"
        lost = f"{drop.value:+.2f} ({drop.low:+.2f} to {drop.high:+.2f})"
        pace = f"{found.speedup.value:.2f}x ({found.speedup.low:.2f} to {found.speedup.high:.2f})"
        apart = found.passes[0].details.get("torch_vs_file_db", "")
        print(f"{name:<22} {kilobytes:6.1f}  {scored:<24} {lost:<26} {pace:<22} {apart}", flush=True)


if __name__ == "__main__":
    main()
