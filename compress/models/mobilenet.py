"""Inverted residuals with depthwise convolutions for small images (Sandler et al. 2018, MobileNetV2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((16, 1), (24, 2), (40, 2), (80, 1))  # channels at width 1, stride of the first block
EXPANSION = 4


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; added to its input where stride and channels allow it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * EXPANSION
        self.expand = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.expand(x)))
        out = F.relu(self.bn2(self.depthwise(out)))
        projected: Tensor = self.bn3(self.project(out))
        return x + projected if self.residual else projected


class MobileNet(nn.Module):
    """(n, in_channels, h, w) float32 -> (n, classes) logits; overall stride 4, for images of 8x8 and more.

    Activations are ReLU where the paper has ReLU6, a bound meant for fixed-point formats: calibration finds ranges.
    """

    def __init__(self, width: float, depth: int, classes: int, in_channels: int) -> None:
        super().__init__()
        channels = _rounded(16 * width)
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(channels)
        blocks: list[nn.Module] = []
        for base, stride in STAGES:
            for index in range(depth):
                blocks.append(InvertedResidual(channels, _rounded(base * width), stride if index == 0 else 1))
                channels = _rounded(base * width)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(channels, channels * EXPANSION, 1, bias=False)
        self.head_bn = nn.BatchNorm2d(channels * EXPANSION)
        self.linear = nn.Linear(channels * EXPANSION, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(F.relu(self.stem_bn(self.stem(x))))
        out = F.relu(self.head_bn(self.head(out)))
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))
        return logits


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 (at least 8) that takes away no more than a tenth, as in the paper's own code."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
