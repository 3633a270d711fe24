"""Structured pruning: whole channels leave the network, which is then physically smaller, and recovers by training.

Coupled layers come from torch-pruning's dependency graph (`channel_groups`), are each tried on a copy first
(`preflight`), scored (`importance`), and given widths that meet the target in steps which the device likes (`widths`);
`prune_plan` holds these together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.core.errors import PassError
from compress.core.forward import copy_model, run_model
from compress.core.seeding import derive_seed
from compress.graph.export import export_onnx
from compress.graph.model_state import ModelState, Rewrite
from compress.graph.plain_weights import PlainWeights
from compress.graph.shortcuts import ShortcutConv
from compress.graph.transposed_linear import TransposedLinear
from compress.passes.base import Change, Context, PassResult, Preview
from compress.passes.pruning.importance import DATA_FREE, IMPORTANCES
from compress.passes.pruning.preflight import check_runs
from compress.passes.pruning.prune_plan import Budget, PrunePlan
from compress.passes.pruning.prune_settings import SCOPES, TRIED, ImportanceKind, PruneConfig, Scope
from compress.passes.pruning.widths import measure
from compress.tasks.task import Task
from compress.training.evaluation import better, evaluate_split
from evaluate.core.errors import ModelError
from evaluate.metrics.base import get_metric

BATCH = 128
Way = tuple[ImportanceKind, Scope]


def preview_prune(model: nn.Module, config: PruneConfig, context: Context) -> Preview:
    """The network as pruning would shape it, without training; what may not read data is stood in for."""
    ways = _ways(config)
    kind, scope = ways[0]
    reads = IMPORTANCES[kind].reads_data
    pruned, plan, _ = _prepare(model, config, context)
    plan = plan.with_choice(DATA_FREE if reads else kind, scope)
    for target in plan.targets():
        plan.step(pruned, target)
    check_runs(pruned, context.task.example(1))
    notes = [_achieved_text(plan, pruned, context.task.example(1)), *plan.warnings]
    if reads:
        how = f"{kind}, which reads the data, may divide them otherwise"
        notes.append(f"widths are predicted by {DATA_FREE}; {how}")
    if len(ways) > 1:
        notes.append(f"widths are predicted by {kind}, {scope}; {len(ways)} ways are tried and the best one kept")
    return Preview(pruned, tuple(plan.changed_layers()), notes=tuple(notes))


def prune(model: ModelState, config: PruneConfig, context: Context) -> PassResult:
    """Remove whole channels until a target in params, MACs or bytes is met, then recover."""
    pruned, plan, rewrites = _prepare(model.module, config, context)
    plan, tried = _best_choice(pruned, plan, config, context)
    before = _widths(pruned)
    example = context.task.example(1)
    history = []
    for number, target in enumerate(plan.targets()):
        context.status(f"prune: part {number + 1} of {config.steps}", number, config.steps)
        plan.step(pruned, target)
        check_runs(pruned, example)
        if number == config.steps - 1:
            _check_export(model.module, pruned, example)
        history.append(_restore(model, pruned, config, context, number))
    details = {
        **plan.details(pruned, example),
        **({"tried": tried} if tried else {}),
        "metric": {"name": context.task.metric_name, **history[-1]["metric"]},
        "history": history,
    }
    state = replace(model, module=pruned, rewrites=(*model.rewrites, *rewrites))
    return PassResult(state, tuple(_changes(before, _widths(pruned))), tuple(plan.warnings), details)


def _prepare(
    model: nn.Module, config: PruneConfig, context: Context
) -> tuple[nn.Module, PrunePlan, tuple[Rewrite, ...]]:
    """A copy with what cannot be followed rewritten, and what will shrink it. Raises PassError for nothing to do."""
    example = context.task.example(1)
    unit, amount = config.keep.target()
    baseline, now = measure(context.original, example, unit), measure(model, example, unit)
    asked = amount.resolve(baseline)
    if asked >= now:
        raise PassError(
            f"prune would change nothing: keep {amount} {unit} is {asked:.0f}, and the model has {now}. "
            f"Ask for less; a ratio is of the uncompressed model, which has {baseline}."
        )
    pruned = copy_model(model).cpu().eval()
    plain, layers = PlainWeights.apply(pruned, example), TransposedLinear.apply(pruned, example)
    shortcuts = ShortcutConv.apply(pruned, example)
    budget = Budget(unit, asked, baseline, amount.relative, str(amount))
    # The weights of a rewritten shortcut say nothing of its channels; those of a layer do.
    plan = PrunePlan(pruned, config, context, budget, frozenset(r.layer for r in shortcuts))
    return pruned, plan, (*plain, *layers, *shortcuts)


def _best_choice(
    model: nn.Module, plan: PrunePlan, config: PruneConfig, context: Context
) -> tuple[PrunePlan, dict[str, float]]:
    """Of the ways to choose what goes that the settings leave open, the one validation likes best without training.

    With the metric of each, by "importance, scope"; none was tried where nothing is left open.
    """
    ways = _ways(config)
    if len(ways) == 1:
        return plan.with_choice(*ways[0]), {}
    metric, task, found = get_metric(context.task.metric), context.task, dict[Way, dict[str, float]]()
    for number, way in enumerate(ways):
        context.status(f"prune: trying {', '.join(way)}", number, len(ways))
        trial = copy_model(model)
        try:
            plan.with_choice(*way).step(trial, plan.budget.value)
        except PassError:
            continue  # where none reaches the target, the pass says so itself
        reestimate_batch_norm(trial, task, config.recalibrate, seed=context.seed, device=context.device)
        found[way] = evaluate_split(trial, task.validation, task.loss, task.metric, device=context.device)
    best = next(iter(found), ways[0])
    for way in found:
        best = way if better(metric, found[way], found[best]) else best
    return plan.with_choice(*best), {", ".join(way): result["metric"] for way, result in found.items()}


def _ways(config: PruneConfig) -> list[Way]:
    """Every importance with every scope that the settings leave open, the first of each first."""
    kinds = TRIED if config.importance == "auto" else (config.importance,)
    scopes = SCOPES if config.scope == "auto" else (config.scope,)
    return [(kind, scope) for scope in scopes for kind in kinds]


def reestimate_batch_norm(model: nn.Module, task: Task, batches: int, *, seed: int, device: str = "cpu") -> bool:
    """Estimate the statistics of every batch norm anew, in place, from `batches` batches of training samples.

    Plain averages over the batches (momentum None), without augmentation; all else stays in eval mode. Returns whether
    there was anything to do. Pruning alone can cost tens of points that this brings back without any training.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms or batches < 1:
        return False
    data = task.calibration(BATCH * batches, seed)
    # A small last batch would count as much as a whole one, and a single sample has no variance.
    whole = [start for start in range(0, len(data), BATCH) if len(data) - start >= min(BATCH, len(data))]
    momenta = [norm.momentum for norm in norms]
    model.eval().to(device)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        with torch.no_grad():
            for (inputs, _), _ in zip(data.batches(BATCH, device=device), whole, strict=False):
                run_model(model, inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval().cpu()
    return True


def _restore(
    model: ModelState, pruned: nn.Module, config: PruneConfig, context: Context, number: int
) -> dict[str, Any]:
    """Batch-norm statistics and training after one part, in place, with the validation metric after each."""
    metric = {"pruned": _validate(pruned, context)}
    if reestimate_batch_norm(pruned, context.task, config.recalibrate, seed=context.seed, device=context.device):
        metric["recalibrated"] = _validate(pruned, context)
    entry: dict[str, Any] = {"part": number + 1, "metric": metric}
    epochs = _epochs(config, number)
    if config.recover is not None and epochs:
        result = context.train(
            replace(model, module=pruned),
            config.recover.model_copy(update={"epochs": epochs}),
            seed=derive_seed(context.seed, "recover", number),
            folder=_folder(context.folder, config, number),
            teacher=context.original if config.recover.distill is not None else None,
            distill=config.recover.distill,
        )
        metric["recovered"] = _validate(pruned, context)
        entry |= {"best_epoch": result.best_epoch, "epochs": result.history, "teacher": result.teacher}
    pruned.eval().zero_grad(set_to_none=True)
    return entry


def _epochs(config: PruneConfig, number: int) -> int:
    """The epochs of recovery that follow one part; what cannot be divided goes to the last parts."""
    if config.recover is None:
        return 0
    each, rest = divmod(config.recover.epochs, config.steps)
    return each + int(number >= config.steps - rest)


def _folder(folder: Path | None, config: PruneConfig, number: int) -> Path | None:
    if folder is None or config.steps == 1:
        return folder
    part = folder / f"part{number + 1}"
    part.mkdir(parents=True, exist_ok=True)
    return part


def _validate(model: nn.Module, context: Context) -> float:
    task = context.task
    return evaluate_split(model, task.validation, task.loss, task.metric, device=context.device)["metric"]


def _check_export(model: nn.Module, pruned: nn.Module, example: Mapping[str, Tensor]) -> None:
    """Export before hours of recovery and not after. Raises PassError saying whether pruning is the cause."""
    try:
        export_onnx(pruned, example)
    except ModelError as error:
        try:
            export_onnx(model, example)
        except ModelError as earlier:
            raise PassError(f"prune: the model cannot be exported even before pruning: {earlier}") from earlier
        raise PassError(f"prune: the model exports before pruning but not after it: {error}") from error


def _widths(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every convolution and linear layer, by name."""
    widths = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            widths[name] = module.out_features, module.in_features
        elif isinstance(module, nn.modules.conv._ConvNd):
            widths[name] = module.out_channels, module.in_channels
    return widths


def _changes(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> Iterator[Change]:
    """Layer by layer, what was changed; norms follow the layer in front of them."""
    for name, old in before.items():
        for what, was, now in zip(("out_channels", "in_channels"), old, after[name], strict=True):
            if was != now:
                yield Change(name, what, was, now)


def _achieved_text(plan: PrunePlan, pruned: nn.Module, example: Mapping[str, Tensor]) -> str:
    achieved = plan.details(pruned, example)["achieved"]
    parts = (f"{unit} {entry['value']:,} ({entry['ratio']:.1%})" for unit, entry in achieved.items())
    return f"predicted, of the uncompressed model: {', '.join(parts)}"
