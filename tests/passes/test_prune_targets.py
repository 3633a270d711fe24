"""How much is pruned: targets in every unit, met as closely as rounding allows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prune_nets import build, colour_task, config, context, parts, size
from pydantic import ValidationError
from torch import nn

from compress.core.errors import PassError
from compress.graph.model_state import ModelState
from compress.models import build_model
from compress.passes.pruning import prune as module
from compress.passes.pruning.prune import preview_prune
from compress.passes.pruning.prune_settings import PruneConfig
from compress.passes.pruning.widths import Choices, allocate, importance_losses, widths_allowed
from compress.tasks import Task

UNITS = ("params", "macs", "bytes")


@pytest.fixture(scope="module")
def task() -> Task:
    return colour_task()


@pytest.fixture
def no_export(monkeypatch):
    """Leave out the export of the pruned network, which takes seconds and has tests of its own."""
    monkeypatch.setattr(module, "export_onnx", lambda model, example: None)


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
    monkeypatch.setattr("compress.passes.pruning.widths._ALL_AT_ONCE", 0)
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
    first = module.prune(ModelState(model), config(), context(task, model)).model.module
    second = module.prune(ModelState(first), config(keep={"macs": 0.3}), context(task, model))
    assert second.details["achieved"]["macs"]["ratio"] == pytest.approx(0.3, rel=0.02)
    with pytest.raises(PassError, match="uncompressed"):
        module.prune(ModelState(first), config(keep={"macs": 0.6}), context(task, model))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"macs": 0.5, "params": 0.5}, "exactly one"),
        ({}, "exactly one"),
        ({"macs": 0}, "above 0"),
    ],
)
def test_targets_that_make_no_sense(keep, message):
    with pytest.raises(ValidationError, match=message):
        PruneConfig(keep=keep)
