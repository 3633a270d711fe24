"""Static int8: ranges that stream, types by target, and a file that keeps what the network knew."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from compress.core.errors import PassError
from compress.graph.export import check_parity, export_onnx
from compress.graph.model_state import ModelState
from compress.graph.onnx_graph import load_graph, serialise
from compress.passes.base import Context, PassResult
from compress.passes.quantization.calibrate import (
    Histogram,
    clip_range,
    collect_ranges,
)
from compress.passes.quantization.integer_types import scheme_for
from compress.passes.quantization.noise import noise_of, outputs_of
from compress.passes.quantization.quantize import NumpySplit, quantize
from compress.passes.quantization.quantize_settings import CalibrateConfig, QuantizeConfig
from compress.tasks import Task, TensorSplit
from evaluate.core.errors import DataError
from evaluate.metrics.base import score
from evaluate.metrics.samples import predict
from evaluate.runtime.session import open_session

METHODS = ["minmax", "percentile", "mse", "entropy"]


def run(model: nn.Module, task: Task, **settings) -> PassResult:
    settings = {"calibrate": {"samples": 128}, **settings}
    return quantize(ModelState(model), QuantizeConfig(**settings), Context(task=task, seed=0, original=model))


def accuracy(data: bytes, task: Task) -> float:
    batches = ({k: v.numpy() for k, v in inputs.items()} for inputs, _ in task.validation.batches(64))
    return float(score(predict(open_session(data), batches), task.validation.all_targets().numpy())["value"])


def weight_codes(graph: onnx.ModelProto) -> list[np.ndarray]:
    arrays = [numpy_helper.to_array(t) for t in graph.graph.initializer]
    return [a for a in arrays if a.dtype == np.int8 and a.ndim >= 2]


@pytest.mark.parametrize("method", METHODS)
def test_int8_keeps_the_accuracy_in_a_third_of_the_bytes(method: str, trained: nn.Module, digits: Task):
    graph = run(trained, digits, calibrate={"method": method, "samples": 256}).model.graph
    dense = serialise(export_onnx(trained, digits.example()))
    assert accuracy(serialise(graph), digits) >= accuracy(dense, digits) - 2.0
    assert len(serialise(graph)) < 0.45 * len(dense)  # a net of 20 kB pays for its graph


@pytest.mark.parametrize(("target", "bits"), [("vnni", 8), ("avx2", 7), ("avx512", 7)])
def test_weights_keep_within_the_bits_of_the_target(target: str, bits: int, trained: nn.Module, digits: Task):
    codes = weight_codes(run(trained, digits, target=target).model.graph)
    largest = max(int(np.abs(c.astype(int)).max()) for c in codes)
    assert (largest <= 64) == (bits == 7)
    assert len(codes) == 8  # the stem, six convolutions, the classifier


def test_activations_are_unsigned_on_x86_and_signed_on_arm(trained: nn.Module, digits: Task):
    for target, dtype in (("avx2", np.uint8), ("arm", np.int8)):
        graph = run(trained, digits, target=target).model.graph
        q = next(n for n in graph.graph.node if n.op_type == "QuantizeLinear")
        zero = next(t for t in graph.graph.initializer if t.name == q.input[2])
        assert numpy_helper.to_array(zero).dtype == dtype


def test_the_output_stays_in_fp32(trained: nn.Module, digits: Task):
    graph = run(trained, digits).model.graph
    last = next(n for n in graph.graph.node if "output" in n.output)
    assert last.op_type == "Gemm"


class Behind(nn.Module):
    """A network with something behind its head."""

    def __init__(self, network: nn.Module, tail) -> None:
        super().__init__()
        self.network, self.tail = network, tail

    def forward(self, input):
        return self.tail(self.network(input))


@pytest.mark.parametrize(
    "tail",
    [
        lambda y: y.unsqueeze(-1).squeeze(-1),
        lambda y: y.view(-1, 5, 2).flatten(1),
        lambda y: y * 3 + 1,
        lambda y: y.mul(0.1).exp(),
        lambda y: torch.sigmoid(y).log(),
        lambda y: y.view(-1, 5, 2).transpose(1, 2).flatten(1) / 7,
    ],
)
def test_what_stands_behind_the_head_leaves_the_output_in_fp32(tail, trained: nn.Module, digits: Task):
    """256 steps of a score would tie: views and what is done to each value do not bring them back."""
    graph = run(Behind(trained, tail).eval(), digits).model.graph
    inputs = {name: tensor.numpy() for name, tensor in digits.validation.materialize().inputs.items()}
    (found,) = open_session(serialise(graph)).run(inputs)
    assert len(np.unique(found)) > 0.8 * found.size > 1000
    bare = run(trained, digits).model.graph
    assert len(weight_codes(graph)) == len(weight_codes(bare))


class Twice(nn.Module):
    """A layer that is called twice, and a place for one whose weights are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.r, self.h = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 10)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, input):
        x = torch.relu(self.r(torch.relu(self.norm(self.a(input)))))
        return self.h(torch.relu(self.r(x)).mean((2, 3)))


