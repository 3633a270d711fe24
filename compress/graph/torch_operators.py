"""ONNX's operators in torch, by the operator reference of opset 13 to 21: what a graph is trained with.

Each takes the settings of a node and its inputs, None for one that is left out, and gives its one output or a tuple.
Integer tensors of the quantized parts of a graph are whole numbers in floating point here, so that gradients pass.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluate.core.errors import ModelError

Settings = Mapping[str, Any]
Operator = Callable[..., Any]

OPERATORS: dict[str, Operator] = {}


def untold(what: str) -> ModelError:
    """The error for an operator, or a setting of one, that has no equal here: nothing is approximated."""
    return ModelError(
        f"this network cannot be trained as a graph: torch is not told what {what} does. Next: leave `train` out, and "
        "train with finetune or distill before."
    )


def _operator(*names: str) -> Callable[[Operator], Operator]:
    def decorate(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return decorate


def _plain(function: Callable[..., Any]) -> Operator:
    return lambda settings, *inputs: function(*inputs)


_PLAIN: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs, "Add": torch.add, "And": torch.logical_and, "Ceil": torch.ceil, "Cos": torch.cos,
    "Div": lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"),
    "Equal": torch.eq, "Erf": torch.erf, "Exp": torch.exp, "Expand": lambda x, shape: _expanded(x, shape.tolist()),
    "Floor": torch.floor, "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True), "Greater": torch.gt,
    "GreaterOrEqual": torch.ge, "HardSwish": F.hardswish, "Identity": lambda x: x, "IsNaN": torch.isnan,
    "Less": torch.lt, "LessOrEqual": torch.le, "Log": torch.log, "MatMul": torch.matmul,
    "Max": lambda *xs: functools.reduce(torch.maximum, xs), "Min": lambda *xs: functools.reduce(torch.minimum, xs),
    "Mish": F.mish, "Mul": torch.mul, "Neg": torch.neg, "Not": torch.logical_not, "Or": torch.logical_or,
    "Pow": torch.pow, "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round,
    "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Softplus": F.softplus, "Sqrt": torch.sqrt,
    "Sub": torch.sub, "Sum": lambda *xs: functools.reduce(torch.add, xs), "Tanh": torch.tanh,
    "Tile": lambda x, counts: x.repeat(counts.tolist()), "Where": torch.where,
    "Range": lambda start, end, step: torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype),
}  # fmt: skip
OPERATORS.update({name: _plain(function) for name, function in _PLAIN.items()})


@_operator("Clip")
def _clip(settings: Settings, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    ends = [None if end is None else end.item() for end in (low, high)]
    found: Tensor = x if ends == [None, None] else x.clamp(*ends)
    return found


@_operator("PRelu")
def _prelu(settings: Settings, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@_operator("LeakyRelu")
def _leaky_relu(settings: Settings, x: Tensor) -> Tensor:
    return F.leaky_relu(x, settings.get("alpha", 0.01))


@_operator("Elu")
def _elu(settings: Settings, x: Tensor) -> Tensor:
    return F.elu(x, settings.get("alpha", 1.0))


@_operator("HardSigmoid")
def _hard_sigmoid(settings: Settings, x: Tensor) -> Tensor:
    return (x * float(settings.get("alpha", 0.2)) + float(settings.get("beta", 0.5))).clamp(0, 1)


@_operator("Gelu")
def _gelu(settings: Settings, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=settings.get("approximate", b"none").decode())


@_operator("Softmax")
def _softmax(settings: Settings, x: Tensor) -> Tensor:
    return x.softmax(settings.get("axis", -1))


@_operator("LogSoftmax")
def _log_softmax(settings: Settings, x: Tensor) -> Tensor:
    return x.log_softmax(settings.get("axis", -1))


@_operator("Gemm")
def _gemm(settings: Settings, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    left, right = a.T if settings.get("transA", 0) else a, b.T if settings.get("transB", 0) else b
    product = (left @ right) * float(settings.get("alpha", 1.0))
    return product if c is None else product + c * float(settings.get("beta", 1.0))


@_operator("Conv")
def _conv(settings: Settings, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = x.ndim - 2
    strides, dilations = (list(settings.get(name, [1] * axes)) for name in ("strides", "dilations"))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    x, pads = _padded(settings, x, reach, strides)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    found: Tensor = convolve(x, weight, bias, strides, pads, dilations, settings.get("group", 1))
    return found


@_operator("ConvTranspose")
def _conv_transpose(settings: Settings, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = x.ndim - 2
    ones, pads = [1] * axes, list(settings.get("pads", [0] * 2 * axes))
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in settings or pads[:axes] != pads[axes:]:
        raise untold("ConvTranspose with another padding at each end")
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    return convolve(
        x, weight, bias, settings.get("strides", ones), pads[:axes], settings.get("output_padding", [0] * axes),
        settings.get("group", 1), settings.get("dilations", ones),
    )  # fmt: skip


@_operator("MaxPool")
def _max_pool(settings: Settings, x: Tensor) -> Tensor:
    kernel = list(settings["kernel_shape"])
    strides, dilations = (list(settings.get(name, [1] * len(kernel))) for name in ("strides", "dilations"))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    x, pads = _padded(settings, x, reach, strides, fill=-math.inf, most=[k // 2 for k in kernel])
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return pool(x, kernel, strides, pads, dilations, ceil_mode=bool(settings.get("ceil_mode", 0)))


@_operator("AveragePool")
def _average_pool(settings: Settings, x: Tensor) -> Tensor:
    kernel, whole = list(settings["kernel_shape"]), bool(settings.get("count_include_pad", 0))
    strides = list(settings.get("strides", [1] * len(kernel)))
    padded, pads = _padded(settings, x, kernel, strides, most=[k // 2 for k in kernel])
    if (padded is not x and not whole) or any(d != 1 for d in settings.get("dilations", ())):
        raise untold("AveragePool with another padding at each end, or with dilations")
    pool: Operator = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    return pool(padded, kernel, strides, pads, bool(settings.get("ceil_mode", 0)), whole)  # type: ignore[no-any-return]


@_operator("BatchNormalization")
def _batch_norm(settings: Settings, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, eps=settings.get("epsilon", 1e-5))


@_operator("LayerNormalization")
def _layer_norm(settings: Settings, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = x.shape[settings.get("axis", -1) % x.ndim :]
    plain = F.layer_norm(x, shape, eps=settings.get("epsilon", 1e-5)) * scale
    return plain if bias is None else plain + bias


@_operator("InstanceNormalization")
def _instance_norm(settings: Settings, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=settings.get("epsilon", 1e-5))


@_operator("GroupNormalization")
def _group_norm(settings: Settings, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    if len(scale) != x.shape[1]:  # one for each group, before opset 21
        scale, bias = (values.repeat_interleave(x.shape[1] // len(values)) for values in (scale, bias))
    return F.group_norm(x, settings["num_groups"], scale, bias, settings.get("epsilon", 1e-5))


def _reduction(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduced(settings: Settings, x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = list(settings.get("axes", ())) if axes is None else axes.tolist()
        if not over and settings.get("noop_with_empty_axes", 0):
            return x
        return reduce(x, over or list(range(x.ndim)), bool(settings.get("keepdims", 1)))

    return reduced


OPERATORS.update({
    "ReduceMean": _reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceMax": _reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceL2": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
})  # fmt: skip


@_operator("Reshape")
def _reshape(settings: Settings, x: Tensor, shape: Tensor) -> Tensor:
    wanted = shape.tolist()
    if not settings.get("allowzero", 0):
        wanted = [x.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    return x.reshape(wanted)


@_operator("Flatten")
def _flatten(settings: Settings, x: Tensor) -> Tensor:
    axis = settings.get("axis", 1)
    return x.reshape(math.prod(x.shape[: axis + x.ndim if axis < 0 else axis]), -1)


@_operator("Transpose")
def _transpose(settings: Settings, x: Tensor) -> Tensor:
    return x.permute(*settings.get("perm", reversed(range(x.ndim))))


@_operator("Squeeze")
def _squeeze(settings: Settings, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes.reshape(-1).tolist())


@_operator("Unsqueeze")
def _unsqueeze(settings: Settings, x: Tensor, axes: Tensor) -> Tensor:
    places = axes.reshape(-1).tolist()
    for axis in sorted(place % (x.ndim + len(places)) for place in places):
        x = x.unsqueeze(axis)
    return x


@_operator("Concat")
def _concat(settings: Settings, *parts: Tensor) -> Tensor:
    return torch.cat(parts, settings["axis"])


@_operator("Split")
def _split(settings: Settings, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = settings.get("axis", 0)
    if sizes is not None:
        return torch.split(x, sizes.tolist(), axis)
    return torch.split(x, math.ceil(x.shape[axis] / settings["outputs"]), axis)


@_operator("Slice")
def _slice(
    settings: Settings, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    places = list(range(len(starts))) if axes is None else axes.tolist()
    strides = [1] * len(places) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), places, strides, strict=True):
        taken = range(x.shape[axis])[start:end:step]
        x = x.narrow(axis, taken.start, len(taken)) if step == 1 else _at(x, axis, taken)
    return x


@_operator("Gather")
def _gather(settings: Settings, x: Tensor, places: Tensor) -> Tensor:
    axis = settings.get("axis", 0) % x.ndim
    flat = places.reshape(-1).long()
    found = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


@_operator("GatherElements")
def _gather_elements(settings: Settings, x: Tensor, places: Tensor) -> Tensor:
    axis = settings.get("axis", 0)
    return x.gather(axis, torch.where(places < 0, places + x.shape[axis], places).long())


@_operator("GatherND")
def _gather_nd(settings: Settings, x: Tensor, places: Tensor) -> Tensor:
    if settings.get("batch_dims", 0):
        raise untold("GatherND with batch_dims")
    return x[tuple(places.long().unbind(-1))]


@_operator("CumSum")
def _cumulative_sum(settings: Settings, x: Tensor, axis: Tensor) -> Tensor:
    if settings.get("exclusive", 0) or settings.get("reverse", 0):
        raise untold("CumSum that is exclusive or reversed")
    return x.cumsum(int(axis.item())).to(x.dtype)


@_operator("ArgMax")
def _largest(settings: Settings, x: Tensor) -> Tensor:
    if settings.get("select_last_index", 0):
        raise untold("ArgMax of the last of several")
    return x.argmax(settings.get("axis", 0), bool(settings.get("keepdims", 1)))


@_operator("Trilu")
def _triangle(settings: Settings, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    above, offset = bool(settings.get("upper", 1)), 0 if diagonal is None else int(diagonal.item())
    return x.triu(offset) if above else x.tril(offset)


@_operator("Pad")
def _pad(
    settings: Settings, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    sizes, places = pads.tolist(), list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes.tolist()]
    ends = {axis: (sizes[n], sizes[n + len(places)]) for n, axis in enumerate(places)}
    wanted = [ends.get(axis, (0, 0)) for axis in reversed(range(x.ndim))]
    mode = settings.get("mode", b"constant")
    if mode == b"constant":
        return F.pad(x, [size for pair in wanted for size in pair], value=0.0 if value is None else value.item())
    while wanted and wanted[-1] == (0, 0):  # torch takes no axis that stays as it is
        wanted.pop()
    named = {b"reflect": "reflect", b"edge": "replicate", b"wrap": "circular"}[mode]
    return F.pad(x, [size for pair in wanted for size in pair], mode=named)


@_operator("Shape")
def _shape(settings: Settings, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[settings.get("start", 0) : settings.get("end")], dtype=torch.int64)


@_operator("ConstantOfShape")
def _constant_of_shape(settings: Settings, shape: Tensor) -> Tensor:
    value = settings.get("value")
    filled = np.zeros(1, np.float32) if value is None else onnx.numpy_helper.to_array(value)
    return torch.from_numpy(np.full(shape.tolist(), filled.reshape(-1)[0]))


@_operator("Cast")
def _cast(settings: Settings, x: Tensor) -> Tensor:
    kind = onnx.helper.tensor_dtype_to_np_dtype(settings["to"])
    return x.to(torch.from_numpy(np.empty(0, kind)).dtype)


@_operator("Resize")
def _resize(
    settings: Settings, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    mode = settings.get("mode", b"nearest")
    where = settings.get("coordinate_transformation_mode", b"half_pixel")
    unlike = untold(f"Resize with mode {mode.decode()} and coordinates {where.decode()}")
    if {"antialias", "keep_aspect_ratio_policy", "axes"}.intersection(settings):
        raise unlike
    factors = [] if scales is None else scales.tolist()
    exact = sizes.tolist() if sizes is not None else [n * s for n, s in zip(x.shape, factors, strict=True)]
    wanted = [int(size) for size in exact]
    nearest = (mode, where) == (b"nearest", b"asymmetric") and settings.get("nearest_mode") == b"floor"
    linear = mode == b"linear" and where in (b"half_pixel", b"pytorch_half_pixel", b"align_corners")
    fits = nearest or (linear and x.ndim in (3, 4, 5) and 1 not in wanted[2:])
    if not fits or wanted != exact or wanted[:2] != list(x.shape[:2]):
        raise unlike
    if nearest:
        return F.interpolate(x, wanted[2:], mode="nearest")
    kind = ("linear", "bilinear", "trilinear")[x.ndim - 3]
    return F.interpolate(x, wanted[2:], mode=kind, align_corners=where == b"align_corners")


def _padded(
    settings: Settings, x: Tensor, reach: Sequence[int], strides: Sequence[int], *, fill: float = 0.0,
    most: Sequence[int] = (),
) -> tuple[Tensor, list[int]]:  # fmt: skip
    """(the input, padded where its two ends differ or pooling takes no more than `most`; what is left to pad)."""
    axes, auto = x.ndim - 2, settings.get("auto_pad", b"NOTSET")
    before, after = [0] * axes, [0] * axes
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        for axis, size in enumerate(x.shape[2:]):
            total = max(0, (math.ceil(size / strides[axis]) - 1) * strides[axis] + reach[axis] - size)
            small, large = total // 2, total - total // 2
            before[axis], after[axis] = (small, large) if auto == b"SAME_UPPER" else (large, small)
    elif auto != b"VALID":
        pads = list(settings.get("pads", [0] * 2 * axes))
        before, after = pads[:axes], pads[axes:]
    if before == after and (not most or all(pad <= limit for pad, limit in zip(before, most, strict=True))):
        return x, before
    ends = [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
    return F.pad(x, ends, value=fill), [0] * axes


def _expanded(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Broadcast both ways: a size of 1 in `shape` leaves the tensor's own."""
    own = (1,) * max(0, len(shape) - x.ndim) + tuple(x.shape)
    asked = (1,) * max(0, x.ndim - len(shape)) + tuple(shape)
    return x.expand(*(a if b == 1 else b for a, b in zip(own, asked, strict=True)))


def _at(x: Tensor, axis: int, places: range) -> Tensor:
    return x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
