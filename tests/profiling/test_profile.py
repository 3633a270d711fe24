"""The profile of a model: sums that hold, the profiler's own cost taken off, and runs that leave nothing behind."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from profile_cases import quantized_onnx, residual_onnx
from tiny_onnx import dividing_onnx, linear_onnx, model_bytes

from evaluate.core.errors import ArtifactError, MachineError, ModelError, UsageError
from evaluate.profiling import profile as profile_candidates
from evaluate.profiling import profile as profiling
from evaluate.profiling.node_names import Names, is_integer, kind
from evaluate.profiling.profile import Subject, profile, profiles
from evaluate.profiling.trace import Cost, Timed, Trace, TraceNode, event_cost, midmean, summed
from evaluate.runtime.session import open_session

X = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


# ---- sums


def timed(seen, call, *, rounds=6, calls=5, ops=None):
    """Every call the same: `seen` milliseconds for each kernel under the profiler, `call` without it."""
    nodes = [TraceNode(f"n{i}", (ops or ["Conv"] * len(seen))[i], "cpu", (1,), "float", 1.0) for i in range(len(seen))]
    ms = np.tile(np.array(seen, float), (rounds, calls, 1))
    whole = np.full((rounds, calls), float(call))
    return Timed(whole, 3 * whole, Trace(3 * whole.ravel(), nodes, ms.reshape(rounds * calls, -1), False), ms)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 2), min_size=1, max_size=12), st.floats(0.001, 10), st.floats(0, 0.01), st.floats(0, 0.005),
    st.integers(0, 4),
)  # fmt: skip
def test_sums_hold_whatever_was_measured(seen, call, event_ms, idle, kinds):
    ops = [("Conv", "Add", "Relu", "Gemm", "Pad")[i % (kinds + 1)] for i in range(len(seen))]
    found = summed(timed(seen, call, ops=ops), Cost(event_ms, idle), Names(None, None))
    total = found["kernels_ms"]
    for part in ("operators", "nodes", "layers"):
        assert math.isclose(sum(e["ms"] for e in found[part]), total, abs_tol=1e-12)
        assert total == 0 or math.isclose(sum(e["share"] for e in found[part]), 1, rel_tol=1e-9)
        assert all(e["ms"] >= 0 for e in found[part])
    assert [o["ms"] for o in found["operators"]] == sorted((o["ms"] for o in found["operators"]), reverse=True)
    assert all(math.isclose(sum(layer["ops"].values()), layer["ms"]) for layer in found["layers"])
    assert found["outside_ms"] >= 0 and json.loads(json.dumps(found)) == found
    if event_ms > 0:
        assert math.isclose(total + found["outside_ms"], call, rel_tol=1e-6, abs_tol=1e-9)


def test_the_profilers_cost_comes_from_the_chain():
    """Each of 32 kernels is seen as 2.0 us and takes 0.2; one alone makes a call of 2.0 us."""
    cost = event_cost(timed([0.002] * 32, 0.002 + 31 * 0.0002), timed([0.002], 0.002), 32)
    assert math.isclose(cost.event_ms, 0.0018) and math.isclose(cost.idle_ms, 0.0018)
    assert event_cost(timed([0.002] * 31, 0.01), timed([0.002], 0.002), 32) == (0, 0)


def test_what_the_profiler_adds_is_taken_from_every_kernel_alike():
    found = summed(timed([0.012, 0.007, 0.002], 0.020), Cost(0.002, 0.001), Names(None, None))
    assert [round(n["ms"], 6) for n in found["nodes"]] == [0.010, 0.005, 0.0] and math.isclose(
        found["outside_ms"], 0.005
    )


def test_kernels_that_add_up_to_more_than_the_call_show_a_dearer_profiler():
    found = summed(timed([0.034, 0.014], 0.041), Cost(0.002, 0.001), Names(None, None))
    assert math.isclose(found["event_ms"], 0.004, rel_tol=1e-6) and math.isclose(
        found["kernels_ms"], 0.040, rel_tol=1e-6
    )
    assert [round(n["ms"], 6) for n in found["nodes"]] == [0.030, 0.010]


def test_the_middle_half_ignores_outliers_and_is_finer_than_whole_ticks():
    assert midmean([1, 2, 2, 3, 3, 3, 3, 1000]) == 2.75
    assert midmean([5]) == 5 and midmean([4, 6]) == 5


def test_errors_grow_with_the_spread_between_rounds():
    still = timed([0.1], 0.2)
    rng = np.random.default_rng(0)
    moved = still._replace(ms=still.ms * rng.uniform(0.8, 1.2, size=(6, 1, 1)))
    (quiet,), (loud,) = (summed(t, Cost(0, 0), Names(None, None))["nodes"] for t in (still, moved))
    assert quiet["error_ms"] == 0 == quiet["iqr_ms"] and loud["error_ms"] > 0.003 and loud["iqr_ms"] > 0.01


# ---- the measurement


@pytest.fixture
def traces(tmp_path, monkeypatch):
    """The folder for temporary files, empty before and after."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_real_profile_holds_together(traces):
    found = profile(linear_onnx(depth=3), {"x": X}, seconds=0.1, name="mlp")
    assert list(traces.iterdir()) == []
    assert (found["name"], found["provider"], found["threads"], found["batch"]) == ("mlp", "cpu", 1, 3)
    assert found["calls"] >= 20 and found["rounds"] >= 5 and found["overhead"] > 0.5 and found["warnings"] == []
    assert all(math.isclose(sum(e["share"] for e in found[k]), 1) for k in ("operators", "nodes", "layers"))
    assert math.isclose(found["kernels_ms"] + found["outside_ms"], found["call_ms"], rel_tol=1e-6)
    assert {kind(n["op"]) for n in found["nodes"]} <= {"MatMul", "Gemm", "Relu"}
    assert found["nodes"][-1]["shape"] == [3, 10] and found["nodes"][-1]["dtype"] == "float"
    json.dumps(found, allow_nan=False)


