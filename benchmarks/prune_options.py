"""Pruning's default beside its own options: ResNet-20 on CIFAR-10 to half the MACs, one shot, new statistics.

No training follows, so that what is compared is which channels go. Test accuracy with its interval, and latency; beside
them Torch-Pruning's own pruner on the same network, its shortcuts rewritten for it, at the largest ratio that keeps at
most as many MACs, with its channels in the same blocks and with none.

Run: LEANFIT_DATA=... python benchmarks/prune_options.py [--out runs/prune-options]      (15 minutes, 2 cores)
Needs cifar-10-batches-bin and resnet20_cifar10.pt (docs/data.md).
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
from typing import Any

import torch_pruning as tp
from torch import nn

from compress import Task, compress, get_task
from compress.core.forward import copy_model
from compress.graph.shortcuts import ShortcutConv
from compress.graph.sizes import count_macs
from compress.models import build_model
from compress.models.weights import load_weights
from compress.passes.batch_statistics import reestimate_batch_norm
from compress.passes.pruning.prune_settings import SCOPES, TRIED
from compress.training.evaluation import evaluate_split
from evaluate.core.records import CompressRecord
from evaluate.hardware.environment import cpu_model, int8_path

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    **{f"importance: {kind}, {scope}": {"importance": kind, "scope": scope} for kind in TRIED for scope in SCOPES},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/prune-options"))
    parser.add_argument("--peers", action="store_true", help="Torch-Pruning alone")
    arguments = parser.parse_args()
    out = arguments.out
    network, task = build_model("resnet", depth=20), get_task("cifar10", normalize="imagenet")
    load_weights(network, "resnet20_cifar10.pt")
    print(f"{cpu_model()}, {int8_path()}")
    accuracies = {}
    for number, (name, options) in enumerate(() if arguments.peers else OPTIONS.items()):
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
    blocks_of = (("blocks of 8", 8), ("no blocks", None))
    ways = itertools.product(blocks_of, (("global", True), ("uniform", False)))
    for (blocks, block), (scope, everywhere) in ways:
        name = f"{blocks}, {scope}"
        pruned, share = by_torch_pruning(network.eval(), task, block, everywhere)
        reestimate_batch_norm(pruned, task, 32, seed=0)
        found = evaluate_split(pruned, task.test, task.loss, task.metric)["metric"]
        accuracies[name] = found if share <= 0.51 else 0.0
        print(f"{'Torch-Pruning, ' + name:<32} top-1 {found:.2f}, MACs {share:.3f}", flush=True)
    return int(not arguments.peers and accuracies["default"] < max(accuracies.values()))


def by_torch_pruning(network: nn.Module, task: Task, block: int | None, everywhere: bool) -> tuple[nn.Module, float]:
    """The pruned copy, and its MACs as a share: of all ratios the one that comes nearest to half of them from below."""
    example, whole = task.example(1), count_macs(network, task.example(1))
    best: tuple[nn.Module, float] | None = None
    for ratio in (n / 100 for n in range(5, 95)):
        pruned = copy_model(network)
        ShortcutConv.apply(pruned, example)
        pruner = tp.pruner.MagnitudePruner(
            pruned,
            next(iter(example.values())),
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            global_pruning=everywhere,
            pruning_ratio=ratio,
            round_to=block,
            ignored_layers=[m for m in pruned.modules() if isinstance(m, nn.Linear)],
        )
        pruner.step()
        share = count_macs(pruned, example) / whole
        if share <= 0.5 and (best is None or share > best[1]):
            best = pruned, share
    return best or (pruned, share)


if __name__ == "__main__":
    raise SystemExit(main())
