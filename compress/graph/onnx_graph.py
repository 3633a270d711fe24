"""An ONNX model in memory: read, written, and measured, without torch."""

from __future__ import annotations

import math
import re
import tempfile
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import numpy_helper

from evaluate.core.errors import ModelError
from evaluate.runtime.onnx_file import external_files
from evaluate.runtime.providers import load_runtime, runtime_errors
from evaluate.runtime.session import Session, Value, open_session

# Operators of ONNX Runtime (docs/ContribOperators.md there) that read weights packed in bytes: which input holds them.
PACKED = {"MatMulNBits": 1, "MatMulBnb4": 1, "GatherBlockQuantized": 0}
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_INTEGER_PRODUCTS = ("MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM")
INTEGERS = frozenset((*_QDQ, *_INTEGER_PRODUCTS, *PACKED))  # operators of a graph that holds integers already


QDQ_OPSET = 13  # from here on scales may be one for each channel
WEIGHTED = frozenset(("Conv", "Gemm", "MatMul", "ConvTranspose"))  # operators whose weights static int8 takes


def read_whole(path: Path) -> tuple[onnx.ModelProto, bytes]:
    """An ONNX file and its bytes, with the weights that lie in files beside it taken in. Raises ModelError."""
    if external_files(path):
        graph = onnx.load(path)
        return graph, serialise(graph)
    data = path.read_bytes()
    return load_graph(data), data