def test_a_layer_that_is_left_out_is_left_out_wherever_it_is_called(digits: Task):
    found = run(Twice().eval(), digits, exclude=("r",))
    assert [change.layer for change in found.changes] == ["a", "h"] and "r" in found.details["left_in_fp32"]
    assert [change.layer for change in run(Twice().eval(), digits).changes] == ["a", "r", "h"]  # each once


def test_a_layer_whose_weights_are_computed_can_be_left_out(digits: Task):
    model = Twice()
    model.norm = nn.Identity()
    nn.utils.parametrizations.weight_norm(model.a)
    assert [change.layer for change in run(model.eval(), digits, exclude=("a",)).changes] == ["r", "h"]


@pytest.mark.parametrize("settings", [{"exclude": ("norm",)}, {"layers": ("h", "nrom")}, {"exclude": ("r", "H")}])
def test_a_pattern_that_binds_nothing_is_an_error(settings, digits: Task):
    """A batch norm is folded into its convolution: it has no operator that could stay in fp32."""
    with pytest.raises(PassError, match=r"means no layer that becomes integers.*Layers with weights"):
        run(Twice().eval(), digits, **settings)


def test_excluded_layers_keep_their_weights(trained: nn.Module, digits: Task):
    result = run(trained, digits, exclude=["conv1", "linear"])
    changed = {change.layer for change in result.changes}
    assert changed and not changed & {"conv1", "linear"}
    (linear,) = [node for node in result.model.graph.graph.node if node.name == "linear"]
    kept = [t for t in result.model.graph.graph.initializer if t.name == linear.input[1]]
    assert kept and numpy_helper.to_array(kept[0]).dtype == np.float32


def test_only_the_chosen_layers_change(trained: nn.Module, digits: Task):
    result = run(trained, digits, layers=["layer2.*"])
    assert {c.layer.split(".")[0] for c in result.changes} == {"layer2"}


def test_the_file_has_the_operator_set_that_was_asked_for(trained: nn.Module, digits: Task):
    context = Context(task=digits, seed=0, original=trained, opset=18)
    graph = quantize(ModelState(trained), QuantizeConfig(calibrate={"samples": 16}), context).model.graph
    assert {o.domain: o.version for o in graph.opset_import}[""] == 18


def test_excluding_everything_is_an_error(trained: nn.Module, digits: Task):
    with pytest.raises(PassError, match="would change nothing"):
        run(trained, digits, exclude=["*"])


def test_a_file_safe_on_every_x86_is_asked_for_where_this_one_is_not(trained: nn.Module, digits: Task, monkeypatch):
    monkeypatch.setattr("compress.passes.quantization.integer_types.int8_path", lambda: "vnni")
    assert any("target: avx2" in w for w in run(trained, digits).warnings)
    assert scheme_for("auto").target == "vnni"
    monkeypatch.setattr("compress.passes.quantization.integer_types.int8_path", lambda: "neon-dot")
    assert scheme_for("auto").target == "arm"
    monkeypatch.setattr("compress.passes.quantization.integer_types.int8_path", lambda: "other")
    assert scheme_for("auto").reduce_range


