"""Weights that become zero and stay it: unstructured, in blocks, or N of M, at once or in parts with training between.

What is zero is a constraint of the model (`zeros`): later training, export, int8 and pruning keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from compress.core.errors import PassError
from compress.core.forward import copy_model
from compress.graph.model_state import ModelState, ZerosStay
from compress.graph.plain_weights import PlainWeights
from compress.passes.base import Change, Context, PassResult, Preview, fits_layer
from compress.passes.in_parts import restore
from compress.passes.pruning.importance import Evidence, gather
from compress.passes.sparsity.sparsify_settings import Pattern, SparsifyConfig, read_pattern
from evaluate.core.text import a_few

STORAGE = (
    "zeros are storage here, not speed: ONNX Runtime multiplies them as any number; packed bytes say what they save"
)
GROWN = 1e-3  # of the spread of a layer's weights: how large a weight is that comes back


def preview_sparsify(model: nn.Module, config: SparsifyConfig, context: Context) -> Preview:
    """Shapes stay as they are; how many weights would be zero."""
    plain = copy_model(model).cpu()
    PlainWeights.apply(plain, context.task.example(1))
    weights, alone = _chosen(plain, config)
    zero = _zeros(weights, config, 1.0, Evidence()) if config.score == "magnitude" else {}
    notes = [_alone_text(alone, config)] if alone else []
    if zero:
        share = sum(int(z.sum()) for z in zero.values()) / sum(p.numel() for p in plain.parameters())
        notes.append(f"{share:.1%} of all parameters become zero; {STORAGE}")
    return Preview(plain, tuple(name.rpartition(".")[0] for name in weights), notes=tuple(notes))


def sparsify(model: ModelState, config: SparsifyConfig, context: Context) -> PassResult:
    """Set weights to zero until the target is met, in parts with recovery between them.

    By magnitude (Han et al. 2015), or weight x gradient (Molchanov et al. 2019); layers divide the target by LAMP (Lee
    et al. 2021); parts follow a cubic schedule (Zhu & Gupta 2017); weights come back by gradient under a constant
    budget (RigL, Evci et al. 2020). N:M along the inputs, as sparse tensor cores read it (Mishra et al. 2021).
    """
    network = copy_model(model.module).cpu().eval()
    plain = PlainWeights.apply(network, context.task.example(1))
    weights, alone = _chosen(network, config)
    before = {name: int((weight.values == 0).sum()) for name, weight in weights.items()}
    held = ZerosStay(parameters=tuple(sorted(weights)))
    others = tuple(one for one in model.constraints if one != held)
    state = replace(model, module=network, rewrites=(*model.rewrites, *plain), constraints=(*others, held))
    history = []
    for number in range(config.steps):
        context.status(f"sparsify: part {number + 1} of {config.steps}", number, config.steps)
        done = (number + 1) / config.steps
        last = number == config.steps - 1
        evidence = Evidence()
        if config.score == "taylor" or (config.regrow and not last):
            evidence = gather(network, context.task, batches=config.batches, seed=context.seed)
        # The gradients of regrowth are none that magnitudes are scored by.
        scored = evidence if config.score == "taylor" else Evidence()
        zero = _zeros(weights, config, 1 - (1 - done) ** 3, scored)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.values.masked_fill_(zero[name], 0.0)
        if config.regrow and not last:
            _grow(weights, config.regrow, evidence)
        history.append(
            restore(state, config.recover, context, part=number, parts=config.steps, recalibrate=config.recalibrate)
        )
    now = {name: int((weight.values == 0).sum()) for name, weight in weights.items()}
    if now == before:
        raise PassError("sparsify would change nothing: that many weights are zero already. Ask for a higher sparsity.")
    sizes = {name: weight.values.numel() for name, weight in weights.items()}
    changes = [
        Change(name.rpartition(".")[0], "zero weights", before[name], now[name])
        for name in weights if now[name] != before[name]
    ]  # fmt: skip
    details: dict[str, Any] = {
        "asked": config.pattern if config.sparsity is None else config.sparsity,
        "sparsity": round(sum(now.values()) / sum(sizes.values()), 4),
        "layers": [{"layer": n.rpartition(".")[0], "sparsity": round(now[n] / sizes[n], 4)} for n in weights],
        "left_alone": list(alone),
        "metric": {"name": context.task.metric_name, **history[-1]["metric"]},
        "history": history,
    }
    warnings = [*([_alone_text(alone, config)] if alone else []), STORAGE]
    return PassResult(state, tuple(changes), tuple(warnings), details)


@dataclass(frozen=True)
class _Weight:
    """The weight of a layer; transposed where its first dimension is of inputs."""

    values: nn.Parameter
    transposed: bool

    def matrix(self, values: Tensor) -> Tensor:
        """Values of its shape as (outputs, inputs, places); places are those of a convolution's kernel."""
        flat = values.reshape(*values.shape[:2], -1)
        return flat.transpose(0, 1) if self.transposed else flat

    def shaped(self, matrix: Tensor) -> Tensor:
        """The opposite of `matrix`."""
        return (matrix.transpose(0, 1) if self.transposed else matrix).reshape(self.values.shape)


