"""Shortcuts without weights become equal convolutions, along which a dependency graph can follow the channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from compress.core.forward import call
from compress.graph.model_state import Rewrite, register_rewrite

_Size = Annotated[int, Field(ge=1, le=65_536)]


@register_rewrite("shortcut_conv")
class ShortcutConv(Rewrite):
    """A layer without weights that was replaced by an equal 1x1 convolution."""

    in_channels: _Size
    out_channels: _Size
    stride: tuple[_Size, _Size]

    @classmethod
    def apply(cls, model: nn.Module, example: Mapping[str, Tensor]) -> tuple[ShortcutConv, ...]:
        """Replace, in place, every parameter-free shortcut by the 1x1 convolution that computes exactly the same.

        A candidate is a leaf module without tensors that is not one of torch's own and that maps (n, c, h, w) to
        another channel count or size: option A of He et al. 2016 (strided slice and zero padding), whatever its code.
        It is probed with random input and replaced only where it is a selection of channels and every s-th pixel, with
        a difference of exactly 0.0. Dependency tracing cannot follow the slice and the padding; it can follow a
        convolution. The new weights are ordinary trainable ones: recovery may use them, at no cost when deployed.
        """
        done = []
        for name, size in _candidates(model, example):
            conv = _equal_conv(model.get_submodule(name), size)
            if conv is None:
                continue
            put_in_place(model, name, conv)
            stride = conv.stride[0], conv.stride[1]
            done.append(cls(layer=name, in_channels=size[1], out_channels=conv.out_channels, stride=stride))
        return tuple(done)

    def describe(self) -> str:
        """The convolution, in words."""
        height, width = self.stride
        return f"a 1x1 convolution, {self.in_channels} to {self.out_channels} channels, stride {height}x{width}"

    def rebuild(self, model: nn.Module) -> None:
        """Put the convolution in its place, without probing; its weights are zero until they are loaded."""
        conv = nn.Conv2d(self.in_channels, self.out_channels, 1, stride=self.stride, bias=False)
        nn.init.zeros_(conv.weight)
        put_in_place(model, self.layer, conv)


def _candidates(model: nn.Module, example: Mapping[str, Tensor]) -> Iterator[tuple[str, torch.Size]]:
    """Names of possible shortcuts with the size of their input, in the order of the model."""
    seen: dict[str, set[tuple[torch.Size, torch.Size]]] = {}

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                seen.setdefault(name, set()).add((inputs[0].shape, output.shape))

        return hook

    leaves = [(n, m) for n, m in model.named_modules() if n and _is_plain_leaf(m)]
    hooks = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        _run(model, example)
    finally:
        for handle in hooks:
            handle.remove()
    for name, shapes in seen.items():
        if len(shapes) != 1:
            continue
        (before, after) = next(iter(shapes))
        if len(before) == len(after) == 4 and before[1:] != after[1:]:
            yield name, before


def _is_plain_leaf(module: nn.Module) -> bool:
    empty = not any(True for _ in module.children()) and not module.state_dict()
    return empty and not type(module).__module__.startswith("torch.")


def _run(model: nn.Module, example: Mapping[str, Tensor]) -> None:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            call(model, {name: t[:1] for name, t in example.items()})
    finally:
        model.train(training)


def _equal_conv(module: nn.Module, size: torch.Size) -> nn.Conv2d | None:
    """The 1x1 convolution that equals `module` on inputs of `size` (n, c, h, w), or None where there is none."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        probe = torch.randn(1, *size[1:], generator=generator)
        answer = module(probe)
        stride = _stride(size[2], answer.shape[2]), _stride(size[3], answer.shape[3])
        conv = nn.Conv2d(size[1], answer.shape[1], 1, stride=stride, bias=False)
        picked = probe[:, :, :: stride[0], :: stride[1]]
        if picked.shape[2:] != answer.shape[2:]:
            return None
        # (out, in): output channel o is exactly input channel i, on the first few pixels that the stride keeps.
        same = (answer[0, :, None, :4, :4] == picked[0, None, :, :4, :4]).flatten(2).all(2)
        conv.weight.copy_(same[:, :, None, None].to(conv.weight.dtype))
        for batch in (1, 2, 3):
            check = torch.randn(batch, *size[1:], generator=generator)
            if not torch.equal(module(check), conv(check)):
                return None
    return conv


def _stride(before: int, after: int) -> int:
    """The smallest stride of a 1x1 convolution that takes `before` pixels to `after`; 1 where there is none."""
    return next((s for s in range(1, before + 1) if (before - 1) // s + 1 == after), 1)


def put_in_place(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` in the place of the layer `name`, and wherever else the same object is registered."""
    old = model.get_submodule(name)
    new.train(model.training)
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            if child is old:
                setattr(parent, key, new)
