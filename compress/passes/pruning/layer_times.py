"""The staircase of a device: how long each layer takes at each width it may have, measured in onnxruntime.

Channels are not latency: kernels work in blocks, so a layer that is a little narrower can be slower. A layer's time
depends on its kind, the size of what it reads, and its two widths alone; layers alike in these are measured once. Small
files that hold nothing but one such layer, at one input width and all output widths, are profiled.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from compress.core.errors import PassError
from compress.core.files import hash_of
from compress.core.forward import call
from compress.graph.surgery import Side, is_depthwise, side_width
from compress.passes.base import Trials
from compress.passes.pruning.channel_groups import Group
from evaluate.core.errors import LeanfitError
from evaluate.hardware.environment import machine_id, onnxruntime_distributions
from evaluate.profiling.profile import Subject, profiles

Floats = NDArray[np.float64]
Widths = NDArray[np.int64]
Status = Callable[[str, float, float], None]
OPSET = 20
_TOGETHER = 24  # files profiled in one interleaved run
_SECONDS = 0.15  # for each of them
_MOST = 9  # widths of one side that are measured; between them it is interpolated


@dataclass(frozen=True)
class LayerKind:
    """What the time of a layer depends on beside its widths: operator, attributes, and the shape it reads.

    shape : of the input without its channels: (batch, *places) of a convolution, (rows,) of a linear layer.
    groups: of a convolution; 0 where it is depthwise.
    """

    op: str
    shape: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True)
class LayerTable:
    """The milliseconds of one layer: `ms` (inputs, outputs), at the ascending widths that its two sides may have."""

    name: str
    inputs: Widths
    outputs: Widths
    ms: Floats

    def at(self, inputs: Floats, outputs: Floats) -> Floats:
        """(...) the time where the sides have so many channels; the next wider one that is known counts."""
        row = np.searchsorted(self.inputs, np.rint(inputs)).clip(0, len(self.inputs) - 1)
        column = np.searchsorted(self.outputs, np.rint(outputs)).clip(0, len(self.outputs) - 1)
        return np.asarray(self.ms[row, column])


def layer_tables(
    model: nn.Module,
    example: Mapping[str, Tensor],
    groups: Sequence[Group],
    options: Sequence[Iterable[int]],
    trials: Trials,
    status: Status,
) -> list[LayerTable]:
    """A table for each convolution and linear layer that `groups` make narrower, over the units they may keep.

    options : per group the units it may keep. example: one call, as it is timed. Raises PassError where the provider
    cannot be profiled.
    """
    times = Times(trials)
    sides, kinds = _widths(model, groups, options), layer_kinds(model, example)
    wanted: list[tuple[str, LayerKind, Widths, Widths]] = []
    for name in sorted({name for name, _ in sides} & set(kinds)):
        outputs = sides.get((name, "out"), np.array([side_width(model, name, "out")]))
        for kind in kinds[name]:
            alone = outputs[-1:] if kind.groups == 0 else np.array([side_width(model, name, "in")])
            wanted.append((name, kind, alone if kind.groups == 0 else sides.get((name, "in"), alone), outputs))
    times.measure([pair for _, kind, ins, outs in wanted for pair in _pairs(kind, _few(ins), _few(outs))], status)
    return [LayerTable(name, ins, outs, _filled(times, kind, ins, outs)) for name, kind, ins, outs in wanted]


def _pairs(kind: LayerKind, inputs: Widths, outputs: Widths) -> list[tuple[LayerKind, int, int]]:
    """What is measured; where each channel is convolved alone both widths are one."""
    if kind.groups == 0:
        return [(kind, int(o), int(o)) for o in outputs]
    return [(kind, int(i), int(o)) for i in inputs for o in outputs]


def _few(widths: Widths) -> Widths:
    places = np.linspace(0, len(widths) - 1, min(_MOST, len(widths))).round().astype(int)
    return np.asarray(widths[np.unique(places)])


def _filled(times: Times, kind: LayerKind, inputs: Widths, outputs: Widths) -> Floats:
    """(inputs, outputs) milliseconds at all widths, between those that were measured linearly along each side."""
    few = _few(outputs)
    if kind.groups == 0:
        return np.array([np.interp(outputs, few, [times.of(kind, int(o), int(o)) for o in few])])
    rows = _few(inputs)
    along = np.array([np.interp(outputs, few, [times.of(kind, int(i), int(o)) for o in few]) for i in rows])
    return np.array([np.interp(inputs, rows, column) for column in along.T]).T


def layer_kinds(model: nn.Module, example: Mapping[str, Tensor]) -> dict[str, list[LayerKind]]:
    """Each convolution and linear layer with its kind, once for every call of it in one call of the model."""
    names: dict[nn.Module, str] = {m: n for n, m in model.named_modules() if isinstance(m, _ConvNd | nn.Linear)}
    found: dict[str, list[LayerKind]] = {}

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        kind = LayerKind("Gemm", (x.numel() // x.shape[-1],))
        if isinstance(module, _ConvNd):
            padding = module.padding if not isinstance(module.padding, str) else _same(module)
            op = "ConvTranspose" if isinstance(module, _ConvTransposeNd) else "Conv"
            kind = LayerKind(
                op, (x.shape[0], *x.shape[2:]), tuple(module.kernel_size), tuple(module.stride),
                tuple(int(p) for p in padding), tuple(module.dilation), 0 if is_depthwise(module) else module.groups,
            )  # fmt: skip
        found.setdefault(names[module], []).append(kind)

    handles = [module.register_forward_pre_hook(hook) for module in names]
    try:
        with torch.no_grad():
            call(model.eval(), example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _same(module: _ConvNd) -> tuple[int, ...]:
    """Padding in words as numbers; an odd one rounded down, which a time hardly depends on."""
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    return tuple(d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True))


def _widths(
    model: nn.Module, groups: Sequence[Group], options: Sequence[Iterable[int]]
) -> dict[tuple[str, Side], Widths]:
    """The widths (ascending) that each side of each layer may have, where groups make it narrower."""
    gone: dict[tuple[str, Side], set[int]] = {}
    modules = dict(model.named_modules())
    for group, kept in zip(groups, options, strict=True):
        for target in group.targets:
            each, key = len(target.indices[0]), (target.layer, target.side)
            own = {each * (len(group.units) - k) for k in kept} | {0}
            before = gone.get(key, {0})
            gone[key] = {a + b for a in before for b in own} if len(before) * len(own) < 4096 else {*before, *own}
    full = {key: side_width(model, *key) for key in gone if key[0] in modules}
    return {key: np.array(sorted({width - g for g in gone[key] if g < width})) for key, width in full.items()}


@dataclass
class Times:
    """Milliseconds of layers by kind and widths on one device, kept in a file of the user's cache."""

    trials: Trials
    ms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ms |= self._kept()

    def of(self, kind: LayerKind, inputs: int, outputs: int) -> float:
        """The time that `measure` has found."""
        return self.ms[_key(kind, inputs, outputs)]

    def measure(self, wanted: Sequence[tuple[LayerKind, int, int]], status: Status) -> None:
        """Profile what is not known yet. Raises PassError where there is no profiler."""
        missing: dict[tuple[LayerKind, int], set[int]] = {}
        for kind, inputs, outputs in wanted:
            if _key(kind, inputs, outputs) not in self.ms:
                missing.setdefault((kind, inputs), set()).add(outputs)
        files = [(kind, inputs, sorted(outputs)) for (kind, inputs), outputs in missing.items()]
        for start in range(0, len(files), _TOGETHER):
            status("prune: timing layers over their widths", start, len(files))
            self._profile(files[start : start + _TOGETHER])
            self._keep()

    def _profile(self, files: Sequence[tuple[LayerKind, int, Sequence[int]]]) -> None:
        subjects = []
        for number, (kind, inputs, outputs) in enumerate(files):
            shape = (kind.shape[0], inputs, *kind.shape[1:])
            feeds = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
            subjects.append(Subject(str(number), one_layer(kind, inputs, outputs), feeds))
        try:
            found = profiles(
                subjects, provider=self.trials.provider, threads=self.trials.threads, seconds=_SECONDS,
                seed=self.trials.seed,
            )  # fmt: skip
        except LeanfitError as error:
            raise PassError(
                f"prune: a target of latency needs the times of single layers, and {self.trials.provider} gives none: "
                f"{error}. Use a target in macs."
            ) from error
        for (kind, inputs, outputs), profile in zip(files, found, strict=True):
            rows = {row["layer"]: row["ms"] for row in profile["layers"]}
            for width in outputs:
                self.ms[_key(kind, inputs, width)] = float(rows[f"w{width}"])

    def _kept(self) -> dict[str, float]:
        """What earlier runs have measured; nothing where that is not there, or not readable."""
        with contextlib.suppress(OSError, ValueError):
            return {str(k): float(v) for k, v in json.loads(self._file().read_text(encoding="utf-8")).items()}
        return {}

    def _file(self) -> Path:
        home = os.environ.get("XDG_CACHE_HOME")
        device = hash_of(machine_id(), onnxruntime_distributions(), self.trials.provider, self.trials.threads)
        return (Path(home) if home else Path.home() / ".cache") / "leanfit" / "layer-times" / f"{device[:16]}.json"

    def _keep(self) -> None:
        with contextlib.suppress(OSError):  # a home that cannot be written to: the next run measures again
            self._file().parent.mkdir(parents=True, exist_ok=True)
            temporary = self._file().with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(self._kept() | self.ms), encoding="utf-8")  # another run may have kept some
            temporary.replace(self._file())


