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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from compress.core.errors import PassError
from compress.graph.onnx_graph import WEIGHTED, serialise, with_bodies
from compress.passes.base import Change, GraphContext, GraphResult
from compress.passes.quantization.calibrate import Calibration, clip_range, collect_histograms, collect_ranges
from compress.passes.quantization.quantize_settings import QuantizeConfig
from evaluate.hardware.environment import int8_path
from evaluate.runtime.session import Value, open_session

# Of layers, groups, rows; a root is what other exporters write one with (of batch norm it is of constants, and folded).
_NORMS = {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Sqrt"}
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
    """

    graph: onnx.ModelProto
    samples: Calibration
    scheme: Scheme
    ranges: Mapping[str, tuple[float, float]]
    masked: list[str]

    @classmethod
    def calibrated(cls, graph: onnx.ModelProto, config: QuantizeConfig, context: GraphContext) -> Quantizer:
        """Find the ranges. Raises as `quantize_graph`."""
        excluded_nodes(graph, config)
        samples, batch = context.calibration(config.calibrate.samples), config.calibrate.batch_size
        ranges = collect_ranges(graph, samples, batch, _reporter(context, "ranges"))
        found = cls(graph, samples, scheme_for(config.target), ranges, _masked_nodes(graph, ranges))
        if config.calibrate.method == "minmax":
            return found
        # Only the tensors that the first writing quantized need a histogram.
        used = {n: ranges[n] for n in _quantized_activations(found.written(config)) if n in ranges}
        counts = collect_histograms(graph, samples, batch, used, _reporter(context, "histograms"))
        return replace(
            found, ranges=ranges | {name: clip_range(counted, config.calibrate) for name, counted in counts.items()}
        )

    def written(self, config: QuantizeConfig) -> onnx.ModelProto:
        """The graph in integers. Raises PassError where no layer is left."""
        left = [*excluded_nodes(self.graph, config), *self.masked, *unweighted_nodes(self.graph, config)]
        return _write_qdq(self.graph, self.ranges, left, self.scheme, config.per_channel)

    def result(self, config: QuantizeConfig, written: onnx.ModelProto) -> GraphResult:
        """What is to be said of a graph that was written by these settings."""
        scheme, decibel = self.scheme, saturation_db(serialise(written), _first(self.samples, SATURATION_SAMPLES))
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


def _first(samples: Calibration, most: int) -> Iterator[Mapping[str, Value]]:
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
    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)

    return matches(config.layers) and not matches(config.exclude)


def excluded_nodes(graph: onnx.ModelProto, config: QuantizeConfig) -> list[str]:
    weighted = [node.name for node in graph.graph.node if node.op_type in WEIGHTED]
    excluded = [name for name in weighted if not chosen(name, config)]
    if len(excluded) == len(weighted):
        shown = ", ".join(weighted[:8]) or "none"
        raise PassError(
            f"quantize would change nothing: layers {list(config.layers)} without {list(config.exclude)} leaves no "
            f"layer with weights. Layers of this model: {shown}."
        )
    return excluded


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
    return _finish(quantizer.model.model)


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Silence what onnxruntime's quantizer tells the root logger of weights that it takes as a whole."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave the network's output in fp32 (8-bit scores tie) and drop what the quantizer wrote for itself."""
    producers = {name: node for node in model.graph.node for name in node.output}
    for output in model.graph.output:
        last = producers.get(output.name)
        before = producers.get(last.input[0]) if last is not None and last.op_type == "DequantizeLinear" else None
        if last is None or before is None or before.op_type != "QuantizeLinear":
            continue
        source = producers.get(before.input[0])
        readers = [node for node in model.graph.node if before.input[0] in node.input]
        if source is None or len(readers) != 1:
            continue
        source.output[:] = [output.name if name == before.input[0] else name for name in source.output]
        model.graph.node.remove(last)
        model.graph.node.remove(before)
    used = {name for part in with_bodies(model.graph) for node in part.node for name in node.input}
    unused = [tensor for tensor in model.graph.initializer if tensor.name not in used]
    for tensor in unused:
        model.graph.initializer.remove(tensor)
    model.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.producer_name, model.producer_version = "leanfit", ""
    return model


def _quantized_activations(model: onnx.ModelProto) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]


def _quantized_layers(graph: onnx.ModelProto, quantized: onnx.ModelProto) -> list[str]:
    """Layers whose weights are stored as integers in the quantized graph."""
    integer = {t.name for t in quantized.graph.initializer if numpy_helper.to_array(t).dtype in (np.int8, np.uint8)}
    widened = {n.output[0] for n in quantized.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in integer}
    weighted = {node.name for node in graph.graph.node if node.op_type in WEIGHTED}
    return [n.name for n in quantized.graph.node if n.name in weighted and widened.intersection(n.input)]


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
