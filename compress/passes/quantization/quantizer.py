"""Static int8 quantization of the exported graph, in the QDQ form that ONNX Runtime fuses into integer kernels.

Ranges come from our own streaming calibration; the QuantizeLinear / DequantizeLinear pairs are placed by onnxruntime's
quantizer. Which integer types are fast and do not saturate depends on the CPU the file will run on:

| target         | activations, weights     | because |
|----------------|--------------------------|---------|
| vnni           | uint8, int8              | one instruction multiplies u8 by s8, adds into 32 bits: exact |
| avx2, avx512   | uint8, int8 in 7 bits    | pairs of products add in 16 bits and saturate with 8-bit weights |
| arm            | int8, int8               | signed kernels are the native ones |
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from compress.core.errors import PassError
from compress.graph.compact import compacted
from compress.graph.onnx_graph import WEIGHTED, serialise
from compress.passes.base import Change, GraphContext, GraphResult
from compress.passes.quantization.calibrate import Calibration, clip_range, collect_histograms, collect_ranges
from compress.passes.quantization.quantize_settings import QuantizeConfig
from evaluate.core.errors import did_you_mean
from evaluate.core.text import a_few
from evaluate.hardware.environment import int8_path
from evaluate.runtime.session import Value, open_session

# Of layers, groups, rows; a root is what other exporters write one with (of batch norm it is of constants, and folded).
_NORMS = {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Sqrt"}
_VIEWS = frozenset(("Squeeze", "Unsqueeze", "Flatten", "Reshape", "Transpose", "Identity", "Slice", "Expand", "Resize"))
_TAIL = _VIEWS | {
    "Add", "Sub", "Mul", "Div", "Pow", "Neg", "Abs", "Exp", "Log", "Sqrt", "Clip", "Cast", "Sigmoid", "Tanh",
    "Softplus", "Softmax", "LogSoftmax", "Erf", "HardSigmoid", "Sin", "Cos",
}  # fmt: skip
ENDLESS, MASKED = 1e30, -9999.0  # no activation's value, and no score's: masks
# Trained nets gave 38 to 48 dB between their integer kernels and the simulation where clean, about 29 dB saturated.
SATURATED_BELOW_DB = 34.0
SATURATION_SAMPLES = 32


@dataclass(frozen=True)
class Scheme:
    """The integer types of a target: activations unsigned or not, weights in 7 bits or 8, and why."""

    target: str
    unsigned_activations: bool
    reduce_range: bool
    reason: str


_SCHEMES = {
    "vnni": Scheme("vnni", True, False, "u8 x s8 accumulates in 32 bits"),
    "avx512": Scheme("avx512", True, True, "without VNNI, u8 x s8 pairs saturate at 16 bits: weights keep 7 bits"),
    "avx2": Scheme("avx2", True, True, "without VNNI, u8 x s8 pairs saturate at 16 bits: weights keep 7 bits"),
    "arm": Scheme("arm", False, False, "signed int8 kernels are native"),
}


def scheme_for(target: str) -> Scheme:
    """The integer types for a target; `auto` asks the machine this runs on."""
    if target != "auto":
        return _SCHEMES[target]
    path = int8_path()
    return _SCHEMES["arm" if path.startswith("neon") else path if path in _SCHEMES else "avx2"]


@dataclass(frozen=True)
class Quantizer:
    """A graph in fp32 with what was learnt of it once, to write it in integers in one way or another.

    ranges : of every activation, clipped as the settings of calibration say.
    masked : operators that no 256 steps hold.
    tail   : operators between the last layers and the outputs, which see what these give in fp32.
    """

    graph: onnx.ModelProto
    samples: Calibration
    scheme: Scheme
    ranges: Mapping[str, tuple[float, float]]
    masked: list[str]
    tail: list[str]

    @classmethod
    def calibrated(cls, graph: onnx.ModelProto, config: QuantizeConfig, context: GraphContext) -> Quantizer:
        """Find the ranges. Raises as `quantize_graph`."""
        check_patterns(graph, config)
        samples, batch = context.calibration(config.calibrate.samples), config.calibrate.batch_size
        ranges = collect_ranges(graph, samples, batch, _reporter(context, "ranges"))
        found = cls(graph, samples, scheme_for(config.target), ranges, _masked_nodes(graph, ranges), tail_of(graph))
        if config.calibrate.method == "minmax":
            return found
        # Only the tensors that the first writing quantized need a histogram.
        used = {n: ranges[n] for n in _quantized_activations(found._with_pairs(config)) if n in ranges}
        counts = collect_histograms(graph, samples, batch, used, _reporter(context, "histograms"))
        return replace(
            found, ranges=ranges | {name: clip_range(counted, config.calibrate) for name, counted in counts.items()}
        )

    def written(self, config: QuantizeConfig) -> onnx.ModelProto:
        """The graph in integers, in few bytes. Raises PassError where no layer is left."""
        return compacted(self._with_pairs(config))

    def _with_pairs(self, config: QuantizeConfig) -> onnx.ModelProto:
        """The graph with Q/DQ pairs, its values named as they were."""
        left = [*excluded_nodes(self.graph, config), *self.masked, *self.tail, *unweighted_nodes(self.graph, config)]
        written = _write_qdq(self.graph, self.ranges, left, self.scheme, config.per_channel)
        return _finish(written, self.tail)

    def result(self, config: QuantizeConfig, written: onnx.ModelProto) -> GraphResult:
        """What is to be said of a graph that was written by these settings."""
        scheme, decibel = self.scheme, saturation_db(serialise(written), first_of(self.samples, SATURATION_SAMPLES))
        details = {
            "target": scheme.target,
            "activations": "uint8" if scheme.unsigned_activations else "int8",
            "weight_bits": 7 if scheme.reduce_range else 8,
            "per_channel": config.per_channel,
            "calibration": {"method": config.calibrate.method, "samples": len(self.samples)},
            "kernels_vs_simulation_db": decibel,
            "left_in_fp32": excluded_nodes(self.graph, config),
        }
        return GraphResult(written, self.changes(written), tuple(_warnings(scheme, decibel, config)), details)

    def changes(self, written: onnx.ModelProto) -> tuple[Change, ...]:
        """Layer by layer, what became integers."""
        return tuple(Change(name, "weight bits", 32, 8) for name in _quantized_layers(self.graph, written))


def first_of(samples: Calibration, most: int) -> Iterator[Mapping[str, Value]]:
    """Inputs of the first samples, in calls of at most so many."""
    seen = 0
    for count, feeds in samples.batches(min(len(samples), most)):
        yield feeds
        seen += count
        if seen >= most:
            return


def saturation_db(data: bytes, calls: Iterable[Mapping[str, Value]]) -> float | None:
    """Signal-to-noise ratio, in dB, of the integer kernels' outputs against the same file run without any fusion.

    About 29 dB means that integer kernels saturate on this machine, 38 to 48 dB that they do not. None where the two
    are equal, or where the simulation gives nothing but zeros. Of the first output; what is not finite is left out.
    """
    kernels, simulation = (open_session(data, optimize=optimize) for optimize in (True, False))
    signal = noise = 0.0
    for feeds in calls:
        found, wanted = (np.asarray(s.run(feeds)[0], dtype=np.float64) for s in (kernels, simulation))
        finite = np.isfinite(found) & np.isfinite(wanted)
        signal += float(np.square(wanted[finite]).sum())
        noise += float(np.square((found - wanted)[finite]).sum())
    return round(10 * float(np.log10(signal / noise)), 1) if signal > 0 and noise > 0 else None


def chosen(layer: str, config: QuantizeConfig) -> bool:
    """Whether the patterns of the settings mean a layer."""
    return _chosen_by_any((layer,), config)


def _matches(layer: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)


def calls_of_layers(graph: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Operators with weights -> all that read the same weights, in order: a layer that is called twice is one layer."""
    constants = {tensor.name for tensor in graph.graph.initializer}
    readers: dict[str, list[str]] = {}
    own: dict[str, str] = {}
    for node in graph.graph.node:
        if node.op_type in WEIGHTED:
            own[node.name] = next((name for name in node.input[:2] if name in constants), f"of {node.name}")
            readers.setdefault(own[node.name], []).append(node.name)
    return {name: tuple(readers[weight]) for name, weight in own.items()}


