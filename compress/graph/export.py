"""torch -> ONNX: one small file with a dynamic batch, and a check that it computes what torch computes."""

from __future__ import annotations

import ast
import contextlib
import itertools
import logging
import math
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from compress.core.forward import call, copy_model, flattened
from compress.core.sources import structure_key
from compress.graph.onnx_graph import WEIGHTED, with_bodies
from evaluate.core.errors import LeanfitError, ModelError
from evaluate.runtime.session import Session, open_session

if TYPE_CHECKING:
    import onnx_ir  # half a second, which only an export is worth

_KEPT = 4  # traced networks whose graphs a process keeps, without their weights


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
    seen = [[name, list(t.shape), str(t.dtype)] for name, t in inputs.items()]
    key = structure_key(model, opset, seen)
    if key is None:
        return _filled(_traced(model, inputs, opset), model)
    if key not in _traces:
        _traces[key] = _traced(model, inputs, opset)
        if len(_traces) > _KEPT:
            _traces.popitem(last=False)
    _traces.move_to_end(key)
    return _filled(_traces[key], model)


_traces: OrderedDict[str, onnx_ir.Model] = OrderedDict()


def _traced(model: nn.Module, inputs: Mapping[str, Tensor], opset: int) -> onnx_ir.Model:
    """The graph as the exporter traced it, whose weights `_filled` puts in: tracing costs seconds, and they do not."""
    flat, outputs = flattened(model, inputs)
    shapes: tuple[Any, ...] = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                flat,
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=shapes if type(flat) is type(model) else (shapes,),
                opset_version=opset,
                optimize=False,
                verbose=False,
            )
    except ModelError:
        raise
    except Exception as error:  # torch.export raises many unrelated types; each means the same to the user
        raise ModelError(_export_message(model, error)) from error
    if program is None:
        raise ModelError(f"torch exported nothing for {type(model).__name__}; does it have a forward()?")
    own = _tensors(flat)
    for name, value in program.model.graph.initializers.items():
        if name in own:
            value.const_value = None
    return program.model


def _filled(traced: onnx_ir.Model, model: nn.Module) -> onnx.ModelProto:
    """The graph with this network's weights, folded and named as it is deployed."""
    import onnx_ir

    graph, own = traced.clone(), _tensors(model)
    for name, value in graph.graph.initializers.items():
        if value.const_value is None:
            value.const_value = onnx_ir.tensor(own[name].detach().cpu().contiguous(), name=name)
    program = torch.onnx.ONNXProgram(graph, None)
    with _quiet():
        program.optimize()
    uses = Counter(map(id, own.values()))
    return _tidy(program.model_proto, {name.removesuffix(".weight") for name, t in own.items() if uses[id(t)] > 1})


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by every name that they have."""
    return dict(
        itertools.chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    )


def check_parity(
    model: nn.Module, data: bytes, example: Mapping[str, Tensor], tolerance: float | None = None
) -> Parity:
    """Run the file and torch on the same samples (batch, ...), and on the first alone: other batches are to run too.

    Raises ModelError where the file does not run, and where an output differs by more than `tolerance` of its range in
    torch; None only measures.
    """
    network, session = copy_model(model).cpu().eval(), open_session(data, threads=1, optimize=True)
    whole = _compared(network, session, example)
    alone = _compared(network, session, {name: tensor[:1] for name, tensor in example.items()})
    worst = (max(whole.max_abs, alone.max_abs), max(whole.relative, alone.relative), min(whole.agree, alone.agree))
    parity = Parity(*worst, samples=whole.samples)
    if tolerance is not None:
        require_parity(parity, tolerance)
    return parity


def _compared(network: nn.Module, session: Session, example: Mapping[str, Tensor]) -> Parity:
    """The worst of all outputs, and how often the judged one agrees."""
    with torch.no_grad():
        expected = {name: tensor.float().numpy() for name, tensor in call(network, example).items()}
    count = len(next(iter(example.values())))
    try:
        found = session.run({name: tensor.cpu().numpy() for name, tensor in example.items()})
    except LeanfitError as error:
        raise ModelError(
            f"the exported file does not run on a batch of {count}, though torch does: is the batch's size, or a size "
            f"that depends on the values, hard-wired in forward()? {error}"
        ) from error
    worst, got = (0.0, 0.0), dict(zip((output[0] for output in session.outputs), found, strict=True))
    for name, wanted in expected.items():
        if got[name].shape != wanted.shape:
            raise ModelError(
                f"the exported file gives {name} of shape {got[name].shape} where torch gives {wanted.shape} for a "
                f"batch of {count}. Is the batch's size hard-wired in forward()?"
            )
        worst = max(worst, _apart(wanted, got[name].astype(np.float32)))
    judged, deployed = next(iter(expected.values())), next(iter(got.values()))
    for whose, outputs in (("model", judged), ("exported file", deployed)):
        if not np.isfinite(outputs).all():
            raise ModelError(f"the {whose}'s outputs hold NaN or infinity on these inputs; check weights and inputs")
    same = judged.ndim < 2 or (deployed.argmax(1) == judged.argmax(1)).mean()
    return Parity(worst[1], worst[0], float(same), count)


def _apart(expected: np.ndarray, got: np.ndarray) -> tuple[float, float]:
    """(the largest difference over the range of what is expected, the same as it is); what is not finite is to be so.

    One of several outputs may hold infinity by design, as masks do.
    """
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(got)):
        return math.inf, math.inf
    if not finite.any():
        return 0.0, 0.0
    most = float(np.abs(got[finite] - expected[finite]).max())
    return most / (float(np.ptp(expected[finite])) or 1.0), most


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


_RECURRENT = {"LSTM", "GRU", "RNN"}


def _tidy(graph: onnx.ModelProto, tied: set[str]) -> onnx.ModelProto:
    """Drop the exporter's notes (stack traces, paths of this machine) and give short, stable names."""
    tidy = onnx.ModelProto()
    tidy.CopyFrom(graph)
    tidy.producer_name, tidy.producer_version = "leanfit", ""
    _fold_transposes(tidy.graph)
    _rename(tidy.graph, tied)
    tidy.ClearField("metadata_props")
    tidy.ClearField("doc_string")
    for part in with_bodies(tidy.graph):
        for holder in (part, *part.node, *part.input, *part.output, *part.initializer):
            holder.ClearField("metadata_props")
            holder.ClearField("doc_string")
        part.ClearField("value_info")
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
    nodes = [node for part in with_bodies(graph) for node in part.node]
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    for name in {name for name, _ in turned} - used:
        graph.initializer.remove(constants[name])


