"""Every shipped recipe runs, on its real task, in a smaller cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data_sets import require_data
from torch import nn

from compress import compress, load_recipe
from compress.models import build_model
from compress.recipe.load import shipped_recipes
from compress.tasks import Task

BRIEF = ["benchmark.seconds=0.5"]
SMALL = ["task.train_limit=640", "task.validation_limit=200", "task.test_limit=500"]
CIFAR = "cifar-10-batches-bin"

CUTS: dict[str, list[str]] = {
    "digits-mlp-int8": ["train.epochs=4"],
    "digits-resnet-half-int8": ["train.epochs=3", "passes.0.recover.epochs=2", "model.width=16"],
    "half-int8": ["passes.0.recover.epochs=1"],
    "half-latency": [
        "passes.0.recover.epochs=1",
        "passes.0.keep.latency=0.6",
        "passes.0.importance=l1",
        "passes.0.scope=global",
    ],
    "low-rank": ["passes.0.recover.epochs=1", "passes.0.samples=64"],
    "shared": ["passes.0.recover.epochs=1"],
    "shorter": ["passes.0.recover.epochs=1", "passes.0.keep.macs=0.9"],
    "sparse": ["passes.0.recover.epochs=1", "passes.0.steps=1"],
    "int8": ["passes.0.calibrate.samples=64"],
    "int4-weights": ["passes.0.calibrate.samples=64"],
    "int4-trained": ["passes.0.calibrate.samples=64", "passes.0.train.epochs=1"],
    "resnet8-int8": ["passes.0.calibrate.samples=64"],
    "fashion-mobilenet-half-int8": [*SMALL, "train.epochs=1", "passes.0.recover.epochs=1"],
    "cifar10-resnet20-int8": [*SMALL, "passes.0.calibrate.samples=64"],
    "cifar10-resnet56-int8": [*SMALL, "passes.0.calibrate.samples=32"],
    "cifar10-resnet20-half-int8": [*SMALL, "passes.0.recover.epochs=1", "passes.0.recalibrate=4"],
}
NEEDS = {
    "fashion-mobilenet-half-int8": ["fashion-mnist"],
    "cifar10-resnet20-int8": [CIFAR, "resnet20_cifar10.pt"],
    "cifar10-resnet56-int8": [CIFAR, "resnet56_cifar10.pt"],
    "cifar10-resnet20-half-int8": [CIFAR, "resnet20_cifar10.pt"],
}
BROUGHT = {
    "shared",
    "shorter",
    "low-rank",
    "half-latency",
    "sparse",
    "half-int8",
    "int8",
    "resnet8-int8",
    "int4-weights",
    "int4-trained",
}
# As cifar10-resnet20-int8 on three times the layers; as digits-resnet-half-int8 on a larger network; much timing.
SLOW = {"cifar10-resnet56-int8", "cifar10-resnet20-half-int8", "half-latency"}


def test_every_recipe_is_run():
    assert set(CUTS) == set(shipped_recipes())


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CUTS])
def test_a_shipped_recipe_runs(name: str, trained: nn.Module, digits: Task, tmp_path: Path):
    require_data(f"recipe {name}", NEEDS.get(name, []))
    recipe = load_recipe(name, [*CUTS[name], *BRIEF])
    own = {
        "int4-weights": lambda: build_model("mlp", inputs=64, classes=10, width=128, depth=2),
        "half-latency": lambda: build_model("resnet", depth=8, width=32, in_channels=1),
    }
    model = own.get(name, lambda: trained)()
    given: dict[str, Any] = {"model": model, "task": digits} if name in BROUGHT else {}
    # Cut down so far, some baselines have not learnt yet.
    summary = compress(recipe=recipe, out=tmp_path / "run", force=True, **given).summary()
    sizes = [summary[side]["sizes"] for side in ("baseline", "compressed")]
    if name == "sparse":
        assert (
            sizes[1]["nonzero"] < 0.25 * sizes[0]["nonzero"]
            and sizes[1]["packed_bytes"] < 0.5 * sizes[0]["packed_bytes"]
        )
    if name == "shared":
        assert sizes[1]["bytes"] < 0.5 * sizes[0]["bytes"]
    if name == "shorter":
        assert sizes[1]["macs"] <= 0.9 * sizes[0]["macs"]
    if name == "low-rank":
        assert sizes[1]["params"] <= 0.6 * sizes[0]["params"]
    if name == "half-latency":
        measured = summary["passes"][0]["details"]["latency"]
        assert measured["attempts"] and sizes[1]["macs"] < sizes[0]["macs"] and measured["measured"] < 0.65
    quantized = next((one for one in summary["passes"] if one["kind"] == "quantize"), None)
    if quantized is None:
        return
    taken = next((one for one in quantized["candidates"] if one["chosen"]), None)
    if quantized["changes"]:
        assert sizes[1]["bytes"] < 0.6 * sizes[0]["bytes"] and sizes[1]["bits"] < 32
        assert taken is None or taken["speedup"]["verdict"] != "slower" or "bytes" in dict(recipe.goals)
    else:
        assert any("stays in fp32" in text for text in quantized["warnings"]) and taken["speedup"] is None
    if name.endswith("half-int8"):
        assert sizes[1]["macs"] <= 0.51 * sizes[0]["macs"]
    if name.startswith("cifar10") and "half" not in name:
        assert summary["baseline"]["accuracy"]["value"] > 89
        assert abs(summary["drop"]["value"]) < 1.5
