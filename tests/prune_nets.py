"""What the tests of pruning share: small networks that are hard to prune, each for its own reason, and a task.

Inputs are (n, 3, 8, 8), outputs (n, 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from compress.graph.shortcuts import ShortcutConv
from compress.graph.sizes import count_macs, count_params
from compress.models import build_model
from compress.passes.base import Context
from compress.passes.pruning.channel_groups import find_groups
from compress.passes.pruning.preflight import preflight
from compress.passes.pruning.probe import probe_inputs
from compress.passes.pruning.prune_settings import PruneConfig
from compress.passes.pruning.widths import measure_costs
from compress.tasks import Task

SIZE, CLASSES = 8, 4


class Concat(nn.Module):
    """One layer reads two others side by side, and one of them is read elsewhere as well."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(3, 24, 3, padding=1)
        self.c = nn.Conv2d(40, 32, 1)
        self.d = nn.Conv2d(16, 32, 1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        a = self.a(x).relu()
        both = torch.cat([a, self.b(x).relu()], 1)
        return self.head((self.c(both) + self.d(a)).relu().mean((2, 3)))


class Tied(nn.Module):
    """Two layers with one weight, and others that are free."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(192, 32)
        self.b = nn.Linear(32, 32)
        self.c = nn.Linear(32, 32)
        self.c.weight = self.b.weight
        self.d = nn.Linear(32, 128)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, x):
        x = self.a(x.flatten(1)).relu()
        return self.head(self.d(self.c(self.b(x).relu()).relu()).relu())


class Flatten(nn.Module):
    """A linear layer reads every pixel of a convolution."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.hidden = nn.Linear(24 * 4, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.b(self.norm(self.a(x)).relu()).relu()
        return self.head(self.hidden(x.view(x.shape[0], -1)).relu())


class Grouped(nn.Module):
    """A grouped convolution, a group norm and a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1)
        self.grouped = nn.Conv2d(32, 64, 3, padding=1, groups=4)
        self.norm = nn.GroupNorm(8, 64)
        self.up = nn.ConvTranspose2d(64, 32, 2, 2)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.norm(self.grouped(self.a(x).relu())).relu()
        return self.head(self.up(x).relu().mean((2, 3)))


class Shuffle(nn.Module):
    """Channels change places between two layers, which the dependency graph does not see."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1)
        self.b = nn.Conv2d(32, 32, 3, padding=1)
        self.c = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.a(x).relu()
        n, c, h, w = x.shape
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.c(self.b(x).relu()).relu().mean((2, 3)))


class GroupedShuffle(nn.Module):
    """Channels change places between grouped convolutions, behind a norm or none, and there is no bias (ShuffleNet)."""

    def __init__(self, norm):
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.grouped, self.norm = nn.Conv2d(32, 32, 1, groups=4, bias=False), norm
        self.b, self.head = nn.Conv2d(32, 32, 1, groups=4, bias=False), nn.Linear(32, CLASSES, bias=False)

    def forward(self, x):
        x = self.norm(self.grouped(self.a(x).relu()).relu())
        n, c, h, w = x.shape
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.b(x).relu().mean((2, 3)))


class GroupedTransposed(nn.Module):
    """A transposed convolution in groups."""

    def __init__(self):
        super().__init__()
        self.a, self.up = nn.Conv2d(3, 32, 3, padding=1), nn.ConvTranspose2d(32, 32, 2, 2, groups=4, bias=False)
        self.b, self.head = nn.Conv2d(32, 32, 3), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.b(self.up(self.a(x).relu()).relu()).relu().mean((2, 3)))


