"""Layers of low rank: the target is met by what loses least, and the smaller layers are the product they stand for."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from prune_nets import NETS, build, colour_task, context, size
from torch import nn

from compress.core.errors import PassError, RecipeError
from compress.graph.low_rank import LowRank, parts_of
from compress.graph.model_state import ModelState, ZerosStay, rebuild
from compress.graph.surgery import resize_like
from compress.passes.base import Loss, Trials
from compress.passes.factorization import factorize as module
from compress.passes.factorization.factorize_settings import FactorizeConfig
from compress.recipe.load import load_recipe


@pytest.fixture(scope="module")
def task():
    return colour_task()


def run(model, task, state=None, **settings):
    config = FactorizeConfig(**{"recalibrate": 0} | settings)
    return module.factorize(state or ModelState(model), config, context(task, model))


@pytest.mark.parametrize("name", NETS)
def test_every_network_keeps_its_target_and_comes_back_from_its_record(name, task):
    model = build(name)
    before = copy.deepcopy(model)
    keep = 0.95 if name == "grouped" else 0.75  # most of its weights are in layers that have no smaller form
    result = run(model, task, keep={"params": keep})
    after = result.model.module
    assert size(after, task, "params") <= keep * size(model, task, "params")
    assert size(after, task, "macs") < size(model, task, "macs")
    for unit in ("params", "macs", "bytes"):
        assert result.details["achieved"][unit]["value"] == size(after, task, unit)
    x = task.example(4)["input"]
    assert torch.equal(model(x), before(x)), "the caller's model was changed"
    after(x).sum().backward()

    fresh = copy.deepcopy(model)
    rebuild(fresh, result.model.rewrites)
    resize_like(fresh, {key: tuple(t.shape) for key, t in after.state_dict().items()})
    fresh.load_state_dict(after.state_dict())
    assert torch.equal(fresh.eval()(x), after(x))
    assert [c.layer for c in result.changes] == [r.layer for r in result.model.rewrites if isinstance(r, LowRank)]


LAYERS = {
    "linear": nn.Linear(24, 40),
    "convolution": nn.Conv2d(12, 20, 3, stride=2, padding=1),
    "no bias": nn.Conv2d(12, 20, 3, padding=2, dilation=2, bias=False),
    "reflected": nn.Conv2d(12, 20, 3, padding=1, padding_mode="reflect"),
    "one dimension": nn.Conv1d(12, 20, 5, padding=2),
    "more out than is read": nn.Conv2d(2, 40, 3, padding=1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_at_full_rank_the_smaller_layers_are_the_layer(name):
    torch.manual_seed(0)
    layer = LAYERS[name]
    weight = layer.weight.detach()
    n = weight.flatten(1).shape[1]
    noise = torch.randn(n, n, dtype=torch.float64) / n**0.5
    root = torch.linalg.cholesky(noise @ noise.T + 0.1 * torch.eye(n, dtype=torch.float64))
    own = module._Layer("layer", layer, 1.0, 1.0, root)
    most = min(weight.flatten(1).shape)
    shape = {"linear": (3, 24), "one dimension": (3, 12, 9)}.get(name, (3, weight.shape[1], 9, 9))
    x = torch.randn(shape)
    forms = [(most,)] if name == "linear" else [(most,), (min(weight.shape[1], most), min(weight.shape[0], most))]
    for ranks in forms:
        torch.testing.assert_close(own.parts(ranks)(x), layer(x), rtol=1e-4, atol=1e-4)


def test_what_is_lost_is_what_was_counted(task):
    """The loss of a form is the share of the layer's answers, squared, that it really loses on the same inputs."""
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40, bias=False), torch.randn(4000, 24) @ torch.randn(24, 24)
    spread = (x.T @ x).double() / len(x)
    own = module._Layer("layer", layer, 1.0, 1.0, module._root(spread))
    for option in own.options(FactorizeConfig(keep={"energy": 0.5}))[1:]:
        with torch.no_grad():
            lost = (layer(x) - own.parts(option.ranks)(x)).square().sum() / layer(x).square().sum()
        assert float(lost) == pytest.approx(option.loss, rel=0.02, abs=1e-5)


