"""Shared weights: a few values a layer, in the network and in the file, which computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from prune_nets import build, colour_task, context
from torch import nn

from compress import compress
from compress.core.errors import PassError
from compress.graph.codebooks import with_codebooks
from compress.graph.export import export_onnx
from compress.graph.model_state import FewValues, ModelState
from compress.graph.onnx_graph import constant_sizes, serialise
from compress.passes.sharing.share import few_values, share
from compress.passes.sharing.share_settings import ShareConfig
from compress.passes.sparsity.sparsify import sparsify
from compress.passes.sparsity.sparsify_settings import SparsifyConfig


@pytest.fixture(scope="module")
def task():
    return colour_task()


def weights(model):
    kinds = nn.Linear | nn.Embedding | nn.modules.conv._ConvNd
    return {n: m.weight.detach() for n, m in model.named_modules() if isinstance(m, kinds)}


@pytest.mark.parametrize("most", [4, 16, 256])
@pytest.mark.parametrize("kind", ["normal", "wide", "few", "one sided"])
def test_each_weight_has_the_nearest_of_a_few_values_and_they_are_means(kind, most):
    draw = np.random.default_rng(0)
    weights = {
        "normal": draw.normal(size=(64, 32)),
        "wide": draw.standard_cauchy((64, 32)),
        "few": draw.choice([-1.0, 0.5, 2.0], (64, 32)),
        "one sided": draw.exponential(size=(64, 32)),
    }[kind].astype(np.float32)
    found = few_values(weights, most)
    values = np.unique(found)
    assert len(values) <= most
    if kind == "few":
        assert np.array_equal(found, weights)
        return
    nearest = values[np.abs(weights[..., None] - values).argmin(-1)]
    assert np.mean(nearest == found) > 0.999  # the last round moves borders by less than rounding
    for value in values:
        assert weights[found == value].mean() == pytest.approx(value, rel=1e-3, abs=1e-4)
    even = np.linspace(weights.min(), weights.max(), most)
    plain = even[np.abs(weights[..., None] - even).argmin(-1)]
    assert np.square(found - weights).sum() <= np.square(plain - weights).sum()


def test_zeros_of_sparse_weights_stay_zeros(task):
    model = build("residual")
    sparse = sparsify(ModelState(model), SparsifyConfig(sparsity=0.7, recalibrate=0), context(task, model)).model
    result = share(sparse, ShareConfig(bits=3, recover={"epochs": 1, "batch_size": 64}), context(task, model))
    for name, weight in weights(result.model.module).items():
        zero = weights(sparse.module)[name] == 0
        assert bool((weight[zero] == 0).all()) and len(weight.unique()) <= 8


def test_what_is_trained_are_the_shared_values(task):
    model = build("residual")
    alone, trained = (
        share(ModelState(model), ShareConfig(bits=4, recalibrate=0, recover=r), context(task, model)).model
        for r in (None, {"epochs": 1, "batch_size": 64})
    )
    for name, weight in weights(trained.module).items():
        before = weights(alone.module)[name]
        assert not torch.equal(weight, before) and len(weight.unique()) <= 16
        for value in before.unique():
            assert len(weight[before == value].unique()) == 1, "weights that shared a value do not any more"
    (held,) = trained.constraints
    assert isinstance(held, FewValues) and held.broken(alone.module, trained.module) == ""
    with torch.no_grad():
        trained.module.conv0.weight.add_(torch.randn_like(trained.module.conv0.weight))
    assert held.broken(alone.module, trained.module) == "weights of conv0.weight have more than 16 values"


@pytest.mark.parametrize("bits", [2, 4, 5, 8])
@pytest.mark.parametrize("name", ["residual", "grouped transposed", "vit"])
def test_the_file_holds_codes_and_computes_what_the_network_computes(name, bits, task):
    model = build(name)
    result = share(ModelState(model), ShareConfig(bits=bits, recalibrate=0), context(task, model))
    graph, x = result.model.graph, task.example(5)["input"]
    held = [t for t in graph.graph.initializer if t.data_type in (TensorProto.UINT4, TensorProto.UINT8)]
    assert len(held) == len(result.changes)
    assert {t.data_type for t in held} == {TensorProto.UINT4 if bits <= 4 else TensorProto.UINT8}
    (output,) = onnxruntime.InferenceSession(serialise(graph), providers=["CPUExecutionProvider"]).run(
        None, {"input": x.numpy()}
    )
    np.testing.assert_allclose(output, result.model.module(x).detach().numpy(), atol=1e-4)

    plain = export_onnx(result.model.module, task.example(2))
    sizes, dense = (constant_sizes(g, serialise(g)) for g in (graph, plain))
    assert sizes["bytes"] < (0.35 if bits <= 4 else 0.5) * dense["bytes"]
    # Beside a code there are values, some for each layer, that are parameters of the file too.
    assert sizes["params"] == dense["params"] and sizes["nonzero"] == dense["nonzero"]
    assert (4 if bits <= 4 else 8) <= sizes["bits"] < (6 if bits <= 4 else 9.5)


def test_a_layer_that_the_graph_holds_otherwise_is_said():
    """Weights that are neither the network's, nor these transposed, nor scaled by channels, stay as they are."""
    draw = np.random.default_rng(0)
    network = {name: draw.choice([-1.0, 1.0, 2.0], (8, 8)).astype(np.float32) for name in "abcd"}
    factors = draw.uniform(0.5, 2, (8, 1)).astype(np.float32)
    stored = {"a": network["a"], "b": network["b"].T, "c": network["c"] * factors, "d": np.roll(network["d"], 1)}
    names = ["x", *"abcd"]
    nodes = [
        onnx.helper.make_node("MatMul", [f"{names[i]}.y" if i else "x", f"{n}.w"], [f"{n}.y"], name=n)
        for i, n in enumerate("abcd")
    ]
    held = [numpy_helper.from_array(np.ascontiguousarray(t), f"{name}.w") for name, t in stored.items()]
    ports = [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 8)) for n in ("x", "d.y")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], held),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    written, left = with_codebooks(model, network, 16)
    assert left == ["d"]
    kept = {t.name for t in written.graph.initializer}
    assert kept == {"d.w", "c.w.factors", *(f"{n}.w.{what}" for n in "abc" for what in ("codes", "values"))}
    x = {"x": draw.normal(size=(1, 8)).astype(np.float32)}
    one, other = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, x)[0]
        for m in (model, written)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_way_of_a_run_and_back(digits, trained, tmp_path):
    recipe = {"version": 1, "passes": [{"kind": "share", "bits": 4}], "benchmark": {"seconds": 0.5}}
    artifact = compress(trained, recipe, task=digits, out=tmp_path / "run")
    summary = artifact.summary()
    sizes = [summary[side]["sizes"] for side in ("baseline", "compressed")]
    assert sizes[1]["bytes"] < 0.5 * sizes[0]["bytes"] and sizes[1]["bits"] < 8
    assert sizes[1]["params"] == sizes[0]["params"] and sizes[1]["macs"] == sizes[0]["macs"]
    for name, parameter in artifact.module(trained).named_parameters():
        assert parameter.ndim < 2 or len(parameter.unique()) <= 16, name


def test_what_has_few_values_already_is_said(task):
    model = build("mlp")
    first = share(ModelState(model), ShareConfig(bits=4, recalibrate=0), context(task, model)).model
    with pytest.raises(PassError, match="no weights that are chosen have more than 16 values"):
        share(first, ShareConfig(bits=4), context(task, model))


def test_weights_that_are_not_finite_are_refused(task):
    model = build("mlp")
    next(iter(weights(model).values()))[0, 0] = float("inf")
    with pytest.raises(PassError, match="not finite"):
        share(ModelState(model), ShareConfig(), context(task, model))
