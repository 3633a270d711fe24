"""Layers that hold their weight as (inputs, outputs), as Transformers' Conv1D of GPT-2, become equal linear layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compress.graph.model_state import Rewrite, register_rewrite
from compress.graph.shortcuts import put_in_place

_Size = Annotated[int, Field(ge=1, le=1_000_000)]


@register_rewrite("transposed_linear")
class TransposedLinear(Rewrite):
    """A layer of somebody's own, x W + b with W (inputs, outputs), that was replaced by torch's, which can be cut."""

    inputs: _Size
    outputs: _Size
    bias: bool

    @classmethod
    def apply(cls, model: nn.Module, example: Mapping[str, Tensor]) -> tuple[TransposedLinear, ...]:
        """Replace, in place, every such layer: found by its two tensors, and by what it answers to random input.

        A weight that another layer holds too stays as it is.
        """
        times = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
        done = []
        for name, module in list(model.named_modules()):
            if not name or any(times[id(p)] > 1 for p in module._parameters.values()):
                continue
            linear = _equal_linear(module)
            if linear is not None:
                put_in_place(model, name, linear)
                sizes = {"inputs": linear.in_features, "outputs": linear.out_features}
                done.append(cls(layer=name, bias=linear.bias is not None, **sizes))
        return tuple(done)

    def describe(self) -> str:
        """The layer, in words."""
        return f"a linear layer, {self.inputs} to {self.outputs}, of the same weights transposed"

    def rebuild(self, model: nn.Module) -> None:
        """Put a linear layer in its place; its weights are those of no training until they are loaded."""
        put_in_place(model, self.layer, nn.Linear(self.inputs, self.outputs, self.bias))


def _equal_linear(module: nn.Module) -> nn.Linear | None:
    """The linear layer that answers as `module` does, or None where there is none."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if type(module).__module__.startswith("torch.") or any(True for _ in module.children()):
        return None
    if not isinstance(weight, nn.Parameter) or weight.ndim != 2 or not weight.is_floating_point():
        return None
    biased = isinstance(bias, nn.Parameter) and bias.shape == weight.shape[1:]
    if set(module.state_dict()) != ({"weight", "bias"} if biased else {"weight"}):
        return None
    linear = nn.Linear(weight.shape[0], weight.shape[1], biased).to(weight)
    with torch.no_grad():
        linear.weight.copy_(weight.T)
        if isinstance(bias, nn.Parameter) and linear.bias is not None:
            linear.bias.copy_(bias)
        probe = torch.randn(2, 3, weight.shape[0], generator=torch.Generator().manual_seed(0)).to(weight)
        try:
            answer = module(probe)
        except Exception:  # noqa: BLE001  (any code of the user's: it takes something else)
            return None
        wanted = linear(probe)
    same = isinstance(answer, Tensor) and answer.shape == wanted.shape and torch.allclose(answer, wanted, 1e-4, 1e-5)
    return linear.train(module.training).requires_grad_(weight.requires_grad) if same else None
