"""torch -> ONNX: one small file with a dynamic batch, and a check that it computes what torch computes."""

from __future__ import annotations

import ast
import contextlib
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from compress.core.forward import copy_model, flattened, run_model
from evaluate.core.errors import ModelError
from evaluate.runtime.session import open_session


@dataclass(frozen=True)
class Parity:
    """How far the exported file is from torch on the same samples.

    max_abs is the largest absolute difference, relative the same over the range of torch's outputs, agree the share of
    samples with the same largest output (1.0 where the output is a single number).
    """

    max_abs: float
    relative: float
    agree: float
    samples: int

    def as_dict(self) -> dict[str, float]:
        return {k: float(f"{v:.6g}") for k, v in asdict(self).items()}


def export_onnx(model: nn.Module, example: Mapping[str, Tensor], *, opset: int = 20) -> onnx.ModelProto:
    """Export `model` (a copy, eval mode, on the CPU) with a dynamic batch dimension.

    `example` maps input names to tensors (batch, ...); the names become those of the ONNX inputs, in this order; the
    outputs keep the names that `call` gives them, the one that is judged first. Node names are the layers' names, so
    that passes find layers in the graph.
    Raises ModelError where torch cannot trace the model, with torch's own reason.
    """
    # torch.export specialises on batch sizes 0 and 1; two samples keep the dimension free.
    inputs = {name: torch.cat([t[:1], t[:1]]).cpu() for name, t in example.items()}
    flat, outputs = flattened(model, inputs)
    shapes: tuple[Any, ...] = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                flat,
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(example),
                output_names=list(outputs),
                dynamic_shapes=shapes if type(flat) is type(model) else (shapes,),
                opset_version=opset,
                verbose=False,
            )
    except ModelError:
        raise
    except Exception as error:  # torch.export raises many unrelated types; each means the same to the user
        raise ModelError(_export_message(model, error)) from error
    if program is None:
        raise ModelError(f"torch exported nothing for {type(model).__name__}; does it have a forward()?")
    return _tidy(program.model_proto)


def serialise(graph: onnx.ModelProto) -> bytes:
    """The bytes of the ONNX file; the same model gives the same bytes."""
    return bytes(graph.SerializeToString(deterministic=True))


def load_graph(data: bytes | Path) -> onnx.ModelProto:
    """Read an ONNX model from bytes or a file. Raises ModelError where it is not one."""
    try:
        raw = data if isinstance(data, bytes) else data.read_bytes()
        return onnx.load_model_from_string(raw)
    except Exception as error:  # protobuf's DecodeError is not part of a stable API
        raise ModelError(f"not a readable ONNX model: {error}. Export it again.") from error


def check_parity(
    model: nn.Module, data: bytes, example: Mapping[str, Tensor], tolerance: float | None = None
) -> Parity:
    """Run the file and torch on the same samples (batch, ...).

    Raises ModelError where the difference is more than `tolerance` of the range of torch's outputs; None only measures.
    """
    with torch.no_grad():
        expected = run_model(copy_model(model).cpu().eval(), example).float().numpy()
    got = open_session(data, threads=1, optimize=True).run({k: v.cpu().numpy() for k, v in example.items()})[0]
    if got.shape != expected.shape:
        raise ModelError(f"the exported file gives outputs of shape {got.shape} where torch gives {expected.shape}")
    for whose, outputs in (("model", expected), ("exported file", got)):
        if not np.isfinite(outputs).all():
            raise ModelError(f"the {whose}'s outputs hold NaN or infinity on these inputs; check weights and inputs")
    spread = float(np.ptp(expected)) or 1.0
    max_abs = float(np.abs(got - expected).max())
    same = expected.ndim < 2 or (got.argmax(1) == expected.argmax(1)).mean()
    parity = Parity(max_abs, max_abs / spread, float(same), len(expected))
    if tolerance is not None:
        require_parity(parity, tolerance)
    return parity


