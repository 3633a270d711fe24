"""Layers of low rank: each weight as a product of smaller ones that answers training samples as nearly as it can.

Two layers by singular values (Denton et al. 2014; of convolutions by output channels, Zhang et al. 2016), three by
Tucker-2 (Kim et al. 2016). What a cut costs is counted on the inputs that the layer sees, as in data-aware low rank of
language models (SVD-LLM, Wang et al. 2025): of W X, not of W.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from compress.core.errors import PassError
from compress.core.forward import call, copy_model, run_model
from compress.graph.low_rank import LowRank, parts_of
from compress.graph.model_state import ModelState
from compress.graph.plain_weights import PlainWeights
from compress.graph.shortcuts import put_in_place
from compress.graph.transposed_linear import TransposedLinear
from compress.passes.base import Change, Choice, Context, PassResult, Preview, Trials, fits_layer
from compress.passes.factorization.factorize_settings import FactorizeConfig
from compress.passes.in_parts import restore
from compress.passes.pruning.channel_groups import TRACE_ERRORS
from compress.passes.pruning.layer_times import LayerKind, Times, layer_kinds
from compress.passes.pruning.probe import SAME
from compress.passes.pruning.prune_settings import MACS, UNITS
from compress.passes.pruning.widths import achieved, layer_places, measure
from evaluate.core.text import a_few

SLOWER = 0.98  # of the layer's own time: what is above brings nothing
_STEPS = 16  # ranks of one layer that are looked at
_PLACES = 16  # of one sample at which a convolution's inputs are looked at
_BATCH = 64


@dataclass(frozen=True)
class _Option:
    """One form of a layer: its ranks (none: whole), its params and MACs, and the share of its answer that it loses."""

    ranks: tuple[int, ...]
    params: float
    macs: float
    loss: float


@dataclass(frozen=True)
class _Layer:
    """A layer that may be factored.

    places : of one sample where its weight is applied; reads: places of its input, where a first 1x1 layer works.
    root   : (n, n), the inputs it sees are as this times white noise.
    """

    name: str
    module: nn.Module
    places: float
    reads: float
    root: Tensor

    def options(self, config: FactorizeConfig) -> list[_Option]:
        """Whole, and every form that is smaller than that in params and MACs."""
        weight = self.module.get_parameter("weight").detach()
        out, ins, size = weight.shape[0], weight.shape[1], weight[0, 0].numel()
        whole = _Option((), weight.numel(), weight.numel() * self.places, 0.0)
        spectrum = torch.linalg.svdvals(weight.double().flatten(1) @ self.root).square()
        total = float(spectrum.sum())
        if total <= 0:
            return [whole]
        found = [whole]
        for rank in _ranks(min(out, ins * size)):
            params = rank * (ins * size + out)
            found.append(_Option((rank,), params, params * self.places, float(spectrum[rank:].sum()) / total))
        if config.tucker and size > 1:
            first, last = _ranks(min(ins, out * size)), _ranks(min(out, ins * size))
            for into, outof in itertools.product(first[:: max(1, len(first) // 6)], last[:: max(1, len(last) // 6)]):
                params = into * ins + into * outof * size + outof * out
                macs = into * ins * self.reads + (into * outof * size + outof * out) * self.places
                found.append(_Option((into, outof), params, macs, self.loss_of((into, outof), total)))
        return [whole, *(o for o in found[1:] if o.params < whole.params and o.macs < whole.macs)]

    def loss_of(self, ranks: tuple[int, ...], total: float) -> float:
        """The share of the answer, squared, that Tucker-2 of these ranks loses."""
        weight = self.module.get_parameter("weight").detach().double()
        left = (weight - _product(_factors(weight, self.root, ranks), weight.shape)).flatten(1) @ self.root
        return float(left.square().sum()) / total

    def parts(self, ranks: tuple[int, ...]) -> nn.Sequential:
        """The smaller layers with their weights."""
        made, weight = parts_of(self.module, ranks), self.module.get_parameter("weight")
        bias = self.module._parameters.get("bias")
        with torch.no_grad():
            for part, factor in zip(made, _factors(weight.detach().double(), self.root, ranks), strict=True):
                part.get_parameter("weight").copy_(factor.reshape(part.get_parameter("weight").shape))
            if bias is not None:
                made[-1].get_parameter("bias").copy_(bias)
        return made


def _ranks(largest: int) -> list[int]:
    """Ranks to look at, ascending: multiples of 8 where there are enough, which kernels like."""
    step = 8 if largest >= 32 else 1
    every = np.arange(step, largest + 1, step)
    picked = np.linspace(0, len(every) - 1, min(_STEPS, len(every))).round().astype(int)
    return [int(rank) for rank in np.unique(every[picked])]


def _factors(weight: Tensor, root: Tensor, ranks: tuple[int, ...]) -> list[Tensor]:
    """The weights (double) of the smaller layers, first to last, as matrices or, in the middle, as the kernel."""
    flat = weight.flatten(1)
    left, values, right = torch.linalg.svd(flat @ root, full_matrices=False)
    if len(ranks) == 1:
        rank = ranks[0]
        back = torch.linalg.solve_triangular(root, values[:rank, None] * right[:rank], upper=False, left=False)
        return [back, left[:, :rank]]
    into, outof = ranks
    ins, size = weight.shape[1], weight[0, 0].numel()
    # What the inputs lose is counted on the spread of the channels, over all places of the kernel.
    spread = torch.einsum("ikjk->ij", (root @ root.T).reshape(ins, size, ins, size))
    channels = torch.linalg.cholesky(spread)
    unfolded = weight.flatten(2).transpose(1, 2).reshape(-1, ins) @ channels
    inner = torch.linalg.svd(unfolded, full_matrices=False)[2][:into]
    first = torch.linalg.solve_triangular(channels, inner, upper=False, left=False)
    core = torch.einsum("oik,ij,bj,oa->abk", weight.flatten(2), channels, inner, left[:, :outof])
    return [first, core.reshape(outof, into, *weight.shape[2:]), left[:, :outof]]


def _product(factors: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """The weight that the smaller layers have together."""
    if len(factors) == 2:
        return (factors[1] @ factors[0]).reshape(shape)
    first, core, last = factors
    return torch.einsum("abk,oa,bi->oik", core.flatten(2), last, first).reshape(shape)


def preview_factorize(model: nn.Module, config: FactorizeConfig, context: Context) -> Preview:
    """The network as it would be factored by its weights alone; what the inputs say, and times, may move ranks."""
    alone = config.model_copy(update={"samples": 0, "measure": False})
    network, _, layers, reasons = _prepared(ModelState(model), alone, context)
    chosen = _chosen(network, layers, alone, context, None)[0]
    for name, option in chosen.items():
        put_in_place(network, name, parts_of(network.get_submodule(name), option.ranks))
    notes = [_left_text(reasons)] if reasons else []
    if not config.ranks:
        notes.append("ranks are predicted by the weights alone; what the layers read, and their times, may move them")
    return Preview(network, tuple(chosen), notes=tuple(notes))


def factorize(model: ModelState, config: FactorizeConfig, context: Context) -> PassResult:
    """Replace layers by products of smaller ones until the target is met, those that lose least first, then recover."""
    network, rewrites, layers, reasons = _prepared(model, config, context)
    trials = context.trials if config.measures else None
    chosen, slower = _chosen(network, layers, config, context, trials)
    by_name = {layer.name: layer for layer in layers}
    changes = []
    for name, option in chosen.items():
        old = network.get_submodule(name)
        put_in_place(network, name, by_name[name].parts(option.ranks))
        most = min(old.get_parameter("weight").flatten(1).shape)
        changes.append(Change(name, "rank", most, " x ".join(map(str, option.ranks))))
    made = tuple(LowRank(layer=name, ranks=option.ranks) for name, option in chosen.items())
    state = replace(model, module=network, rewrites=(*model.rewrites, *rewrites, *made))
    context.status("factorize: recovery", 0, 1)
    history = restore(state, config.recover, context, part=0, parts=1, recalibrate=config.recalibrate)
    details: dict[str, Any] = {
        "asked": {key: str(value) for key, value in config.keep.model_dump(exclude_none=True).items()},
        "achieved": achieved(network, context.original, context.task.example(1)),
        "layers": [{"layer": n, "ranks": list(o.ranks), "loss": round(o.loss, 5)} for n, o in chosen.items()],
        "slower_here": slower,
        "left_alone": [{"layers": [name], "reason": reason} for name, reason in reasons.items()],
        "metric": {"name": context.task.metric_name, **history["metric"]},
        "history": [history],
    }
    warnings = [f"left alone: {name}: {reason}" for name, reason in reasons.items()]
    whole = [name for name in slower if name not in chosen]
    if whole:
        warnings.append(f"left whole, since their smaller forms are no faster on this device: {a_few(whole)}")
    if len(whole) < len(slower):
        late = a_few([name for name in slower if name in chosen])
        warnings.append(f"smaller, but no faster on this device, since the target is not reached without: {late}")
    own = config.model_copy(update={"ranks": {name: option.ranks for name, option in chosen.items()}})
    choice = Choice(own) if trials is not None else None
    return PassResult(state, tuple(changes), tuple(warnings), details, choice)


def _left_text(reasons: Mapping[str, str]) -> str:
    return f"left alone: {a_few([f'{name} ({reason})' for name, reason in reasons.items()])}"


def _prepared(
    model: ModelState, config: FactorizeConfig, context: Context
) -> tuple[nn.Module, tuple[Any, ...], list[_Layer], dict[str, str]]:
    """A copy with its rewrites, the layers that may be factored, and those that cannot, with the reason."""
    network, example = copy_model(model.module).cpu().eval(), context.task.example(1)
    rewrites = (*PlainWeights.apply(network, example), *TransposedLinear.apply(network, example))
    held = {name for one in model.constraints for name in getattr(one, "parameters", ())}
    times = Counter(id(p) for m in network.modules() for p in m._parameters.values() if p is not None)
    kinds, places = layer_kinds(network, example), layer_places(network, example)
    roots = _roots(network, config, context)
    layers, reasons = [], dict[str, str]()
    for name, module in network.named_modules():
        if not isinstance(module, nn.Linear | _ConvNd) or not fits_layer(name, config.layers):
            continue
        if fits_layer(name, config.exclude) or (config.ranks and name not in config.ranks):
            continue
        weight = module._parameters.get("weight")
        if weight is None or (isinstance(module, _ConvNd) and (module.transposed or module.groups != 1)):
            reasons[name] = (
                "its kind of convolution has no such form" if weight is not None else "it has no plain weight"
            )
        elif times[id(weight)] > 1:
            reasons[name] = "it shares its weight with another layer"
        elif f"{name}.weight" in held:
            reasons[name] = "its weight is promised to stay as it is (zeros)"
        elif name not in kinds:
            reasons[name] = "the network reads its weight itself, or never"
        elif min(weight.flatten(1).shape) > 1:
            root = roots.get(name, torch.eye(weight.flatten(1).shape[1], dtype=torch.float64))
            reads = float(sum(np.prod(kind.shape) for kind in kinds[name]))
            layers.append(_Layer(name, module, places[name], reads, root))
    for layer in list(layers):
        reason = _unlike(network, layer, example)
        if reason:
            layers.remove(layer)
            reasons[layer.name] = reason
    return network, rewrites, layers, reasons


def _unlike(network: nn.Module, layer: _Layer, example: Mapping[str, Tensor]) -> str:
    """Why the network with this layer's smaller form is not the one with the product of them; empty where it is."""
    weight = layer.module.get_parameter("weight")
    ranks = (max(1, min(weight.flatten(1).shape) // 2),)
    dense, small = copy_model(network), copy_model(network)
    product = _product(_factors(weight.detach().double(), layer.root, ranks), weight.shape)
    with torch.no_grad():
        dense.get_submodule(layer.name).get_parameter("weight").copy_(product)
    put_in_place(small, layer.name, layer.parts(ranks))
    try:
        with torch.no_grad():
            pairs = list(zip(*(call(m, example).values() for m in (dense, small)), strict=True))
    except TRACE_ERRORS as error:
        return f"the network does not run with its smaller form ({type(error).__name__})"
    apart = max(float((one - other).abs().max()) / max(float(one.abs().max()), 1e-30) for one, other in pairs)
    return "" if apart <= SAME else "the network uses it in a way that its smaller form does not follow"


def _roots(network: nn.Module, config: FactorizeConfig, context: Context) -> dict[str, Tensor]:
    """Per layer the root (n, n) of the mean product of its inputs over training samples; none where no data may count.

    Of a convolution's places some are drawn, by the seed.
    """
    if config.samples == 0:
        return {}
    names: dict[nn.Module, str] = {m: n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    found: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()
    draw = torch.Generator().manual_seed(context.seed)

    def hook(module: nn.Module, read: tuple[Tensor, ...]) -> None:
        x, name = read[0].detach(), names[module]
        if isinstance(module, nn.Conv2d):
            if module.groups != 1 or isinstance(module.padding, str):
                return
            patches = F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
            rows = patches.transpose(1, 2)
        else:
            rows = x.reshape(len(x), -1, x.shape[-1])
        if rows.shape[1] > _PLACES:
            rows = rows[:, torch.randperm(rows.shape[1], generator=draw)[:_PLACES]]
        flat = rows.flatten(0, 1).double()
        found[name] = found.get(name, torch.zeros(())) + flat.T @ flat
        counts[name] += len(flat)

    handles = [module.register_forward_pre_hook(hook) for module in names]
    try:
        with torch.no_grad():
            for inputs, _ in context.task.calibration(config.samples, context.seed).batches(_BATCH):
                run_model(network, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: _root(total / counts[name]) for name, total in found.items()}


def _root(spread: Tensor) -> Tensor:
    """Lower triangular, its product with itself the spread; a little of white noise where inputs are never seen."""
    noise = 1e-4 * float(spread.diagonal().mean()) + 1e-12
    root: Tensor = torch.linalg.cholesky(spread + noise * torch.eye(len(spread), dtype=spread.dtype))
    return root


def _chosen(
    network: nn.Module, layers: Sequence[_Layer], config: FactorizeConfig, context: Context, trials: Trials | None
) -> tuple[dict[str, _Option], list[str]]:
    """The form of each layer that is factored, and the layers whose forms are no faster here.

    Raises PassError where the target is not reached, or nothing changes.
    """
    if config.ranks:
        missing = sorted(set(config.ranks) - {layer.name for layer in layers})
        if missing:
            raise PassError(f"factorize: ranks are given for {a_few(missing)}, which cannot be factored.")
        return {name: _Option(tuple(ranks), 0, 0, 0.0) for name, ranks in config.ranks.items()}, []
    options = {}
    for number, layer in enumerate(layers):
        context.status(f"factorize: ranks of {layer.name}", number, len(layers))
        options[layer.name] = layer.options(config)
    times, slower = Times(trials) if trials is not None else None, list[str]()
    call_shapes = _inputs(network, trials, context) if trials is not None else {}
    target, storage = config.keep.target(), dict[str, _Option]()
    while True:
        try:
            chosen = _selected(network, options, config, context, slower)
        except PassError:
            # Fewer MACs that take longer help nobody; fewer bytes may be wanted all the same.
            if not storage:
                raise
            return storage, [name for name in storage if name in slower]
        late = []
        if times is not None:
            modules = {name: network.get_submodule(name) for name in chosen}
            late = [n for n, o in chosen.items() if not _pays(modules[n], o, call_shapes[n], times, context)]
        if not late:
            break
        if target is not None and target[0] != MACS:
            storage = storage or chosen
        for name in late:
            taken = chosen[name]
            # A form that costs at least as much is no faster either.
            options[name] = [o for o in options[name] if not o.ranks or o.macs < taken.macs]
            if len(options[name]) == 1:
                slower.append(name)
    if not chosen:
        raise PassError(f"factorize would change nothing: no layer has a smaller form that keeps it{_late(slower)}.")
    return chosen, slower


def _selected(
    network: nn.Module,
    options: Mapping[str, Sequence[_Option]],
    config: FactorizeConfig,
    context: Context,
    slower: Sequence[str],
) -> dict[str, _Option]:
    """Of each layer the form of least loss, such that all together keep the target; those that stay whole left out."""
    target = config.keep.target()
    if target is None:
        lost = 1 - (config.keep.energy or 0.0)
        picked = {n: min((o for o in every if o.loss <= lost), key=lambda o: o.macs) for n, every in options.items()}
        return {name: option for name, option in picked.items() if option.ranks}
    unit, amount = target
    counted, factor = UNITS[unit]
    baseline = measure(context.original, context.task.example(1), unit)
    asked = amount.resolve(baseline)
    now = measure(network, context.task.example(1), unit)
    if asked >= now:
        raise PassError(
            f"factorize would change nothing: keep {amount} {unit} is {asked:.0f}, and the model has {now}. Ask for "
            f"less; a ratio is of the uncompressed model, which has {baseline}."
        )

    def cost(option: _Option) -> float:
        return factor * float(getattr(option, counted))

    rest = now - sum(cost(every[0]) for every in options.values())
    least = rest + sum(min(map(cost, every)) for every in options.values())
    if least > asked:
        raise PassError(
            f"factorize: cannot keep {amount} {unit} ({asked:,.0f}): the smallest reachable is {least:,.0f} "
            f"({least / baseline:.3f} of the uncompressed model){_late(slower)}. Ask for more, or factor more layers."
        )

    def at(price: float) -> dict[str, _Option]:
        return {n: min(every, key=lambda o: o.loss + price * cost(o) / now) for n, every in options.items()}

    def total(picked: Mapping[str, _Option]) -> float:
        return rest + sum(map(cost, picked.values()))

    low, high = 0.0, 1.0
    while total(at(high)) > asked and high < 1e9:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if total(at(middle)) > asked else (low, middle)
    picked = at(high)
    if total(picked) > asked:
        picked = {name: min(every, key=cost) for name, every in options.items()}
    return {name: option for name, option in _filled(picked, options, cost, asked - rest).items() if option.ranks}


def _late(slower: Sequence[str]) -> str:
    return f"; no faster on this device: {a_few(slower)} (measure: false takes them all the same)" if slower else ""


def _filled(
    picked: dict[str, _Option], options: Mapping[str, Sequence[_Option]], cost: Any, room: float
) -> dict[str, _Option]:
    """What is left of the target goes to the forms that win most by it, one after the other."""
    while True:
        spent = sum(map(cost, picked.values()))
        better: list[tuple[float, str, _Option]] = [
            (picked[n].loss - o.loss, n, o) for n, every in options.items() for o in every
            if o.loss < picked[n].loss and spent - cost(picked[n]) + cost(o) <= room
        ]  # fmt: skip
        if not better:
            return picked
        _, name, option = max(better, key=lambda one: one[0])
        picked = {**picked, name: option}


def _inputs(network: nn.Module, trials: Trials, context: Context) -> dict[str, torch.Size]:
    """The shape of what each layer reads in one call as it is timed."""
    found: dict[str, torch.Size] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, read: tuple[Tensor, ...]) -> None:
            found.setdefault(name, read[0].shape)

        return hook

    kinds = (nn.Linear, _ConvNd)
    handles = [m.register_forward_pre_hook(watch(n)) for n, m in network.named_modules() if isinstance(m, kinds)]
    try:
        with torch.no_grad():
            call(network, {name: torch.as_tensor(np.asarray(value)) for name, value in trials.feeds.items()})
    finally:
        for handle in handles:
            handle.remove()
    return found


def _pays(module: nn.Module, option: _Option, shape: torch.Size, times: Times, context: Context) -> bool:
    """Whether the smaller layers, timed one by one, are faster together than the layer."""
    whole, small = (list(_timed_parts(m, shape)) for m in (module, parts_of(module, option.ranks)))
    times.measure([*whole, *small], context.status)
    return sum(times.of(*one) for one in small) < SLOWER * sum(times.of(*one) for one in whole)


def _timed_parts(module: nn.Module, shape: torch.Size) -> Iterator[tuple[LayerKind, int, int]]:
    wrapped = module if isinstance(module, nn.Sequential) else nn.Sequential(module)
    for name, kinds in layer_kinds(wrapped, {"input": torch.zeros(shape)}).items():
        weight = wrapped.get_submodule(name).get_parameter("weight")
        for kind in kinds:
            yield kind, weight.shape[1], weight.shape[0]
