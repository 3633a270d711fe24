"""Sparse weights: as many zeros as were asked for, where the pattern allows them, and they stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prune_nets import build, colour_task, context
from safetensors.numpy import load_file
from torch import nn

from compress import compress
from compress.core.errors import PassError, RecipeError
from compress.graph.model_state import ModelState, ZerosStay
from compress.graph.sizes import count_nonzero
from compress.passes.base import get_pass
from compress.passes.sparsity import sparsify as module
from compress.passes.sparsity.sparsify import preview_sparsify, sparsify
from compress.passes.sparsity.sparsify_settings import SparsifyConfig
from compress.recipe.load import load_recipe


@pytest.fixture(scope="module")
def task():
    return colour_task()


def run(model, task, **settings):
    return sparsify(ModelState(model), SparsifyConfig(**{"recalibrate": 0} | settings), context(task, model))


def weights(model):
    kinds = nn.Linear | nn.modules.conv._ConvNd
    return {n: m.weight.detach() for n, m in model.named_modules() if isinstance(m, kinds)}


@pytest.mark.parametrize("scope", ["global", "per_layer"])
@pytest.mark.parametrize("score", ["magnitude", "taylor"])
@pytest.mark.parametrize("name", ["residual", "grouped transposed", "mlp", "weight norm"])
def test_so_many_weights_become_zero_and_the_others_stay(name, score, scope, task):
    model = build(name)
    result = run(model, task, sparsity=0.8, score=score, scope=scope, batches=2)
    after = weights(result.model.module)
    zeros, total = (sum(int(f(w)) for w in after.values()) for f in (lambda w: (w == 0).sum(), lambda w: w.numel()))
    assert zeros / total == pytest.approx(0.8, abs=len(after) / total)
    assert result.details["sparsity"] == pytest.approx(zeros / total, abs=1e-4)
    if name != "weight norm":
        for layer, before in weights(model).items():
            kept = after[layer] != 0
            assert torch.equal(after[layer][kept], before[kept]) and kept.any(), "a layer lost all it had"
            if scope == "per_layer":
                assert float((~kept).float().mean()) == pytest.approx(0.8, abs=1 / kept.numel())
            if scope == "per_layer" and score == "magnitude" and kept.any() and not kept.all():
                assert before[kept].abs().min() >= before[~kept].abs().max()


@pytest.mark.parametrize(("pattern", "kept", "of"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8), ("3:8", 3, 8)])
def test_of_every_so_many_weights_along_the_inputs_so_many_stay(pattern, kept, of, task):
    model = build("residual")
    result = run(model, task, pattern=pattern)
    assert result.details["left_alone"] == ["conv0"] and "left dense: conv0" in result.warnings[0]
    for layer, weight in weights(result.model.module).items():
        if layer != "conv0":
            rows = weight.movedim(1, -1).reshape(-1, of)
            assert (rows.count_nonzero(dim=1) == kept).all()
            whole = weights(model)[layer].movedim(1, -1).reshape(-1, of).abs()
            torch.testing.assert_close(rows.abs().sum(1), whole.topk(kept, 1).values.sum(1))


@pytest.mark.parametrize(("pattern", "rows", "columns"), [("4x1", 4, 1), ("1x8", 1, 8), ("2x2", 2, 2)])
def test_zeros_come_in_blocks(pattern, rows, columns, task):
    model = build("residual")
    result = run(model, task, pattern=pattern, sparsity=0.5, exclude=("conv0",))
    for weight in (w for n, w in weights(result.model.module).items() if n != "conv0"):
        zero = (weight == 0).reshape(weight.shape[0] // rows, rows, weight.shape[1] // columns, columns, -1)
        together = zero.permute(0, 2, 4, 1, 3).flatten(3)
        assert torch.equal(together.all(-1), together.any(-1))
    assert result.details["sparsity"] == pytest.approx(0.5, abs=0.01)


def test_zeros_stay_through_training_pruning_int8_and_a_fresh_process(digits, trained, tmp_path):
    steps = [
        {"kind": "sparsify", "sparsity": 0.7, "recover": {"epochs": 1, "batch_size": 64}},
        {"kind": "finetune", "epochs": 1, "batch_size": 64},
        {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}},
    ]
    recipe = {"version": 1, "passes": steps, "benchmark": {"seconds": 0.5}}
    artifact = compress(trained, recipe, task=digits, out=tmp_path / "run")
    sizes = [one["sizes_after"]["nonzero"] for one in artifact.summary()["passes"]]
    whole = count_nonzero(trained)
    assert sizes[0] == sizes[1] < 0.4 * whole
    # Small weights become zero when they are rounded; those that are zero become no others.
    assert 0.9 * sizes[0] <= sizes[2] <= sizes[0]
    stored = load_file(artifact.path / "weights.safetensors")
    reloaded = {name: p.detach().numpy() for name, p in artifact.module(trained).named_parameters()}
    for name, tensor in stored.items():
        if name in reloaded and tensor.ndim > 1:
            assert np.array_equal(tensor == 0, reloaded[name] == 0) and (tensor == 0).any()


def test_parts_zero_most_of_it_early_and_reach_the_same(task):
    model = build("residual")
    result = run(model, task, sparsity=0.8, steps=4, recover={"epochs": 4, "batch_size": 64})
    assert result.details["sparsity"] == pytest.approx(0.8, abs=1e-3) and len(result.details["history"]) == 4
    assert all("recovered" in entry["metric"] for entry in result.details["history"])


def test_weights_that_were_cut_too_early_come_back(task):
    model = build("residual")
    settings = {"sparsity": 0.9, "steps": 3, "recover": {"epochs": 3, "batch_size": 64}}
    plain, regrown = (run(model, task, regrow=share, **settings) for share in (0.0, 0.3))
    found = [torch.cat([w.flatten() == 0 for w in weights(r.model.module).values()]) for r in (plain, regrown)]
    assert not torch.equal(*found) and int(found[0].sum()) == int(found[1].sum())


def test_regrowth_does_not_change_what_weights_are_scored_by(task, monkeypatch):
    """Where magnitude is asked for, gradients say which zeros come back, and not which weights go."""
    seen = []
    whole = module._zeros

    def zeros(weights, config, done, evidence):
        seen.append(bool(evidence.gradients))
        return whole(weights, config, done, evidence)

    monkeypatch.setattr(module, "_zeros", zeros)
    for score in ("magnitude", "taylor"):
        run(build("mlp"), task, sparsity=0.8, steps=2, regrow=0.2, score=score, batches=1)
    assert seen == [False, False, True, True]


def test_a_second_time_counts_what_is_zero_already(task):
    model = build("mlp")
    first = run(model, task, sparsity=0.6).model
    second = sparsify(first, SparsifyConfig(sparsity=0.8), context(task, model))
    assert second.details["sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert [type(one) for one in second.model.constraints] == [ZerosStay]
    with pytest.raises(PassError, match="would change nothing"):
        sparsify(second.model, SparsifyConfig(sparsity=0.8), context(task, model))


def test_a_preview_says_how_many_become_zero(task):
    model = build("mlp")
    shown = preview_sparsify(model, SparsifyConfig(sparsity=0.5), context(task, model))
    assert any("of all parameters become zero" in note and "not speed" in note for note in shown.notes)


def test_a_tied_weight_counts_once(task):
    model = build("tied")
    result = run(model, task, sparsity=0.5)
    assert [change.layer for change in result.changes].count("b") == 1
    assert "c" not in [change.layer for change in result.changes]
    assert result.model.module.b.weight is result.model.module.c.weight


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected sparsity"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "leave out sparsity"),
        ({"pattern": "4:2"}, "fewer kept than there are"),
        ({"pattern": "half"}, "expected a pattern such as 2:4"),
        ({"sparsity": 0.5, "regrow": 0.1}, "ask for steps above 1"),
        ({"pattern": "2:4", "steps": 2, "regrow": 0.1}, "leave it out beside N:M"),
        ({"sparsity": 1.0}, "above 0 and below 1"),
    ],
)
def test_targets_that_make_no_sense(settings, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe({"version": 1, "passes": [{"kind": "sparsify", **settings}]})


def test_a_pattern_that_fits_nowhere_is_said(task):
    with pytest.raises(PassError, match=r"no layer has weights that pattern 5:7 fits into; left dense: conv0"):
        run(build("residual"), task, pattern="5:7")
    assert get_pass("sparsify").traits.keeps_constraints


def test_weights_that_are_not_finite_are_refused(task):
    model = build("mlp")
    next(iter(weights(model).values()))[0, 0] = float("nan")
    with pytest.raises(PassError, match="is not finite"):
        run(model, task, sparsity=0.5)
