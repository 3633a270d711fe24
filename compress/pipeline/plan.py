"""What a recipe would do, without training, calibrating or measuring anything: `leanfit compress --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from compress.core.progress import Status, silent
from compress.core.seeding import derive_seed
from compress.graph.sizes import count_macs, count_params
from compress.passes.base import Context, Preview, get_pass
from compress.pipeline.onnx_run import plan_onnx
from compress.pipeline.predicted import Plan, Step
from compress.pipeline.run import prepare
from compress.recipe.load import load_recipe
from compress.recipe.named_blocks import PassStep, is_file
from compress.recipe.schema import Recipe
from compress.tasks import Task


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
    if model is None and is_file("model", recipe.model):
        return plan_onnx(None, recipe, status=status)
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
