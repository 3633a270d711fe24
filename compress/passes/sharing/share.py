"""Weight sharing: all weights of a layer have a few values, found by k-means and trained on (Han, Mao & Dally 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd

from compress.core.errors import PassError
from compress.core.forward import copy_model
from compress.graph.codebooks import with_codebooks
from compress.graph.export import export_onnx
from compress.graph.model_state import FewValues, ModelState, ZerosStay
from compress.graph.plain_weights import PlainWeights
from compress.passes.base import Change, Context, PassResult, Preview, fits_layer
from compress.passes.in_parts import restore
from compress.passes.sharing.share_settings import ShareConfig
from evaluate.core.text import a_few

ROUNDS = 100  # of k-means, which mostly ends before
NO_SPEED = "shared weights are storage, not speed: they are looked up when a file is loaded, and are fp32 from then on"


def preview_share(model: nn.Module, config: ShareConfig, context: Context) -> Preview:
    """Which layers share; shapes stay as they are."""
    layers = tuple(dict.fromkeys(layer for layer, _, _ in _chosen(model, config)))
    return Preview(model, layers, 4.0 if config.bits <= 4 else 8.0, (NO_SPEED,))


def share(model: ModelState, config: ShareConfig, context: Context) -> PassResult:
    """Round each weight to the nearest of its layer's values, train these on, and write the file that stores both.

    Zeros of an earlier `sparsify` keep a value of their own. Raises PassError where nothing would change, or the graph
    cannot be written.
    """
    network = copy_model(model.module).cpu().eval()
    plain = PlainWeights.apply(network, context.task.example(1))
    most, names, changes, noise = 2**config.bits, [], [], []
    every = list(_chosen(network, config))
    sparse = {name for one in model.constraints if isinstance(one, ZerosStay) for name in one.parameters}
    for number, (layer, name, parameter) in enumerate(every):
        context.status(f"share: {layer}", number, len(every))
        before = parameter.detach().numpy()
        after = few_values(before, most, zeros=name in sparse)
        if np.array_equal(before, after):
            continue
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(after))
        names.append(name)
        changes.append(Change(layer, "weight values", len(np.unique(before)), len(np.unique(after))))
        lost = float(np.square(before - after).sum() / max(float(np.square(before).sum()), 1e-30))
        noise.append({"layer": layer, "lost": round(lost, 6)})
    if not names:
        raise PassError(f"share would change nothing: no weights that are chosen have more than {most} values.")
    held = FewValues(parameters=tuple(names), most=most)
    state = replace(model, module=network, rewrites=(*model.rewrites, *plain), constraints=(*model.constraints, held))
    history = restore(state, config.recover, context, part=0, parts=1, recalibrate=config.recalibrate)
    graph = export_onnx(network, context.task.example(1), opset=context.opset)
    try:
        shared = {layer: p.detach().numpy() for layer, name, p in _chosen(network, config) if name in names}
        graph, dense = with_codebooks(graph, shared, most)
    except Exception as reason:  # what the converter of operator sets raises
        raise PassError(
            f"share: codes of 4 bits need operator set 21, and the graph of {context.opset} cannot be converted: "
            f"{str(reason)[:200]}. Next: export.opset: 21, or bits: 5."
        ) from reason
    details: dict[str, Any] = {
        "values": most,
        "stored_bits": 4 if config.bits <= 4 else 8,
        "layers": noise,
        "metric": {"name": context.task.metric_name, **history["metric"]},
        "history": [history],
    }
    left = [f"stored in fp32 all the same, as the graph holds it otherwise: {a_few(dense)}"] if dense else []
    return PassResult(replace(state, graph=graph), tuple(changes), (*left, NO_SPEED), details)


def _chosen(model: nn.Module, config: ShareConfig) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(layer, name of its weight, weight) of all that share, tied ones once."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if not isinstance(module, _ConvNd | nn.Linear | nn.Embedding) or weight is None or id(weight) in seen:
            continue
        if fits_layer(name, config.layers) and not fits_layer(name, config.exclude):
            seen.add(id(weight))
            yield name, f"{name}.weight", weight


def few_values(weights: NDArray[np.float32], most: int, *, zeros: bool = False) -> NDArray[np.float32]:
    """The weights, each as the nearest of at most `most` values: k-means in one dimension, begun in even steps.

    Exact zeros have a value of their own where they are many, or must (`zeros`). Raises PassError for weights that are
    not finite.
    """
    if not np.isfinite(weights).all():
        raise PassError("share: weights are not finite; check them for NaN and infinity.")
    flat = np.sort(weights[weights != 0].astype(np.float64))
    zeros = weights.size - flat.size > (0 if zeros else weights.size / most)
    count = most - int(zeros)
    if len(np.unique(weights)) <= most:
        return weights
    centres, sums = np.linspace(flat[0], flat[-1], count), np.append(0.0, flat.cumsum())
    for _ in range(ROUNDS):
        ends = np.append(np.searchsorted(flat, (centres[1:] + centres[:-1]) / 2), len(flat))
        starts = np.append(0, ends[:-1])
        sizes = ends - starts
        moved = np.where(sizes > 0, (sums[ends] - sums[starts]) / np.maximum(sizes, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    found = centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, weights)].astype(np.float32)
    return np.where(weights == 0, np.float32(0), found) if zeros else found