def test_seven_bit_weights_do_not_saturate_here(trained: nn.Module, digits: Task):
    result = run(trained, digits, target="avx2")
    found = result.details["kernels_vs_simulation_db"]
    assert found is None or found > 34
    assert not any("saturate" in text for text in result.warnings)


@pytest.mark.parametrize("target, advice", [("vnni", "set target: avx2"), ("avx2", "exclude layers")])
@pytest.mark.parametrize("kernels, simulated", [(0.03, 0.001), (0.03, 0.028), (0.0001, 0.0001)])
def test_kernels_saturate_where_they_are_further_from_fp32_than_what_the_file_says(
    trained, digits, monkeypatch, target, advice, kernels, simulated
):
    """A small net is 28 dB from its simulation by single steps, and as far from fp32 either way: nothing is wrong."""
    truth, noise = (np.random.default_rng(seed).normal(size=4000) for seed in (0, 1))
    files = iter([truth + np.sqrt(kernels) * noise, truth + np.sqrt(simulated) * noise[::-1], truth])
    monkeypatch.setattr("compress.passes.quantization.quantizer.outputs_of", lambda *args, **rest: next(files))
    result = run(trained, digits, target=target, equalize=False)
    told = [text for text in result.warnings if "saturate" in text]
    assert told == [] if kernels < 2 * simulated else advice in told[0] and ("avx2" in told[0]) == (target == "vnni")


def test_calibration_finds_the_extremes_of_all_samples(trained: nn.Module, digits: Task):
    graph = export_onnx(trained, digits.example())
    split = digits.calibration(100, seed=3)
    shares: list[float] = []
    ranges, _ = collect_ranges(graph, NumpySplit(split), 7, shares.append)
    name, inputs = next(iter(split.inputs.items()))
    assert ranges[name] == (float(inputs.min()), float(inputs.max()))
    assert shares == sorted(shares) and shares[-1] == 1.0
    other, _ = collect_ranges(graph, NumpySplit(split), 64, shares.append)
    assert list(ranges) == list(other)
    np.testing.assert_allclose(list(ranges.values()), list(other.values()), rtol=1e-5)


def test_histograms_hold_every_value_once(trained: nn.Module, digits: Task):
    graph = export_onnx(trained, digits.example())
    split = digits.calibration(50, seed=3)
    name, inputs = next(iter(split.inputs.items()))
    ranges, found = collect_ranges(graph, NumpySplit(split), 16, lambda share: None, [name, "output"])
    assert set(found) == {name, "output"}
    for counted in found.values():
        assert counted.bins[1].sum() == pytest.approx(counted.counts.sum())
        assert (counted.low, counted.high) == ranges[name if counted is found[name] else "output"]
    assert found[name].counts.sum() == inputs.numel()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 5.0])
def test_a_histogram_knows_its_quantiles_without_knowing_its_edges(scale: float, shift: float):
    values = (scale * (np.random.default_rng(0).normal(size=100_000) + shift)).astype(np.float32)
    histogram = Histogram()
    for part in np.array_split(values, 7):
        histogram.add(part)
    for share in (0.001, 0.25, 0.5, 0.9, 0.999):
        wanted = float(np.quantile(values, share))
        assert histogram.quantile(share) == pytest.approx(wanted, rel=0.01, abs=0.01 * scale)
    assert (histogram.quantile(0.0), histogram.quantile(1.0)) == (histogram.low, histogram.high)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
