"""The staircase of this device: what the times of single layers say of whole pruned networks, and what those take.

ResNet-20 with random widths in the blocks of this CPU. The times of its layers are measured one by one (or read from
the user's cache); how they add up is told by five networks; thirty others are predicted, then timed beside the unpruned
one.

Run: LEANFIT_DATA=... python benchmarks/staircase.py [--networks 30]      (5 minutes, 2 cores)
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from compress import get_task
from compress.core.forward import copy_model
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.graph.shortcuts import ShortcutConv
from compress.graph.surgery import remove_channels
from compress.models import build_model
from compress.passes.base import Loss, Trials
from compress.passes.pruning.channel_groups import find_groups, removal
from compress.passes.pruning.layer_times import layer_tables
from compress.passes.pruning.preflight import preflight
from compress.passes.pruning.probe import probe_inputs
from compress.passes.pruning.prune_settings import LATENCY
from compress.passes.pruning.widths import measure_costs, widths_allowed
from compress.passes.timed_files import time_together
from evaluate.hardware.environment import channel_block, cpu_model, int8_path

KNOWN, SECONDS = 5, 1.0


def silent(message: str, done: float, total: float) -> None:
    """No progress."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--depth", type=int, default=20)
    arguments = parser.parse_args()
    task = get_task("cifar10", normalize="imagenet")
    network, example = build_model("resnet", depth=arguments.depth).eval(), task.example(1)
    feeds = {name: t.numpy() for name, t in example.items()}
    trials = Trials("cpu", 1, feeds, lambda data: Loss(0, 0, 0), None, lambda data: True, 20.0)
    whole = serialise(export_onnx(network, example))
    ShortcutConv.apply(network, example)
    found, _ = find_groups(network, example)
    groups, _ = preflight(network, probe_inputs(task, 0), found, measure_costs(network, example, found))
    block = channel_block()
    options = [sorted({w for b in (False, True) for w in widths_allowed(g.width, block, 2, below=b)}) for g in groups]
    tables = layer_tables(network, example, groups, options, trials, silent)
    costs = measure_costs(network, example, groups, tables)
    full = float(costs.of(LATENCY, costs.units))
    draw = np.random.default_rng(0)
    print(f"{cpu_model()}, {int8_path()}; channels in blocks of {block}; layers together {full:.3f} ms")
    shares, ratios = [], []
    for number in range(KNOWN + arguments.networks):
        kept = np.array([draw.choice(widths) for widths in options])
        shares.append(float(costs.of(LATENCY, kept)) / full)
        data = serialise(export_onnx(cut(network, groups, kept), example))
        timed = time_together({"whole": whole, "pruned": data}, trials, silent, SECONDS)
        ratios.append(1 / timed.speedups["pruned"]["value"])
        ms = 1e3 * timed.seconds["whole"]
        print(f"{number:>3} layers say {shares[-1]:.3f}, measured {ratios[-1]:.3f} of {ms:.3f} ms", flush=True)
    share, ratio = np.array(shares), np.array(ratios)
    slope, rest = np.polyfit(share[:KNOWN], ratio[:KNOWN], 1)
    predicted, measured = rest + slope * share[KNOWN:], ratio[KNOWN:]
    errors = np.abs(predicted / measured - 1)
    rank = float(spearmanr(predicted, measured).statistic)
    print(f"of the whole: {rest:.3f} + {slope:.3f} of what the layers say, by {KNOWN} networks")
    told = f"median error {np.median(errors):.2%}, largest {errors.max():.2%}"
    print(f"{len(errors)} others: {told}, rank correlation {rank:.4f}")
    return int(np.median(errors) > 0.04 or rank < 0.97)


def cut(network: nn.Module, groups: Any, kept: Any) -> nn.Module:
    """The network without the last units of each group."""
    pruned = copy_model(network)
    chosen = [list(range(int(k), len(g.units))) for g, k in zip(groups, kept, strict=True)]
    remove_channels(pruned, removal(groups, chosen))
    return pruned


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())
