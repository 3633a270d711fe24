"""Accuracy control: a ResNet-20 on CIFAR-10 that two layers make useless in int8, and which layers int8 gives back.

Two convolutions get, for an input that is always 0, a weight far beyond all others of each filter: nothing changes in
fp32, and the steps of these filters become so coarse that int8 loses some points. `goals: {drop: 0.5}` then has to find
the two. Test accuracy is paired against the network in fp32.

Run: LEANFIT_DATA=... python benchmarks/accuracy_control.py [--out runs/accuracy-control]   (3 minutes, 2 cores).
Needs cifar-10-batches-bin and resnet20_cifar10.pt (docs/data.md).
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import torch
from torch import nn

from compress import compress, get_task
from compress.models import build_model
from compress.models.weights import load_weights
from evaluate.core.records import CompressRecord
from evaluate.hardware.environment import cpu_model, int8_path

BLOCKS = ("layer1.1", "layer2.1")
TIMES = 70.0  # the largest weight of the layer; chosen on the validation split, to lose 3 points and more
MOST, LAYERS = 0.5, 3


@torch.no_grad()
def with_outliers(network: nn.Module) -> list[str]:
    """Silence the weakest channel inside each of two blocks, and let the next layer weigh it heavily; in place."""
    for block in map(network.get_submodule, BLOCKS):
        norm, after = block.bn1, block.conv2
        weakest = int((norm.weight.abs() * after.weight.abs().sum((0, 2, 3))).argmin())
        norm.weight[weakest], norm.bias[weakest] = 0.0, 0.0
        after.weight[:, weakest] = TIMES * after.weight.abs().max()
    return [f"{block}.conv2" for block in BLOCKS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/accuracy-control"))
    out = parser.parse_args().out
    network = build_model("resnet", depth=20)
    load_weights(network, "resnet20_cifar10.pt")
    spoilt, task = with_outliers(network.eval()), get_task("cifar10", normalize="imagenet")
    print(f"{cpu_model()}, {int8_path()}; outliers in {' and '.join(spoilt)}, {TIMES:g} times the largest weight")
    found = {}
    for name, more in {"all layers": {"choose": "fixed"}, "drop: 0.5": {}}.items():
        recipe: dict[str, Any] = {"version": 1, "passes": [{"kind": "quantize", **more}], "benchmark": {"threads": 1}}
        if not more:
            recipe["goals"] = {"drop": MOST}
        run = CompressRecord.of(compress(network, recipe, task=task, out=out / name.replace(": ", "-")).figures)
        drop, left = run.drop, run.passes[0].details.get("left_in_fp32", [])
        found[name] = (drop.value, left)
        print(
            f"{name:<12} loses {drop.value:.2f} ({drop.low:.2f} to {drop.high:.2f}) points, {run.speedup.value:.2f}x "
            f"({run.speedup.low:.2f} to {run.speedup.high:.2f}) of fp32; in fp32 again: {', '.join(left) or 'nothing'}",
            flush=True,
        )
    controlled, given_back = found["drop: 0.5"]
    return int(not (controlled <= MOST and 0 < len(given_back) <= LAYERS))


if __name__ == "__main__":
    raise SystemExit(main())
