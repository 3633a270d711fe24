"""CIFAR-style residual networks of any depth 6n+2 and any width (He, Zhang, Ren & Sun 2016, section 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Option A: every `stride`-th row and column, and zero channels on both sides. No parameters.

    (n, in_channels, h, w) -> (n, out_channels, ceil(h / stride), ceil(w / stride)). `before` and `after` are the
    numbers of zero channels in front and behind: out_channels // 4 each where the channels double.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: identity, option A (slice and pad) or option B (1x1 convolution)."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


def _shortcut(in_channels: int, channels: int, stride: int, kind: str) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    if kind == "A":
        return PadShortcut(in_channels, channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))


class ResNet(nn.Module):
    """(n, in_channels, h, w) float32 -> (n, classes) logits; three stages of 1x, 2x and 4x `width` channels.

    Names of the state dict (conv1, bn1, layer1.0.conv1, ..., linear) are those of the widely used CIFAR checkpoints.
    """

    def __init__(self, depth: int, width: int, classes: int, in_channels: int, shortcut: str) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = torch.flatten(F.adaptive_avg_pool2d(out, 1), 1)
        logits: Tensor = self.linear(out)
        return logits


def _stage(in_channels: int, channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, shortcut)
    rest = [BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