@pytest.mark.parametrize("outlier", [100.0, 10_000.0, -1e8, np.inf])
def test_one_value_far_away_costs_the_others_nothing(method: str, outlier: float):
    """A million normal values keep more than 29 dB, whatever one more is; by the whole range it would be -1."""
    values = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    histogram.add(np.array([outlier], np.float32))
    low, high = clip_range(histogram, CalibrateConfig(method=method, percentile=99.9))
    step = (high - low) / 255
    kept = np.clip(np.round((values - low) / step), 0, 255) * step + low
    decibel = 10 * np.log10(np.mean(np.square(values)) / np.mean(np.square(kept - values)))
    assert decibel > 29


def test_nan_in_an_activation_is_named(trained: nn.Module, digits: Task):
    graph = export_onnx(trained, digits.example())
    weight = next(t for t in graph.graph.initializer if t.name == "linear.bias")
    weight.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), "linear.bias"))
    with pytest.raises(DataError, match="'output' holds NaN"):
        collect_ranges(graph, NumpySplit(digits.calibration(16, 0)), 16, lambda share: None)


def heavy_tailed(seed: int = 0) -> Histogram:
    values = np.random.default_rng(seed).standard_t(3, 200_000).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    return histogram


def rounding_error(histogram: Histogram, low: float, high: float) -> float:
    scale, (centres, counts) = (high - low) / 255, histogram.bins
    kept = np.clip(np.round((centres - low) / scale), 0, 255) * scale + low
    return float(np.average(np.square(kept - centres), weights=counts))


@pytest.mark.parametrize("method", METHODS)
def test_a_range_lies_within_what_was_seen_and_holds_zero(method: str):
    histogram = heavy_tailed()
    low, high = clip_range(histogram, CalibrateConfig(method=method))
    assert histogram.low <= low <= 0 <= high <= histogram.high
    assert (method == "minmax") == ((low, high) == (histogram.low, histogram.high))


def test_mse_rounds_a_heavy_tail_better_than_minmax():
    histogram = heavy_tailed()
    least = rounding_error(histogram, *clip_range(histogram, CalibrateConfig(method="mse")))
    for other in ("minmax", "percentile", "entropy"):
        assert least <= rounding_error(histogram, *clip_range(histogram, CalibrateConfig(method=other))) * 1.001


@pytest.mark.parametrize("method", METHODS)
def test_the_few_values_that_are_not_zero_keep_a_range(method: str):
    histogram = Histogram()
    histogram.add(np.zeros(2_000_000, np.float32))
    histogram.add(np.array([0.5, 1.0, 1.5], np.float32))
    low, high = clip_range(histogram, CalibrateConfig(method=method))
    assert low == 0 and 0.5 <= high <= 1.5


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_nothing_but_infinity_is_no_error(method: str):
    histogram = Histogram()
    histogram.add(np.array([np.inf, -np.inf], np.float32))
    assert clip_range(histogram, CalibrateConfig(method=method)) == (-np.inf, np.inf)


def test_percentile_cuts_that_share():
    histogram = heavy_tailed()
    low, high = clip_range(histogram, CalibrateConfig(method="percentile", percentile=99.0))
    centres, counts = histogram.bins
    inside = counts[(centres >= low) & (centres <= high)].sum() / counts.sum()
    assert inside == pytest.approx(0.98, abs=0.005)


def test_entropy_is_not_led_by_the_zeros_of_relu():
    values = np.maximum(np.random.default_rng(0).normal(size=200_000), 0).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    _, high = clip_range(histogram, CalibrateConfig(method="entropy"))
    assert high > 2.5, "more than 1 % of the values would be clipped"


def test_constant_activations_do_no_harm(digits: Task):
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.relu(x.flatten(1) - 1e6))

    zeros = TensorSplit({"image": torch.zeros(16, 1, 8, 8)}, torch.zeros(16, dtype=torch.int64))
    task = dataclasses.replace(digits, train=zeros)
    model = Constant().eval()
    for method in METHODS:
        graph = run(model, task, calibrate={"method": method, "samples": 16}).model.graph
        outputs = open_session(serialise(graph)).run({"image": np.zeros((2, 1, 8, 8), np.float32)})[0]
        assert np.isfinite(outputs).all()