def _key(kind: LayerKind, inputs: int, outputs: int) -> str:
    return json.dumps([*asdict(kind).values(), inputs, outputs])


def one_layer(kind: LayerKind, inputs: int, outputs: Sequence[int]) -> bytes:
    """An ONNX file in which one input x goes through such a layer at each output width; weights are w<width>."""
    rng, nodes, weights, results = np.random.default_rng(0), [], [], []
    for width in outputs:
        ins = 1 if kind.groups == 0 else inputs // kind.groups
        shape: tuple[int, ...] = (width, ins, *kind.kernel)
        groups = width if kind.groups == 0 else kind.groups
        if kind.op == "ConvTranspose":
            shape = (inputs, width // kind.groups if kind.groups else 1, *kind.kernel)
        attributes: dict[str, Any] = {"transB": 1}
        if kind.op != "Gemm":
            attributes = {"kernel_shape": kind.kernel, "strides": kind.stride, "pads": (*kind.padding, *kind.padding),
                          "dilations": kind.dilation, "group": groups}  # fmt: skip
        weight, bias = rng.standard_normal(shape).astype(np.float32), np.zeros(width, np.float32)
        names = ["x", f"w{width}.weight", f"w{width}.bias"]
        weights += [numpy_helper.from_array(t, name) for t, name in zip((weight, bias), names[1:], strict=True)]
        nodes.append(helper.make_node(kind.op, names, [f"y{width}"], name=f"w{width}", **attributes))
        results.append(helper.make_tensor_value_info(f"y{width}", TensorProto.FLOAT, None))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (kind.shape[0], inputs, *kind.shape[1:]))
    graph = helper.make_graph(nodes, "layer", [x], results, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(model.SerializeToString())