def check_patterns(graph: onnx.ModelProto, config: QuantizeConfig) -> None:
    """Raise PassError where a pattern means no operator with weights, or where all are left in fp32.

    One that means a layer without an operator of its own, as a batch norm that is folded, would bind nothing.
    """
    excluded_nodes(graph, config)
    names = list(calls_of_layers(graph))
    for path, pattern in config.patterns():
        if not any(_matches(name, [pattern]) for name in names):
            near = did_you_mean(pattern, names) or "."
            raise PassError(
                f"quantize.{path[0]}: pattern {pattern!r} means no layer that becomes integers{near} "
                f"Layers with weights in the exported graph: {a_few(names, 8)}"
            )


def excluded_nodes(graph: onnx.ModelProto, config: QuantizeConfig) -> list[str]:
    """Operators with weights that the settings leave in fp32. Raises PassError where that is all of them.

    A pattern for one call of a layer means all of its calls: weights that one of them keeps in fp32 are kept whole.
    """
    calls = calls_of_layers(graph)
    excluded = [name for name, same in calls.items() if not _chosen_by_any(same, config)]
    if len(excluded) == len(calls):
        shown = ", ".join(list(calls)[:8]) or "none"
        raise PassError(
            f"quantize would change nothing: layers {list(config.layers)} without {list(config.exclude)} leaves no "
            f"layer with weights. Layers of this model: {shown}."
        )
    return excluded


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
    """Operators without weights of their own, where only those with weights shall become integers.

    The scores, sums and norms of a transformer have a few values far from all others (Dettmers et al. 2022,
    "LLM.int8()", section 4), so that 256 steps over their range are coarse: MiniLM lost 3 points of correlation.
    """
    normed = any(node.op_type in _NORMS for node in graph.graph.node)
    if config.operators == "all" or (config.operators == "auto" and not normed):
        return []
    constants = {tensor.name for tensor in graph.graph.initializer}
    weighted = WEIGHTED | {"Gather"}
    return [
        node.name for node in graph.graph.node if node.op_type not in weighted or not constants.intersection(node.input)
    ]