class Attending(nn.Module):
    """Attention over six tokens with the mask that Transformers adds, a layer that is called twice, a layer norm."""

    def __init__(self, mask: float) -> None:
        super().__init__()
        self.words, self.shared, self.norm = nn.Embedding(50, 32), nn.Linear(32, 32), nn.LayerNorm(32)
        self.head = nn.Linear(32, 4)
        self.register_buffer("mask", torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1).bool(), mask))

    def forward(self, ids):
        x = self.words(ids)
        scores = (self.shared(x) @ x.transpose(1, 2) / 32**0.5 + self.mask).softmax(-1)
        return self.head(self.norm(x + self.shared(scores @ x)).mean(1))


def attend(mask: float, **settings: Any) -> tuple[PassResult, float]:
    """The pass on it, and how far the quantized outputs are from torch's, of their range."""
    torch.manual_seed(0)
    ids, y = torch.randint(0, 50, (80, 6)), torch.arange(80) % 4
    task = Task.from_tensors((ids[:60], y[:60]), (ids[60:70], y[60:70]), (ids[70:], y[70:]))
    model = Attending(mask).eval()
    result = quantize(ModelState(model), QuantizeConfig(calibrate={"samples": 40}, **settings), Context(task, 0, model))
    got = open_session(serialise(result.model.graph), threads=1).run({"input": ids[70:].numpy()})[0]
    wanted = model(ids[70:]).detach().numpy()
    return result, float(np.abs(got - wanted).max() / np.ptp(wanted))


@pytest.mark.parametrize("operators", ["auto", "all"])
@pytest.mark.parametrize("mask", [float("-inf"), torch.finfo(torch.float32).min, -10_000.0])
def test_a_mask_takes_no_part_in_any_range(mask: float, operators: str):
    result, off = attend(mask, operators=operators)
    assert off < 0.1
    softmax = next(node for node in result.model.graph.graph.node if node.op_type == "Softmax")
    makers = {name: node.op_type for node in result.model.graph.graph.node for name in node.output}
    assert makers[softmax.input[0]] == "Add"


def test_weights_of_a_layer_that_is_called_twice_become_integers():
    result, _ = attend(float("-inf"))
    assert {change.layer for change in result.changes} >= {"shared", "head"}
    floats = [t for t in result.model.graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and t.dims]
    assert max(int(np.prod(t.dims)) for t in floats) < 32 * 32


def test_only_operators_with_weights_become_integers_in_a_network_with_layer_norm():
    read = {
        operators: Counter(node.op_type for node in attend(0.0, operators=operators)[0].model.graph.graph.node)
        for operators in ("auto", "weighted", "all")
    }
    assert read["auto"] == read["weighted"]
    assert read["all"]["QuantizeLinear"] > read["auto"]["QuantizeLinear"] >= 3


class Words(nn.Module):
    """Rows of a table, and scores of all words by the same table; or a table of its own, read in a loop."""

    def __init__(self, tied: bool):
        super().__init__()
        self.embed = nn.Embedding(24, 16) if tied else nn.EmbeddingBag(24, 16, mode="mean")
        self.head = nn.Linear(16, 24, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids):
        rows = self.embed(ids)
        return self.head(rows.mean(1) if rows.ndim == 3 else rows)


@pytest.mark.parametrize("tied", [True, False])
def test_a_table_that_is_shared_or_read_in_a_loop_survives(tied: bool):
    torch.manual_seed(0)
    ids = torch.randint(0, 24, (160, 6))
    task = Task.from_tensors(*[(ids, ids[:, 0])] * 3, classes=24)
    model = Words(tied).eval()
    data = serialise(run(model, task).model.graph)
    (got,) = open_session(data).run({"input": ids.numpy()})
    expected = model(ids).detach().numpy()
    assert np.abs(got - expected).max() < 0.03 * np.ptp(expected)
    codes = [code for code in weight_codes(load_graph(data)) if code.shape == (24, 16)]
    assert not tied or len(codes) == 1


