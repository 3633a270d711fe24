"""What a recipe would do, without training, calibrating or measuring anything: `leanfit compress --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compress.core.progress import Status, silent
from compress.core.seeding import derive_seed
from compress.graph.sizes import count_macs, count_params
from compress.passes.base import Context, Preview, get_pass
from compress.pipeline.run import prepare
from compress.recipe.load import load_recipe
from compress.recipe.named_blocks import PassStep
from compress.recipe.schema import Recipe
from compress.tasks import Task
from evaluate.core.text import count, size


@dataclass(frozen=True)
class Step:
    """The model before anything (`kind` "baseline") or after a pass: the layers it touches and the predicted sizes.

    `bytes` is the weights alone, params x bits / 8: the exported file adds its graph, some kilobytes.
    """

    kind: str
    layers: tuple[str, ...]
    params: int
    macs: int
    bytes: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "layers": list(self.layers), "notes": list(self.notes)}


@dataclass(frozen=True)
class Plan:
    """The predicted way of a recipe, the baseline first."""

    name: str
    steps: tuple[Step, ...]

    def summary(self) -> dict[str, Any]:
        """The plan as JSON-able data."""
        return {"recipe": self.name, "predicted": True, "steps": [step.as_dict() for step in self.steps]}

    def table(self) -> str:
        """The plan as text: sizes after each step, then the layers each pass matches."""
        base = self.steps[0]
        lines = [f"{'':<12}{'params':>12}{'MACs':>12}{'weights':>12}   of the baseline"]
        for step in self.steps:
            ratios = f"{step.params / base.params:.3f}  {step.macs / base.macs:.3f}  {step.bytes / base.bytes:.3f}"
            sizes = f"{count(step.params):>12}{count(step.macs):>12}{size(step.bytes):>12}"
            lines.append(f"{step.kind:<12}{sizes}   {ratios}")
        for step in self.steps[1:]:
            named = ": " + ", ".join(step.layers) if step.layers else ""
            lines += ["", f"{step.kind}: {len(step.layers)} layers{named}"]
            lines += [f"  {note}" for note in step.notes]
        return "\n".join([*lines, "", "Predicted; nothing was trained or measured."])


def plan(
    model: nn.Module | str | None = None,
    recipe: Recipe | str | Path | Mapping[str, Any] = "half-int8",
    *,
    task: Task | str | None = None,
    weights: str | Path | None = None,
    status: Status = silent,
) -> Plan:
    """Predict the layers each pass touches and the sizes after it. Arguments and errors as of `compress()`.

    No data are read or fetched for a task that says what its samples are like (digits, fashion_mnist, cifar10).
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    network, task = prepare(recipe, model, task, status, weights, outlined=True)
    original, bits = network, 32.0
    steps = [_step("baseline", network, bits, task, (), ())]
    for number, step in enumerate(recipe.passes):
        context = Context(task=task, seed=derive_seed(recipe.seed, "pass", number), original=original)
        preview = _preview(step, network, context)
        network, bits = preview.module, min(bits, preview.bits)
        steps.append(_step(step.kind, network, bits, task, preview.layers, preview.notes))
    return Plan(recipe.name, tuple(steps))


def _preview(step: PassStep, network: nn.Module, context: Context) -> Preview:
    registered = get_pass(step.kind)
    if registered.preview is not None:
        return registered.preview(network, step.config, context)
    changes = {"shapes": registered.traits.reshapes, "deployed graph": registered.traits.writes_graph}
    unknown = [f"changes the {what}; by how much is not predicted" for what, changed in changes.items() if changed]
    return Preview(network, (), notes=tuple(unknown) or ("keeps the shapes of the network",))


def _step(
    kind: str, network: nn.Module, bits: float, task: Task, layers: tuple[str, ...], notes: tuple[str, ...]
) -> Step:
    params = count_params(network)
    macs = count_macs(network, task.example(1))
    return Step(kind, layers, params, macs, round(params * bits / 8), notes)
