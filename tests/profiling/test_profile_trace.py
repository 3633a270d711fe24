"""The runtime's trace: every kernel in its call, counted once, whatever the runtime wrote."""

from __future__ import annotations

import itertools
import json
import math
import random

import numpy as np
import pytest

from evaluate.profiling.node_names import Names
from evaluate.profiling.trace import Cost, Timed, parse_trace, summed


def event(name, ts, dur, *, cat="Node", op="Conv", provider="CPUExecutionProvider", **args):
    told = {"op_name": op, "provider": provider, "input_type_shape": [{"float": [1, 3]}], **args}
    return {"cat": cat, "pid": 1, "tid": 1, "dur": dur, "ts": ts, "ph": "X", "name": name, "args": told}


def call_of(start, *kernels, length=100):
    """A call's events in the order the runtime writes them: by their ends."""
    inside = [event(f"{name}_kernel_time", start + ts, dur, **more) for name, ts, dur, more in kernels]
    return [*inside, event("model_run", start, length, cat="Session")]


def text_of(*events):
    return "[\n" + ",\n".join(json.dumps(e) for e in events) + "\n]\n"


def column(trace, name):
    return trace.ms[:, [n.name for n in trace.nodes].index(name)].tolist()


def test_kernels_belong_to_the_call_they_ran_in_and_the_first_calls_are_left_out():
    calls = [call_of(1000 * i, ("a", 5, 10 + i, {}), ("b", 40, 20, {"op": "Add"}), length=90 + i) for i in range(5)]
    trace = parse_trace(text_of(*itertools.chain(*calls)), 3)
    assert trace.calls_ms.tolist() == [0.092, 0.093, 0.094]
    assert column(trace, "a") == [0.012, 0.013, 0.014] and column(trace, "b") == [0.020] * 3
    assert [(n.name, n.op, n.provider, n.events) for n in trace.nodes] == [
        ("a", "Conv", "cpu", 1),
        ("b", "Add", "cpu", 1),
    ]


def test_a_kernel_that_starts_with_its_call_in_the_same_microsecond_belongs_to_it():
    trace = parse_trace(text_of(*call_of(0, ("a", 0, 5, {})), *call_of(100, ("a", 0, 7, {}))), 2)
    assert column(trace, "a") == [0.005, 0.007]


def test_the_order_of_events_in_the_file_does_not_matter():
    events = [e for i in range(4) for e in call_of(1000 * i, ("a", 1, 7, {}), ("b", 20, 9 + i, {}))]
    shuffled = random.Random(3).sample(events, len(events))
    one, two = parse_trace(text_of(*events), 4), parse_trace(text_of(*shuffled), 4)
    assert sorted(n.name for n in one.nodes) == sorted(n.name for n in two.nodes)
    for name in "ab":
        assert column(one, name) == column(two, name)


def test_marks_before_and_after_a_kernel_and_what_runs_outside_a_call_count_for_nothing():
    noise = [event("a_fence_before", 4, 1), event("a_fence_after", 30, 1), event("lost_kernel_time", 700, 5)]
    trace = parse_trace(text_of(*noise, *call_of(0, ("a", 5, 10, {}))), 1)
    assert [n.name for n in trace.nodes] == ["a"] and column(trace, "a") == [0.010]


def test_a_kernel_inside_another_is_counted_once():
    trace = parse_trace(text_of(*call_of(0, ("inner", 12, 30, {}), ("loop", 10, 50, {"op": "Loop"}))), 1)
    assert column(trace, "loop") == [0.020] and column(trace, "inner") == [0.030]


def test_a_node_that_runs_twice_in_a_call_is_added_up():
    trace = parse_trace(text_of(*call_of(0, ("a", 1, 5, {}), ("a", 10, 7, {}))), 1)
    assert column(trace, "a") == [0.012] and trace.nodes[0].events == 2


def test_names_that_break_the_runtimes_json_are_read_all_the_same():
    good = [json.dumps(e) for e in call_of(0, ('layer"1"\\x', 5, 10, {}))]
    broken = "[\n" + ",\n".join(good).replace('layer\\"1\\"\\\\x', 'layer"1"\\x') + "\n]\n"
    with pytest.raises(ValueError):
        json.loads(broken)
    assert [n.name for n in parse_trace(broken, 1).nodes] == ['layer"1"\\x']


def test_a_trace_cut_off_gives_what_it_holds():
    whole = text_of(*call_of(0, ("a", 5, 10, {})), *call_of(1000, ("a", 5, 12, {})))
    assert len(parse_trace(whole[: whole.rindex('"model_run"')], 9).calls_ms) == 1
    assert parse_trace("", 9) is None and parse_trace("[\n", 9) is None and parse_trace("nonsense", 9) is None


def gpu(name, ts, dur, parent=None):
    args = {"parent_name": f"{parent}_kernel_time"} if parent else {}
    return {"cat": "Kernel", "pid": 1, "tid": 1, "dur": dur, "ts": ts, "ph": "X", "name": name, "args": args}


def test_on_a_gpu_the_time_is_the_gpus_own_and_that_of_launching_is_left_out():
    cuda = {"provider": "CUDAExecutionProvider"}
    conv = event("conv_kernel_time", 5, 3, **cuda)
    copy = event("back_kernel_time", 20, 4, op="MemcpyToHost", **cuda)
    host = event("shape_kernel_time", 30, 6, op="Reshape")
    run = event("model_run", 0, 100, cat="Session")
    trace = parse_trace(
        text_of(
            conv,
            gpu("sgemm", 400, 40, "conv"),
            gpu("bias", 450, 2, "conv"),
            copy,
            gpu("memcpy", 500, 9, "back"),
            host,
            run,
        ),
        1,
    )
    assert trace.on_device
    assert math.isclose(column(trace, "conv")[0], 0.042 + 2 * 0.0005)  # the half microsecond that the runtime drops
    assert math.isclose(column(trace, "back")[0], 0.0095) and column(trace, "shape") == [0.006]


def test_work_of_the_gpu_without_a_known_node_is_kept():
    conv = event("conv_kernel_time", 5, 3, provider="CUDAExecutionProvider")
    trace = parse_trace(text_of(conv, gpu("stray", 9, 7), event("model_run", 0, 100, cat="Session")), 1)
    assert math.isclose(column(trace, "(stray)")[0], 0.0075) and column(trace, "conv") == [0.0]


def test_without_the_gpus_clock_times_are_those_of_launching_and_that_is_said():
    trace = parse_trace(text_of(*call_of(0, ("conv", 5, 3, {"provider": "CUDAExecutionProvider"}))), 1)
    assert not trace.on_device and column(trace, "conv") == [0.003]
    found = summed(
        Timed(np.ones((5, 1)), np.ones((5, 1)), trace, np.full((5, 1, 1), 0.003)), Cost(0, 0), Names(None, None)
    )
    assert "launching" in found["warnings"][0]