def require_parity(parity: Parity, tolerance: float) -> None:
    """Raise ModelError where the difference is more than `tolerance` of the range of torch's outputs."""
    if parity.relative > tolerance:
        raise ModelError(
            f"the exported ONNX file differs from torch by {parity.max_abs:.3g} ({parity.relative:.2g} of the output's "
            f"range; export.tolerance allows {tolerance:.2g}). Does forward() depend on random numbers or on the "
            "batch? Raise export.tolerance only if the difference is understood."
        )


def _export_message(model: nn.Module, error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return (
        f"{type(model).__name__} cannot be exported to ONNX: {type(cause).__name__}: {reason[:400]}\n"
        "  Control flow that depends on tensor values, or a hard-wired batch size, are the usual causes; "
        "try torch.export.export(model, inputs) to see torch's own account."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of optional packages and of its own deprecations: no user can act on it."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in noisy]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in noisy:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(noisy, levels, strict=True):
                logger.setLevel(level)


def _tidy(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes (stack traces, paths of this machine) and give short, stable names."""
    tidy = onnx.ModelProto()
    tidy.CopyFrom(graph)
    tidy.producer_name, tidy.producer_version = "leanfit", ""
    _fold_transposes(tidy.graph)
    _rename(tidy.graph)
    for holder in (tidy, tidy.graph, *tidy.graph.node, *tidy.graph.input, *tidy.graph.output, *tidy.graph.initializer):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    tidy.graph.ClearField("value_info")
    tidy.graph.name = "model"
    return tidy


def _fold_transposes(graph: onnx.GraphProto) -> None:
    """Store transposed what is read transposed: the exporter leaves the weights of a layer that is called twice so.

    An integer weight has to be the layer's own input; behind a Transpose it would stay float32.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    turned: dict[tuple[str, tuple[int, ...]], str] = {}
    renamed: dict[str, str] = {}
    for node in [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in constants]:
        order = tuple(next((a.ints for a in node.attribute if a.name == "perm"), ()))
        key = node.input[0], order
        if key not in turned:
            array = numpy_helper.to_array(constants[key[0]])
            turned[key] = f"{key[0]}.T{len([k for k in turned if k[0] == key[0]]) or ''}"
            folded = np.ascontiguousarray(array.transpose(order or None))
            graph.initializer.append(numpy_helper.from_array(folded, turned[key]))
        renamed[node.output[0]] = turned[key]
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for name in {name for name, _ in turned} - used:
        graph.initializer.remove(constants[name])


def _rename(graph: onnx.GraphProto) -> None:
    """Name values v0, v1 ..., and nodes after their layers, or else by type and place."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = constants.union(v.name for v in (*graph.input, *graph.output))
    fresh = (name for i in itertools.count() if (name := f"v{i}") not in kept)
    values = {name: next(fresh) for node in graph.node for name in node.output if name and name not in kept}
    taken: set[str] = set()
    for i, node in enumerate(graph.node):
        layer = _layer_of(node, constants)
        node.name = layer if layer and layer not in taken else f"{node.op_type}{i}"
        taken.add(node.name)
        node.input[:] = [values.get(n, n) for n in node.input]
        node.output[:] = [values.get(n, n) for n in node.output]


def _layer_of(node: onnx.NodeProto, constants: set[str]) -> str:
    """The layer whose weights a node holds, "" for none.

    A linear layer on more than two dimensions becomes a MatMul with a transposed, nameless copy of its weights; the
    exporter's note of scopes, ['', 'fc', 'linear_2'], still tells whose they are.
    """
    weights = (n.removesuffix(".T") for n in node.input)
    named = next((n.removesuffix(".weight") for n in weights if n.endswith(".weight")), "")
    if named or node.op_type != "MatMul" or not constants.intersection(node.input):
        return named
    notes = {note.key: note.value for note in node.metadata_props}
    scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
    return str(scopes[-2]) if len(scopes) > 1 else ""
