"""Networks of leanfit's own families as ONNX files, for benchmarks of latency: their weights are random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.models import build_model

__all__ = ["busy", "exported"]

EXAMPLES = {"resnet": (1, 3, 32, 32), "mlp": (1, 64)}


def busy(record: dict[str, Any]) -> str:
    """How many cores other processes used while a comparison ran."""
    others = (record["machine"] or {}).get("others_cores")
    return f"{others['median']:.1f}" if others else "an unknown number of"


def exported(folder: Path, family: str, **arguments: Any) -> Path:
    """The file of this network; exported into `folder` unless it is there."""
    file = folder / f"{family}-{'-'.join(f'{key}{value}' for key, value in arguments.items())}.onnx"
    if not file.exists():
        torch.manual_seed(0)
        print(f"exporting {file.name}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        graph = export_onnx(build_model(family, **arguments), {"x": torch.rand(EXAMPLES[family])})
        file.write_bytes(serialise(graph))
    return file
