"""`leanfit inspect`: what an ONNX file holds, and what could be done about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli import bench_command
from compress.cli.console import Json, emit, error_boundary

if TYPE_CHECKING:
    from compress.graph.onnx_layers import Inspection
    from evaluate.runtime.session import Session

MOST_SHOWN = 40


def inspect(
    file: Annotated[Path, typer.Argument(help="An .onnx file.", metavar="FILE")],
    shape: bench_command.Shapes = None,
    dim: bench_command.Dims = None,
    inputs: bench_command.Inputs = None,
    layers: Annotated[int, typer.Option(help="Layers to print, the largest; 0 for none.", min=0)] = MOST_SHOWN,
    as_json: Json = False,
) -> None:
    """Say what an ONNX file holds: inputs, operators, layers with parameters and MACs, and what int8 takes of it."""
    with error_boundary(as_json):
        from compress.graph.onnx_layers import as_json as plain
        from compress.graph.onnx_layers import inspect as look
        from evaluate.benchmark.model_inputs import batch_of, calls_for, require_known, wanted_of
        from evaluate.core.errors import LeanfitError
        from evaluate.runtime.session import open_session

        session, open_dims = open_session(file), ""
        wanted = wanted_of(**bench_command.said_of_inputs(shape, dim, inputs))
        require_known(session, wanted)
        try:
            (feeds, *_) = calls_for(session, 1, 0, wanted)
            found = look(file, feeds, batch_of(session, feeds))
        except LeanfitError as error:
            if shape or dim or inputs:
                raise
            found, open_dims = look(file, None), str(error)
        ports = {
            side: [{"name": p.name, "shape": list(p.shape), "dtype": p.dtype} for p in of]
            for side, of in (("inputs", session.inputs), ("outputs", session.outputs))
        }
        if as_json:
            emit({"path": str(file), **ports, **plain(found), "not_counted": open_dims or None})
            return
        print("\n".join(_lines(file, session, found, layers, open_dims)))


def _lines(file: Path, session: Session, found: Inspection, most: int, open_dims: str) -> list[str]:
    from evaluate.core.text import clean, size
    from evaluate.core.units import show_amount
    from evaluate.report.text.text_columns import aligned, columns_of
    from evaluate.runtime.session import shape_text

    producer = f", written by {clean(found.producer, 60)}" if found.producer else ""
    lines = [f"{file}: {size(found.sizes['bytes'])}, opset {found.opset}, IR {found.ir_version}{producer}"]
    for side, ports in (("input", session.inputs), ("output", session.outputs)):
        lines += [f"  {side:<8}{clean(port.name, 60)} {shape_text(port.shape)} {port.dtype}" for port in ports]
    macs = f", {show_amount('macs', found.macs)} MACs a sample" if found.macs is not None else ""
    bits = f"{found.sizes['bits']:.3g} bits a weight"
    lines.append(f"  {'params':<8}{show_amount('params', found.sizes['params'])}{macs}, {bits}")
    lines += [f"  {'nodes':<8}{', '.join(f'{op} {n}' for op, n in list(found.operators.items())[:12])}", ""]
    shown = sorted(found.layers, key=lambda layer: -layer.bytes)[:most]
    body = [
        [
            clean(layer.name, 200)[-34:],
            layer.op,
            layer.dtype,
            show_amount("params", layer.params),
            size(layer.bytes),
            "-" if layer.macs is None else show_amount("macs", layer.macs),
            layer.why or "yes",
        ]
        for layer in found.layers
        if layer in shown
    ]
    if body:
        head = ["layer", "operator", "type", "params", "bytes", "MACs", "int8"]
        lines += [*aligned(head, body, columns_of(None), False), ""]
    if len(found.layers) > len(shown):
        lines.append(f"  and {len(found.layers) - len(shown)} smaller ones (--layers {len(found.layers)}, or --json)")
    lines += [f"  ! {remark}" for remark in found.remarks]
    lines += [f"  ! MACs were not counted: {open_dims}"] if open_dims else []
    return [
        *lines,
        "",
        f"next    leanfit bench {file} --profile    where its time goes",
        f"        leanfit compress {file} --recipe int8 --data FILE",
        f"        netron {file}    the graph as a picture (pip install netron)",
    ]
