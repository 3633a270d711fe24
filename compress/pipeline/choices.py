"""What passes chose by measurement: in a stage, in the recipe that is kept, and by what it is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from compress.graph.onnx_graph import constant_sizes, load_graph
from compress.passes.base import Choice, Loss
from compress.recipe.named_blocks import Goals, read_passes
from compress.recipe.plain import plain
from compress.recipe.schema import Recipe
from evaluate.metrics.base import Metric, drop, get_metric


def told_of(choice: Choice | None) -> dict[str, Any]:
    """What a stage keeps of a choice; nothing where none was made."""
    if choice is None:
        return {}
    return {"chosen": plain(choice.settings), "candidates": [dict(one) for one in choice.candidates]}


def chosen_by(recipe: Recipe) -> list[Any]:
    """What a choice depends on beside the pass's own settings and the machine: part of the key of its stage."""
    return [recipe.benchmark.batch, plain(recipe.goals)]


def with_choices(recipe: Recipe, stored: Sequence[Mapping[str, Any]]) -> Recipe:
    """The recipe whose passes have the settings that were chosen, so that they choose no more."""
    if not any("chosen" in one for one in stored):
        return recipe
    steps = [
        {"kind": step.kind, **one["chosen"]} if "chosen" in one else step
        for step, one in zip(recipe.passes, stored, strict=True)
    ]
    return recipe.model_copy(update={"passes": read_passes(steps)})


def loss_of(before: NDArray[Any], after: NDArray[Any], targets: NDArray[Any], metric: str | Metric) -> Loss:
    """What is lost of a metric from outputs to outputs."""
    found = drop(before, after, targets, metric)
    return Loss(*(float(end) for end in get_metric(metric).as_loss(found["value"], found["low"], found["high"])))


def fits(goals: Goals, before: Mapping[str, float], data: bytes) -> bool:
    """Whether the sizes of a file keep within the goals, where they are goals of sizes.

    before : the sizes of the uncompressed file.
    """
    asked = [(unit.name, amount) for unit, amount in goals.amounts() if unit.name in before]
    found = constant_sizes(load_graph(data), data) if asked else {}  # it packs the whole file
    return all(found[name] <= amount.resolve(before[name]) for name, amount in asked if name in found)
