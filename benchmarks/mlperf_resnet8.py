"""The MLPerf Tiny ResNet-8, brought the way a user brings a network: own module, own task, `compress(model, recipe)`.

    LEANFIT_DATA=... python benchmarks/mlperf_resnet8.py [--out runs/resnet8]

Needs cifar-10-batches-bin and mlperf_tiny_resnet8_cifar10.pt in $LEANFIT_DATA (docs/data.md).
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress import Task, compress, get_task
from compress.models.weights import find_weights, read_weights

__all__ = ["ResNet8", "cifar10_raw", "reference"]


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut, convolved where the stride is 2."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        # SAME padding of the Keras reference: a stride of 2 pads on the right and at the bottom only.
        self.c1 = nn.Conv2d(before, after, 3, stride, padding=1 if stride == 1 else 0)
        self.n1 = nn.BatchNorm2d(after, eps=1e-3)
        self.c2 = nn.Conv2d(after, after, 3, padding=1)
        self.n2 = nn.BatchNorm2d(after, eps=1e-3)
        self.s = nn.Conv2d(before, after, 1, stride) if stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        y = self.n2(self.c2(torch.relu(self.n1(self.c1(padded)))))
        return torch.relu(y + self.s(x))


class ResNet8(nn.Module):
    """mlcommons/tiny, image classification: 78,186 parameters, raw 0..255 input (n, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 16, 3, padding=1)
        self.n = nn.BatchNorm2d(16, eps=1e-3)
        self.b1, self.b2, self.b3 = Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b3(self.b2(self.b1(torch.relu(self.n(self.c(x))))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def reference() -> ResNet8:
    """The network with the reference's weights, whose names are flat (b1c1, bn0 ...)."""

    model = ResNet8()
    flat = read_weights(find_weights("mlperf_tiny_resnet8_cifar10.pt"))
    model.load_state_dict({_nested(name): tensor for name, tensor in flat.items()})
    return model.eval()


def _nested(name: str) -> str:
    layer, _, kind = name.partition(".")
    layer = {"conv0": "c", "bn0": "n"}.get(layer, layer)
    return f"{layer[:2]}.{layer[2:]}.{kind}" if layer[0] == "b" else f"{layer}.{kind}"


def cifar10_raw() -> Task:
    """CIFAR-10 with raw 0..255 inputs, as the reference was trained."""
    return get_task("cifar10", normalize="none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/resnet8")
    artifact = compress(reference(), "resnet8-int8", task=cifar10_raw(), out=parser.parse_args().out)
    print(artifact.table())


if __name__ == "__main__":
    main()
