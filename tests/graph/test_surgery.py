"""Rewriting shortcuts, and making layers narrower by name and shape."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from fuzz import json_mutants
from prune_nets import Lambda
from torch import Tensor, nn

from compress.core.registries import REWRITES
from compress.graph.model_state import ModelState, Rewrite, read_constraints, read_rewrites, rebuild
from compress.graph.shortcuts import ShortcutConv
from compress.graph.surgery import remove_channels, resize_like, side_width
from compress.models import build_model
from compress.models.resnet import PadShortcut
from evaluate.core.components import only_allowed
from evaluate.core.errors import ModelError


class Around(nn.Module):
    """A convolution, the layer under test, and a classifier."""

    def __init__(self, layer, channels=6, classes=3):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.layer = layer
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.LazyLinear(classes)

    def forward(self, x):
        return self.head(self.pool(self.layer(self.conv(x))).flatten(1))


def around(layer, size=8):
    torch.manual_seed(0)
    model = Around(layer)
    example = {"x": torch.randn(2, 3, size, size)}
    model(example["x"])
    return model.eval(), example


SHORTCUTS = {
    "PadShortcut": PadShortcut(6, 12, 2),
    "odd size": PadShortcut(6, 12, 2),
    "user's lambda": Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))),
    "padding behind": Lambda(lambda x: F.pad(x, (0, 0, 0, 0, 0, 5))),
    "stride of three": Lambda(lambda x: x[:, :, ::3, ::3]),
    "channel selection": Lambda(lambda x: x[:, [4, 1, 1]]),
    "zeros concatenated": Lambda(lambda x: torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :2, ::2, ::2])], 1)),
}
NOT_SHORTCUTS = {
    "average pooling": Lambda(lambda x: F.avg_pool2d(x, 2)),
    "scaled": Lambda(lambda x: 2 * x[:, :, ::2, ::2]),
    "the other pixels": Lambda(lambda x: x[:, :, 1::2, 1::2]),
    "clipped": Lambda(lambda x: x[:, :, ::2, ::2].relu()),
    "upsampled": Lambda(lambda x: F.interpolate(x, scale_factor=2)),
    "pixels to channels": Lambda(lambda x: F.pixel_unshuffle(x, 2)),
    "same shape": Lambda(lambda x: x.flip(1)),
    "torch's own": nn.MaxPool2d(1, 2),
}


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_shortcut_becomes_an_equal_convolution(kind):
    model, example = around(copy.deepcopy(SHORTCUTS[kind]), size=7 if kind == "odd size" else 8)
    features = model.conv(torch.randn(5, *example["x"].shape[1:]))
    before = model.layer(features)
    (rewrite,) = ShortcutConv.apply(model, example)
    assert isinstance(model.layer, nn.Conv2d) and model.layer.kernel_size == (1, 1)
    assert (model.layer(features) - before).abs().max() == 0.0
    assert rewrite.layer == "layer" and REWRITES.get("shortcut_conv").target is type(rewrite)


@pytest.mark.parametrize("kind", NOT_SHORTCUTS)
def test_other_layers_are_not_rewritten(kind):
    model, example = around(NOT_SHORTCUTS[kind])
    assert ShortcutConv.apply(model, example) == ()
    assert model.layer is NOT_SHORTCUTS[kind]


def test_rewriting_leaves_mode_and_other_weights_alone():
    model, example = around(PadShortcut(6, 12, 2))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ShortcutConv.apply(model.train(), example)
    assert model.training and model.layer.training and model.layer.weight.requires_grad
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


def test_rewrites_repeat_from_their_record():
    first = build_model("resnet", depth=8, width=4)
    second = copy.deepcopy(first)
    rewrites = ShortcutConv.apply(first, {"x": torch.randn(1, 3, 8, 8)})
    rebuild(second, read_rewrites(ModelState(first, rewrites=rewrites).claims()["rewrites"]))
    second.load_state_dict(first.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(first.eval()(x), second.eval()(x))


SHORTCUT = {
    "kind": "shortcut_conv",
    "layer": "layer2.0.shortcut",
    "in_channels": 4,
    "out_channels": 8,
    "stride": [2, 2],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "layer2.0.shortcutt"}, r"layer2\.0\.shortcutt.*no layer of that name.*did you mean"),
        ({"kind": "x"}, "unknown rewrite 'x'"),
        ({"kind": "nowhere:x"}, "nowhere"),
        ({"stride": [2]}, "stride"),
        ({"in_channels": 2**63}, "in_channels"),
        ({"more": 1}, "more"),
    ],
)
def test_a_rewrite_of_another_network_is_refused(change, message):
    with pytest.raises(ModelError, match=message):
        rebuild(build_model("resnet", depth=8, width=4), read_rewrites([SHORTCUT | change]))


ZEROS = {"kind": "zeros", "parameters": ["conv1.weight", "linear.weight"]}


@pytest.mark.parametrize(("whole", "read"), [(SHORTCUT, read_rewrites), (ZEROS, read_constraints)])
def test_a_strangers_record_is_read_or_refused_in_words_and_imports_nothing(whole, read):
    model, modules = build_model("resnet", depth=8, width=4), set(sys.modules)
    for mutant in json_mutants(whole, 300, seed=1):
        if isinstance(mutant, dict):  # the manifest's own reader has seen to that
            try:
                with only_allowed():
                    for record in read([mutant]):
                        rebuild(copy.deepcopy(model), [record]) if isinstance(record, Rewrite) else record.bind(model)
            except ModelError as error:
                assert str(error)
    assert not {name for name in set(sys.modules) - modules if "stranger" in name}


class Everything(nn.Module):
    """Every kind of layer that can be made narrower, coupled along 8 channels or more."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.scale = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.first = nn.Conv2d(8, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm = nn.BatchNorm2d(16)
        self.act = nn.PReLU(16)
        self.grouped = nn.Conv2d(16, 8, 3, padding=1, groups=2)
        self.group_norm = nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 12, 2, 2)
        self.instance = nn.InstanceNorm2d(12, affine=True)
        self.layer_norm = nn.LayerNorm(12)
        self.hidden = nn.Linear(12, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).permute(0, 3, 1, 2)
        x = x * self.scale.flatten().narrow(0, 0, x.shape[1]).view(1, -1, 1, 1)
        x = self.act(self.norm(self.depthwise(self.first(x))))
        x = self.instance(self.up(self.group_norm(self.grouped(x))))
        return self.head(self.hidden(self.layer_norm(x.mean((2, 3)))).relu())


