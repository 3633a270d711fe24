"""How what goes is chosen, chosen by evidence: every way left open is tried without training, validation decides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from compress.core.errors import PassError
from compress.core.forward import copy_model
from compress.graph.surgery import remove_channels
from compress.passes.base import Context
from compress.passes.batch_statistics import BATCH, reestimate_batch_norm
from compress.passes.pruning.channel_groups import removal
from compress.passes.pruning.prune_plan import PrunePlan, Way
from compress.passes.pruning.prune_settings import SCOPES, TRIED, ImportanceKind, PruneConfig
from compress.tasks.splits import Split
from compress.training.evaluation import better, evaluate_split
from evaluate.metrics.base import get_metric

PART = 1024  # validation samples of the first round
FINALISTS = 6


def ways_of(config: PruneConfig) -> list[Way]:
    """Every importance with every scope that the settings leave open, the first of each first."""
    given = config.importance
    kinds: list[tuple[ImportanceKind, ...]] = [(kind,) for kind in TRIED]
    if given != "auto":
        kinds = [(given,) if isinstance(given, str) else given]
    scopes = SCOPES if config.scope == "auto" else (config.scope,)
    return list(itertools.product(kinds, scopes))


def way_text(way: Way) -> str:
    """As it is told: "l1, global"."""
    return f"{' + '.join(way[0])}, {way[1]}"


def best_choice(
    model: nn.Module, plan: PrunePlan, config: PruneConfig, context: Context
) -> tuple[PrunePlan, dict[str, Any]]:
    """The plan by the way that validation likes best, and how each did, for the details of the pass.

    Many are first tried on a part of the validation split, statistics estimated from as many samples; the best of these
    are tried on the whole of it. Nothing is tried where one way alone is left open.
    """
    ways = ways_of(config)
    if any(scope == "sensitivity" for _, scope in ways):
        plan.sensitivity = _sensitivity(model, plan, config, context)
    if len(ways) == 1:
        return plan.with_choice(ways[0]), {}
    validation, told = context.task.validation, dict[str, Any]()
    if len(ways) > FINALISTS and len(validation) > 2 * PART:
        found = _tried(model, plan, config, context, ways, validation.take(PART, context.seed), PART // BATCH)
        told["tried_first"] = {"samples": PART} | {way_text(way): result["metric"] for way, result in found.items()}
        ways = _ranked(found, context)[:FINALISTS] or ways[:1]
    found = _tried(model, plan, config, context, ways, validation, config.recalibrate)
    told["tried"] = {way_text(way): result["metric"] for way, result in found.items()}
    return plan.with_choice(next(iter(_ranked(found, context)), ways[0])), told


def _ranked(found: Mapping[Way, dict[str, float]], context: Context) -> list[Way]:
    """The best first; of equals the one that was tried first."""
    metric, ranked = get_metric(context.task.metric), list[Way]()
    for way in found:
        place = next((i for i, other in enumerate(ranked) if better(metric, found[way], found[other])), len(ranked))
        ranked.insert(place, way)
    return ranked


def _tried(
    model: nn.Module,
    plan: PrunePlan,
    config: PruneConfig,
    context: Context,
    ways: Sequence[Way],
    split: Split,
    batches: int,
) -> dict[Way, dict[str, float]]:
    """Loss and metric on `split` of each way that reaches the target; where none does, the pass says so itself."""
    found = {}
    for number, way in enumerate(ways):
        context.status(f"prune: trying {way_text(way)}", number, len(ways))
        trial = copy_model(model)
        try:
            plan.with_choice(way).step(trial, plan.budget.value)
        except PassError:
            continue
        found[way] = _judged(trial, config, context, split, batches)
    return found


def _sensitivity(model: nn.Module, plan: PrunePlan, config: PruneConfig, context: Context) -> dict[str, float]:
    """By how much the loss on a part of validation grows where half the units of one group alone go, per group."""
    part = context.task.validation.take(PART, context.seed)
    whole = _judged(copy_model(model), config, context, part, 0)["loss"]
    grown = {}
    for number, (group, order) in enumerate(plan.ranked_units(model)):
        context.status(f"prune: sensitivity of {group.name}", number, len(plan.start))
        trial = copy_model(model)
        remove_channels(trial, removal([group], [order[: len(order) // 2]]))
        grown[group.name] = _judged(trial, config, context, part, PART // BATCH)["loss"] - whole
    return grown


def _judged(model: nn.Module, config: PruneConfig, context: Context, split: Split, batches: int) -> dict[str, float]:
    task = context.task
    reestimate_batch_norm(model, task, min(batches, config.recalibrate), seed=context.seed, device=context.device)
    return evaluate_split(model, split, task.loss, task.metric, device=context.device)
