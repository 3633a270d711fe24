"""Telling whether a narrower network computes what the whole one computes without the channels that went.

What the indices of a cut are depends on the structure of a network alone. So the two are compared on inputs and weights
under which a wrong index shows: random inputs in the range of the task beside a real sample, weights that are not all
the same, and norms over channels held where the whole network had them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

from compress.core.forward import call, copy_model
from compress.passes.pruning.channel_groups import TRACE_ERRORS
from compress.tasks.task import Task

Inputs = Mapping[str, Tensor]
SAME = 1e-4  # of the largest output: how far rounding may part two networks that compute the same
_SEEN = 10 * SAME  # what ignoring channels must change before that says anything
_SAMPLES = 8
_NORMS = ("layer_norm", "group_norm", "rms_norm")


def probe_inputs(task: Task, seed: int) -> list[Inputs]:
    """One real sample and two random ones (1, ...): floats between the least and the largest of some real samples.

    Other inputs are real in all three: ids and masks are not any number.
    """
    samples = [inputs for inputs, _ in task.calibration(_SAMPLES, seed).batches(1)]
    draw = torch.Generator().manual_seed(seed)

    def drawn(name: str, real: Tensor) -> Tensor:
        if not real.is_floating_point():
            return real
        low = min(float(sample[name].min()) for sample in samples)
        high = max(float(sample[name].max()) for sample in samples)
        if low == high:
            low, high = low - 1, high + 1
        return (low + (high - low) * torch.rand(real.shape, generator=draw)).to(real.dtype)

    return [samples[0], *({name: drawn(name, real) for name, real in s.items()} for s in (samples[-1], samples[0]))]


@torch.no_grad()
def lively(model: nn.Module, seed: int, *, redraw: bool = False) -> nn.Module:
    """A copy in which no two channels are alike for want of training: weights that are all the same are moved apart.

    A bias of zeros hides which channel it belongs to, a gain of zeros hides a whole branch. `redraw` draws every weight
    anew, of the spread it has: for networks whose own weights let nothing through.
    """
    draw = torch.Generator().manual_seed(seed)
    copy = copy_model(model).cpu().eval()
    statistics = [m for m in copy.modules() if isinstance(m, _BatchNorm | _InstanceNorm)]
    buffers = [b for m in statistics for b in m.buffers(recurse=False) if b.is_floating_point()]
    for tensor in (*copy.parameters(), *buffers):
        noise = torch.randn(tensor.shape, generator=draw).to(tensor.dtype)
        first = tensor.reshape(-1)[:1]
        if tensor.numel() > 1 and tensor.is_floating_point() and bool((tensor == first).all()):
            size = float(first.abs()) or (1 if tensor.ndim < 2 else tensor[0].numel() ** -0.5)
            tensor.add_(size * (0.2 * noise if tensor.ndim < 2 else noise))
        elif redraw and tensor.ndim > 1 and tensor.is_floating_point():
            tensor.copy_(noise * tensor.std())
    return copy


class FrozenNorms(TorchFunctionMode):
    """Norms over channels whose mean and scale are those of the first time, one number each per call.

    Such a norm answers otherwise without some channels, although nothing is wrong; with both numbers held, a network
    and its narrower form can be compared. The order of the calls tells the norms apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: list[tuple[Tensor, Tensor]] = []
        self._recorded = False

    def __enter__(self) -> FrozenNorms:
        self._calls = iter(self._held)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self._recorded = True
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kind = getattr(func, "__name__", "")
        if kind not in _NORMS:
            return func(*args, **(kwargs or {}))
        given = dict(zip(("input", "shape", "weight", "bias"), args, strict=False)) | dict(kwargs or {})
        x, weight = given["input"], given.get("weight")
        bias = given.get("bias") if kind != "rms_norm" else None
        if not self._recorded:
            mean = torch.zeros(()) if kind == "rms_norm" else x.detach().mean()
            self._held.append((mean, (x.detach() - mean).square().mean().add(1e-6).rsqrt()))
        mean, scale = next(self._calls, (torch.zeros(()), torch.ones(())))
        shape = (-1, *(1 for _ in x.shape[2:])) if kind == "group_norm" else None
        x = (x - mean) * scale
        for tensor, put in ((weight, torch.mul), (bias, torch.add)):
            if tensor is not None:
                x = put(x, tensor.reshape(shape) if shape else tensor)
        return x


class Probe:
    """The outputs of a whole network on some inputs, for others to be compared with.

    Inputs that the network does not take, or answers with NaN, are left out, but for the first.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Inputs]) -> None:
        self.model = model.eval()
        self._known: list[tuple[Inputs, FrozenNorms, Tensor]] = []
        for one in inputs:
            norms = FrozenNorms()
            try:
                whole = _frozen(model, one, norms)
            except TRACE_ERRORS:
                if one is inputs[0]:
                    raise
                continue
            if not whole.isnan().any():
                self._known.append((one, norms, whole))

    def compare(self, small: nn.Module, masked: nn.Module) -> tuple[float, bool]:
        """How far `small` is from `masked`, of the largest output; and whether ignoring channels was seen to matter.

        `masked` is the whole network that ignores what `small` has not. Infinite where the shapes differ or a number
        is none. Raises what the networks raise.
        """
        worst, seen = 0.0, False
        for inputs, norms, whole in self._known:
            one, other = _frozen(small, inputs, norms), _frozen(masked, inputs, norms)
            if one.shape != other.shape:
                return float("inf"), True
            finite = whole[whole.isfinite()].abs()
            size = max(float(finite.max()) if len(finite) else 0.0, 1e-30)
            worst = max(worst, _apart(one, other) / size)
            seen |= _apart(whole, other) / size > _SEEN
        return worst, seen


@torch.no_grad()
def _frozen(model: nn.Module, inputs: Inputs, norms: FrozenNorms) -> Tensor:
    with norms:
        return all_outputs(model.eval(), inputs)


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference; values that are infinite in both alike are no difference."""
    difference = torch.where(one == other, 0.0, (one - other).abs())
    return float("inf") if difference.isnan().any() else float(difference.max())


def all_outputs(model: nn.Module, inputs: Inputs) -> Tensor:
    """(1, values) of every output of the first sample."""
    found = call(model, {name: t[:1] for name, t in inputs.items()})
    return torch.cat([output.flatten(1).float() for output in found.values()], dim=1)