WIDE = [0, 1, 8, 9]  # two channels of each half: the grouped convolution that follows has two groups
CUTS = {
    ("embed", "out"): [1], ("first", "in"): [1],
    ("first", "out"): WIDE, ("depthwise", "out"): WIDE, ("norm", "out"): WIDE, ("act", "out"): WIDE,
    ("grouped", "in"): WIDE,
    ("grouped", "out"): [3, 7], ("group_norm", "out"): [3, 7], ("up", "in"): [3, 7],
    ("up", "out"): [11], ("instance", "out"): [11], ("layer_norm", "out"): [11], ("hidden", "in"): [11],
    ("hidden", "out"): [2, 3], ("head", "in"): [2, 3],
}  # fmt: skip


def narrow_everything():
    torch.manual_seed(0)
    model = Everything().eval()
    narrow = copy.deepcopy(model)
    remove_channels(narrow, CUTS)
    return model, narrow


def test_every_kind_of_layer_becomes_narrower_and_runs():
    model, narrow = narrow_everything()
    widths = {
        "embed": 7, "first": 12, "depthwise": 12, "norm": 12, "act": 12, "grouped": 6, "group_norm": 6, "up": 11,
        "instance": 11, "layer_norm": 11, "hidden": 8, "head": 3,
    }  # fmt: skip
    assert {name: side_width(narrow, name, "out") for name in widths} == widths
    assert (narrow.depthwise.groups, narrow.depthwise.in_channels, narrow.grouped.in_channels) == (12, 12, 12)
    assert (narrow.norm.num_features, narrow.group_norm.num_channels, narrow.layer_norm.normalized_shape) == (
        12,
        6,
        (11,),
    )
    assert narrow(torch.zeros(2, 4, 4, dtype=torch.int64)).shape == (2, 3)
    assert side_width(model, "first", "out") == 16  # the copy was cut, not the model


def test_resize_like_rebuilds_from_shapes_alone():
    model, narrow = narrow_everything()
    rebuilt = resize_like(model, {name: tuple(t.shape) for name, t in narrow.state_dict().items()})
    assert rebuilt is model
    rebuilt.load_state_dict(narrow.state_dict())
    tokens = torch.randint(0, 5, (2, 4, 4))
    assert torch.equal(rebuilt.eval()(tokens), narrow(tokens))
    assert str(rebuilt) == str(narrow)


def test_the_named_channels_are_the_ones_that_go():
    linear = nn.Sequential(nn.Linear(4, 6))
    weight = linear[0].weight.detach().clone()
    remove_channels(linear, {("0", "out"): [1, 4], ("0", "in"): [0]})
    assert torch.equal(linear[0].weight, weight[[0, 2, 3, 5]][:, 1:])
    assert (linear[0].in_features, linear[0].out_features) == (3, 4)


def test_bare_parameters_are_cut_and_rebuilt():
    model = build_model("vit", image=8, width=16, depth=1, heads=2)
    narrow = copy.deepcopy(model)
    remove_channels(narrow, {("position", "out"): [0, 5]})
    assert narrow.position.shape == (1, 4, 14)
    shapes = {name: tuple(t.shape) for name, t in narrow.state_dict().items()}
    assert resize_like(model, shapes).position.shape == (1, 4, 14)


def test_tied_weights_stay_tied_and_need_one_name():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    resize_like(model, {"0.weight": (3, 3)})
    assert model[0].weight is model[1].weight and model[1].weight.shape == (3, 3)
    assert model[1].in_features == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv.weight": (6, 3, 5, 5)}, "conv.weight.*5, 5"),
        ({"conv.weight": (6, 3)}, "conv.weight"),
        ({"conv.bias": (0,)}, "conv.bias"),
        ({"other": (3,)}, "unexpected: other"),
        ({"head.bias": None}, "missing: head.bias"),
    ],
)
def test_shapes_of_another_network_are_refused(change, message):
    model, _ = around(nn.Identity())
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()} | change
    with pytest.raises(ModelError, match=message):
        resize_like(model, {name: shape for name, shape in shapes.items() if shape is not None})