def test_layers_have_the_names_they_have_in_the_file(traces):
    found = profile(residual_onnx(), {"x": IMAGE}, seconds=0.1)
    layers = {layer["layer"]: layer for layer in found["layers"]}
    assert set(layers) <= {"conv1", "conv2", "Add3", "Relu1", "Relu4"} and {"conv1", "conv2"} <= set(layers)
    assert layers["conv2"]["weights"] == [16, 16, 3, 3]
    parts = sorted(part for layer in layers.values() for part in layer["parts"])
    assert parts == ["Add after conv2", "Relu after conv1", "Relu after conv2", "conv1", "conv2"]


def test_a_quantized_models_conversions_belong_to_the_layers_they_serve(traces):
    found = profile(quantized_onnx(), {"x": IMAGE}, seconds=0.1)
    nodes = {n["node"].split("_token")[0]: n for n in found["nodes"]}
    assert nodes["conv1"]["op"] == "QLinearConv" and is_integer("QLinearConv", nodes["conv1"]["dtype"])
    assert nodes["x_QuantizeLinear"]["layer"] == "conv1" and nodes["v0_DequantizeLinear"]["layer"] == "Erf1"
    assert {layer["layer"]: layer["weights"] for layer in found["layers"]} == {"conv1": [16, 3, 3, 3], "Erf1": None}


def test_several_models_take_turns_in_one_run(traces):
    subjects = [Subject("a", linear_onnx(), {"x": X}), Subject("b", linear_onnx(depth=2), {"x": X})]
    told = []
    found = profiles(subjects, seconds=0.1, status=lambda *args: told.append(args))
    assert [p["name"] for p in found] == ["a", "b"] and len({p["run"] for p in found}) == 1
    assert told[-1] == ("profiling", profiling.ROUNDS, profiling.ROUNDS)
    assert profile(linear_onnx(), {"x": X}, seconds=0.05)["run"] != found[0]["run"]
    assert list(traces.iterdir()) == []


def test_the_profiled_session_has_the_options_of_the_one_that_is_timed(traces, tmp_path):
    plain = open_session(linear_onnx(), threads=2)
    folder = tmp_path / "one"
    folder.mkdir()
    control = profile_candidates._profiling(plain, linear_onnx(), folder)
    ours, theirs = (s._native._sess.session_options for s in (plain, control))
    for key in ("intra_op_num_threads", "inter_op_num_threads", "execution_mode", "graph_optimization_level"):
        assert getattr(ours, key) == getattr(theirs, key)
    spinning = "session.intra_op.allow_spinning"
    assert ours.get_session_config_entry(spinning) == theirs.get_session_config_entry(spinning) == "0"
    assert theirs.enable_profiling and not ours.enable_profiling
    assert Path(control._native.end_profiling()).parent == folder and (folder / "graph.onnx").exists()


def test_a_graph_that_cannot_be_written_is_done_without(traces, tmp_path):
    control = profile_candidates._profiling(open_session(linear_onnx()), linear_onnx(), tmp_path / "nowhere" / "deeper")
    assert control._native._sess.session_options.optimized_model_filepath == ""
    control.bind({"x": X})()


@pytest.mark.parametrize(
    ("model", "feeds", "problem"),
    [
        (b"no model", {"x": X}, ArtifactError),
        ("missing.onnx", {"x": X}, ArtifactError),
        (dividing_onnx(), {"x": X}, ModelError),
        (linear_onnx(), {"y": X}, ModelError),
        (linear_onnx(), {"x": X[:, :5]}, ModelError),
    ],
)
def test_a_model_that_cannot_run_is_one_clear_error_and_leaves_nothing_behind(traces, model, feeds, problem):
    with pytest.raises(problem) as caught:
        profiles([Subject("good", linear_onnx(), {"x": X}), Subject("bad", model, feeds)], seconds=0.05)
    assert "\n" not in str(caught.value) and list(traces.iterdir()) == []