def opset_of(graph: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a graph asks for."""
    return max((entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def prepared(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A graph as passes want it: constants folded into initializers, batch norm into convolutions, every node named.

    By the runtime's own basic optimisations, which give standard operators; a graph that it cannot write is only named.
    Raises ModelError for an operator set that is too old and cannot be brought up.
    """
    opset = opset_of(graph)
    try:
        newer = graph if opset >= QDQ_OPSET else onnx.version_converter.convert_version(graph, QDQ_OPSET)
    except Exception as error:  # the converter raises what its C++ raises
        raise ModelError(
            f"the file has operator set {opset}, and integers for each channel need {QDQ_OPSET}; it cannot be "
            f"converted: {str(error)[:200]}. Export it with a newer operator set."
        ) from error
    folded = _folded(newer)
    named = onnx.ModelProto()
    named.CopyFrom(folded if folded is not None else newer)
    taken = {node.name for node in named.graph.node}
    for number, node in enumerate(named.graph.node):
        if not node.name:
            node.name = next(n for n in (f"{node.op_type}_{number}", f"{node.op_type}_{number}_") if n not in taken)
    _flatten_biases(named.graph)
    return named


def _flatten_biases(graph: onnx.GraphProto) -> None:
    """Biases of matrix products as vectors: rows and scalars, which Gemm takes too, fail in the runtime's quantizer."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3:
            continue
        weight, bias, name = constants.get(node.input[1]), constants.get(node.input[2]), f"{node.name}.bias"
        if weight is None or bias is None or name in constants:
            continue
        width = weight.dims[0 if any(a.name == "transB" and a.i for a in node.attribute) else 1]
        one_row = all(size == 1 for size in bias.dims[:-1]) and math.prod(bias.dims) in (1, width)
        if one_row and list(bias.dims) != [width]:
            flat = np.broadcast_to(numpy_helper.to_array(bias).reshape(-1), (width,))
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(flat), name))
            node.input[2] = name


def _folded(graph: onnx.ModelProto) -> onnx.ModelProto | None:
    runtime = load_runtime()
    with tempfile.TemporaryDirectory(prefix="leanfit-") as folder:
        place = Path(folder) / "folded.onnx"
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath, options.log_severity_level = str(place), 4
        try:
            runtime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return onnx.load(place)
        except runtime_errors():
            return None


class Sizes(TypedDict):
    """The sizes of one deployed model. `bytes` is the ONNX file, `packed_bytes` the same after zlib level 9."""

    params: int
    nonzero: int
    macs: int
    bytes: int
    packed_bytes: int
    bits: float


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


def with_bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those inside of its loops and conditions, which read the values around them by name."""
    yield graph
    for node in graph.node:
        yield from bodies_of(node)


def bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside of a loop or a condition, and those inside of them."""
    for attribute in node.attribute:
        for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from with_bodies(body)


def graph_bits(graph: onnx.ModelProto) -> float:
    """Average stored bits per weight of an ONNX model; 32.0 where it holds none.

    The weights are the elements of its initializers of rank 2 and above, and those packed in bytes for an operator of
    `PACKED`. Their block-wise scales and zero points are stored for their sake: these add bits, and no weights;
    so do factors beside a codebook. Not counted are scales of whole channels (rank 1) and biases.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    weights = {name: math.prod(tensor.dims) for name, tensor in tensors.items() if len(tensor.dims) > 1}
    books = set(coded(graph.graph, tensors))
    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            weights |= {name: 0 for name in node.input[1:] if name in weights}
        elif node.op_type in PACKED and node.input[PACKED[node.op_type]] in tensors:
            packed = node.input[PACKED[node.op_type]]
            weights[packed] = packed_weights(node, tensors[packed])
            weights |= {name: 0 for name in node.input[2:4] if name in tensors}  # scales and zero points
        elif node.op_type == "DynamicQuantizeLSTM":
            weights |= {name: 0 for name in node.input[8:] if name in weights}
        elif node.op_type == "Mul" and books.intersection(node.input):  # a factor for each channel
            weights |= {name: 0 for name in node.input if name in weights}
    bits = sum(math.prod(tensors[name].dims) * element_bits(tensors[name]) for name in weights)
    return bits / sum(weights.values()) if any(weights.values()) else 32.0


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes that are spelled out, by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def packed_weights(node: onnx.NodeProto, tensor: onnx.TensorProto) -> int:
    """How many weights of `bits` each an operator reads from a tensor; a matrix says so itself, without its padding."""
    known = attributes_of(node)
    if {"K", "N"} <= set(known):
        return int(known["K"] * known["N"])
    return int(math.prod(tensor.dims) * element_bits(tensor) // known.get("bits", 4))


def element_bits(tensor: onnx.TensorProto) -> int:
    """Stored bits of an element, which the name of its type tells: INT4, FLOAT8E4M3FN, BFLOAT16, and FLOAT for 32."""
    name = str(onnx.TensorProto.DataType.Name(tensor.data_type))
    width = re.search(r"\d+", name)
    return int(width[0] if width else {"FLOAT": 32, "DOUBLE": 64}.get(name, 8))


def file_sizes(graph: onnx.ModelProto, data: bytes, feeds: Mapping[str, Value], samples: int = 1) -> Sizes:
    """All sizes of an ONNX file whose bytes are `data`; `feeds` is one call on `samples` samples, for the MACs.

    Parameters are the constants that operators compute with in floating point, integer ones that are dequantized among
    them; bodies of loops and conditions are left out, in parameters and in MACs.
    """
    found = constant_sizes(graph, data)
    whole: Sizes = {
        "params": int(found["params"]),
        "nonzero": int(found["nonzero"]),
        "macs": graph_macs(graph, feeds) // samples,
        "bytes": len(data),
        "packed_bytes": int(found["packed_bytes"]),
        "bits": found["bits"],
    }
    return whole


def constant_sizes(graph: onnx.ModelProto, data: bytes) -> dict[str, float]:
    """The sizes of an ONNX file that need no call: all but the MACs, of `file_sizes`."""
    weights = list(_weights(graph))
    return {
        "params": sum(int(array.size) for array, _ in weights),
        "nonzero": sum(int(np.count_nonzero(array != zero)) for array, zero in weights),
        "bytes": len(data),
        "packed_bytes": len(zlib.compress(data, 9)),
        "bits": round(graph_bits(graph), 3),
    }


def _weights(graph: onnx.ModelProto) -> Iterator[tuple[NDArray[Any], Any]]:
    """Every constant that is computed with, and what stands for 0 in it."""
    constants = constants_of(graph.graph)
    widened = dequantized(graph.graph, constants)
    books = coded(graph.graph, constants)
    steps = {node.output[1] for node in graph.graph.node if node.op_type == "DynamicQuantizeLinear"}
    seen: set[str] = set()
    for node in graph.graph.node:
        if node.op_type in PACKED and node.input[PACKED[node.op_type]] in constants:
            name = node.input[PACKED[node.op_type]]
            if name not in seen:
                seen.add(name)
                yield _unpacked(node, constants), 0
            continue
        if node.op_type in _INTEGER_PRODUCTS:  # their scales and zero points are none
            for name in node.input[1:8] if node.op_type == "DynamicQuantizeLSTM" else node.input[1:2]:
                if name in constants and name not in seen:
                    seen.add(name)
                    yield numpy_helper.to_array(constants[name]), 0
            continue
        if node.op_type == "Mul" and (steps.intersection(node.input) or books.keys() & set(node.input)):
            continue
        if node.output[0] in books:
            values, index = (numpy_helper.to_array(constants[name]) for name in books[node.output[0]])
            yield values[index.astype(np.int64)], 0
            continue
        for name in node.input if node.op_type not in _QDQ else ():
            source = widened.get(name, (name,))
            if source[0] not in constants or source[0] in seen:
                continue
            array = numpy_helper.to_array(constants[source[0]])
            table = node.op_type == "Gather" and array.dtype.itemsize == 1  # of embeddings
            if len(source) == 1 and array.dtype.kind != "f" and not table:
                continue  # a shape, an axis, an index
            seen.add(source[0])
            zero = numpy_helper.to_array(constants[source[2]]) if len(source) > 2 and source[2] in constants else 0
            yield array, zero if np.size(zero) == 1 else 0


def _unpacked(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> NDArray[Any]:
    """The steps that an operator of `PACKED` reads, its zero points taken off, without what fills up its blocks."""
    known = attributes_of(node)
    bits, size, held = known.get("bits", 4), known["block_size"], node.input[PACKED[node.op_type]]

    def values(name: str, count: int) -> NDArray[Any]:
        raw = numpy_helper.to_array(constants[name]).view(np.uint8)
        flat = raw.reshape(len(raw), -1)
        apart = [(flat >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
        return np.stack(apart, axis=-1).reshape(len(raw), -1)[:, :count].astype(np.int16)

    scales, zeros = node.input[2], node.input[3] if len(node.input) > 3 else ""
    rows, *stored = constants[held].dims
    blocks = math.prod(constants[scales].dims) // rows
    width = known.get("K", math.prod(stored) * 8 // bits)
    middle: NDArray[Any] = np.full((1, blocks), 2 ** (bits - 1), np.int16)
    if zeros in constants:
        floats = constants[zeros].data_type == onnx.TensorProto.FLOAT
        middle = numpy_helper.to_array(constants[zeros]).reshape(-1, blocks) if floats else values(zeros, blocks)
    return np.asarray(values(held, blocks * size)[:, :width] - middle.repeat(size, axis=1)[:, :width])


def dequantized(graph: onnx.GraphProto, constants: Container[str]) -> dict[str, tuple[str, ...]]:
    """Values that are stored integers in floating point -> the constant they are of, its scale and its zero point.

    Integers may be cast before, from 4 bits to 8; what is only cast, as from float16, has no scale.
    """
    cast = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    found: dict[str, tuple[str, ...]] = {name: (source,) for name, source in cast.items() if source in constants}
    for node in graph.node:
        source = cast.get(node.input[0], node.input[0]) if node.op_type == "DequantizeLinear" else ""
        if source in constants:
            found[node.output[0]] = (source, *node.input[1:])
    return found


def coded(graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]) -> dict[str, tuple[str, str]]:
    """Weights that are stored by a codebook -> the constant of their few values, and that of which each weight has."""
    cast = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    books = {name for name, t in constants.items() if len(t.dims) == 1 and t.data_type == onnx.TensorProto.FLOAT}
    return {
        node.output[0]: (node.input[0], cast[node.input[1]])
        for node in graph.node
        if node.op_type == "Gather" and node.input[0] in books and cast.get(node.input[1]) in constants
    }


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors of a graph by name: its initializers, and what Constant nodes hold."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    return found | {node.output[0]: value for node in graph.node if (value := _constant(node)) is not None}


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    return next((a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value"), None)


def graph_macs(graph: onnx.ModelProto, feeds: Mapping[str, Value]) -> int:
    """Multiply-adds of one call on these inputs: of convolutions, matrix products and recurrent layers."""
    return sum(macs for _, macs in macs_of_nodes(graph, feeds))


def macs_of_nodes(graph: onnx.ModelProto, feeds: Mapping[str, Value]) -> list[tuple[onnx.NodeProto, int]]:
    """The nodes that multiply and add, with how often in one call on these inputs.

    Shapes are those that the runtime gives, whatever the file says of them.
    """
    counted = [node for node in graph.graph.node if node.op_type in _MACS]
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    names = {name for node in counted for name in (*node.input[:3], node.output[0]) if name and name not in constants}
    session = session_with_outputs(graph, names - set(feeds))
    found = dict(zip((port.name for port in session.outputs), session.run(feeds), strict=True))
    shapes = {**constants, **{name: np.shape(value) for name, value in {**found, **feeds}.items() if _is_array(value)}}
    return [(node, _MACS[node.op_type](node, shapes)) for node in counted]


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def session_with_outputs(graph: onnx.ModelProto, names: Iterable[str], threads: int = 1) -> Session:
    """A session that gives these values too."""
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    present = {value.name for value in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(set(names) - present))
    return open_session(watched.SerializeToString(), threads=threads)


Shapes = Mapping[str, Sequence[int]]


def _of_conv(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _of_transposed(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _of_product(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _of_gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if turned else 1]


def _of_recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Of x (length, batch, features) or (batch, length, features), W (directions, gates * hidden, features) and R."""
    rows = math.prod(shapes[node.input[0]][:2])
    return rows * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))


_MACS = {
    "Conv": _of_conv, "ConvTranspose": _of_transposed, "MatMul": _of_product, "Gemm": _of_gemm,
    "LSTM": _of_recurrent, "GRU": _of_recurrent, "RNN": _of_recurrent, "DynamicQuantizeLSTM": _of_recurrent,
    "MatMulInteger": _of_product, "MatMulNBits": _of_product, "ConvInteger": _of_conv,
}  # fmt: skip
