"""Calibration: the range of each activation, from statistics that stream.

What is held is one minimum, one maximum and (for all methods but `minmax`) one histogram of 2,048 bins per tensor, so
that memory does not grow with the number of samples. `minmax` reads the samples once, the others twice: the first
reading fixes the histograms' edges, so that no histogram is ever rebinned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from compress.graph.onnx_graph import session_with_outputs
from compress.passes.quantization.quantize_settings import CalibrateConfig
from evaluate.core.errors import DataError
from evaluate.hardware.environment import usable_cores
from evaluate.runtime.session import Value

Range = tuple[float, float]
BINS = 2048
LEVELS = 256


class Calibration(Protocol):
    """The samples that ranges are found on."""

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[tuple[int, Mapping[str, Value]]]:
        """How many samples, and their inputs by name, about `size` at a time; the same ones every time."""


class Histogram:
    """Counts of a tensor's values over BINS equal bins between the smallest and largest value seen, float64."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.counts: NDArray[np.float64] = np.zeros(BINS)

    def add(self, values: NDArray[np.float32]) -> None:
        self.counts += np.histogram(values, BINS, (self.low, self.high))[0]

    @property
    def centres(self) -> NDArray[np.float64]:
        edges = np.linspace(self.low, self.high, BINS + 1)
        return np.asarray((edges[:-1] + edges[1:]) / 2)


def collect_ranges(
    graph: onnx.ModelProto, samples: Calibration, batch_size: int, status: Callable[[float], None]
) -> dict[str, Range]:
    """Smallest and largest value of every float tensor of `graph` over all samples, and of its inputs.

    Infinity is a value: masks hold it on purpose. `status` is called with the share of samples read. Raises DataError
    where an activation is NaN.
    """
    names = [name for node in graph.graph.node for name in node.output if name]
    names += [value.name for value in graph.graph.input]
    ranges: dict[str, Range] = {}
    for share, batch in _activations(graph, names, samples, batch_size):
        for name, values in batch:
            low, high = float(values.min()), float(values.max())
            if np.isnan(low):
                raise DataError(f"calibration: tensor {name!r} holds NaN; check the model's weights and the inputs")
            seen = ranges.get(name, (low, high))
            ranges[name] = (min(low, seen[0]), max(high, seen[1]))
        status(share)
    return ranges


def collect_histograms(
    graph: onnx.ModelProto,
    samples: Calibration,
    batch_size: int,
    ranges: Mapping[str, Range],
    status: Callable[[float], None],
) -> dict[str, Histogram]:
    """One histogram for each tensor named in `ranges`, over its own range."""
    found = {name: Histogram(*limits) for name, limits in ranges.items() if limits[0] < limits[1]}
    for share, batch in _activations(graph, list(found), samples, batch_size):
        for name, values in batch:
            found[name].add(values)
        status(share)
    return found


def clip_range(histogram: Histogram, config: CalibrateConfig) -> Range:
    """The range to quantize, by `config.method`, from a histogram; it holds 0, which int8 must represent exactly."""
    if config.method == "percentile":
        low, high = _percentile(histogram, config.percentile)
    elif config.method == "mse":
        low, high = _search(histogram, _squared_error)
    elif config.method == "entropy":
        low, high = _search(histogram, _divergence)
    else:
        low, high = histogram.low, histogram.high
    return min(low, 0.0), max(high, 0.0)


def _activations(
    graph: onnx.ModelProto, names: Iterable[str], samples: Calibration, batch_size: int
) -> Iterator[tuple[float, list[tuple[str, NDArray[np.float32]]]]]:
    """Per batch: the share of samples read so far, and (name, values) of each named float tensor."""
    inputs = {value.name for value in graph.graph.input}
    wanted = sorted(set(names))
    session = session_with_outputs(graph, [name for name in wanted if name not in inputs], usable_cores())
    outputs = [output[0] for output in session.outputs]
    done = 0
    for count, feeds in samples.batches(batch_size):
        results = dict(zip(outputs, session.run(feeds), strict=True)) | dict(feeds)
        done += count
        found = ((name, results[name]) for name in wanted)  # a sequence, of a loop's results, is a list
        floats = [(n, v) for n, v in found if isinstance(v, np.ndarray) and v.dtype == np.float32 and v.size]
        yield done / len(samples), floats


def _percentile(histogram: Histogram, percentile: float) -> Range:
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    tail = 1 - percentile / 100
    low = edges[int(np.searchsorted(share, tail, side="right"))]
    high = edges[min(int(np.searchsorted(share, 1 - tail)) + 1, BINS)]
    return float(low), float(high)


def _search(histogram: Histogram, cost: Callable[[Histogram, float, float], float], steps: int = 128) -> Range:
    """Shrink both ends together, then each by itself, to the least cost."""
    shares = np.linspace(1.0, 1.0 / steps, steps)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    best = min(shares, key=lambda s: cost(histogram, s * low, s * high))
    low, high = best * low, best * high
    if low < 0 < high:
        high *= min(shares, key=lambda s: cost(histogram, low, s * high))
        low *= min(shares, key=lambda s: cost(histogram, s * low, high))
    return float(low), float(high)


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    scale = (high - low) / (LEVELS - 1)
    centres = histogram.centres
    levels = np.clip(np.round((centres - low) / scale), 0, LEVELS - 1)
    return float(np.dot(histogram.counts, np.square(low + levels * scale - centres)))


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """KL(P || Q): P the values with the clipped tails moved to the ends, Q what LEVELS equal steps keep of them.

    Migacz, "8-bit inference with TensorRT" (GTC 2017), for a range that need not be symmetric. As in NVIDIA's
    pytorch-quantization the bin of zero counts like its neighbour: the zeros that ReLU makes are kept exactly by any
    range, and their spike would otherwise decide alone.
    """
    centres = histogram.centres
    kept = (centres >= low) & (centres <= high)
    if kept.sum() < LEVELS // 2:  # fewer bins than levels: rounding is not tested any more
        return float("inf")
    counts = _without_zero_spike(histogram)
    inner = counts[kept]
    reference = inner.copy()
    reference[0] += counts[centres < low].sum()
    reference[-1] += counts[centres > high].sum()
    level = np.minimum(((centres[kept] - low) / (high - low) * LEVELS).astype(np.int64), LEVELS - 1)
    filled = (inner > 0).astype(np.float64)
    spread = np.bincount(level, inner, LEVELS) / np.maximum(np.bincount(level, filled, LEVELS), 1)
    approximation = spread[level] * filled
    p, q = reference / reference.sum(), approximation / max(approximation.sum(), 1e-12)
    used = p > 0
    # A bin that only holds clipped values has q = 0: the loss is real, and large but finite.
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-9))))


def _without_zero_spike(histogram: Histogram) -> NDArray[np.float64]:
    counts = histogram.counts.copy()
    if histogram.low > 0 or histogram.high < 0:
        return counts
    width = (histogram.high - histogram.low) / BINS
    zero = int(np.clip(-histogram.low // width, 0, BINS - 1))
    neighbours = [counts[n] for n in (zero - 1, zero + 1) if 0 <= n < BINS]
    counts[zero] = min(counts[zero], max(neighbours))
    return counts
