"""Layers that hold their weight as (inputs, outputs), and the linear layer that takes their place."""

from __future__ import annotations

import pytest
import torch
from prune_nets import Transposed
from torch import nn

from compress.graph.transposed_linear import TransposedLinear


class Straight(Transposed):
    """Looks the same and multiplies by the weight as torch's linear layer does."""

    def forward(self, x):
        return x @ self.weight.T


class Doubled(Transposed):
    def forward(self, x):
        return 2 * super().forward(x)


class Looked(Transposed):
    """A table that is looked up."""

    def forward(self, x):
        return self.weight[x]


def test_such_layers_are_replaced_and_compute_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(Transposed(6, 9), nn.ReLU(), Transposed(9, 4, bias=False)).eval()
    x = torch.randn(5, 3, 6)
    before = model(x)
    done = TransposedLinear.apply(model, {"input": x})
    assert [(r.layer, r.inputs, r.outputs, r.bias) for r in done] == [("0", 6, 9, True), ("2", 9, 4, False)]
    assert all(isinstance(model[n], nn.Linear) for n in (0, 2))
    torch.testing.assert_close(model(x), before)
    assert done[0].describe() == "a linear layer, 6 to 9, of the same weights transposed"


@pytest.mark.parametrize("other", [Straight(6, 6), Doubled(6, 6), Looked(6, 6), nn.Linear(6, 6), nn.Embedding(6, 6)])
def test_what_computes_something_else_stays(other):
    model = nn.Sequential(other)
    assert TransposedLinear.apply(model, {}) == () and model[0] is other


def test_a_weight_that_another_layer_holds_stays():
    model = nn.Sequential(Transposed(6, 6), Transposed(6, 6))
    model[1].weight = model[0].weight
    assert TransposedLinear.apply(model, {}) == ()


def test_training_and_frozen_weights_are_as_before():
    model = nn.Sequential(Transposed(6, 6).requires_grad_(False)).train()
    TransposedLinear.apply(model, {})
    assert model[0].training and not model[0].weight.requires_grad
