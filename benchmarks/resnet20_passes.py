"""What each pass makes of a trained ResNet-20 on CIFAR-10, with a few epochs of recovery: accuracy, bytes, latency.

Recovery by SGD on whole batches with flip and crop, one cycle, and distillation from the uncompressed network. Test
accuracy of 10,000 images with its interval, what is lost paired, the speed-up of the file over fp32 in one run.

Run: LEANFIT_DATA=... python benchmarks/resnet20_passes.py [--only NAME ...] [--out FOLDER]  (10 minutes a row, 2 cores)
Needs cifar-10-batches-bin and resnet20_cifar10.pt (docs/data.md).
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from compress import compress, get_task
from compress.models import build_model
from compress.models.weights import load_weights
from evaluate.core.records import CompressRecord
from evaluate.hardware.environment import cpu_model, int8_path

QUANTIZE: dict[str, Any] = {"kind": "quantize"}
# Name -> epochs of recovery, peak learning rate, passes; the first of these recovers.
ROWS: dict[str, tuple[int, float, list[dict[str, Any]]]] = {
    "latency": (5, 0.05, [{"kind": "prune", "keep": {"latency": 0.5}}]),
    "shorter": (5, 0.05, [{"kind": "shorten", "keep": {"latency": 0.55}}]),
    "half-int8": (5, 0.05, [{"kind": "prune", "keep": {"macs": 0.5}}, QUANTIZE]),
    "sparse": (3, 0.02, [{"kind": "sparsify", "sparsity": 0.8}, QUANTIZE]),
    "2:4": (3, 0.02, [{"kind": "sparsify", "pattern": "2:4", "exclude": ["conv1"]}, QUANTIZE]),
    "low-rank": (1, 0.02, [{"kind": "factorize", "keep": {"params": 0.6}}]),
    "low-rank of fewer MACs": (1, 0.02, [{"kind": "factorize", "keep": {"macs": 0.8}}]),
    "shared": (1, 0.01, [{"kind": "share", "bits": 4}]),
    "shared, 3 bits": (1, 0.01, [{"kind": "share", "bits": 3}]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/resnet20-passes"))
    arguments = parser.parse_args()
    network, task = build_model("resnet", depth=20), get_task("cifar10", normalize="imagenet")
    load_weights(network, "resnet20_cifar10.pt")
    print(f"{cpu_model()}, {int8_path()}")
    for name in arguments.only:
        epochs, rate, (first, *others) = ROWS[name]
        recover = {
            "epochs": epochs, "batch_size": 128, "optimizer": "sgd", "learning_rate": rate,
            "schedule": {"kind": "one_cycle"}, "augment": {"flip": True, "crop": 4},
            "distill": {"temperature": 4, "weight": 0.9},
        }  # fmt: skip
        recipe = {
            "version": 1,
            "passes": [{**first, "recover": recover}, *others],
            "benchmark": {"seconds": 20, "threads": 1},
        }
        folder = arguments.out / name.replace(":", "-").replace(" ", "-").replace(",", "")
        run = CompressRecord.of(compress(network.eval(), recipe, task=task, out=folder).figures)
        accuracy, drop, speed, sizes = run.compressed.accuracy, run.drop, run.speedup, run.compressed.sizes
        print(
            f"{name:<24} top-1 {accuracy.value:.2f}, lost {drop.value:.2f} ({drop.low:.2f} to {drop.high:.2f}), "
            f"{speed.value:.3f}x ({speed.low:.3f} to {speed.high:.3f}), {sizes.macs / 1e6:.1f}M MACs, "
            f"{sizes.nonzero:,} nonzero, {sizes.bytes / 1e3:.0f} kB, {sizes.packed_bytes / 1e3:.0f} kB packed",
            flush=True,
        )
        details = run.passes[0].details
        if "latency" in details:
            print(
                f"{'':<24} latency asked {details['latency']['asked']:.3f}, found {details['latency']['measured']:.3f}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
