"""Calibration: the range of each activation, from statistics that stream.

What is held is one minimum, one maximum and (for all methods but `minmax`) one histogram per tensor, so that memory
does not grow with the number of samples. Samples are read once: a value's bin is the upper half of its bits, which
needs no edges to be known, so that one value far from all others costs the others nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
BINS = 2048  # between the ends of the window that ranges are searched in
LEVELS = 256
OUTSIDE = 1e-5  # of the values, beyond either end of that window


class Calibration(Protocol):
    """The samples that ranges are found on."""

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[tuple[int, Mapping[str, Value]]]:
        """How many samples, and their inputs by name, about `size` at a time; the same ones every time."""


class Histogram:
    """How many of a tensor's values have a sign, an exponent and the first 7 bits of a mantissa in common.

    Such a bin is as wide as 0.8 % of the values in it, wherever they lie. What is not finite is counted nowhere.
    low, high : the smallest and the largest value.
    """

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.counts: NDArray[np.int64] = np.zeros(1 << 16, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values, of any shape."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        upper = np.ascontiguousarray(values, "<f4").reshape(-1).view("<u2")[1::2]
        self.counts += np.bincount(upper, minlength=1 << 16)

    @functools.cached_property
    def share_below(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges of bins that hold something, ascending, and how many values lie below each."""
        positive = np.arange(1 << 15, dtype=np.uint32)[: 0x7F80 + 1]
        magnitude = (positive << 16).view(np.float32).astype(np.float64)
        magnitude[-1] = float(np.finfo(np.float32).max)
        above, below = self.counts[: len(positive) - 1], self.counts[1 << 15 :][: len(positive) - 1]
        edges = np.concatenate([-magnitude[::-1], magnitude[1:]])
        cumulative = np.concatenate([[0.0], np.cumsum(np.concatenate([below[::-1], above]))])
        used = np.flatnonzero(np.diff(cumulative))
        kept = np.unique(np.concatenate([used, used + 1]))
        return edges[kept], cumulative[kept]

    def below(self, value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """How many values lie below, spread evenly within bins."""
        edges, counts = self.share_below
        return np.asarray(np.interp(value, edges, counts))

    def quantile(self, share: float) -> float:
        """The value that so large a share lies below."""
        edges, counts = self.share_below
        found = float(np.clip(np.interp(share * counts[-1], counts, edges), self.low, self.high))
        return found if abs(found) >= np.finfo(np.float32).tiny else 0.0  # in the bin that holds 0

    @functools.cached_property
    def bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres and counts of equal bins that hold all but a few values, with those few at their own places."""
        (low, high), (own, _) = self.window, self.share_below
        edges = np.concatenate([own[own < low], np.linspace(low, high, BINS + 1), own[own > high]])
        return np.clip((edges[1:] + edges[:-1]) / 2, self.low, self.high), np.diff(self.below(edges))

    @property
    def window(self) -> Range:
        """Ends that hold all but a few values, and 0."""
        return min(self.quantile(OUTSIDE), 0.0), max(self.quantile(1 - OUTSIDE), 0.0)


def collect_ranges(
    graph: onnx.ModelProto,
    samples: Calibration,
    batch_size: int,
    status: Callable[[float], None],
    counted: Collection[str] = (),
) -> tuple[dict[str, Range], dict[str, Histogram]]:
    """Smallest and largest value of every float tensor of `graph` over all samples, and of its inputs.

    counted : tensors that get a histogram too.

    Infinity is a value: masks hold it on purpose. `status` is called with the share of samples read. Raises DataError
    where an activation is NaN.
    """
    names = [name for node in graph.graph.node for name in node.output if name]
    names += [value.name for value in graph.graph.input]
    ranges, counts = dict[str, Range](), {name: Histogram() for name in counted}
    for share, batch in _activations(graph, names, samples, batch_size):
        for name, values in batch:
            low, high = float(values.min()), float(values.max())
            if np.isnan(low):
                raise DataError(f"calibration: tensor {name!r} holds NaN; check the model's weights and the inputs")
            seen = ranges.get(name, (low, high))
            ranges[name] = (min(low, seen[0]), max(high, seen[1]))
            if name in counts:
                counts[name].add(values)
        status(share)
    return ranges, {name: found for name, found in counts.items() if found.low < found.high}


def collect_moments(
    graph: onnx.ModelProto,
    names: Iterable[str],
    samples: Calibration,
    batch_size: int,
    status: Callable[[float], None],
) -> dict[str, NDArray[np.float64]]:
    """The mean of x x' (features, features) over all rows of each tensor (..., features)."""
    sums, rows = dict[str, NDArray[np.float64]](), dict[str, int]()
    for share, batch in _activations(graph, names, samples, batch_size):
        for name, values in batch:
            flat = values.reshape(-1, values.shape[-1])
            sums[name] = sums.get(name, 0.0) + (flat.T @ flat).astype(np.float64)
            rows[name] = rows.get(name, 0) + len(flat)
        status(share)
    return {name: total / rows[name] for name, total in sums.items()}


def collect_channels(
    graph: onnx.ModelProto,
    axes: Mapping[str, int],
    samples: Calibration,
    batch_size: int,
    status: Callable[[float], None],
) -> dict[str, NDArray[np.float32]]:
    """(channels,) the largest magnitude of each channel of named tensors; `axes` says which axis holds them."""
    largest = dict[str, NDArray[np.float32]]()
    for share, batch in _activations(graph, axes, samples, batch_size):
        for name, values in batch:
            others = tuple(place for place in range(values.ndim) if place != axes[name] % values.ndim)
            seen = np.abs(values).max(others)
            largest[name] = np.maximum(largest[name], seen) if name in largest else seen
        status(share)
    return largest


def clip_range(histogram: Histogram, config: CalibrateConfig) -> Range:
    """The range to quantize, by `config.method`, from a histogram; it holds 0, which int8 must represent exactly."""
    if config.method == "minmax" or not len(histogram.share_below[0]):  # nothing finite: a mask, which stays in fp32
        low, high = histogram.low, histogram.high
    elif config.method == "percentile":
        tail = 1 - config.percentile / 100
        low, high = histogram.quantile(tail), histogram.quantile(1 - tail)
    elif config.method == "mse":
        low, high = _search(histogram, _squared_error)
    else:
        low, high = _search(histogram, _divergence)
    if low == high == 0:  # all but a few values are 0, and these few are what counts
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


def _search(histogram: Histogram, cost: Callable[[Histogram, float, float], float]) -> Range:
    """Shrink both ends together, then each by itself, to the least cost: from all that was seen, to little of it."""
    (low, high), inner = (min(histogram.low, 0.0), max(histogram.high, 0.0)), histogram.window
    far = [(a / b) if b else 1.0 for a, b in zip((low, high), inner, strict=True)]
    reach = max(1.0, *(min(ratio, float(np.finfo(np.float32).max)) for ratio in far))
    outer, shares = np.geomspace(reach, 1.0, 17)[:-1] if reach > 1 else np.empty(0), np.linspace(1.0, 1 / 32, 32)

    def ends(share: float, other: float) -> Range:
        return max(low, inner[0] * share) if inner[0] else low, min(high, inner[1] * other) if inner[1] else high

    def best(candidates: NDArray[np.float64], pair: Callable[[float], Range]) -> float:
        """The share of least cost, looked for among these and then closer by."""
        costs = [cost(histogram, *pair(share)) for share in candidates]
        place = int(np.argmin(costs))
        around = candidates[max(place - 1, 0)], candidates[min(place + 1, len(candidates) - 1)]
        finer = np.append(np.linspace(*around, 16), candidates[place])
        return float(min(finer, key=lambda share: cost(histogram, *pair(share))))

    every = np.concatenate([outer, shares])
    both = best(every, lambda share: ends(share, share))
    if not low < 0 < high:
        return ends(both, both)
    near = both * np.linspace(1.5, 1 / 4, 24)
    upper = best(near, lambda share: ends(both, share))
    return ends(best(near, lambda share: ends(share, upper)), upper)


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    scale = (high - low) / (LEVELS - 1)
    centres, counts = histogram.bins
    levels = np.clip(np.round((centres - low) / scale), 0, LEVELS - 1)
    return float(np.dot(counts, np.square(low + levels * scale - centres)))


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """KL(P || Q): P the values with the clipped tails moved to the ends, Q what LEVELS equal steps keep of them.

    Migacz, "8-bit inference with TensorRT" (GTC 2017), for a range that need not be symmetric. As in NVIDIA's
    pytorch-quantization the bin of zero counts like its neighbour: the zeros that ReLU makes are kept exactly by any
    range, and their spike would otherwise decide alone.
    """
    centres = histogram.bins[0]
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
    centres, counts = histogram.bins
    zero, counts = int(np.argmin(np.abs(centres))), counts.copy()
    neighbours = [counts[n] for n in (zero - 1, zero + 1) if 0 <= n < len(counts)]
    if histogram.low <= 0 <= histogram.high:
        counts[zero] = min(counts[zero], max(neighbours))
    return counts
