"""Equalization: the same function in floating point, and finer steps where a few channels are far larger."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.passes.base import GraphContext
from compress.passes.quantization.equalize import equalized, joints_of
from compress.passes.quantization.noise import decibel, noise_of, outputs_of
from compress.passes.quantization.quantize import NumpySplit
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import Quantizer
from compress.tasks.splits import TensorSplit


class Images(nn.Module):
    """Convolutions, one by channel, pooling between them, and one whose result a sum reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.two, self.three = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.deep(nn.functional.max_pool2d(torch.relu(self.one(x)), 2)))
        x = torch.relu(self.two(x))
        return (self.three(x) + x).mean((2, 3))


class Words(nn.Module):
    """Norms whose result a residual sum reads too (others), or layers alone; the same layers for two inputs."""

    def __init__(self, after: bool) -> None:
        super().__init__()
        self.after, self.norm, self.up, self.down = after, nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.side = nn.Linear(8, 8)

    def half(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x)
        found = self.down(nn.functional.gelu(self.up(normed))) + self.side(normed)
        return (normed if self.after else x) + found

    def forward(self, x: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (self.half(x) * self.half(second)).sum(-1)


def split_of(**inputs: torch.Tensor) -> NumpySplit:
    return NumpySplit(TensorSplit(inputs, torch.zeros(len(next(iter(inputs.values()))), dtype=torch.int64)))


def graph_of(network: nn.Module, **inputs: torch.Tensor) -> tuple[onnx.ModelProto, NumpySplit]:
    return export_onnx(network.eval(), {name: tensor[:2] for name, tensor in inputs.items()}), split_of(**inputs)


def pictures() -> torch.Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def sentences() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(4)
    return {"x": torch.randn(64, 5, 8, generator=draw), "second": torch.randn(64, 5, 8, generator=draw)}


@pytest.mark.parametrize(("network", "inputs", "places"), [
    (Images, {"x": pictures()}, [{"deep"}, {"two"}]),
    (lambda: Words(after=True), sentences(), [{"up", "side"}]),
    (lambda: Words(after=False), sentences(), [{"up", "side"}]),
])  # fmt: skip
def test_nothing_changes_in_floating_point(network: Any, inputs: dict[str, torch.Tensor], places: list[set[str]]):
    torch.manual_seed(0)
    graph, samples = graph_of(network(), **inputs)
    named = {node.input[1]: node.name.partition(".")[0] for node in graph.graph.node if len(node.input) > 1}
    assert [{named[name] for name, _ in joint.read_by} for joint in joints_of(graph)] == places
    calls = [feeds for _, feeds in samples.batches(64)]
    other = equalized(graph, samples, 16, lambda share: None)
    assert other is not None and serialise(other) != serialise(graph)
    np.testing.assert_allclose(*(outputs_of(serialise(one), calls) for one in (graph, other)), rtol=1e-4, atol=1e-5)


def test_a_product_along_another_axis_is_no_reader():
    """As long as there are channels, so that nothing but the axis tells them apart."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.along = nn.Conv1d(6, 6, 3, padding=1), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.along(torch.relu(self.conv(x)))

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.LayerNorm(6), nn.Conv1d(6, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(x))

    for network in (Mixed(), Normed()):
        assert not joints_of(graph_of(network, x=torch.randn(8, 6, 6))[0])


def spoilt() -> nn.Module:
    """A channel a thousand times the others, which the next layer weighs a thousand times less."""
    torch.manual_seed(0)
    network = Images()
    with torch.no_grad():
        network.deep.weight[2] *= 300
        network.deep.bias[2] *= 300
        network.two.weight[:, 2] /= 300
    return network


def written(network: nn.Module, **settings: Any) -> tuple[Quantizer, QuantizeConfig, list[Any]]:
    graph, samples = graph_of(network, x=pictures())
    config = QuantizeConfig(**{"choose": "fixed", "target": "vnni", **settings})
    return Quantizer.calibrated(graph, config, GraphContext(lambda count: samples)), config, list(samples.batches(64))


def test_a_channel_far_larger_than_the_others_costs_them_nothing():
    decibels = []
    for equalize in (False, True):
        quantizer, config, calls = written(spoilt(), equalize=equalize)
        graph, _ = graph_of(spoilt(), x=pictures())
        feeds = [feeds for _, feeds in calls]
        noise = noise_of(outputs_of(serialise(quantizer.written(config)), feeds), outputs_of(serialise(graph), feeds))
        decibels.append(decibel(noise))
    assert decibels[1] > decibels[0] + 10
    assert quantizer.equalized["kept"] and quantizer.equalized["gain_db"] > 10
    details = quantizer.result(config, quantizer.written(config)).details
    assert details["equalized"] == quantizer.equalized


def test_a_network_that_gains_nothing_is_left_as_it_is():
    torch.manual_seed(0)
    network = Images()
    (one, config, _), (other, plain, _) = written(network), written(network, equalize=False)
    assert one.equalized["kept"] is False and not other.equalized
    assert serialise(one.written(config)) == serialise(other.written(plain))


def test_what_a_choice_leaves_out_does_not_change_what_is_equalized():
    one, _, _ = written(spoilt())
    other, _, _ = written(spoilt(), exclude=["three"], calibrate={"method": "mse"})
    assert one.equalized == other.equalized and serialise(one.graph) == serialise(other.graph)


def test_weights_that_were_zero_are_zero():
    network = spoilt()
    with torch.no_grad():
        network.two.weight.view(-1)[1::2] = 0
    quantizer, _, _ = written(network)
    assert quantizer.equalized["kept"]
    (weight,) = (t for t in quantizer.graph.graph.initializer if t.name == "two.weight")
    assert not onnx.numpy_helper.to_array(weight).reshape(-1)[1::2].any()
