"""Is a pruned network ever another one than was said? Some 130 architectures, with samples that hide what channels do.

Each (those of architectures.py, and the hard cases of the tests) is pruned to 0.8 of its params with samples that are
ordinary, all zeros, or all ones. What came out is compared, on inputs and weights that the pass has not seen, with the
whole network that ignores the same channels. Counted: pruned and the same within 1e-5 of the largest output; left alone
or refused, with the reason; silent, where the two differ.

Run: python benchmarks/prune_graphs.py [--samples ordinary blank ones] [--only NAME] [--out prune_graphs.jsonl]
     (an hour a kind of samples; goes on where it stopped)
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections import Counter
from typing import Any

import architectures
import torch
from torch import Tensor, nn

from compress import Task
from compress.core.forward import copy_model
from compress.passes.base import Context
from compress.passes.pruning.preflight import mask_channels
from compress.passes.pruning.probe import Probe, lively, probe_inputs
from compress.passes.pruning.prune import prepared
from compress.passes.pruning.prune_plan import PrunePlan
from compress.passes.pruning.prune_settings import PruneConfig
from evaluate.core.errors import LeanfitError

SAME = 1e-5
FILL = {"ordinary": None, "blank": 0.0, "ones": 1.0}


def networks() -> dict[str, Any]:
    """Every network by name."""
    import prune_nets

    def hard(name: str) -> Any:
        return lambda: (prune_nets.build(name), {"input": torch.randn(48, 3, 8, 8)}, torch.arange(48) % 4, {})

    return {**{f"hard {name}": hard(name) for name in prune_nets.NETS}, **architectures.networks()}


def attempt(name: str, samples: str) -> dict[str, Any]:
    """What became of one network."""
    torch.manual_seed(0)
    network, inputs, targets, settings = networks()[name]()
    network, fill, began = network.eval(), FILL[samples], time.time()

    def shown(tensor: Tensor) -> Tensor:
        return tensor if fill is None or not tensor.is_floating_point() else torch.full_like(tensor, fill)

    seen, classes = {key: shown(t) for key, t in inputs.items()}, None if targets.is_floating_point() else 4
    parts = ((0, 32), (32, 40), (40, 48))

    def task(given: dict[str, Tensor]) -> Task:
        splits = [({key: t[a:b] for key, t in given.items()}, targets[a:b]) for a, b in parts]
        return Task.from_tensors(*splits, classes=classes, **settings)

    tasks = [task(seen), task(inputs)]
    row: dict[str, Any] = {"name": name, "samples": samples}
    cuts: list[Any] = []
    try:
        config = PruneConfig(keep={"params": 0.8}, round_to=1, recalibrate=0, importance="l1", scope="global")
        pruned, plan, _ = prepared(network, config, Context(tasks[0], 0, network))
        whole = copy_model(pruned)
        step = remember(plan, cuts)
        step(pruned, plan.budget.value)
    except LeanfitError as error:
        return row | {
            "became": "refused",
            "why": " ".join(str(error).split())[:300],
            "seconds": round(time.time() - began),
        }
    worst = 0.0
    groups, gone = cuts
    probes = probe_inputs(tasks[1], 99)
    for before in (whole, lively(whole, 99)):
        after = copy_model(before)
        plan_cut(after, groups, gone)
        worst = max(worst, Probe(before, probes).compare(after, mask_channels(before, groups, gone))[0])
    became = "same" if worst <= SAME else "silent"
    left = sum(len(item.layers) for item in plan.left)
    return row | {"became": became, "apart": worst, "left_alone": left, "seconds": round(time.time() - began)}


def remember(plan: PrunePlan, cuts: list[Any]) -> Any:
    """The plan's step, which keeps the groups and the units that went."""
    from compress.passes.pruning import prune_plan

    whole = prune_plan.removal

    def removal(groups: Any, chosen: Any) -> Any:
        cuts[:] = [groups, chosen]
        return whole(groups, chosen)

    def step(network: nn.Module, target: float) -> None:
        prune_plan.removal = removal
        try:
            plan.step(network, target)
        finally:
            prune_plan.removal = whole

    return step


def plan_cut(network: nn.Module, groups: Any, gone: Any) -> None:
    """The same cut of another copy."""
    from compress.graph.surgery import remove_channels
    from compress.passes.pruning.channel_groups import removal

    remove_channels(network, removal(groups, gone))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", nargs="+", choices=FILL, default=list(FILL))
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("prune_graphs.jsonl"))
    arguments = parser.parse_args()
    from torchvision_ops import declare

    operators = declare()  # noqa: F841  (they live as long as it does)
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.is_file() else []
    known = {(row["name"], row["samples"]) for row in rows}
    with arguments.out.open("a") as file:
        for samples in arguments.samples:
            for name in networks():
                if (name, samples) in known or arguments.only not in name:
                    continue
                try:
                    row = attempt(name, samples)
                except Exception as error:  # noqa: BLE001  (what is counted)
                    why = f"{type(error).__name__}: {error}"
                    row = {"name": name, "samples": samples, "became": "traceback", "why": why}
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(row, flush=True)
    for samples in FILL:
        mine = [row for row in rows if row["samples"] == samples]
        worst = max((row.get("apart", 0.0) for row in mine), default=0.0)
        became = dict(Counter(row["became"] for row in mine))
        print(f"{samples}: {len(mine)} networks, {became}, at most {worst:.1e} apart")
    return int(any(row["became"] in ("silent", "traceback") for row in rows))


if __name__ == "__main__":
    sys.path.insert(0, str(architectures.ROOT / "tests"))
    raise SystemExit(main())
