"""Pruning's default beside its own options: ResNet-20 on CIFAR-10 to half the MACs, one shot, new statistics.

No training follows, so that what is compared is which channels go. Test accuracy with its interval, and latency.

Run: LEANFIT_DATA=... python benchmarks/prune_options.py [--out runs/prune-options]      (8 minutes, 2 cores)
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

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    **{
        f"importance: {kind}, {scope}": {"importance": kind, "scope": scope}
        for kind in ("group_norm", "l1", "l2", "bn_scale", "taylor")
        for scope in ("global", "per_layer")
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/prune-options"))
    out = parser.parse_args().out
    network, task = build_model("resnet", depth=20), get_task("cifar10", normalize="imagenet")
    load_weights(network, "resnet20_cifar10.pt")
    print(f"{cpu_model()}, {int8_path()}")
    accuracies = {}
    for number, (name, options) in enumerate(OPTIONS.items()):
        step = {"kind": "prune", "keep": {"macs": 0.5}, **options}
        recipe = {"version": 1, "passes": [step], "benchmark": {"seconds": 3, "threads": 1}}
        run = CompressRecord.of(compress(network.eval(), recipe, task=task, out=out / str(number)).figures)
        accuracy, details = run.compressed.accuracy, run.passes[0].details
        accuracies[name] = accuracy.value or 0.0
        macs = details["achieved"]["macs"]["ratio"]
        print(
            f"{name:<32} top-1 {accuracy.value:.2f} ({accuracy.low:.2f} to {accuracy.high:.2f}), MACs {macs:.3f}, "
            f"{run.speedup.value:.2f}x ({run.speedup.low:.2f} to {run.speedup.high:.2f}) "
            f"{details.get('tried', '')}",
            flush=True,
        )
    return int(accuracies["default"] < max(accuracies.values()))


if __name__ == "__main__":
    raise SystemExit(main())