def test_the_profiler_is_closed_when_something_fails_meanwhile(monkeypatch, traces):
    ended = []

    def failing(candidates, *_):
        for candidate in candidates:
            candidate.profiled()
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "_measure", failing)
    monkeypatch.setattr(
        profile_candidates.ProfiledModel, "end", lambda candidate: ended.append(candidate._native.end_profiling())
    )
    with pytest.raises(KeyboardInterrupt):
        profile(linear_onnx(), {"x": X})
    assert len(ended) == 3 and list(traces.iterdir()) == []


WRONG = [{"seconds": 0}, {"seconds": float("nan")}, {"min_calls": 0}, {"provider": "cuad"}, {"threads": 0}]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_said(wrong):
    with pytest.raises(UsageError):
        profile(linear_onnx(), {"x": X}, **wrong)
    with pytest.raises(UsageError):
        profiles([])


def test_no_place_for_the_trace_is_said(monkeypatch):
    monkeypatch.setattr(
        tempfile, "TemporaryDirectory", lambda **_: (_ for _ in ()).throw(FileNotFoundError(2, "no place"))
    )
    with pytest.raises(MachineError, match="TMPDIR"):
        profile(linear_onnx(), {"x": X})


def test_a_trace_that_was_not_written_whole_is_said(monkeypatch, traces):
    monkeypatch.setattr("evaluate.profiling.profile.parse_trace", lambda text, calls: None)
    with pytest.raises(MachineError, match="free some space"):
        profile(linear_onnx(), {"x": X}, seconds=0.05)


def test_a_model_whose_work_is_done_beforehand_has_no_kernels(traces):
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    node = helper.make_node("Neg", ["w"], ["y"], name="Neg0")
    data = model_bytes([node], [("x", TensorProto.FLOAT, [1])], [("y", TensorProto.FLOAT, [3])], [weight])
    found = profile(data, {"x": np.ones(1, np.float32)}, seconds=0.05)
    assert found["nodes"] == [] == found["layers"] and found["kernels_ms"] == 0
    assert math.isclose(found["outside_ms"], found["call_ms"])


# ---- the policy, with a clock that only calls move


class FakeLegs:
    """Candidates whose calls move a clock: by default 1 ms without the profiler, 3 ms with it."""

    def __init__(self, provider="cpu", count=2, plain=0.001):
        self.now, self.log, self.plain = 0.0, [], plain
        self.candidates = [self.candidate(i, provider) for i in range(count)]

    def candidate(self, place, provider):
        def call(kind, seconds):
            self.log.append((place, kind))
            self.now += seconds

        return SimpleNamespace(
            session=SimpleNamespace(provider=provider),
            subject=SimpleNamespace(name=f"m{place}"),
            kernels=lambda: 5,
            plain=lambda: call("plain", self.plain),
            profiled=lambda: self.opened(place, lambda: call("profiled", 0.003)),
            calls=1,
            lead=0,
            times={"plain": [], "profiled": []},
        )

    def opened(self, place, call):
        self.log.append((place, "opened"))
        return call

    def measure(self, seconds=2.0, min_calls=20):
        profiling._measure(
            self.candidates, len(self.candidates), seconds, min_calls, 0, lambda: self.now, lambda *_: None
        )
        return self


def test_each_round_times_every_model_with_and_without_the_profiler():
    fake = FakeLegs().measure()
    for candidate in fake.candidates:
        assert len(candidate.times["plain"]) == len(candidate.times["profiled"]) == profiling.ROUNDS
        assert {len(turn) for kind in candidate.times.values() for turn in kind} == {candidate.calls}
        assert np.allclose(candidate.times["plain"], 0.001) and np.allclose(candidate.times["profiled"], 0.003)
    turns = [key for key, _ in itertools.groupby(fake.log[-4 * (fake.candidates[0].calls + 1) :])]
    assert sorted(turns) == [(0, "plain"), (0, "profiled"), (1, "plain"), (1, "profiled")]


def test_the_time_given_is_kept():
    fake = FakeLegs(plain=0.003).measure(seconds=4.0)
    assert 0.8 * 2 * 4.0 * profiling.MEASURING <= fake.now <= 0.9 * 2 * 4.0


def test_a_slow_model_still_gets_its_least_calls():
    fake = FakeLegs().measure(seconds=0.001, min_calls=45)
    assert all(sum(map(len, candidate.times["profiled"])) >= 45 for candidate in fake.candidates)


def test_on_a_gpu_no_profiler_is_open_while_calls_are_timed_without_it():
    fake = FakeLegs("cuda").measure()
    kinds = [kind for _, kind in fake.log]
    assert kinds.index("opened") > max(i for i, kind in enumerate(kinds) if kind == "plain")
    assert kinds.index("profiled") > kinds.index("opened")