def _rename(graph: onnx.GraphProto, tied: set[str]) -> None:
    """Name values v0, v1 ..., and nodes after their layers, or by block, type and place; inside of loops as well."""
    graphs = list(with_bodies(graph))
    constants = {tensor.name for part in graphs for tensor in part.initializer}
    kept = constants.union(v.name for v in (*graph.input, *graph.output))
    fresh = (name for i in itertools.count() if (name := f"v{i}") not in kept)
    made = [v.name for part in graphs[1:] for v in part.input]
    made += [name for part in graphs for node in part.node for name in node.output]
    values = {name: next(fresh) for name in dict.fromkeys(made) if name and name not in kept}
    taken: dict[str, onnx.NodeProto] = {}
    for i, node in enumerate(node for part in graphs for node in part.node):
        block = _scope_of(node)
        layer = _layer_of(node, block, constants, tied)
        if layer in taken:
            _read_the_same(graph, taken[layer], node)
        node.name = layer if layer and layer not in taken else f"{block}{'.' if block else ''}{node.op_type}{i}"
        taken[node.name] = node
        node.input[:] = [values.get(n, n) for n in node.input]
        node.output[:] = [values.get(n, n) for n in node.output]
    for value in (value for part in graphs[1:] for value in (*part.input, *part.output)):
        value.name = values.get(value.name, value.name)
    read = {name for part in graphs for node in part.node for name in node.input} | {v.name for v in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _read_the_same(graph: onnx.GraphProto, first: onnx.NodeProto, again: onnx.NodeProto) -> None:
    """Let a layer's second call read the weights of its first, where the exporter stored a copy for each."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for place, (one, other) in enumerate(zip(first.input, again.input, strict=False)):
        if one == other or one not in tensors or other not in tensors:
            continue
        weights = [numpy_helper.to_array(tensors[name]) for name in (one, other)]
        if weights[0].dtype == weights[1].dtype and np.array_equal(weights[0], weights[1]):
            again.input[place] = one


def _layer_of(node: onnx.NodeProto, scope: str, constants: set[str], tied: set[str]) -> str:
    """The layer whose weights a node holds, "" for none.

    A linear layer on more than two dimensions becomes a MatMul with a transposed, nameless copy of its weights, weights
    that are computed (weight_norm) are a nameless constant, and tied weights have the name of one of their layers; the
    exporter's note of scopes, ['', 'fc', 'linear_2'], still tells whose they are: `scope`, of `_scope_of`.
    """
    weights = (n.removesuffix(".T") for n in node.input)
    named = next((n.removesuffix(".weight") for n in weights if n.endswith(".weight")), "")
    if named:
        return scope if {named, scope} <= tied else named
    return scope if node.op_type in WEIGHTED | _RECURRENT and constants.intersection(node.input[:2]) else ""


def _scope_of(node: onnx.NodeProto) -> str:
    """The module whose forward() a node is of, "" for the network's own."""
    notes = {note.key: note.value for note in node.metadata_props}
    scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
    return str(scopes[-2]) if len(scopes) > 1 else ""
