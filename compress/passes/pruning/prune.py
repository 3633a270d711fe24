"""Structured pruning: whole channels leave the network, which is then physically smaller, and recovers by training.

Coupled layers come from torch-pruning's dependency graph (`channel_groups`), are each tried on a copy first
(`preflight`), scored (`importance`), and given widths that meet the target in steps which the device likes (`widths`);
`prune_plan` holds these together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from compress.core.errors import PassError
from compress.core.forward import copy_model
from compress.graph.export import export_onnx
from compress.graph.model_state import ModelState, Rewrite
from compress.graph.plain_weights import PlainWeights
from compress.graph.shortcuts import ShortcutConv
from compress.graph.transposed_linear import TransposedLinear
from compress.passes.base import Change, Context, PassResult, Preview
from compress.passes.in_parts import restore
from compress.passes.pruning.importance import DATA_FREE, IMPORTANCES
from compress.passes.pruning.latency_target import meet
from compress.passes.pruning.preflight import check_runs
from compress.passes.pruning.prune_choice import best_choice, way_text, ways_of
from compress.passes.pruning.prune_plan import Budget, PrunePlan
from compress.passes.pruning.prune_settings import LATENCY, KeepConfig, PruneConfig
from compress.passes.pruning.widths import measure
from evaluate.core.errors import ModelError


def preview_prune(model: nn.Module, config: PruneConfig, context: Context) -> Preview:
    """The network as pruning would shape it, without training; what may not read data is stood in for."""
    latency = config.keep.latency
    if latency is not None and not latency.relative:
        return Preview(model, ("*",), notes=(f"widths for {latency} are found by measuring, in the run itself",))
    if latency is not None:
        config = config.model_copy(update={"keep": KeepConfig.model_validate({"macs": latency.value})})
    ways = ways_of(config)
    kinds, scope = ways[0]
    reads = any(IMPORTANCES[kind].reads_data for kind in kinds)
    pruned, plan, _ = prepared(model, config, context)
    plan = plan.with_choice(((DATA_FREE,) if reads else kinds, "global" if scope == "sensitivity" else scope))
    for target in plan.targets():
        plan.step(pruned, target)
    check_runs(pruned, context.task.example(1))
    notes = [_achieved_text(plan, pruned, context.task.example(1)), *plan.warnings]
    if latency is not None:
        notes.append(f"predicted as if MACs were latency; the run itself measures which widths keep {latency}")
    if reads:
        how = f"{way_text(ways[0])}, which reads the data, may divide them otherwise"
        notes.append(f"widths are predicted by {DATA_FREE}; {how}")
    if len(ways) > 1:
        notes.append(f"widths are predicted by {way_text(ways[0])}; {len(ways)} ways are tried and the best one kept")
    return Preview(pruned, tuple(plan.changed_layers()), notes=tuple(notes))


def prune(model: ModelState, config: PruneConfig, context: Context) -> PassResult:
    """Remove whole channels until a target in params, MACs or bytes is met, then recover."""
    choice, timed, missed = None, dict[str, Any](), list[str]()
    if config.keep.latency is not None:
        network, plan, _ = prepared(model.module, config, context)
        config, choice, timed, missed = meet(model.module, network, plan, config, context)
    pruned, plan, rewrites = prepared(model.module, config, context)
    plan, tried = best_choice(pruned, plan, config, context)
    before = _widths(pruned)
    example = context.task.example(1)
    history = []
    for number, target in enumerate(plan.targets()):
        context.status(f"prune: part {number + 1} of {config.steps}", number, config.steps)
        plan.step(pruned, target)
        check_runs(pruned, example)
        if number == config.steps - 1:
            _check_export(model.module, pruned, example)
        state = replace(model, module=pruned)
        history.append(
            restore(state, config.recover, context, part=number, parts=config.steps, recalibrate=config.recalibrate)
        )
    details = {
        **plan.details(pruned, example),
        **tried,
        **timed,
        "metric": {"name": context.task.metric_name, **history[-1]["metric"]},
        "history": history,
    }
    state = replace(model, module=pruned, rewrites=(*model.rewrites, *rewrites))
    return PassResult(state, tuple(_changes(before, _widths(pruned))), (*missed, *plan.warnings), details, choice)


def prepared(
    model: nn.Module, config: PruneConfig, context: Context
) -> tuple[nn.Module, PrunePlan, tuple[Rewrite, ...]]:
    """A copy with what cannot be followed rewritten, and what will shrink it. Raises PassError for nothing to do."""
    example = context.task.example(1)
    unit, amount = config.keep.target()
    counted = "macs" if unit == LATENCY else unit
    baseline, now = measure(context.original, example, counted), measure(model, example, counted)
    asked = amount.resolve(baseline)
    if asked >= now and unit != LATENCY:
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
