"""Which layers of a graph become integers, by the settings and by what was learnt of the graph."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compress.core.errors import PassError
from compress.graph.compact import compacted
from compress.graph.onnx_graph import WEIGHTED, dequantized, serialise
from compress.passes.base import Change, GraphContext, GraphResult
from compress.passes.quantization import dynamic, weight_only
from compress.passes.quantization.calibrate import (
    Calibration,
    clip_range,
    collect_moments,
    collect_ranges,
)
from compress.passes.quantization.equalize import equalized
from compress.passes.quantization.integer_types import Scheme, scheme_for
from compress.passes.quantization.noise import decibel, noise_of, outputs_of
from compress.passes.quantization.products import weight_of
from compress.passes.quantization.qdq import (
    ENDLESS,
    quantized_activations,
    tail_of,
    taken_whole,
    widened_on_loading,
    with_pairs,
)
from compress.passes.quantization.quantize_settings import CalibrateConfig, QuantizeConfig
from compress.recipe.plain import plain
from evaluate.core.errors import did_you_mean
from evaluate.core.text import a_few
from evaluate.runtime.session import Value

# Of layers, groups, rows; a root is what other exporters write one with (of batch norm it is of constants, and folded).
_NORMS = {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Sqrt"}
MASKED = -9999.0  # no score's value: a mask
# Trained nets gave 38 to 48 dB between their integer kernels and the simulation where clean, about 29 dB saturated.
SATURATED_BELOW_DB = 34.0
SATURATION_SAMPLES = 32
EQUALIZED_ON, WORTH_DB = 32, 1.0  # samples; trained ResNets moved by half a dB either way
SATURATION_COSTS_DB = (
    3.0  # saturated nets were 9 to 10 dB further from fp32 than the simulation, clean ones less than 1
)


@dataclass(frozen=True)
class Quantizer:
    """A graph in fp32 with what was learnt of it once, to write it in integers in one way or another.

    ranges : of every activation, clipped as the settings of calibration say; none where the mode asks for none.
    masked : operators that no 256 steps hold.
    tail   : operators between the last layers and the outputs, which see what these give in fp32.
    moments : of what products read, (inputs, inputs), where the settings ask for them.
    given   : the graph as it came, where `graph` may be after equalization, which static int8 alone takes.
    equalized : what equalization gained, in dB, and whether `graph` is after it; empty where there was no place for it.
    """

    graph: onnx.ModelProto
    samples: Calibration
    scheme: Scheme
    ranges: Mapping[str, tuple[float, float]]
    masked: list[str]
    tail: list[str]
    moments: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    given: onnx.ModelProto | None = None
    equalized: Mapping[str, float | bool] = field(default_factory=dict)

    @property
    def as_given(self) -> onnx.ModelProto:
        """The graph in fp32 before any equalization."""
        return self.graph if self.given is None else self.given

    @classmethod
    def calibrated(cls, graph: onnx.ModelProto, config: QuantizeConfig, context: GraphContext) -> Quantizer:
        """Find the ranges, or what else the mode asks of samples. Raises as `quantize_graph`."""
        check_patterns(graph, config)
        samples, batch = context.calibration(config.calibrate.samples), config.calibrate.batch_size
        given, said = graph, dict[str, float | bool]()
        if config.mode == "static" and config.equalize:
            graph, said = _equalized(given, config, context)
        found = cls(graph, samples, scheme_for(config.target), {}, [], tail_of(graph), given=given, equalized=said)
        if config.mode == "weight-only" and config.blocks.method == "gptq":
            read = weight_only.read_by_products(graph, excluded_nodes(graph, config))
            return replace(found, moments=collect_moments(graph, read, samples, batch, _reporter(context, "moments")))
        if config.mode != "static":
            return found
        method, counted = config.calibrate.method, list[str]()
        if method != "minmax":  # only what is rounded needs a histogram: which, any ranges tell
            names = [*(name for node in graph.graph.node for name in node.output), *(v.name for v in graph.graph.input)]
            counted = quantized_activations(replace(found, ranges=dict.fromkeys(names, (0.0, 1.0))).with_pairs(config))
        ranges, counts = collect_ranges(graph, samples, batch, _reporter(context, "ranges"), counted)
        clipped = {name: clip_range(histogram, config.calibrate) for name, histogram in counts.items()}
        return replace(found, ranges=ranges | clipped, masked=_masked_nodes(graph, ranges))

    def written(self, config: QuantizeConfig) -> onnx.ModelProto:
        """The graph in integers, in few bytes. Raises PassError where no layer is left."""
        left = excluded_nodes(self.graph, config)
        if config.mode == "static":
            return compacted(widened_on_loading(self.with_pairs(config)))
        if config.mode == "dynamic":
            return compacted(dynamic.write_dynamic(self.as_given, left, self.scheme.most, config.per_channel))
        return compacted(weight_only.write_weight_only(self.graph, left, config, self.moments))

    def with_pairs(self, config: QuantizeConfig) -> onnx.ModelProto:
        """The graph in static int8 with every value and constant by its name. Raises PassError."""
        excluded = [*excluded_nodes(self.graph, config), *inside_excluded(self.graph, config)]
        left = [*excluded, *self.masked, *unweighted_nodes(self.graph, config)]
        narrow = [name for name in calls_of_layers(self.graph, config) if config.bits_of(name) == 4]
        return with_pairs(self.graph, self.ranges, left, self.tail, self.scheme, config.per_channel, narrow)

    def result(self, config: QuantizeConfig, written: onnx.ModelProto) -> GraphResult:
        """What is to be said of a graph that was written by these settings."""
        details: dict[str, Any] = {"mode": config.mode, "left_in_fp32": excluded_nodes(self.graph, config)}
        changes, warnings = self.changes(config, written), list[str]()
        if config.mode == "weight-only":
            details |= {"bits": config.bits} | ({"blocks": plain(config.blocks)} if config.bits < 16 else {})
            if config.bits == 4 and any(node.op_type in ("Conv", "ConvTranspose") for node in self.graph.graph.node):
                warnings.append("Convolutions stay in fp32: weights of 4 bits are for matrix products and embeddings.")
        else:
            scheme, unsigned = self.scheme, self.scheme.unsigned_activations or config.mode == "dynamic"
            details |= {
                "target": scheme.target,
                "activations": "uint8" if unsigned else "int8",
                "weight_bits": min(config.bits, scheme.weight_bits),
                **({"layer_bits": dict(config.layer_bits)} if config.layer_bits else {}),
                "per_channel": config.per_channel,
            }
        if config.mode == "static":
            if self.equalized:
                details["equalized"] = dict(self.equalized)
            details["calibration"] = {"method": config.calibrate.method, "samples": len(self.samples)}
            details["kernels_vs_simulation_db"], saturated = self.saturation(written)
            warnings += _saturation(self.scheme, saturated)
            changed = {change.layer for change in changes}
            whole = [name for name in taken_whole(self.graph).values() if config.per_channel and name in changed]
            if whole:
                warnings.append(
                    f"One scale for all channels of {a_few(whole, 4)}: the quantizer knows no others there."
                )
        if config.mode == "static" and config.narrow and config.train is None:
            warnings.append(
                "Weights of 4 bits lose accuracy where they are only rounded; of a network in torch, add train: {}."
            )
        whole_bytes = config.mode != "weight-only" and 8 in (config.bits, *config.layer_bits.values())
        if whole_bytes and (self.scheme.target, config.target) == ("vnni", "auto"):
            warnings.append(
                "Weights use all 8 bits, which is right for CPUs with VNNI, as here. On an x86 CPU without VNNI this "
                "file would saturate: set target: avx2 for a file that is safe on both."
            )
        return GraphResult(written, changes, tuple(warnings), details)

    def changes(self, config: QuantizeConfig, written: onnx.ModelProto) -> tuple[Change, ...]:
        """Layer by layer, what became integers."""
        most = 16 if config.mode == "weight-only" else self.scheme.weight_bits
        named = _quantized_layers(self.graph, written, config)
        return tuple(Change(name, "weight bits", 32, min(config.bits_of(name), most)) for name in named)

    def saturation(self, written: onnx.ModelProto) -> tuple[float | None, float | None]:
        """In dB: integer kernels against the same file run without any fusion; and what comes of it if they saturate.

        About 29 dB of the first means saturation, 38 to 48 dB none, in trained nets; in small ones a step here or there
        gives less, though nothing saturates. So both are held against fp32: kernels that saturate are further from it.
        """
        calls, data = list(first_of(self.samples, SATURATION_SAMPLES)), serialise(written)
        kernels, simulated = (outputs_of(data, calls, optimize=optimize) for optimize in (True, False))
        apart = decibel(noise_of(kernels, simulated))
        if apart is None or apart >= SATURATED_BELOW_DB:
            return apart if apart is None else round(apart, 1), None
        floats = outputs_of(serialise(self.graph), calls)
        with_kernels, without = (decibel(noise_of(outputs, floats)) for outputs in (kernels, simulated))
        worse = with_kernels is not None and (without is None or with_kernels < without - SATURATION_COSTS_DB)
        return round(apart, 1), with_kernels if worse else None


def _equalized(
    graph: onnx.ModelProto, config: QuantizeConfig, context: GraphContext
) -> tuple[onnx.ModelProto, dict[str, float | bool]]:
    """The graph after equalization where it pays, and what is said of it; tried on a few samples.

    In int8 by plain settings whatever the recipe's are, so that a recipe with what was chosen finds the same.
    """
    few, batch = context.calibration(min(EQUALIZED_ON, config.calibrate.samples)), config.calibrate.batch_size
    other = equalized(graph, few, batch, _reporter(context, "channels"))
    if other is None:
        return graph, {}
    plain = QuantizeConfig(target=config.target, equalize=False, calibrate=CalibrateConfig(batch_size=batch))
    calls, on_few = [feeds for _, feeds in few.batches(batch)], replace(context, calibration=lambda count: few)
    wanted = outputs_of(serialise(graph), calls)
    try:
        files = [serialise(Quantizer.calibrated(one, plain, on_few).written(plain)) for one in (graph, other)]
    except PassError:  # what cannot be written whole is left as it is
        return graph, {}
    before, after = (noise_of(outputs_of(data, calls, optimize=False), wanted) for data in files)
    gain = float(10 * np.log10(before / after)) if min(before, after) > 0 else 0.0
    return other if gain >= WORTH_DB else graph, {"gain_db": round(gain, 1), "kept": gain >= WORTH_DB}


def first_of(samples: Calibration, most: int) -> Iterator[Mapping[str, Value]]:
    """Inputs of the first samples, in calls of at most so many."""
    seen = 0
    for count, feeds in samples.batches(min(len(samples), most)):
        yield feeds
        seen += count
        if seen >= most:
            return


def chosen(layer: str, config: QuantizeConfig) -> bool:
    """Whether the patterns of the settings mean a layer."""
    return _chosen_by_any((layer,), config)


def _matches(layer: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)


def kinds_of(config: QuantizeConfig) -> frozenset[str]:
    """The operators with weights that a mode takes."""
    if config.mode == "static":
        return WEIGHTED | {"Gather"}
    return dynamic.KINDS if config.mode == "dynamic" else weight_only.kinds(config)


def calls_of_layers(graph: onnx.ModelProto, config: QuantizeConfig) -> dict[str, tuple[str, ...]]:
    """Operators with weights -> all that read the same weights, in order: a layer that is called twice is one layer."""
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    kinds, readers, own = kinds_of(config), dict[str, list[str]](), dict[str, str]()
    for node in graph.graph.node:
        if node.op_type in kinds and (node.op_type in WEIGHTED or weight_of(node, constants)):
            own[node.name] = next((name for name in node.input[:2] if name in constants), f"of {node.name}")
            readers.setdefault(own[node.name], []).append(node.name)
    return {name: tuple(readers[weight]) for name, weight in own.items()}


def check_patterns(graph: onnx.ModelProto, config: QuantizeConfig) -> None:
    """Raise PassError where a pattern means no operator that becomes integers, or where all are left in fp32.

    One that means a layer without an operator of its own, as a batch norm that is folded, would bind nothing.
    """
    excluded_nodes(graph, config)
    names = list(calls_of_layers(graph, config))
    operators = [node.name for node in graph.graph.node] if config.mode == "static" else []
    for path, pattern in config.patterns():
        meant = [*names, *operators] if path[0] == "exclude" else names
        if not any(_matches(name, [pattern]) for name in meant):
            near = did_you_mean(pattern, names) or "."
            raise PassError(
                f"quantize.{path[0]}: pattern {pattern!r} means no layer that becomes integers{near} "
                f"Layers with weights in the exported graph: {a_few(names, 8)}"
            )


def excluded_nodes(graph: onnx.ModelProto, config: QuantizeConfig) -> list[str]:
    """Operators with weights that the settings leave in fp32. Raises PassError where that is all of them.

    A pattern for one call of a layer means all of its calls: weights that one of them keeps in fp32 are kept whole.
    """
    calls = calls_of_layers(graph, config)
    excluded = [name for name, same in calls.items() if not _chosen_by_any(same, config)]
    if len(excluded) == len(calls):
        shown = ", ".join(list(calls)[:8]) or "none"
        raise PassError(
            f"quantize would change nothing: layers {list(config.layers)} without {list(config.exclude)} leaves no "
            f"layer with weights that mode: {config.mode} takes ({', '.join(sorted(kinds_of(config)))}). "
            f"Such layers of this model: {shown}."
        )
    return excluded


def inside_excluded(graph: onnx.ModelProto, config: QuantizeConfig) -> list[str]:
    """Operators without weights that an excluded pattern means: the sum of a residual block that is left in fp32."""
    return [
        node.name for node in graph.graph.node if node.op_type not in WEIGHTED and _matches(node.name, config.exclude)
    ]


def _chosen_by_any(names: Iterable[str], config: QuantizeConfig) -> bool:
    return any(_matches(name, config.layers) for name in names) and not any(
        _matches(name, config.exclude) for name in names
    )


def _masked_nodes(graph: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    """Operators that read or write what no 256 steps hold: masks of attention up to their softmax.

    A mask is infinity, the lowest float32 (Transformers), or, where it is what a softmax reads, -10,000 and less.
    """
    scores = {node.input[0] for node in graph.graph.node if node.op_type == "Softmax"}
    endless = {
        name
        for name, (low, high) in ranges.items()
        if not max(abs(low), abs(high)) < ENDLESS or (name in scores and low <= MASKED)
    }
    return [node.name for node in graph.graph.node if endless.intersection((*node.input, *node.output))]


def unweighted_nodes(graph: onnx.ModelProto, config: QuantizeConfig) -> list[str]:
    """Operators without weights of their own, where static int8 shall leave them in fp32.

    The scores, sums and norms of a transformer have a few values far from all others (Dettmers et al. 2022,
    "LLM.int8()", section 4), so that 256 steps over their range are coarse: MiniLM lost 3 points of correlation.
    """
    normed = any(node.op_type in _NORMS for node in graph.graph.node)
    if config.mode != "static" or config.operators == "all" or (config.operators == "auto" and not normed):
        return []
    constants = {tensor.name for tensor in graph.graph.initializer}
    weighted = WEIGHTED | {"Gather"}
    return [
        node.name for node in graph.graph.node if node.op_type not in weighted or not constants.intersection(node.input)
    ]


def _quantized_layers(graph: onnx.ModelProto, quantized: onnx.ModelProto, config: QuantizeConfig) -> list[str]:
    """Layers whose weights are stored in fewer bits in the quantized graph, each once, by its first call."""
    kinds = onnx.TensorProto
    stored = (kinds.INT8, kinds.UINT8, kinds.INT4, kinds.FLOAT16)
    integer = {tensor.name for tensor in quantized.graph.initializer if tensor.data_type in stored and tensor.dims}
    widened = dequantized(quantized.graph, integer).keys()
    calls = calls_of_layers(graph, config)
    found = [n.name for n in quantized.graph.node if n.name in calls and (widened | integer).intersection(n.input)]
    return list(dict.fromkeys(calls[name][0] for name in found))


def _saturation(scheme: Scheme, decibel: float | None) -> Iterator[str]:
    if decibel is not None:
        advice = "exclude layers" if scheme.reduce_range else "set target: avx2, which keeps weights within 7 bits"
        yield (
            f"The integer kernels of this machine saturate: the outputs are {decibel:.0f} dB from those in fp32, and "
            f"would be nearer by what the file says. Next: {advice}."
        )


def _reporter(context: GraphContext, what: str) -> Callable[[float], None]:
    return lambda share: context.status(f"quantize: {what}", share, 1.0)
