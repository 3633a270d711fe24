"""Pruning: what must be removed together, how much of it, and what is left afterwards."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from prune_nets import (
    CLASSES,
    NETS,
    Concat,
    Flatten,
    LambdaShortcut,
    Residual,
    Shuffle,
    build,
    colour_task,
    config,
    context,
    parts,
    same,
    size,
)
from torch import nn
from torch_pruning.dependency import index_mapping

from compress.core.errors import PassError
from compress.graph.model_state import ModelState, rebuild
from compress.graph.shortcuts import ShortcutConv
from compress.graph.surgery import remove_channels, resize_like
from compress.passes.base import PassResult
from compress.passes.batch_statistics import reestimate_batch_norm
from compress.passes.pruning import prune as module
from compress.passes.pruning import prune_choice
from compress.passes.pruning.channel_groups import coupled, find_groups, removal
from compress.passes.pruning.importance import IMPORTANCES, score_units
from compress.passes.pruning.preflight import mask_channels
from compress.passes.pruning.probe import Probe, probe_inputs
from compress.passes.pruning.prune import preview_prune
from compress.passes.pruning.prune_plan import PrunePlan
from compress.passes.pruning.prune_settings import SCOPES, TRIED
from compress.tasks import Task
from evaluate.core.errors import ModelError

UNITS = ("params", "macs", "bytes")


def prune(model: nn.Module, *how) -> PassResult:
    return module.prune(ModelState(model), *how)


@pytest.fixture(scope="module")
def task() -> Task:
    return colour_task()


@pytest.fixture
def no_export(monkeypatch):
    """Leave out the export of the pruned network, which takes seconds and has tests of its own."""
    monkeypatch.setattr(module, "export_onnx", lambda model, example: None)


# --- every network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_every_network_is_pruned_to_its_target(name, task, no_export):
    model, net = build(name), NETS[name]
    before = copy.deepcopy(model)
    settings = config(keep={"macs": net.keep})
    result = prune(model, settings, context(task, model))

    assert same(model, before) and not model.training, "the caller's model was changed"
    asked = net.keep * size(model, task, "macs")
    got = size(result.model.module, task, "macs")
    assert 0.98 * asked <= got <= 1.02 * asked or (
        got < asked and any("nearest reachable" in w for w in result.warnings)
    )
    assert result.details["achieved"] == {
        unit: {
            "value": size(result.model.module, task, unit),
            "ratio": round(size(result.model.module, task, unit) / size(model, task, unit), 4),
        }
        for unit in UNITS
    }
    x = task.example(5)["input"]
    assert result.model.module(x).shape == (5, CLASSES)
    result.model.module(x).sum().backward()
    assert same(result.model.module, prune(model, settings, context(task, model)).model.module), "not deterministic"

    left = {layer for entry in result.details["left_alone"] for layer in entry["layers"]}
    assert left >= set(net.alone)
    for layer in net.alone:
        assert any(w.startswith("left alone") and layer in w for w in result.warnings)
    widths = dict(before.named_modules())
    for layer in left - {"attention"}:
        assert result.model.module.get_submodule(layer).weight.shape[0] == widths[layer].weight.shape[0]


@pytest.mark.parametrize("name", NETS)
def test_groups_are_those_of_torch_prunings_own_walk_where_that_ends(name, task, monkeypatch):
    theirs = []

    def both(graph, layer, cut, channels):
        ours = coupled(graph, layer, cut, channels)
        if name != "rotary":
            theirs.append((ours, graph.get_pruning_group(layer, cut, list(channels))))
        return ours

    monkeypatch.setattr("compress.passes.pruning.channel_groups.coupled", both)
    find_groups(build(name), task.example(1))
    assert theirs or name == "rotary"
    for ours, wanted in theirs:
        found = [
            {
                (id(dep.layer), dep.handler.__name__): dict(zip(i.idxs, i.root_idxs, strict=True))
                for i in group
                for dep in (i.dep,)
            }
            for group in (ours, wanted)
        ]
        assert found[0] == found[1] and ours[0].dep.layer is wanted[0].dep.layer


@pytest.mark.parametrize("name", NETS)
def test_a_pruned_network_is_rebuilt_from_shapes_and_rewrites(name, task, no_export):
    model = build(name)
    result = prune(model, config(keep={"params": NETS[name].keep}), context(task, model))
    rebuilt = copy.deepcopy(model)
    rebuild(rebuilt, result.model.rewrites)
    resize_like(rebuilt, {key: tuple(t.shape) for key, t in result.model.module.state_dict().items()})
    rebuilt.load_state_dict(result.model.module.state_dict())
    x = task.example(3)["input"]
    assert torch.equal(rebuilt.eval()(x), result.model.module(x))


@pytest.mark.parametrize("name", NETS)
def test_changes_say_what_happened_layer_by_layer(name, task, no_export):
    model = build(name)
    result = prune(model, config(keep={"params": NETS[name].keep}), context(task, model))
    rewritten = {rewrite.layer for rewrite in result.model.rewrites}
    seen = set()
    for change in result.changes:
        old, new = (m.get_submodule(change.layer) for m in (model, result.model.module))
        kind = change.what if isinstance(new, nn.modules.conv._ConvNd) else change.what.replace("channels", "features")
        assert change.after == getattr(new, kind) < change.before
        assert change.layer in rewritten or change.before == getattr(old, kind)
        seen.add(change.layer)
    for layer, old in model.named_modules():
        if isinstance(old, nn.modules.conv._ConvNd | nn.Linear):
            assert (old.weight.shape != result.model.module.get_submodule(layer).weight.shape) == (layer in seen)


@pytest.mark.parametrize("name", NETS)
def test_any_widths_cost_what_was_predicted_and_compute_what_was_kept(name, task):
    """Predicted MACs and params are those of the cut network, which equals the whole one without those channels."""
    model, groups, costs = parts(name, task)
    probes = probe_inputs(task, 1)
    rng = np.random.default_rng(0)
    for _ in range(3):
        kept = np.array([rng.integers(1, n + 1) for n in costs.units])
        chosen = [rng.permutation(n)[: n - k].tolist() for n, k in zip(costs.units, kept, strict=True)]
        cut = copy.deepcopy(model)
        remove_channels(cut, removal(groups, chosen))
        assert [int(costs.of(unit, kept)) for unit in UNITS] == [size(cut, task, unit) for unit in UNITS]
        apart, seen = Probe(model, probes).compare(cut, mask_channels(model, groups, chosen))
        assert apart < 1e-5 and (seen or not any(chosen))


# --- which layers ---------------------------------------------------------------------------------------------------


def widths(result) -> dict[str, tuple[int, int]]:
    return {entry["layer"]: (entry["before"], entry["after"]) for entry in result.details["groups"]}


def test_excluded_layers_and_what_is_coupled_to_them_keep_their_channels(task, no_export):
    model = build("resnet A")
    result = prune(model, config(keep={"macs": 0.7}, exclude=("layer2.*", "conv1")), context(task, model))
    assert set(widths(result)) == {"layer1.0.conv1", "layer3.0.conv1", "layer3.0.conv2"}
    assert any("layer1.0.conv2: coupled to conv1, which is excluded" in w for w in result.warnings)


def test_only_the_layers_asked_for_lose_channels(task, no_export):
    model = build("resnet A")
    result = prune(model, config(keep={"macs": 0.8}, layers=("layer3",)), context(task, model))
    assert {c.layer.split(".")[0] for c in result.changes if c.what == "out_channels"} == {"layer3"}


def test_a_layer_coupled_to_one_not_asked_for_is_named(task, no_export):
    model = build("resnet A")
    result = prune(model, config(keep={"macs": 0.8}, layers=("layer1.*", "layer3.*")), context(task, model))
    assert any("coupled to conv1, which the patterns in `layers` leave out" in w for w in result.warnings)


def test_a_share_for_a_layer_overrides_its_importance(task, no_export):
    model = build("residual")
    shares = {"b3c1": 0.25, "b2c1": 1.0}
    result = prune(model, config(keep={"macs": 0.6}, per_layer=shares), context(task, model))
    assert widths(result)["b3c1"] == (64, 16) and widths(result)["b2c1"] == (32, 32)
    assert result.details["achieved"]["macs"]["ratio"] == pytest.approx(0.6, rel=0.02)


@pytest.mark.parametrize("best", SCOPES)
def test_the_way_to_divide_that_validation_likes_best_is_kept(best, task, no_export, monkeypatch):
    model = build(next(iter(NETS)))
    fixed = prune(model, config(scope=best), context(task, model))
    judged = prune_choice._tried

    def liked(network, plan, settings, where, ways, *how):
        found = judged(network, plan, settings, where, ways, *how)
        return {way: result | {"metric": float(way[1] == best)} for way, result in found.items()}

    monkeypatch.setattr(prune_choice, "_tried", liked)
    result = prune(model, config(scope="auto"), context(task, model))
    assert result.details["scope"] == best and widths(result) == widths(fixed)
    assert result.details["tried"] == {f"group_norm, {scope}": float(scope == best) for scope in SCOPES}


def test_every_importance_is_tried_by_default_and_none_does_better(task, no_export):
    model = build(next(iter(NETS)))
    result = prune(model, config(importance="auto", scope="auto"), context(task, model))
    tried = result.details["tried"]
    best = f"{result.details['importance']}, {result.details['scope']}"
    assert len(tried) == len(TRIED) * len(SCOPES) and max(tried.values()) == tried[best]
    for importance, scope in (way.split(", ") for way in list(tried)[::4]):
        alone = prune(model, config(importance=importance, scope=scope), context(task, model))
        assert alone.details["metric"]["pruned"] == pytest.approx(tried[f"{importance}, {scope}"])
        assert alone.details["metric"]["pruned"] <= result.details["metric"]["pruned"]


def test_where_validation_is_large_a_part_of_it_says_which_ways_are_worth_the_whole(task, no_export, monkeypatch):
    monkeypatch.setattr(prune_choice, "PART", 16)
    model = build(next(iter(NETS)))
    result = prune(model, config(importance="auto", scope="auto"), context(task, model))
    first = result.details["tried_first"]
    assert first.pop("samples") == 16 and len(first) == len(TRIED) * len(SCOPES)
    assert len(result.details["tried"]) == prune_choice.FINALISTS
    least = min(first[way] for way in result.details["tried"])
    assert all(first[way] <= least for way in first if way not in result.details["tried"])


def test_what_halving_a_layer_costs_decides_how_much_it_gives(task, no_export, monkeypatch):
    """A network of which one layer is said to matter a thousand times more keeps that one whole."""
    model = build("residual")
    names = [entry["layer"] for entry in prune(model, config(), context(task, model)).details["groups"]]
    for dear in ("b2c1", "b3c1"):
        told = {name: 1000.0 if name == dear else 1.0 for name in names}
        monkeypatch.setattr(prune_choice, "_sensitivity", lambda *_, told=told: told)
        kept = widths(prune(model, config(scope="sensitivity", keep={"macs": 0.6}), context(task, model)))
        assert kept[dear][0] == kept[dear][1] and any(after < before for before, after in kept.values())


def test_a_way_that_does_not_reach_the_target_is_not_taken(task, no_export, monkeypatch):
    model, step = build(next(iter(NETS))), PrunePlan.step

    def stepped(plan, network, target):
        if plan.way[1] != "per_layer":
            raise PassError("out of reach")
        step(plan, network, target)

    monkeypatch.setattr(PrunePlan, "step", stepped)
    result = prune(model, config(scope="auto"), context(task, model))
    assert result.details["scope"] == "per_layer" and list(result.details["tried"]) == ["group_norm, per_layer"]


def test_several_importances_are_combined_by_rank(task):
    model = build("residual")
    groups, _ = find_groups(model, task.example(1))
    one, other, both = (score_units(model, groups, kinds, seed=0)[0] for kinds in (("l1",), ("fpgm",), ("l1", "fpgm")))
    for first, second, combined in zip(one, other, both, strict=True):
        ranks = first.argsort().argsort() + second.argsort().argsort()
        assert ((np.diff(combined[ranks.argsort(kind="stable")]) >= -1e-9).all()) and combined.mean() == pytest.approx(
            1
        )


def test_coupled_layers_cannot_have_two_shares(task):
    model = build("residual")
    with pytest.raises(PassError, match=r"0.25 and 0.5 .* b3c2, b3s"):
        preview_prune(model, config(per_layer={"b3c2": 0.25, "b3s": 0.5}), context(task, model))


def test_nothing_to_prune_says_why(task):
    model = build("shuffle")
    with pytest.raises(PassError, match="a: its channels are mixed"):
        preview_prune(model, config(exclude=("b", "c")), context(task, model))


BLANK = ("shuffle", "grouped shuffle", "normed shuffle", "grouped", "residual")


@pytest.mark.parametrize("name", BLANK)
def test_what_is_pruned_does_not_depend_on_what_the_samples_show(name, task, no_export):
    """Where every sample is blank or the same, the same layers are pruned and left alone, for the same reasons."""
    model = build(name)
    want = prune(model, config(keep={"params": 0.8}), context(task, model)).details
    for value in (0.0, 1.0):
        x = torch.full((60, 3, 8, 8), value)
        blank = Task.from_tensors(*([(x, torch.arange(60) % CLASSES)] * 3), classes=CLASSES)
        got = prune(model, config(keep={"params": 0.8}), context(blank, model)).details
        assert got["left_alone"] == want["left_alone"]
        assert [group["layer"] for group in got["groups"]] == [group["layer"] for group in want["groups"]]


def test_a_cut_that_loses_other_channels_than_it_says_is_an_error(task, no_export, monkeypatch):
    model, right = build("residual"), removal

    def wrong(groups, chosen):
        gone = right(groups, chosen)
        width = {"b2c2": 32}
        return {k: sorted((i + 1) % width[k[0]] for i in v) if k == ("b2c2", "in") else v for k, v in gone.items()}

    monkeypatch.setattr("compress.passes.pruning.prune_plan.removal", wrong)
    with pytest.raises(PassError, match="not the whole one without the same channels"):
        prune(model, config(), context(task, model))


def test_weights_that_are_all_zero_hide_nothing(task, no_export):
    """Branches whose last gain is zero, as many are initialised, are still told from branches whose channels move."""
    model = build("shuffle")
    nn.init.zeros_(model.head.weight)
    left = prune(model, config(keep={"params": 0.8}), context(task, model)).details["left_alone"]
    assert any("a" in entry["layers"] and "mixed" in entry["reason"] for entry in left)


def test_an_operation_that_cannot_be_followed_costs_the_layers_around_it_alone(task, monkeypatch):
    def broken(graph, node):
        raise ZeroDivisionError("integer division or modulo by zero")

    monkeypatch.setattr(index_mapping, "update_concat_index_mapping", broken)
    groups, left = find_groups(build("concat"), task.example(1))
    assert [group.layers for group in groups] == [("c", "d"), ("head",)]
    assert {name for item in left for name in item.layers if "cannot be followed" in item.reason} == {"a", "b"}
    assert index_mapping.update_concat_index_mapping is broken


def test_weights_that_no_pass_cuts_are_named_with_their_share(task):
    model = nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 64, batch_first=True), Last(), nn.Linear(64, 4)).eval()
    with pytest.raises(PassError, match=r"9\d% of the weights .* 1 \(LSTM\)"):
        preview_prune(model, config(), context(task, model))


class Last(nn.Module):
    """The last step of a recurrent layer."""

    def forward(self, found):
        return found[0][:, -1]


def test_patterns_are_listed_with_their_place():
    listed = config(layers=("a*", "b*"), exclude=("c",), per_layer={"d": 0.5}).patterns()
    assert listed == [(("layers", 0), "a*"), (("layers", 1), "b*"), (("exclude", 0), "c"), (("per_layer", "d"), "d")]


# --- importance -----------------------------------------------------------------------------------------------------

KINDS = ("l1", "l2", "group_norm", "bn_scale", "fpgm", "taylor", "hessian", "activation")


def with_dead_channels(task: Task) -> tuple[nn.Module, set[int]]:
    """A network in which the channels 3, 8 .. 14 of the first layer are made of nothing and read by nobody."""
    model, dead = build("lambda shortcut"), [3, 8, 9, 10, 11, 12, 13, 14]
    with torch.no_grad():
        for tensor in (model.a.weight, model.an.weight, model.an.bias):
            tensor[dead] *= 1e-6
        model.b.weight[:, dead] *= 1e-6
    return model, set(dead)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_that_do_nothing_go_first(kind, task, no_export):
    model, dead = with_dead_channels(task)
    settings = config(importance=kind, keep={"macs": 0.7}, per_layer={"a": 0.5, "b": 1.0}, layers=("a", "b", "c"))
    small = prune(model, settings, context(task, model)).model.module
    kept = [i for i in range(16) if i not in dead]
    torch.testing.assert_close(small.a.weight, model.a.weight[kept])


def test_removing_dead_channels_changes_nothing(task):
    model, dead = with_dead_channels(task)
    example = task.example(4)
    ShortcutConv.apply(model, example)
    groups = [group for group in find_groups(model, example)[0] if group.name == "a"]
    before = model(example["input"])
    remove_channels(model, removal(groups, [sorted(dead)]))
    torch.testing.assert_close(model(example["input"]), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [*KINDS, "random"])
@pytest.mark.parametrize("name", ["lambda shortcut", "grouped"])
def test_every_importance_prunes_every_kind_of_network(kind, name, task, no_export):
    model = build(name)
    if kind == "bn_scale" and name == "grouped":
        with pytest.raises(PassError, match="nothing to score"):
            prune(model, config(importance=kind), context(task, model))
        return
    first, again, other = (
        prune(model, config(importance=kind, batches=1), context(task, model, seed)).model.module for seed in (0, 0, 1)
    )
    assert same(first, again)
    if not IMPORTANCES[kind].reads_data:
        assert same(first, other) == (kind != "random")
    assert all(p.grad is None for p in first.parameters())


def test_bn_scale_falls_back_by_name(task, no_export):
    model = build("flatten")
    result = prune(model, config(importance="bn_scale"), context(task, model))
    assert any("nothing to score in hidden: group_norm" in w for w in result.warnings)


def test_weights_that_are_not_finite_are_refused(task):
    model = build("flatten")
    model.b.weight.data[0] = float("nan")
    example = task.example(1)
    with pytest.raises(PassError, match="b is not finite"):
        score_units(model, find_groups(model, example)[0], ("l2",), seed=0)


def test_rewritten_shortcuts_have_no_say_in_importance(task):
    model, example = build("lambda shortcut"), task.example(1)
    ShortcutConv.apply(model, example)
    groups = find_groups(model, example)[0]
    before, _ = score_units(model, groups, ("group_norm",), seed=0, skip=frozenset(["shortcut"]))
    model.shortcut.weight.data.mul_(1000)
    after, _ = score_units(model, groups, ("group_norm",), seed=0, skip=frozenset(["shortcut"]))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# --- what follows pruning -------------------------------------------------------------------------------------------


def test_recalibration_gives_the_statistics_of_the_data(task):
    model = Flatten()
    model.norm.running_mean.fill_(7)
    assert reestimate_batch_norm(model, task, 1, seed=0)
    features = model.a(task.calibration(128, 0).inputs["input"])
    torch.testing.assert_close(model.norm.running_mean, features.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.norm.running_var, features.var((0, 2, 3)), rtol=1e-3, atol=1e-5)
    assert model.norm.momentum == 0.1 and not model.norm.training
    assert not reestimate_batch_norm(Concat(), task, 4, seed=0)
    assert not reestimate_batch_norm(model, task, 0, seed=0)


def test_recovery_trains_in_parts_and_says_how_it_went(task, no_export, tmp_path):
    model = build("lambda shortcut")
    seen = []
    recover = {"epochs": 3, "batch_size": 64, "learning_rate": 0.01, "distill": {"temperature": 2, "weight": 0.5}}
    settings = config(steps=2, recalibrate=2, recover=recover)
    place = context(task, model, folder=tmp_path, status=lambda message, done, total: seen.append(message))
    result = prune(model, settings, place)
    assert result.details["achieved"]["macs"]["ratio"] == pytest.approx(0.5, rel=0.02)
    assert [len(part["epochs"]) for part in result.details["history"]] == [1, 2]
    assert set(result.details["metric"]) == {"name", "pruned", "recalibrated", "recovered"}
    assert {path.name for path in tmp_path.iterdir()} >= {"part1", "part2"}
    assert "prune: part 2 of 2" in seen
    assert not result.model.module.training and result.model.module.shortcut.weight.requires_grad


def test_steps_meet_the_same_target(task):
    model = build("residual")
    for steps in (1, 3):
        preview = preview_prune(model, config(keep={"params": 0.4}, steps=steps), context(task, model))
        assert 0.98 * 0.4 <= size(preview.module, task, "params") / size(model, task, "params") <= 0.4


def test_the_pruned_network_exports(task):
    model = LambdaShortcut().eval()
    result = prune(model, config(), context(task, model))
    assert ModelState(model, rewrites=result.model.rewrites).claims()["rewrites"] == [
        {"layer": "shortcut", "in_channels": 16, "out_channels": 32, "stride": [2, 2], "kind": "shortcut_conv"}
    ]


@pytest.mark.parametrize("broken", ["before", "after"])
def test_an_export_that_fails_names_the_time(broken, task, monkeypatch):
    model = build("concat")

    def export(candidate, example):
        if broken == "before" or candidate is not model:
            raise ModelError("an operator is missing")

    monkeypatch.setattr(module, "export_onnx", export)
    with pytest.raises(PassError, match="even before pruning" if broken == "before" else "but not after"):
        prune(model, config(), context(task, model))


def test_a_network_that_cannot_be_traced_is_refused(task):
    class NoGradient(Residual):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    model = NoGradient().eval()
    with pytest.raises(PassError, match="NoGradient"):
        preview_prune(model, config(), context(task, model))


@pytest.mark.parametrize("importance", ["group_norm", "taylor"])
def test_a_frozen_network_is_pruned_and_stays_frozen(importance, task, no_export):
    model = build("residual").requires_grad_(False)
    small = prune(model, config(importance=importance, batches=1), context(task, model)).model.module
    assert not any(p.requires_grad for p in (*model.parameters(), *small.parameters()))


def test_a_preview_tells_the_sizes_and_trains_nothing(task):
    model = Shuffle().eval()
    before = copy.deepcopy(model)
    preview = preview_prune(model, config(importance="taylor", recover={"epochs": 50}), context(task, model))
    assert same(model, before)
    assert set(preview.layers) == {"b", "c"}
    assert f"macs {size(preview.module, task, 'macs'):,}" in preview.notes[0]
    assert any("taylor" in note for note in preview.notes)