class FunctionalShortcut(nn.Module):
    """Option A written into forward(), where no module can be rewritten."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 64, 3, stride=2, padding=1)
        self.c = nn.Conv2d(64, 32, 3, padding=1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.a(x).relu()
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
        return self.head((self.c(self.b(x).relu()) + short).relu().mean((2, 3)))


class Attention(nn.Module):
    """torch's own attention, whose width is left alone, and a hidden layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(24, 32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.up = nn.Linear(32, 128)
        self.down = nn.Linear(128, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.embed(x.transpose(1, 2).flatten(2))
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.head((x + self.down(self.up(x).relu())).mean(1))


class Residual(nn.Module):
    """A ResNet-8 by hand, with flat names and biased convolutions, as in MLPerf Tiny."""

    def __init__(self):
        super().__init__()
        self.conv0, self.bn0 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16, eps=1e-3)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        for n, (before, after, stride) in enumerate(widths, 1):
            self.add_module(f"b{n}c1", nn.Conv2d(before, after, 3, stride, 1))
            self.add_module(f"b{n}n1", nn.BatchNorm2d(after, eps=1e-3))
            self.add_module(f"b{n}c2", nn.Conv2d(after, after, 3, 1, 1))
            self.add_module(f"b{n}n2", nn.BatchNorm2d(after, eps=1e-3))
            if stride > 1:
                self.add_module(f"b{n}s", nn.Conv2d(before, after, 1, stride))
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x):
        layers = dict(self.named_children())
        x = self.bn0(self.conv0(x)).relu()
        for n in (1, 2, 3):
            y = layers[f"b{n}n1"](layers[f"b{n}c1"](x)).relu()
            y = layers[f"b{n}n2"](layers[f"b{n}c2"](y))
            x = (y + (layers[f"b{n}s"](x) if n > 1 else x)).relu()
        return self.head(x.mean((2, 3)))


class Lambda(nn.Module):
    """Option A as a user's own wrapper of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class LambdaShortcut(nn.Module):
    """Option A by a lambda, as in many published CIFAR networks."""

    def __init__(self):
        super().__init__()
        self.a, self.an = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.b, self.bn = nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        self.c, self.cn = nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32)
        self.shortcut = Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.an(self.a(x)).relu()
        y = self.cn(self.c(self.bn(self.b(x)).relu()))
        return self.head((y + self.shortcut(x)).relu().mean((2, 3)))


@dataclass(frozen=True)
class Net:
    """A builder; `alone` are layers that must be named as left alone."""

    build: object
    alone: tuple[str, ...] = ()
    keep: float = 0.5


class JoinedAngle(nn.Module):
    """An angle is joined to features along the channels, as rotary embeddings are: not all of them come from layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(192, 32), nn.Linear(33, 64)
        self.c, self.head = nn.Linear(64, 64), nn.Linear(64, CLASSES)

    def forward(self, x):
        x = x.flatten(1)
        turned = torch.cat([self.a(x).relu(), x[:, :1].cos()], 1)
        return self.head(self.c(self.b(turned).relu()).relu())


class ShuffledHalves(nn.Module):
    """Half the channels pass by, the others go through layers, then all are shuffled (ShuffleNetV2)."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1)
        self.b, self.c = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 3, padding=1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        by, through = self.a(x).relu().chunk(2, 1)
        x = torch.cat([by, self.c(self.b(through).relu()).relu()], 1)
        n, channels, height, width = x.shape
        x = x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)
        return self.head(x.mean((2, 3)))


class OneSlope(nn.Module):
    """Activations that learn one slope for all channels."""

    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.PReLU(), nn.Conv2d(32, 32, 3, padding=1)
        self.other, self.head = nn.PReLU(), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.other(self.b(self.act(self.a(x)))).mean((2, 3)))


class Rotary(nn.Module):
    """Self-attention over 64 places whose queries and keys swap halves of their channels, as rotary embeddings do.

    torch-pruning's own walk through it does not end.
    """

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, CLASSES)

    def turned(self, x):
        first, second = x[..., :8], x[..., 8:]
        return x * 0.6 + torch.cat((-second, first), -1) * 0.8

    def forward(self, x):
        x = self.embed(x.flatten(2).transpose(1, 2))
        query, key, value = (
            layer(x).unflatten(2, (2, 16)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        shares = (self.turned(query) @ self.turned(key).transpose(2, 3) / 4).softmax(-1)
        x = x + (shares @ value).transpose(1, 2).flatten(2)
        return self.head(self.down(self.up(x).relu()).mean(1))


class Transposed(nn.Module):
    """A layer as Transformers' Conv1D: its weight is (inputs, outputs)."""

    def __init__(self, inputs, outputs, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs)) if bias else None

    def forward(self, x):
        x = x @ self.weight
        return x if self.bias is None else x + self.bias


class WeightNormed(nn.Module):
    """Convolutions in weight norm."""

    def __init__(self):
        super().__init__()
        self.a = weight_norm(nn.Conv2d(3, 32, 3, padding=1))
        self.b = weight_norm(nn.Conv2d(32, 32, 3, padding=1, bias=False))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.b(self.a(x).relu()).relu().mean((2, 3)))


