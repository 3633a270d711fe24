"""What the tests of profiles share: small models to profile, and profiles made by hand, in milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import model_bytes

from evaluate.profiling.node_names import HELPERS


def node(layer: str, op: str, ms: float, **more: Any) -> dict[str, Any]:
    """One kernel; `parts` and `weights` are its layer's."""
    helper = op in HELPERS
    fresh = {"node": f"{layer}/{op}", "op": op, "layer": layer, "ms": ms, "shape": [1, 8], "provider": "cpu"}
    parts = [] if helper else [layer]
    return {**fresh, "dtype": "float", "helper": helper, "count": 1.0, "iqr_ms": 0.0, "error_ms": 0.001 * ms} | {
        "parts": parts,
        "weights": None,
        **more,
    }


def made(name: str, *nodes: dict[str, Any], call: float | None = None, **more: Any) -> dict[str, Any]:
    """A profile of these kernels in one run with all others; what they leave of `call` is outside kernels."""
    total = sum(n["ms"] for n in nodes)
    layers: dict[str, dict[str, Any]] = {}
    operators: dict[str, dict[str, Any]] = {}
    for n in nodes:
        empty = {"layer": n["layer"], "ms": 0.0, "share": 0.0, "count": 0.0, "error_ms": 0.0}
        layer = layers.setdefault(n["layer"], {**empty, "ops": {}, "parts": [], "weights": None})
        operator = operators.setdefault(
            n["op"], {"op": n["op"], "ms": 0.0, "share": 0.0, "count": 0.0, "error_ms": 0.0}
        )
        for entry in (layer, operator):
            for key in ("ms", "count", "error_ms"):
                entry[key] += n[key]
            entry["share"] = entry["ms"] / total
        layer["ops"][n["op"]] = layer["ops"].get(n["op"], 0.0) + n["ms"]
        layer["parts"] += n["parts"]
        layer["weights"] = layer["weights"] or n["weights"]
    whole = total if call is None else call
    return {
        "name": name, "provider": "cpu", "threads": 1, "batch": 1, "run": "same", "calls": 400, "rounds": 20,
        "call_ms": whole, "call_error_ms": 0.001 * whole, "profiled_ms": 1.5 * whole, "overhead": 1.5,
        "event_ms": 0.002, "kernels_ms": total, "outside_ms": whole - total,
        "operators": sorted(operators.values(), key=lambda o: -o["ms"]),
        "nodes": [{k: v for k, v in n.items() if k not in ("parts", "weights")} for n in nodes],
        "layers": list(layers.values()), "warnings": [],
        **more,
    }  # fmt: skip


def residual_onnx() -> bytes:
    """conv1 -> Relu -> conv2 -> Add with the first Relu -> Relu, as an exported residual block."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(16, 3, 3, 3)).astype(np.float32), "conv1.weight"),
        numpy_helper.from_array(rng.normal(size=(16, 16, 3, 3)).astype(np.float32), "conv2.weight"),
        numpy_helper.from_array(rng.normal(size=16).astype(np.float32), "conv1.bias"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["v0"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["v0"], ["v1"], name="Relu1"),
        helper.make_node("Conv", ["v1", "conv2.weight"], ["v2"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["v2", "v1"], ["v3"], name="Add3"),
        helper.make_node("Relu", ["v3"], ["y"], name="Relu4"),
    ]
    io = [("x", TensorProto.FLOAT, ["n", 3, 8, 8])], [("y", TensorProto.FLOAT, ["n", 16, 8, 8])]
    return model_bytes(nodes, *io, weights)


def quantized_onnx() -> bytes:
    """A convolution on integers, then a logarithm that has no integer kernel."""
    weights = [
        numpy_helper.from_array(
            np.random.default_rng(0).integers(-60, 60, (16, 3, 3, 3)).astype(np.int8), "conv1.weight_q"
        ),
        *(numpy_helper.from_array(np.float32(s), n) for n, s in (("xs", 0.02), ("ws", 0.01), ("ys", 0.05))),
        numpy_helper.from_array(np.uint8(128), "zero"),
        numpy_helper.from_array(np.int8(0), "wzero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "zero"], ["xq"], name="x_QuantizeLinear"),
        helper.make_node("DequantizeLinear", ["xq", "xs", "zero"], ["xd"], name="x_DequantizeLinear"),
        helper.make_node("DequantizeLinear", ["conv1.weight_q", "ws", "wzero"], ["wd"], name="w_DequantizeLinear"),
        helper.make_node("Conv", ["xd", "wd"], ["v0"], name="conv1", pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["v0", "ys", "zero"], ["v0q"], name="v0_QuantizeLinear"),
        helper.make_node("DequantizeLinear", ["v0q", "ys", "zero"], ["v0d"], name="v0_DequantizeLinear"),
        helper.make_node("Erf", ["v0d"], ["y"], name="Erf1"),
    ]
    io = [("x", TensorProto.FLOAT, ["n", 3, 8, 8])], [("y", TensorProto.FLOAT, ["n", 16, 8, 8])]
    return model_bytes(nodes, *io, weights)
