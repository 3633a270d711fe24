"""A plain multilayer perceptron over flattened inputs."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compress.models.model_registry import register_model


class MLP(nn.Module):
    """(n, ...) float32 with `inputs` values a sample -> (n, classes): `depth` hidden ReLU layers of `width` units."""

    def __init__(self, inputs: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        units = [inputs, *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(units))
        self.head = nn.Linear(width, classes)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        for layer in self.layers:
            x = torch.relu(layer(x))
        logits: Tensor = self.head(x)
        return logits


@register_model("mlp")
def mlp(
    inputs: Annotated[int, Field(ge=1, le=65536)],
    classes: Annotated[int, Field(ge=1, le=65536)] = 10,
    width: Annotated[int, Field(ge=1, le=65536)] = 64,
    depth: Annotated[int, Field(ge=1, le=256)] = 2,
) -> MLP:
    """Multilayer perceptron: `depth` hidden layers of `width` units over `inputs` flattened values (8x8 digits: 64)."""
    return MLP(inputs, classes, width, depth)
