"""Structured pruning: whole channels leave the network, which is then physically smaller, and recovers by training.

Coupled layers come from torch-pruning's dependency graph (`groups`), are each tried on a copy first (`preflight`),
scored (`importance`), and given widths that meet the target in steps which the device likes (`allocate`, `shrink`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from compress.core.config import Config
from compress.core.errors import PassError
from compress.core.seeding import derive_seed
from compress.core.traits import Traits
from compress.core.units import Amount, BytesAmount, LatencyAmount, MacsAmount, ParamsAmount
from compress.graph.export import export_onnx
from compress.graph.model_state import ModelState
from compress.graph.shortcuts import ShortcutConv
from compress.passes.base import Change, Context, PassResult, Preview, register_pass
from compress.passes.pruning.bn_reestimation import recalibrate
from compress.passes.pruning.importance import ImportanceKind
from compress.passes.pruning.preflight import check_runs
from compress.passes.pruning.shrink import Shrinking, Target, measure
from compress.training.evaluation import evaluate_split
from compress.training.settings import RecoverConfig
from compress.training.train import train
from evaluate.core.errors import ModelError

Share = Annotated[float, Field(gt=0, le=1)]
UNITS: tuple[Literal["params", "macs", "bytes"], ...] = ("params", "macs", "bytes")


class KeepConfig(Config):
    """How much of the uncompressed model stays; exactly one unit. A number is a ratio, a string an absolute amount."""

    params: ParamsAmount | None = Field(default=None, description="Parameters to keep: 0.5, or '300k'.")
    macs: MacsAmount | None = Field(default=None, description="MACs of one sample to keep: 0.5, or '20M'.")
    bytes: BytesAmount | None = Field(
        default=None, description="Bytes of the fp32 weights (4 per parameter) to keep: 0.5, or '300kB'."
    )
    latency: LatencyAmount | None = Field(default=None, description="Not yet: use macs.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if self.latency is not None:
            raise ValueError("a latency target comes with a later version; use macs, and see the measured latency")
        given = [unit for unit in UNITS if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(UNITS)}; got {' and '.join(given) or 'none'}")
        return self

    def target(self) -> tuple[Literal["params", "macs", "bytes"], Amount]:
        """The unit that is given, and the amount."""
        return next((unit, getattr(self, unit)) for unit in UNITS if getattr(self, unit) is not None)


class PruneConfig(Config):
    """Settings of structured pruning."""

    keep: KeepConfig = Field(description="The target, in one of params, macs or bytes of the uncompressed model.")
    importance: ImportanceKind = Field(
        default="group_norm",
        description="What makes a channel worth keeping: l1 or l2 norm of its filters, group_norm over all layers "
        "coupled to it, bn_scale of its batch norms, taylor (weight x gradient on training samples), or random.",
    )
    scope: Literal["global", "per_layer"] = Field(
        default="global",
        description="global: layers give what costs least importance; per_layer: all give the same share.",
    )
    steps: int = Field(default=1, ge=1, le=100, description="Prune in so many parts, with recovery split over them.")
    round_to: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto", description="Channel counts are multiples of this; auto: of this device's vector width."
    )
    layers: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Patterns of layers that may lose output channels."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of layers that keep all output channels.")
    per_layer: dict[str, Share] = Field(
        default={}, description="Share of output channels that the layers of a pattern keep, whatever their importance."
    )
    max_ratio: float = Field(
        default=0.9, gt=0, lt=1, description="No layer loses more than this share of its channels."
    )
    batches: int = Field(default=16, ge=1, description="taylor: batches of 64 training samples for the gradients.")
    recalibrate: int = Field(
        default=32, ge=0, description="Batches of 128 samples to estimate batch-norm statistics from; 0 keeps the old."
    )
    recover: RecoverConfig | None = Field(
        default=None, description="Training after pruning; with `distill` the teacher is the uncompressed model."
    )

    @field_validator("per_layer")
    @classmethod
    def _sorted(cls, shares: dict[str, float]) -> dict[str, float]:
        return dict(sorted(shares.items()))

    def patterns(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        lists = [((key, i), p) for key in ("layers", "exclude") for i, p in enumerate(getattr(self, key))]
        return [*lists, *((("per_layer", pattern), pattern) for pattern in self.per_layer)]


def preview_prune(model: nn.Module, config: PruneConfig, context: Context) -> Preview:
    """The network as pruning would shape it, without training; group_norm stands in for taylor, which reads data."""
    plain = config if config.importance != "taylor" else config.model_copy(update={"importance": "group_norm"})
    pruned, shrinking, _ = _prepare(model, plain, context)
    for target in shrinking.targets():
        shrinking.step(pruned, target)
    check_runs(pruned, context.task.example(1))
    notes = [_achieved_text(shrinking, pruned, context.task.example(1)), *shrinking.warnings]
    if plain is not config:
        notes.append("widths are predicted by group_norm; taylor, which reads the data, may divide them otherwise")
    return Preview(pruned, tuple(shrinking.changed_layers()), notes=tuple(notes))


@register_pass(
    "prune",
    PruneConfig,
    preview=preview_prune,
    traits=Traits(trains=True, reshapes=True, needs_data=True, keeps_constraints=True),
)
def prune(model: ModelState, config: PruneConfig, context: Context) -> PassResult:
    """Remove whole channels until a target in params, MACs or bytes is met, then recover."""
    pruned, shrinking, rewrites = _prepare(model.module, config, context)
    before = _widths(pruned)
    example = context.task.example(1)
    history = []
    for number, target in enumerate(shrinking.targets()):
        context.status(f"prune: part {number + 1} of {config.steps}", number, config.steps)
        shrinking.step(pruned, target)
        check_runs(pruned, example)
        if number == config.steps - 1:
            _check_export(model.module, pruned, example)
        history.append(_restore(pruned, config, context, number))
    details = {
        **shrinking.details(pruned, example),
        "metric": {"name": context.task.metric, **history[-1]["metric"]},
        "history": history,
    }
    state = replace(model, module=pruned, rewrites=(*model.rewrites, *rewrites))
    return PassResult(state, tuple(_changes(before, _widths(pruned))), tuple(shrinking.warnings), details)


def _prepare(
    model: nn.Module, config: PruneConfig, context: Context
) -> tuple[nn.Module, Shrinking, tuple[ShortcutConv, ...]]:
    """A copy with its shortcuts rewritten, and what will shrink it. Raises PassError where there is nothing to do."""
    example = context.task.example(1)
    unit, amount = config.keep.target()
    baseline, now = measure(context.original, example, unit), measure(model, example, unit)
    asked = amount.resolve(baseline)
    if asked >= now:
        raise PassError(
            f"prune would change nothing: keep {amount} {unit} is {asked:.0f}, and the model has {now}. "
            f"Ask for less; a ratio is of the uncompressed model, which has {baseline}."
        )
    pruned = copy.deepcopy(model).cpu().eval()
    rewrites = ShortcutConv.apply(pruned, example)
    target = Target(unit, asked, baseline, amount.relative, str(amount))
    return pruned, Shrinking(pruned, config, context, target, frozenset(r.layer for r in rewrites)), rewrites


def _restore(pruned: nn.Module, config: PruneConfig, context: Context, number: int) -> dict[str, Any]:
    """Batch-norm statistics and training after one part, in place, with the validation metric after each."""
    metric = {"pruned": _validate(pruned, context)}
    if recalibrate(pruned, context.task, config.recalibrate, seed=context.seed, device=context.device):
        metric["recalibrated"] = _validate(pruned, context)
    entry: dict[str, Any] = {"part": number + 1, "metric": metric}
    epochs = _epochs(config, number)
    if config.recover is not None and epochs:
        result = train(
            pruned,
            context.task,
            config.recover.model_copy(update={"epochs": epochs}),
            seed=derive_seed(context.seed, "recover", number),
            device=context.device,
            folder=_folder(context.folder, config, number),
            teacher=context.original if config.recover.distill is not None else None,
            distill=config.recover.distill,
            status=context.status,
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
    return each + (number >= config.steps - rest)


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


def _achieved_text(shrinking: Shrinking, pruned: nn.Module, example: Mapping[str, Tensor]) -> str:
    achieved = shrinking.details(pruned, example)["achieved"]
    parts = (f"{unit} {entry['value']:,} ({entry['ratio']:.1%})" for unit, entry in achieved.items())
    return f"predicted, of the uncompressed model: {', '.join(parts)}"
