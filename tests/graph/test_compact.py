"""A compacted graph computes the same, bit for bit, whatever its graph is made of."""

import numpy as np
import onnx
import pytest

from compress.graph.compact import compacted
from compress.graph.onnx_graph import serialise
from evaluate.runtime.session import open_session

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'
GRAPHS = {
    "defaults and equal constants": """
        main (float[n,4] x) => (float[n,4] y)
        <float[4,4] weight = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16},
         float[4,4] same = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4] bias = {0,1,2,3}, float unread = {1}>
        {
            [first] hidden = Gemm <alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 1> (
                x, weight, bias)
            [second] y = Gemm <alpha: float = 2.0> (hidden, same, bias)
        }""",
    "nodes behind their readers": """
        main (float[n,4] x) => (float[n,4] y)
        { y = Add (second, first) second = Neg (first) first = Exp (x) }""",
    "a body that reads values around it": """
        main (float[n,4] x) => (float[n,4] y)
        <float[1] one = {1}, float[1] uno = {1}, bool yes = {1}>
        {
            big = Add (x, one)
            y = If (yes) <
                then_branch = g1 () => (float[n,4] r) { inner = Mul (big, uno) r = Add (inner, x) },
                else_branch = g2 () => (float[n,4] r) { r = Identity (big) }>
        }""",
    "a loop": """
        main (float[n,4] x) => (float[n,4] y)
        <int64 times = {3}, bool yes = {1}, float[1] half = {0.5}>
        {
            y = Loop (times, yes, x) <
                body = step (int64 i, bool go, float[n,4] carried) => (bool on, float[n,4] next)
                { on = Identity (go) next = Mul (carried, half) }>
        }""",
    "layers called as short names are": """
        main (float[n,4] a) => (float[n,4] c)
        <float[4,4] weight = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}, float[4] bias = {0,1,2,3}>
        { [b] hidden = Gemm (a, weight, bias) [d] c = Relu (hidden) }""",
    "a bias in 32 bits": """
        main (float[n,4] x) => (float[n,4] y)
        <int32[4] stored = {1,2,3,4}, float[4] scale = {0.5,0.25,1,2}, int32[4] zero = {0,0,0,0}, int8[4] w = {1,2,3,4},
         int8[4] zero8 = {0,0,0,0}>
        {
            [q] bias = DequantizeLinear <axis: int = 0> (stored, scale, zero)
            weight = DequantizeLinear <axis: int = 0> (w, scale, zero8)
            sum = Add (x, bias)
            y = Mul (sum, weight)
        }""",
}


@pytest.mark.parametrize("text", GRAPHS.values(), ids=GRAPHS)
def test_a_compacted_graph_computes_the_same_in_fewer_bytes(text):
    model = onnx.parser.parse_model(f"{HEAD} {text}")
    before = serialise(model)
    ports = [[value.name for value in values] for values in (model.graph.input, model.graph.output)]
    layers = [node.name for node in model.graph.node if node.name and node.op_type != "DequantizeLinear"]
    after = serialise(compacted(model))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    given, found = (open_session(data).run({ports[0][0]: x})[0] for data in (before, after))
    np.testing.assert_array_equal(found, given)
    assert len(after) < len(before)
    onnx.checker.check_model(after, full_check=True)
    assert [[value.name for value in values] for values in (model.graph.input, model.graph.output)] == ports
    assert [node.name for node in model.graph.node if node.name] == layers
    assert not {name for node in model.graph.node for name in node.output} - set(ports[1]) & set(layers)
    assert serialise(compacted(model)) == after
