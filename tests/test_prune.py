"""Pruning: what must be removed together, how much of it, and what is left afterwards."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prune_nets import CLASSES, NETS, SIZE, Concat, Flatten, LambdaShortcut, Residual, Shuffle
from pydantic import ValidationError
from torch import nn

from compress.errors import ModelError, PassError
from compress.models import build_model
from compress.passes import prune as module
from compress.passes.allocate import Choices, allocate, importance_losses, widths_allowed
from compress.passes.base import Context
from compress.passes.cost import measure_costs
from compress.passes.groups import find_groups, removal
from compress.passes.importance import score_units
from compress.passes.preflight import mask_channels, preflight
from compress.passes.prune import PruneConfig, preview_prune, prune
from compress.passes.recalibrate import recalibrate
from compress.sizes import count_macs, count_params
from compress.surgery import apply_rewrites, remove_channels, resize_like, rewrite_shortcuts
from compress.tasks import Task

UNITS = ("params", "macs", "bytes")


@pytest.fixture(scope="module")
def task() -> Task:
    """Random images with labels that their mean colours tell."""
    torch.manual_seed(0)
    x = torch.randn(320, 3, SIZE, SIZE)
    x += (4 * torch.rand(len(x), 3) - 2)[..., None, None]
    y = (x.mean((2, 3))[:, 0] > 0).long() + 2 * (x.mean((2, 3))[:, 1] > 0).long()
    return Task.from_tensors((x[:192], y[:192]), (x[192:256], y[192:256]), (x[256:], y[256:]), classes=CLASSES)


@pytest.fixture
def no_export(monkeypatch):
    """Leave out the export of the pruned network, which takes seconds and has tests of its own."""
    monkeypatch.setattr(module, "export_onnx", lambda model, example: None)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = NETS[name].build()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return model.eval()


def config(**settings) -> PruneConfig:
    return PruneConfig(**{"keep": {"macs": 0.5}, "round_to": 8, "recalibrate": 0} | settings)


def context(task: Task, model: nn.Module, seed: int = 0, **more) -> Context:
    return Context(task=task, seed=seed, original=model, **more)


def size(model: nn.Module, task: Task, unit: str) -> int:
    return count_macs(model, task.example(1)) if unit == "macs" else count_params(model) * (4 if unit == "bytes" else 1)


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# --- every network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_every_network_is_pruned_to_its_target(name, task, no_export):
    model, net = build(name), NETS[name]
    before = copy.deepcopy(model)
    settings = config(keep={"macs": net.keep})
    result = prune(model, settings, context(task, model))

    assert same(model, before) and not model.training, "the caller's model was changed"
    asked = net.keep * size(model, task, "macs")
    got = size(result.module, task, "macs")
    assert 0.98 * asked <= got <= 1.02 * asked or (
        got < asked and any("nearest reachable" in w for w in result.warnings)
    )
    assert result.details["achieved"] == {
        unit: {
            "value": size(result.module, task, unit),
            "ratio": round(size(result.module, task, unit) / size(model, task, unit), 4),
        }
        for unit in UNITS
    }
    x = task.example(5)["input"]
    assert result.module(x).shape == (5, CLASSES)
    result.module(x).sum().backward()
    assert same(result.module, prune(model, settings, context(task, model)).module), "not deterministic"

    left = {layer for entry in result.details["left_alone"] for layer in entry["layers"]}
    assert left >= set(net.alone)
    for layer in net.alone:
        assert any(w.startswith("left alone") and layer in w for w in result.warnings)
    widths = dict(before.named_modules())
    for layer in left - {"attention"}:
        assert result.module.get_submodule(layer).weight.shape[0] == widths[layer].weight.shape[0]


@pytest.mark.parametrize("name", NETS)
def test_a_pruned_network_is_rebuilt_from_shapes_and_rewrites(name, task, no_export):
    model = build(name)
    result = prune(model, config(keep={"params": NETS[name].keep}), context(task, model))
    rebuilt = copy.deepcopy(model)
    apply_rewrites(rebuilt, result.details["rewrites"])
    resize_like(rebuilt, {key: tuple(t.shape) for key, t in result.module.state_dict().items()})
    rebuilt.load_state_dict(result.module.state_dict())
    x = task.example(3)["input"]
    assert torch.equal(rebuilt.eval()(x), result.module(x))


@pytest.mark.parametrize("name", NETS)
def test_changes_say_what_happened_layer_by_layer(name, task, no_export):
    model = build(name)
    result = prune(model, config(keep={"params": NETS[name].keep}), context(task, model))
    rewritten = {rewrite["layer"] for rewrite in result.details["rewrites"]}
    seen = set()
    for change in result.changes:
        old, new = (m.get_submodule(change.layer) for m in (model, result.module))
        kind = change.what if isinstance(new, nn.modules.conv._ConvNd) else change.what.replace("channels", "features")
        assert change.after == getattr(new, kind) < change.before
        assert change.layer in rewritten or change.before == getattr(old, kind)
        seen.add(change.layer)
    for layer, old in model.named_modules():
        if isinstance(old, nn.modules.conv._ConvNd | nn.Linear):
            assert (old.weight.shape != result.module.get_submodule(layer).weight.shape) == (layer in seen)


def parts(name: str, task: Task):
    """A network ready to be cut: (model, groups that can be pruned, costs)."""
    model, example = build(name), task.example(1)
    rewrite_shortcuts(model, example)
    groups, _ = find_groups(model, example)
    good, _ = preflight(model, example, groups, measure_costs(model, example, groups))
    return model, good, measure_costs(model, example, good)


@pytest.mark.parametrize("name", NETS)
def test_any_widths_cost_what_was_predicted_and_compute_what_was_kept(name, task):
    """Predicted MACs and params are those of the cut network, which equals the whole one without those channels."""
    model, groups, costs = parts(name, task)
    x = task.example(4)["input"]
    rng = np.random.default_rng(0)
    for _ in range(3):
        kept = np.array([rng.integers(1, n + 1) for n in costs.units])
        chosen = [rng.permutation(n)[: n - k].tolist() for n, k in zip(costs.units, kept, strict=True)]
        cut = copy.deepcopy(model)
        remove_channels(cut, removal(groups, chosen))
        assert [int(costs.of(unit, kept)) for unit in UNITS] == [size(cut, task, unit) for unit in UNITS]
        if NETS[name].exact:
            torch.testing.assert_close(cut(x), mask_channels(model, groups, chosen)(x), rtol=1e-3, atol=1e-4)


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "per_layer"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.85, 0.995])
def test_targets_in_every_unit(unit, ratio, scope, task):
    model = build("residual")
    preview = preview_prune(model, config(keep={unit: ratio}, scope=scope), context(task, model))
    assert preview.layers
    got = size(preview.module, task, unit) / size(model, task, unit)
    assert 0.98 * ratio <= got <= 1.02 * ratio or (got < ratio and any("nearest reachable" in n for n in preview.notes))


@pytest.mark.parametrize("block", [1, 8, 16])
def test_half_of_a_resnet_20_is_met_in_every_rounding(block, task):
    model = build_model("resnet", depth=20).eval()
    preview = preview_prune(model, config(round_to=block), context(task, model))
    half = size(model, task, "macs") / 2
    assert 0.98 * half <= size(preview.module, task, "macs") <= half
    for layer in preview.module.modules():
        if isinstance(layer, nn.Conv2d) and layer.out_channels >= block:
            assert layer.out_channels % block == 0


@settings(max_examples=60, deadline=None)
@given(target=st.floats(0.05, 1.0), seed=st.integers(0, 5), name=st.sampled_from(["concat", "flatten", "residual"]))
def test_what_misses_the_target_is_the_nearest_below_it(target, seed, name, searched):
    """Against all allocations there are."""
    costs, everything = searched[name]
    rng = np.random.default_rng(seed)
    choices = [Choices(np.array(w), -np.sort(-rng.random(len(w)))) for w in everything["widths"]]
    goal = target * everything["costs"].max()
    found = allocate(costs, choices, "macs", goal)
    below = everything["costs"][everything["costs"] <= goal]
    if not below.size:
        assert found.cost == everything["costs"].min()
    elif below.max() >= 0.98 * goal:
        assert 0.98 * goal <= found.cost <= goal
    else:
        assert found.cost == below.max()


@pytest.fixture(scope="module")
def searched(task):
    found = {}
    for name in ("concat", "flatten", "residual"):
        _, groups, costs = parts(name, task)
        widths = [widths_allowed(group.width, 8, 1) for group in groups]
        every = np.array(list(itertools.product(*widths)))
        found[name] = costs, {"widths": widths, "costs": costs.of("macs", every)}
    return found


def test_greedy_search_agrees_with_the_whole_space(searched, monkeypatch):
    """Where the space is too large to search whole, local search must come as close; here it can be compared."""
    costs, everything = searched["residual"]
    rng = np.random.default_rng(1)
    choices = [Choices(np.array(w), 5 * np.log(max(w) / np.array(w)) * rng.random()) for w in everything["widths"]]
    goals = [share * everything["costs"].max() for share in (0.3, 0.5, 0.7, 0.9)]
    whole = [allocate(costs, choices, "macs", goal) for goal in goals]
    monkeypatch.setattr("compress.passes.allocate._ALL_AT_ONCE", 0)
    for goal, best in zip(goals, whole, strict=True):
        found = allocate(costs, choices, "macs", goal)
        losses = [
            sum(float(c.loss[list(c.kept).index(k)]) for c, k in zip(choices, a.kept, strict=True))
            for a in (found, best)
        ]
        assert 0.98 * goal <= found.cost <= goal
        assert losses[1] <= losses[0] <= 1.25 * losses[1]


@pytest.mark.parametrize(
    ("width", "block", "smallest", "below", "allowed"),
    [
        (64, 16, 1, False, [16, 32, 48, 64]),
        (64, 16, 1, True, [1, 2, 4, 8, 16, 32, 48, 64]),
        (16, 16, 2, False, [2, 4, 8, 16]),
        (20, 8, 2, False, [8, 16, 20]),
        (12, 16, 2, False, [2, 4, 8, 12]),
        (5, 1, 1, False, [1, 2, 3, 4, 5]),
        (1, 16, 1, True, [1]),
        (10, 8, 9, False, [10]),
        (24, 8, 3, True, [4, 8, 16, 24]),
    ],
)
def test_widths_the_device_likes(width, block, smallest, below, allowed):
    assert widths_allowed(width, block, smallest, below=below) == allowed


@given(st.integers(1, 300), st.sampled_from([1, 3, 4, 8, 16]), st.integers(0, 300), st.booleans())
def test_a_layer_is_never_rounded_to_nothing(width, block, smallest, below):
    widths = widths_allowed(width, block, min(smallest, width), below=below)
    assert widths == sorted(set(widths)) and widths[-1] == width and widths[0] >= 1


def test_losses_grow_as_less_is_kept():
    scores = np.random.default_rng(0).random(64)
    losses = importance_losses(scores, np.arange(1, 65), 3)
    assert losses[-1] == 0 and (np.diff(losses) < 0).all()


def test_an_absolute_target_is_never_passed(task):
    model = build("residual")
    limit = int(0.503 * size(model, task, "bytes"))
    preview = preview_prune(model, config(keep={"bytes": f"{limit}B"}), context(task, model))
    assert size(preview.module, task, "bytes") <= limit


def test_a_target_out_of_reach_names_the_smallest(task):
    model = build("residual")
    with pytest.raises(PassError, match=r"cannot keep 0.02 macs .* smallest reachable is ([\d,]+) macs") as error:
        preview_prune(model, config(keep={"macs": 0.02}, max_ratio=0.6), context(task, model))
    smallest = int(str(error.value).split("reachable is ")[1].split(" ")[0].replace(",", ""))
    reached = preview_prune(model, config(keep={"macs": f"{smallest / 1e3}k"}, max_ratio=0.6), context(task, model))
    assert size(reached.module, task, "macs") == smallest


@pytest.mark.parametrize("keep", [1.0, "1000G"])
def test_keeping_everything_would_change_nothing(keep, task):
    model = build("residual")
    with pytest.raises(PassError, match="would change nothing"):
        preview_prune(model, config(keep={"macs": keep}), context(task, model))


def test_a_second_pruning_counts_from_the_uncompressed_model(task, no_export):
    model = build("residual")
    first = prune(model, config(), context(task, model)).module
    second = prune(first, config(keep={"macs": 0.3}), context(task, model))
    assert second.details["achieved"]["macs"]["ratio"] == pytest.approx(0.3, rel=0.02)
    with pytest.raises(PassError, match="uncompressed"):
        prune(first, config(keep={"macs": 0.6}), context(task, model))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"latency": 0.5}, "use macs"),
        ({"macs": 0.5, "params": 0.5}, "exactly one"),
        ({}, "exactly one"),
        ({"macs": 0}, "above 0"),
    ],
)
def test_targets_that_make_no_sense(keep, message):
    with pytest.raises(ValidationError, match=message):
        PruneConfig(keep=keep)


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


def test_coupled_layers_cannot_have_two_shares(task):
    model = build("residual")
    with pytest.raises(PassError, match=r"0.25 and 0.5 .* b3c2, b3s"):
        preview_prune(model, config(per_layer={"b3c2": 0.25, "b3s": 0.5}), context(task, model))


def test_nothing_to_prune_says_why(task):
    model = build("shuffle")
    with pytest.raises(PassError, match="a: its channels are mixed"):
        preview_prune(model, config(exclude=("b", "c")), context(task, model))


def test_patterns_are_listed_with_their_place():
    listed = config(layers=("a*", "b*"), exclude=("c",), per_layer={"d": 0.5}).patterns()
    assert listed == [(("layers", 0), "a*"), (("layers", 1), "b*"), (("exclude", 0), "c"), (("per_layer", "d"), "d")]


# --- importance -----------------------------------------------------------------------------------------------------

KINDS = ("l1", "l2", "group_norm", "bn_scale", "taylor")


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
    small = prune(model, settings, context(task, model)).module
    kept = [i for i in range(16) if i not in dead]
    torch.testing.assert_close(small.a.weight, model.a.weight[kept])


def test_removing_dead_channels_changes_nothing(task):
    model, dead = with_dead_channels(task)
    example = task.example(4)
    rewrite_shortcuts(model, example)
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
        prune(model, config(importance=kind, batches=1), context(task, model, seed)).module for seed in (0, 0, 1)
    )
    assert same(first, again)
    assert same(first, other) == (kind not in ("random", "taylor"))
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
        score_units(model, find_groups(model, example)[0], "l2", seed=0)


def test_rewritten_shortcuts_have_no_say_in_importance(task):
    model, example = build("lambda shortcut"), task.example(1)
    rewrite_shortcuts(model, example)
    groups = find_groups(model, example)[0]
    before, _ = score_units(model, groups, "group_norm", seed=0, skip=frozenset(["shortcut"]))
    model.shortcut.weight.data.mul_(1000)
    after, _ = score_units(model, groups, "group_norm", seed=0, skip=frozenset(["shortcut"]))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# --- what follows pruning -------------------------------------------------------------------------------------------


def test_recalibration_gives_the_statistics_of_the_data(task):
    model = Flatten()
    model.norm.running_mean.fill_(7)
    assert recalibrate(model, task, 1, seed=0)
    features = model.a(task.calibration(128, 0).inputs["input"])
    torch.testing.assert_close(model.norm.running_mean, features.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.norm.running_var, features.var((0, 2, 3)), rtol=1e-3, atol=1e-5)
    assert model.norm.momentum == 0.1 and not model.norm.training
    assert not recalibrate(Concat(), task, 4, seed=0)
    assert not recalibrate(model, task, 0, seed=0)


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
    assert not result.module.training and result.module.shortcut.weight.requires_grad


def test_steps_meet_the_same_target(task):
    model = build("residual")
    for steps in (1, 3):
        preview = preview_prune(model, config(keep={"params": 0.4}, steps=steps), context(task, model))
        assert 0.98 * 0.4 <= size(preview.module, task, "params") / size(model, task, "params") <= 0.4


def test_the_pruned_network_exports(task):
    model = LambdaShortcut().eval()
    result = prune(model, config(), context(task, model))
    assert result.details["rewrites"] == [
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
    small = prune(model, config(importance=importance, batches=1), context(task, model)).module
    assert not any(p.requires_grad for p in (*model.parameters(), *small.parameters()))


def test_a_preview_tells_the_sizes_and_trains_nothing(task):
    model = Shuffle().eval()
    before = copy.deepcopy(model)
    preview = preview_prune(model, config(importance="taylor", recover={"epochs": 50}), context(task, model))
    assert same(model, before)
    assert set(preview.layers) == {"b", "c"}
    assert f"macs {size(preview.module, task, 'macs'):,}" in preview.notes[0]
    assert any("taylor" in note for note in preview.notes)
