"""An ONNX file in a network's place: what `model: {onnx: FILE}` says. It is compressed as it is, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.models.model_registry import register_model
from evaluate.core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@register_model("onnx", takes="file", trained=True, file=True)
def onnx_file(file: str) -> nn.Module:
    """An ONNX file as it is, onnx:FILE, without torch; its task is data:FILE. Looked up as weights are."""
    raise ModelError(
        f"{file}: an ONNX file, and a PyTorch network is needed here. It is compressed as it is, on its own data: "
        f"leanfit.compress_onnx({file!r}, 'int8', data=...), or a recipe with model: {{onnx: {file}}} and "
        "task: {data: FILE}."
    )