def test_forms_that_know_the_inputs_lose_less_on_them():
    """Inputs that fill half their directions: by the weights alone as much is lost as if they filled all."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(8, 32, 3, padding=1), torch.randn(64, 8, 6, 6)
    x[:, 4:] = x[:, :4]
    patches = nn.functional.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1).double()
    knowing = module._Layer("layer", layer, 1.0, 1.0, module._root(patches.T @ patches / len(patches)))
    blind = module._Layer("layer", layer, 1.0, 1.0, torch.eye(72, dtype=torch.float64))
    for ranks in ((12,), (4, 16)):
        with torch.no_grad():
            errors = [float((own.parts(ranks)(x) - layer(x)).square().mean()) for own in (knowing, blind)]
        assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_a_share_of_energy_is_kept_by_every_layer(energy, task):
    model = build("residual")
    result = run(model, task, keep={"energy": energy})
    assert result.details["layers"] and all(entry["loss"] <= 1 - energy for entry in result.details["layers"])


def test_ranks_that_were_chosen_give_the_same_again(task):
    model = build("residual")
    first = run(model, task, keep={"macs": 0.6})
    ranks = {entry["layer"]: entry["ranks"] for entry in first.details["layers"]}
    again = run(model, task, keep={"macs": 0.6}, ranks=ranks)
    states = [r.model.module.state_dict() for r in (first, again)]
    assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_what_is_slower_on_this_device_stays_whole(task, monkeypatch):
    class Told:
        """Times by MACs, but of one layer, whose smaller forms are slow."""

        def __init__(self, trials):
            pass

        def measure(self, wanted, status):
            pass

        def of(self, kind, inputs, outputs):
            wide = kind.shape[1:] == (2, 2)  # the third stage of the network
            return 1.0 if wide else float(inputs * outputs * np.prod(kind.kernel, initial=1.0))

    monkeypatch.setattr(module, "Times", Told)
    model = build("residual")
    feeds = {name: t.numpy() for name, t in task.example(1).items()}
    trials = Trials("cpu", 1, feeds, lambda data: Loss(0, 0, 0), None, lambda data: True, 20.0)
    config = FactorizeConfig(keep={"macs": 0.75}, recalibrate=0)
    result = module.factorize(ModelState(model), config, context(task, model, trials=trials))
    third = {"b3c2"}
    assert third <= set(result.details["slower_here"])
    assert not third & {entry["layer"] for entry in result.details["layers"]}
    assert any("no faster on this device: b3c" in text for text in result.warnings)
    again = module.factorize(ModelState(model), result.choice.settings, context(task, model, trials=trials))
    assert again.details["layers"] and not again.details["slower_here"]
    config = FactorizeConfig(keep={"macs": 0.15}, recalibrate=0)
    with pytest.raises(PassError, match=r"no faster on this device: b3.*measure: false takes them"):
        module.factorize(ModelState(model), config, context(task, model, trials=trials))
    config = FactorizeConfig(keep={"params": 0.3}, recalibrate=0)
    stored = module.factorize(ModelState(model), config, context(task, model, trials=trials))
    assert stored.details["achieved"]["params"]["ratio"] <= 0.3
    assert any("no faster on this device, since the target is not reached without: b3c" in w for w in stored.warnings)


def test_weights_that_are_promised_to_stay_zero_are_left_alone(task):
    model = build("mlp")
    state = ModelState(model, constraints=(ZerosStay(parameters=("layers.0.weight",)),))
    result = run(model, task, state, keep={"energy": 0.7})
    assert {"layers": ["layers.0"], "reason": "its weight is promised to stay as it is (zeros)"} in result.details[
        "left_alone"
    ]


def test_layers_that_the_network_reads_itself_are_left_alone(task):
    left = run(build("attention"), task, keep={"energy": 0.7}).details["left_alone"]
    assert {"layers": ["attention.out_proj"], "reason": "the network reads its weight itself, or never"} in left
    left = run(build("tied"), task, keep={"energy": 0.7}).details["left_alone"]
    assert [entry["layers"] for entry in left if "shares its weight" in entry["reason"]] == [["b"], ["c"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": {"params": 0.001}}, "the smallest reachable is .* Ask for more"),
        ({"keep": {"params": "900M"}}, "would change nothing: keep 900M params"),
        ({"keep": {"energy": 0.9}, "ranks": {"nowhere": (3,)}}, "ranks are given for nowhere"),
        ({"keep": {"energy": 0.999999}, "layers": ("head",)}, "would change nothing"),
    ],
)
def test_targets_that_cannot_be_met_are_said(settings, message, task):
    with pytest.raises(PassError, match=message):
        run(build("residual"), task, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": {"params": 0.5, "energy": 0.9}}, "exactly one"),
        ({"keep": {}}, "exactly one"),
        ({"keep": {"params": 0.5}, "ranks": {"a": [1, 2, 3]}}, "one number or two"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe({"version": 1, "passes": [{"kind": "factorize", **settings}]})


def test_a_layer_of_another_kind_has_no_parts():
    with pytest.raises(TypeError, match="neither a linear layer nor an ungrouped convolution"):
        parts_of(nn.Conv2d(8, 8, 3, groups=8), (2,))