class OwnLayers(nn.Module):
    """Layers of somebody's own, one without a bias."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Transposed(192, 48), Transposed(48, 64, bias=False)
        self.turned, self.head = nn.Linear(64, 64), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(self.turned(self.b(self.a(x.flatten(1)).relu()).relu()).relu())


class ResponseNorm(nn.Module):
    """Each channel is scaled by its share of all responses, a little at first (ConvNeXt V2)."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.gain, self.c, self.head = nn.Parameter(torch.zeros(1)), nn.Conv2d(32, 32, 1), nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.a(x).relu()
        sizes = x.norm(dim=(2, 3), keepdim=True)
        x = x * (1 + (self.gain + 1e-3) * sizes / (sizes.mean(1, keepdim=True) + 1e-6))
        return self.head(self.c(self.b(x).relu()).relu().mean((2, 3)))


NETS = {
    "resnet A": Net(lambda: build_model("resnet", depth=8, classes=CLASSES)),
    "resnet B": Net(lambda: build_model("resnet", depth=8, classes=CLASSES, shortcut="B")),
    "mobilenet": Net(lambda: build_model("mobilenet", width=0.5, depth=1, classes=CLASSES)),
    "mlp": Net(lambda: build_model("mlp", inputs=3 * SIZE * SIZE, classes=CLASSES)),
    "vit": Net(
        lambda: build_model("vit", image=SIZE, depth=2, width=32, classes=CLASSES),
        alone=("blocks.0.attention.qkv", "blocks.1.attention.qkv"),
    ),
    "concat": Net(Concat),
    "tied": Net(Tied, alone=("a", "b", "c"), keep=0.7),
    "flatten": Net(Flatten),
    "grouped": Net(Grouped),
    "shuffle": Net(Shuffle, alone=("a",)),
    "grouped shuffle": Net(lambda: GroupedShuffle(nn.Identity()), alone=("grouped",), keep=0.8),
    "normed shuffle": Net(lambda: GroupedShuffle(nn.GroupNorm(4, 32)), alone=("grouped",), keep=0.8),
    "grouped transposed": Net(GroupedTransposed),
    "response norm": Net(ResponseNorm, alone=("a",)),
    "functional shortcut": Net(FunctionalShortcut, alone=("a", "c")),
    "lambda shortcut": Net(LambdaShortcut),
    "attention": Net(Attention, alone=("embed", "down"), keep=0.7),
    "residual": Net(Residual),
    "one slope": Net(OneSlope),
    "shuffled halves": Net(ShuffledHalves, alone=("a", "c")),
    "joined angle": Net(JoinedAngle),
    "own layers": Net(OwnLayers),
    "weight norm": Net(WeightNormed),
    "rotary": Net(Rotary, alone=("embed", "query", "key", "value"), keep=0.7),
}


def colour_task() -> Task:
    """Random images with labels that their mean colours tell."""
    torch.manual_seed(0)
    x = torch.randn(320, 3, SIZE, SIZE)
    x += (4 * torch.rand(len(x), 3) - 2)[..., None, None]
    y = (x.mean((2, 3))[:, 0] > 0).long() + 2 * (x.mean((2, 3))[:, 1] > 0).long()
    return Task.from_tensors((x[:192], y[:192]), (x[192:256], y[192:256]), (x[256:], y[256:]), classes=CLASSES)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = NETS[name].build()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return model.eval()


FIXED = {"importance": "group_norm", "scope": "global"}  # one way to choose what goes


def config(**settings) -> PruneConfig:
    return PruneConfig(**{"keep": {"macs": 0.5}, "round_to": 8, "recalibrate": 0, **FIXED} | settings)


def context(task: Task, model: nn.Module, seed: int = 0, **more) -> Context:
    return Context(task=task, seed=seed, original=model, **more)


def size(model: nn.Module, task: Task, unit: str) -> int:
    return count_macs(model, task.example(1)) if unit == "macs" else count_params(model) * (4 if unit == "bytes" else 1)


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def parts(name: str, task: Task):
    """A network ready to be cut: (model, groups that can be pruned, costs)."""
    model, example = build(name), task.example(1)
    ShortcutConv.apply(model, example)
    groups, _ = find_groups(model, example)
    good, _ = preflight(model, probe_inputs(task, 0), groups, measure_costs(model, example, groups))
    return model, good, measure_costs(model, example, good)