def _chosen(model: nn.Module, config: SparsifyConfig) -> tuple[dict[str, _Weight], list[str]]:
    """The weights (by parameter name, tied ones once) that may be zero, and the layers into which the pattern fits not.

    Raises PassError where there are none.
    """
    pattern, found, alone, seen = read_pattern(config.pattern), dict[str, _Weight](), [], set[int]()
    for name, module in model.named_modules():
        values = module._parameters.get("weight")
        if not isinstance(module, _ConvNd | nn.Linear) or values is None or id(values) in seen:
            continue
        if not fits_layer(name, config.layers) or fits_layer(name, config.exclude):
            continue
        seen.add(id(values))
        weight = _Weight(values, isinstance(module, _ConvTransposeNd))
        rows, columns = weight.matrix(values.detach()).shape[:2]
        if rows % pattern.rows or columns % (pattern.of or pattern.columns):
            alone.append(name)
        else:
            found[f"{name}.weight"] = weight
    if not found:
        left = f"; left dense: {a_few(alone)}" if alone else ""
        raise PassError(f"sparsify: no layer has weights that pattern {config.pattern} fits into{left}.")
    return found, alone


def _alone_text(alone: list[str], config: SparsifyConfig) -> str:
    return f"left dense: {a_few(alone)}: the pattern {config.pattern} does not divide its channels"


@torch.no_grad()
def _zeros(
    weights: Mapping[str, _Weight], config: SparsifyConfig, done: float, evidence: Evidence
) -> dict[str, Tensor]:
    """By parameter name where it is zero (bool, its shape), once `done` of the target is reached."""
    pattern = read_pattern(config.pattern)
    scores = {name: weight.matrix(_scores(name, weight, evidence)) for name, weight in weights.items()}
    if pattern.fixed:
        kept = pattern.of - round((pattern.of - pattern.kept) * done)
        return {name: weight.shaped(_n_of_m(scores[name], kept, pattern.of)) for name, weight in weights.items()}
    blocks = {name: _blocks(score, pattern) for name, score in scores.items()}
    share = (config.sparsity or 0.0) * done
    if config.scope == "per_layer":
        gone = {name: _smallest(block, round(share * block.numel())) for name, block in blocks.items()}
    else:
        ranks = torch.cat([_lamp(block).flatten() for block in blocks.values()])
        together = torch.split(_smallest(ranks, round(share * len(ranks))), [b.numel() for b in blocks.values()])
        gone = {name: one.reshape(block.shape) for (name, block), one in zip(blocks.items(), together, strict=True)}
    return {
        name: weight.shaped(gone[name].repeat_interleave(pattern.rows, 0).repeat_interleave(pattern.columns, 1))
        for name, weight in weights.items()
    }


def _scores(name: str, weight: _Weight, evidence: Evidence) -> Tensor:
    values = weight.values.detach()
    score = (values * evidence.gradients[name]).abs() if name in evidence.gradients else values.abs()
    if not bool(score.isfinite().all()):
        raise PassError(f"sparsify: the score of {name} is not finite; check the weights for NaN and infinity.")
    return score


def _n_of_m(scores: Tensor, kept: int, of: int) -> Tensor:
    """Where all but the `kept` largest of every `of` along the inputs are."""
    apart = scores.reshape(scores.shape[0], -1, of, scores.shape[2])
    order = apart.argsort(dim=2, descending=True, stable=True).argsort(dim=2)
    return (order >= kept).reshape(scores.shape)


def _blocks(scores: Tensor, pattern: Pattern) -> Tensor:
    """(outputs, inputs, places) summed over blocks."""
    rows, columns = scores.shape[0] // pattern.rows, scores.shape[1] // pattern.columns
    return scores.reshape(rows, pattern.rows, columns, pattern.columns, scores.shape[2]).sum((1, 3))


def _smallest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` smallest are; of equals the first."""
    gone = torch.zeros(scores.numel(), dtype=torch.bool)
    gone[scores.flatten().argsort(stable=True)[:count]] = True
    return gone.reshape(scores.shape)


def _lamp(scores: Tensor) -> Tensor:
    """Each squared score as a share of those that are at least as large; so no layer loses all it has."""
    flat = scores.flatten().double().square()
    order = flat.argsort(stable=True)
    rest = flat[order].flip(0).cumsum(0).flip(0)
    found = torch.empty_like(flat)
    found[order] = flat[order] / rest.clamp_min(torch.finfo(torch.float64).tiny)
    return found.reshape(scores.shape)


@torch.no_grad()
def _grow(weights: Mapping[str, _Weight], share: float, evidence: Evidence) -> None:
    """Exchange, per layer, the smallest `share` of the weights that stay for the zeros of the largest gradient."""
    for name, weight in weights.items():
        values, gradient = weight.values, evidence.gradients[name]
        zero = values == 0
        count = min(int(share * int((~zero).sum())), int(zero.sum()))
        back = _smallest(torch.where(zero, -gradient.abs(), torch.inf), count)
        gone = _smallest(torch.where(zero, torch.inf, values.abs()), count)
        spread = values[~zero].std() if int((~zero).sum()) > 1 else values.abs().max()
        values.masked_fill_(gone, 0.0)
        values[back] = (-GROWN * spread * gradient.sign())[back]
        values[back & (values == 0)] = GROWN * spread
