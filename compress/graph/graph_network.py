"""An ONNX graph as a torch network, so that what is deployed can be trained: its rounding, its weights and its steps.

Rounding lets gradients pass as if it were not there, and clipping lets none (Bengio, Léonard & Courville 2013). The
sizes of steps are learnt too (LSQ: Esser et al. 2020), as logarithms (TQT: Jain et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from compress.graph.onnx_graph import attributes_of, bodies_of
from compress.graph.torch_operators import OPERATORS, untold

# Which inputs of an operator are weights where they are constants; that of a sum is the bias of the layer before it.
_WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "MatMul": (0, 1), "Gather": (0,), "PRelu": (1,),
    "LayerNormalization": (1, 2), "GroupNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "BatchNormalization": (1, 2), "Add": (0, 1),
}  # fmt: skip
_ROUNDS, _WIDENS = "QuantizeLinear", "DequantizeLinear"
_BOUNDS: dict[int, tuple[float, float]] = {
    TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127), TensorProto.UINT16: (0, 65535),
    TensorProto.INT16: (-32768, 32767),
}  # fmt: skip
_HOST = torch.device("cpu")
_UNBOUNDED = (-float(2**31), float(2**31))  # biases, in 32 bits


@dataclass(frozen=True)
class _Call:
    """One node, and the values that no node behind it reads."""

    kind: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ended: tuple[str, ...]

    def along(self, values: Tensor, like: Tensor) -> Tensor:
        """Scales or zero points, shaped to go with a tensor: one, or one for each place along the axis."""
        if values.numel() == 1:
            return values.reshape(())
        axis = self.settings.get("axis", 1) % like.ndim
        return values.reshape([-1 if place == axis else 1 for place in range(like.ndim)])


class GraphNetwork(nn.Module):
    """The inputs of a graph, in their order -> its outputs by name.

    floats : the weights that stored integers were rounded from, by their names without "_quantized".
    most   : the largest step of a weight in 8 bits, which some CPUs need smaller than the type allows.

    Parameters have the names of the graph's constants. As batch norm is folded, weights of one layer may be thousands
    of times those of another: each is held in units of its first root mean square, channel by channel where each has
    a scale, and the size of steps as a logarithm, so that one learning rate suits all. Zeros stay zeros in such units.
    Raises ModelError, naming them, for operators that torch is not told of.
    """

    def __init__(
        self, graph: onnx.ModelProto, floats: Mapping[str, NDArray[np.float32]] | None = None, most: int = 127
    ) -> None:
        super().__init__()
        unknown = {node.op_type for node in graph.graph.node} - {*OPERATORS, _ROUNDS, _WIDENS}
        if unknown or any(True for node in graph.graph.node for _ in bodies_of(node)):
            raise untold(", ".join(sorted(unknown)) or "a loop")
        self._graph, self._most, self._calls = graph, most, list(_calls(graph.graph))
        self._inputs = [value.name for value in graph.graph.input]
        self._outputs = [value.name for value in graph.graph.output]
        self._constants = {tensor.name: tensor for tensor in graph.graph.initializer}
        pairs = [call for call in self._calls if call.kind in (_ROUNDS, _WIDENS)]
        self._stored = {call.inputs[0]: call for call in pairs if call.inputs[0] in self._constants}
        self._products = dict(self._bias_scales())
        scales = {call.inputs[1] for call in pairs} - self._products.keys()
        weights = {name for call in self._calls for n in _WEIGHTS.get(call.kind, ()) for name in call.inputs[n : n + 1]}
        self._places: dict[str, tuple[nn.Module, str]] = {}
        for name, tensor in self._constants.items():
            values, original = _tensor(tensor), (floats or {}).get(name.removesuffix("_quantized"))
            if name in self._stored:
                floating = self._widened(values, name) if original is None else torch.from_numpy(np.array(original))
                self._hold(name, floating / (unit := self._unit(floating, name)), unit)
            elif name in scales:
                self._hold(name, torch.zeros_like(values), values)
            elif name in weights and values.is_floating_point() and values.numel() > 1:
                self._hold(name, values / (unit := self._unit(values, name)), unit)
            else:
                self._places[name] = self, f"constant{len(self._places)}"
                self.register_buffer(self._places[name][1], values)
        self._logarithms = scales

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by name, each computed as the file does, but for the order in which sums are added up."""
        values = dict(zip(self._inputs, inputs, strict=True))
        for call in self._calls:
            found = self._pair(call, values) if call.kind in (_ROUNDS, _WIDENS) else self._called(call, values)
            outputs = found if isinstance(found, tuple) else (found,)
            if any(call.outputs[len(outputs) :]):
                raise untold(f"{call.kind} with {len(call.outputs)} outputs")
            values.update(zip(call.outputs, outputs, strict=False))
            for name in call.ended:
                values.pop(name, None)
        return {name: values[name] for name in self._outputs}

    @torch.no_grad()
    def written(self) -> onnx.ModelProto:
        """The graph with what was learnt: weights and biases rounded, and the sizes of their steps."""
        model = onnx.ModelProto()
        model.CopyFrom(self._graph)
        for tensor in model.graph.initializer:
            name = tensor.name
            values = self._whole(name) if name in self._stored else self._value(name)
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            shape = tuple(tensor.dims)
            held = values.reshape(()).expand(shape) if values.numel() == 1 else values.reshape(shape)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(held.cpu().numpy().astype(kind)), name))
        return model

    def _pair(self, call: _Call, values: Mapping[str, Tensor]) -> Tensor:
        """Rounding or widening; integers are whole numbers in floating point, so that gradients pass."""
        name = call.inputs[0]
        if call.kind == _ROUNDS:
            zero = self._constants.get(call.inputs[2]) if len(call.inputs) > 2 else None
            bounds = _bounds(TensorProto.UINT8 if zero is None else zero.data_type)
            return self._rounded(call, values[name], *bounds)
        whole = self._whole(name) if name in self._stored else values[name]
        return (whole - self._zero(call, whole)) * call.along(self._value(call.inputs[1]), whole)

    def _called(self, call: _Call, values: Mapping[str, Tensor]) -> Any:
        given = [values[name] if name in values else self._value(name) if name else None for name in call.inputs]
        places = {tensor.device for tensor in given if tensor is not None}
        if len(places) > 1:  # what is computed of shapes is on the CPU
            home = next(place for place in places if place != _HOST)
            given = [tensor if tensor is None else tensor.to(home) for tensor in given]
        try:
            return OPERATORS[call.kind](call.settings, *given)
        except NotImplementedError as error:  # torch's own, for types that it has no kernel of
            raise untold(str(error)) from error

    def _whole(self, name: str) -> Tensor:
        """A stored weight in whole steps, as floats."""
        call, floating = self._stored[name], self._value(name)
        kind = self._constants[name].data_type
        low, high = {TensorProto.INT8: (-self._most, self._most), TensorProto.INT4: (-7, 7)}.get(kind, _bounds(kind))
        return self._rounded(call, floating, low, high)

    def _rounded(self, call: _Call, values: Tensor, low: float, high: float) -> Tensor:
        places = values / call.along(self._value(call.inputs[1]), values)
        steps: Tensor = _Round.apply(places)  # type: ignore[no-untyped-call]
        return (steps + self._zero(call, values)).clamp(low, high)

    def _zero(self, call: _Call, like: Tensor) -> Tensor | float:
        if len(call.inputs) < 3 or not call.inputs[2]:
            return 0.0
        return call.along(self._value(call.inputs[2]).float(), like)

    def _value(self, name: str) -> Tensor:
        """A constant as it is now."""
        if name in self._products:
            return self._value(self._products[name][0]) * self._value(self._products[name][1])
        home, attribute = self._places[name]
        held: Tensor = getattr(home, attribute)
        if not isinstance(held, nn.Parameter):
            return held
        unit: Tensor = getattr(home, f"{attribute}_unit")
        return unit * (held.exp() if name in self._logarithms else held)

    def _hold(self, name: str, values: Tensor, unit: Tensor) -> None:
        """Make a constant a parameter, of modules within modules as its name says, and a plain one where that fails."""
        *path, last = name.removesuffix("_quantized").split(".")
        home: Any = self
        for part in path:
            if part and not hasattr(home, part):
                home.add_module(part, nn.Module())
            home = getattr(home, part, None)
        if not isinstance(home, nn.Module) or not last or hasattr(home, last):
            home, last = self, f"constant{len(self._places)}"
        home.register_parameter(last, nn.Parameter(values))
        home.register_buffer(f"{last}_unit", unit)
        self._places[name] = home, last

    def _widened(self, whole: Tensor, name: str) -> Tensor:
        """A stored weight as the file has it."""
        call = self._stored[name]
        scale = call.along(_tensor(self._constants[call.inputs[1]]), whole)
        zero = _tensor(self._constants[call.inputs[2]]).float() if len(call.inputs) > 2 else torch.zeros(())
        return (whole.float() - call.along(zero, whole)) * scale

    def _unit(self, values: Tensor, name: str) -> Tensor:
        """About the root mean square, of each channel where each has a scale; of all where that is zero.

        A power of two, so that what is held in it is the very same number.
        """
        whole = values.square().mean().sqrt()
        whole = torch.where(whole > 0, whole, torch.ones_like(whole)).log2().round().exp2()
        call = self._stored.get(name)
        if call is None or values.ndim < 2 or self._constants[call.inputs[1]].dims[:1] in ([], [1]):
            return whole
        others = [axis for axis in range(values.ndim) if axis != call.settings.get("axis", 1) % values.ndim]
        channels = values.square().mean(others, keepdim=True).sqrt()
        return torch.where(channels > 0, channels.log2().round().exp2(), whole)

    def _bias_scales(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Scales of biases in 32 bits -> those of what is multiplied, whose products they are."""
        made = {name: call for call in self._calls for name in call.outputs}
        for call in self._calls:
            pairs = [made.get(name) for name in call.inputs]
            if len(pairs) != 3 or not all(pair is not None and pair.kind == _WIDENS for pair in pairs):
                continue
            x, weight, bias = (pair.inputs[1] for pair in pairs if pair is not None)
            known = _tensor(self._constants[bias]).reshape(-1)
            product = (_tensor(self._constants[x]) * _tensor(self._constants[weight])).reshape(-1)
            if len(product) in (1, len(known)) and torch.allclose(known, product.expand_as(known), rtol=1e-5, atol=0):
                yield bias, (x, weight)


class _Round(torch.autograd.Function):
    """To the nearest whole number, halves to even ones as ONNX says; gradients pass."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


def _bounds(kind: int) -> tuple[float, float]:
    return _BOUNDS.get(kind, _UNBOUNDED)


def _tensor(tensor: TensorProto) -> Tensor:
    values = numpy_helper.to_array(tensor)
    small = tensor.data_type in (TensorProto.INT4, TensorProto.UINT4)
    return torch.from_numpy(np.array(values.astype(np.int8) if small else values))


def _calls(graph: onnx.GraphProto) -> Iterator[_Call]:
    kept, last = {value.name for value in graph.output}, dict[str, int]()
    for place, node in enumerate(graph.node):
        last |= dict.fromkeys((*node.input, *node.output), place)
    for place, node in enumerate(graph.node):
        ended = tuple(name for name in {*node.input, *node.output} if last[name] == place and name not in kept)
        settings = {**attributes_of(node), "outputs": len(node.output)}
        yield _Call(node.op_type, settings, tuple(node.input), tuple(node.output), ended)