class Padded(nn.Module):
    """Pads what convolutions give with a value, in a mode, and takes a mean over axes."""

    def __init__(self, mode: str, value: float, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 10)
        self.mode, self.value, self.axes = mode, value, axes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(image))))
        x = nn.functional.pad(x, (1, 0, 0, 1), self.mode, self.value or None).mean(self.axes, keepdim=True)
        return self.head(x.flatten(1)[:, :8])


@pytest.mark.parametrize(
    ("mode", "value", "axes", "padded", "pooled"),
    [
        ("constant", 0.0, (2, 3), True, True),
        ("constant", 0.0, (-1, -2), True, True),
        ("constant", 0.5, (2, 3), False, True),
        ("reflect", 0.0, (1,), False, False),
    ],
)
def test_padding_with_zeros_and_means_of_images_stay_in_integers(digits, mode, value, axes, padded, pooled):
    torch.manual_seed(0)
    model = Padded(mode, value, axes).eval()
    graph = run(model, digits).model.graph
    kinds = [node.op_type for node in graph.graph.node]
    (pad,) = (node for node in graph.graph.node if node.op_type == "Pad")
    source = next(node for node in graph.graph.node if pad.input[0] in node.output)
    assert (source.op_type == "QuantizeLinear") == padded
    assert ("GlobalAveragePool" in kinds) == pooled and ("ReduceMean" in kinds) != pooled
    onnx.checker.check_model(serialise(graph))
    parity = check_parity(model, serialise(graph), digits.example(32))
    assert parity.relative < 0.05


@pytest.mark.parametrize("operators", ["auto", "all"])
@pytest.mark.parametrize(
    ("layer", "noted"),
    [(nn.ConvTranspose2d(8, 8, 2, 2, groups=4), True), (nn.LayerNorm([8, 6, 6]), False), (nn.GroupNorm(2, 8), False)],
    ids=["transposed in groups", "norm over images", "group norm"],
)
def test_what_the_quantizer_knows_no_channels_of_gets_one_scale(digits, layer, noted, operators):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)).eval()
    model(digits.example(1)["image"])
    result = run(model, digits, operators=operators)
    assert check_parity(model, serialise(result.model.graph), digits.example(32)).relative < 0.05
    assert any("One scale for all channels of 1" in text for text in result.warnings) == noted


def test_a_failure_of_the_quantizer_is_one_error(trained, digits, monkeypatch):
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    def fails(self):
        raise ValueError("operands could not be broadcast")

    monkeypatch.setattr(QDQQuantizer, "quantize_model", fails)
    with pytest.raises(PassError, match=r"failed on this graph \(ValueError.*Next: exclude layers"):
        run(trained, digits)


def test_an_excluded_block_is_left_whole(trained: nn.Module, digits: Task):
    """Its sums and activations too: operators are called after the block whose forward() they stand in."""
    result = run(trained, digits, exclude=["layer2.*"])
    graph, data = result.model.graph, serialise(result.model.graph)
    inside = [node for node in graph.graph.node if node.name.startswith("layer2.")]
    assert {"Add", "Conv"} <= {node.op_type for node in inside}
    producers = {name: node.op_type for node in graph.graph.node for name in node.output}
    readers = {name: node for node in graph.graph.node for name in node.input}
    between = [name for node in inside for name in node.output if readers[name] in inside]
    assert between and not {"QuantizeLinear", "DequantizeLinear"} & {producers[name] for name in between}
    everything = run(trained, digits)
    calls = [{name: values.numpy() for name, values in digits.example(64).items()}]
    floats = outputs_of(serialise(export_onnx(trained, digits.example())), calls)
    apart, whole = (noise_of(outputs_of(d, calls), floats) for d in (data, serialise(everything.model.graph)))
    assert apart < whole
    assert run(trained, digits, exclude=["layer2.0.Add*"]).changes == everything.changes