def _tied(graph: onnx.ModelProto) -> list[str]:
    """Weights that an embedding looks up rows of and a layer multiplies by: one scale, as the rows take it along."""
    looked_up = {node.input[0] for node in graph.graph.node if node.op_type == "Gather"}
    multiplied = {name for node in graph.graph.node if node.op_type in WEIGHTED for name in node.input[1:2]}
    return sorted({tensor.name for tensor in graph.graph.initializer} & looked_up & multiplied)


def _write_qdq(
    graph: onnx.ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    excluded: list[str],
    scheme: Scheme,
    per_channel: bool,
) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    model = onnx.shape_inference.infer_shapes(graph)
    model.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")  # the quantizer's mark of inferred shapes
    limits = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
        if max(abs(low), abs(high)) < ENDLESS
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=per_channel,
        reduce_range=scheme.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if scheme.unsigned_activations else QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry}),
        extra_options={"TensorQuantOverrides": {name: [{"quant_type": QuantType.QInt8}] for name in _tied(graph)}},
    )
    with _quiet_quantizer():
        quantizer.quantize_model()
    written: onnx.ModelProto = quantizer.model.model
    return written


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Silence what onnxruntime's quantizer tells the root logger of weights that it takes as a whole."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def tail_of(graph: onnx.ModelProto) -> list[str]:
    """The operators behind the last layers: views, resizing, and what is done element by element to one value.

    256 steps of a score tie, whatever is done to it afterwards; so such an output stays in fp32 from its layer on.
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    producers = {name: node for node in graph.graph.node for name in node.output}
    waiting, found = [output.name for output in graph.graph.output], dict[str, None]()
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.op_type not in _TAIL or node.name in found:
            continue
        values = [name for name in node.input if name and name not in constants]
        if node.op_type in _VIEWS or len(values) == 1:
            found[node.name] = None
            waiting.append(node.input[0] if node.op_type in _VIEWS else values[0])
    return list(found)


def _finish(model: onnx.ModelProto, tail: Sequence[str]) -> onnx.ModelProto:
    """Leave outputs in fp32 from their last layers on, and drop what the quantizer noted for itself."""
    producers = {name: node for node in model.graph.node for name in node.output}
    behind, outputs = set(tail), {output.name for output in model.graph.output}
    for last in [node for node in model.graph.node if node.op_type == "DequantizeLinear"]:
        value, before = last.output[0], producers.get(last.input[0])
        readers = [node for node in model.graph.node if value in node.input]
        if before is None or before.op_type != "QuantizeLinear" or not all(node.name in behind for node in readers):
            continue
        if value not in outputs and not readers:
            continue
        source, others = producers.get(before.input[0]), [n for n in model.graph.node if before.input[0] in n.input]
        if source is None or len(others) != 1:
            continue
        source.output[:] = [value if name == before.input[0] else name for name in source.output]
        model.graph.node.remove(last)
        model.graph.node.remove(before)
    model.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.producer_name, model.producer_version = "leanfit", ""
    return model


def _quantized_activations(model: onnx.ModelProto) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]


def _quantized_layers(graph: onnx.ModelProto, quantized: onnx.ModelProto) -> list[str]:
    """Layers whose weights are stored as integers in the quantized graph, each once, by its first call."""
    integer = {t.name for t in quantized.graph.initializer if numpy_helper.to_array(t).dtype in (np.int8, np.uint8)}
    widened = {n.output[0] for n in quantized.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in integer}
    calls = calls_of_layers(graph)
    found = [n.name for n in quantized.graph.node if n.name in calls and widened.intersection(n.input)]
    return list(dict.fromkeys(calls[name][0] for name in found))


def _warnings(scheme: Scheme, decibel: float | None, config: QuantizeConfig) -> Iterable[str]:
    if decibel is not None and decibel < SATURATED_BELOW_DB:
        yield (
            f"The integer kernels of this machine are {decibel:.0f} dB from what the file says (clean files give "
            f"38 to 48): they saturate. Set target: avx2 to keep weights within 7 bits."
        )
    if scheme.target == "vnni" and config.target == "auto":
        yield (
            "Weights use all 8 bits, which is right for CPUs with VNNI, as here. On an x86 CPU without VNNI this file "
            "would saturate: set target: avx2 for a file that is safe on both."
        )


def _reporter(context: GraphContext, what: str) -> Callable[[float], None]:
    return lambda share: context.status(f"quantize: {what}", share, 1.0)
