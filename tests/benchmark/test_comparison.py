"""`leanfit bench` from Python: real models, really timed, and candidates that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_onnx import cast_onnx, dividing_onnx, hanging_onnx, linear_onnx, model_bytes

import evaluate
from evaluate.benchmark import bench_steps as steps
from evaluate.benchmark import compare as comparison
from evaluate.benchmark.candidates import CONTROL, checked, find_candidates, unique_names
from evaluate.benchmark.compare import compare, measure, serve
from evaluate.benchmark.model_inputs import NOTHING, calls_for, rows_for
from evaluate.benchmark.supervise import Ended
from evaluate.core.errors import ArtifactError, ModelError, NoRuntimeError, UsageError
from evaluate.metrics.samples import Samples
from evaluate.runtime.session import open_session

QUICK = {"seconds": 1.0}


@pytest.fixture
def runs(tmp_path):
    """Two run folders: `big` does many times the work of `small`; and files that fail."""
    for name, depth in (("small", 1), ("big", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(linear_onnx(256, 256, depth=depth))
    return tmp_path


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """One comparison of three models in two conditions."""
    folder = tmp_path_factory.mktemp("found")
    for name, depth in (("small", 1), ("middle", 3), ("big", 6)):
        (folder / f"{name}.onnx").write_bytes(linear_onnx(256, 256, depth=depth))
    paths = [folder / f"{name}.onnx" for name in ("big", "middle", "small")]
    return compare(paths, batch=[1, 16], seconds=5)


def of(comparison, name):
    return [entry for entry in comparison.results if entry["name"] == name]


def test_smaller_models_are_found_faster_in_every_condition(found):
    assert found.exit_code == 0 and found.failed == []
    assert [entry["latency"]["batch"] for entry in found.results] == [1, 1, 1, 16, 16, 16]
    for small, middle, big in zip(of(found, "small"), of(found, "middle"), of(found, "big"), strict=True):
        assert (small["baseline"], big["baseline"]) == (False, True) and big["speedup"] is None
        assert small["speedup"]["verdict"] == middle["speedup"]["verdict"] == "faster"
        assert small["speedup"]["low"] > middle["speedup"]["high"] > 1
        assert small["latency"]["median_ms"] < middle["latency"]["median_ms"] < big["latency"]["median_ms"]


def test_entries_carry_what_a_report_needs(found):
    record = found.record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["kind"], record["schema"], record["baseline"]) == ("bench", 1, "big")
    assert len(record["id"]) == 32 and record["environment"]["machine_id"]
    assert [(f["threads"], f["batch"]) for f in record["floors"]] == [(1, 1), (1, 16)]
    for entry in record["results"]:
        from pathlib import Path

        data = Path(entry["file"]).read_bytes()
        assert entry["sizes"] == {"bytes": len(data), "packed_bytes": len(zlib.compress(data, 9))}
        assert entry["inputs"] == [{"name": "x", "shape": [entry["latency"]["batch"], 256], "dtype": "float32"}]
        samples = np.array(entry["samples"])
        assert samples.ndim == 3 and samples.size == entry["latency"]["n"] and np.all(samples > 0)
        assert np.median(samples) * 1e3 == pytest.approx(entry["latency"]["median_ms"])
        assert entry["start"]["create_ms"] > 0 and entry["start"]["first_call_ms"] > 0
        assert entry["accuracy"] is None and entry["warnings"] == []


def test_the_noise_floor_is_that_of_the_baseline_against_itself(found):
    for floor, entry in zip(found.record["floors"], of(found, "small"), strict=True):
        assert floor["low"] <= floor["value"] <= floor["high"]
        assert floor["noise_floor"] == entry["noise_floor"] >= max(floor["high"], 1 / floor["low"]) - 1 - 1e-9
        assert np.array(floor["samples"]).shape[:2] == np.array(entry["samples"]).shape[:2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_peak_memory_is_that_of_a_process_with_this_model_alone(tmp_path):
    for name, width in (("light", 8), ("heavy", 2048)):
        (tmp_path / f"{name}.onnx").write_bytes(linear_onnx(width, width, depth=2))
    light, heavy = compare([tmp_path / "light.onnx", tmp_path / "heavy.onnx"], **QUICK).results
    weights = 2 * 2048 * 2048 * 4 / 1e6
    assert heavy["memory"]["peak_rss_mb"] > light["memory"]["peak_rss_mb"] + 0.8 * weights
    assert light["memory"]["model_mb"] < light["memory"]["peak_rss_mb"]


def test_the_first_path_is_the_baseline_where_none_is_named(runs):
    entries = compare([runs / "big", runs / "small"], **QUICK).results
    assert [e["baseline"] for e in entries] == [True, False] and [e["name"] for e in entries] == ["big", "small"]
    assert set(entries[1]["speedup"]) == {"value", "low", "high", "verdict"}


def test_a_baseline_from_outside_is_measured_too(runs):
    entries = compare([runs / "small"], baseline=runs / "big" / "model.onnx", **QUICK).results
    assert [e["baseline"] for e in entries] == [True, False]
    assert entries[0]["file"].endswith("big/model.onnx")


def test_a_path_given_twice_is_measured_twice(runs):
    one, other = compare([runs / "small", runs / "small"], **QUICK).results
    assert one["baseline"] and not other["baseline"]
    assert one["name"] != other["name"] and one["samples"] != other["samples"]
    assert 0.5 < other["speedup"]["value"] < 2


def test_one_model_alone_is_measured_with_its_noise_floor(runs):
    assert [entry["name"] for entry in compare(str(runs / "small"), **QUICK).results] == ["small"]
    found = measure(runs / "small", **QUICK)
    assert found.latency["median_ms"] > 0 and found.noise_floor > 0
    assert "small" in found.table() and evaluate.measure is measure and evaluate.compare is compare


def test_models_of_other_inputs_are_measured_and_named(tmp_path, runs):
    (tmp_path / "wide.onnx").write_bytes(linear_onnx(32))
    _, wide = compare([runs / "small", tmp_path / "wide.onnx"], **QUICK).results
    assert wide["latency"]["median_ms"] > 0
    assert len(wide["warnings"]) == 1
    assert "x [1, 32] float32" in wide["warnings"][0] and "different work" in wide["warnings"][0]


def test_a_fixed_batch_is_named(tmp_path):
    (tmp_path / "fixed.onnx").write_bytes(linear_onnx(batch=8))
    (fixed,) = compare([tmp_path / "fixed.onnx"], batch=2, **QUICK).results
    assert fixed["latency"]["batch"] == 8 and "fixed batch of 8" in fixed["warnings"][0]


def test_a_scenario_says_where_the_batch_is_not_the_one_asked_for(tmp_path):
    (tmp_path / "fixed.onnx").write_bytes(linear_onnx(batch=8))
    record = serve([tmp_path / "fixed.onnx"], "single-stream", **QUICK).record
    assert record["scenarios"][0]["name"] == "fixed"
    assert any("fixed batch of 8" in warning for warning in record["warnings"])


def test_a_model_on_another_provider_is_not_profiled_on_the_runs_own(runs, monkeypatch):
    monkeypatch.setattr(steps, "run_job", lambda *given, **options: pytest.fail("nothing is to be profiled"))
    settings = checked("cpu", "device", False, 1, 1, 1.0, 0, False, 5.0, 1)
    found, _ = find_candidates([f"{runs / 'small'}@cuda"], None, "cpu", None)
    profiling = steps.Steps(settings, runs, None, NOTHING, lambda *step: None)
    assert profiling.profile(found, 1.0) == []
    assert "small" in profiling.warnings[0] and "--provider cuda" in profiling.warnings[0]


@pytest.mark.parametrize("models", [1, 2, 5, 30])
def test_profiles_of_many_models_leave_time_to_measure_them(models):
    assert 0 < comparison._for_profiles(10.0, models) <= (1 - comparison.LEAST_SHARE) * 10


def test_what_fails_is_named_and_the_others_are_measured(runs):
    bad = {"hang": hanging_onnx(), "divide": dividing_onnx(), "cut": linear_onnx()[:200]}
    for name, data in bad.items():
        (runs / f"{name}.onnx").write_bytes(data)
    paths = [runs / "big", *(runs / f"{name}.onnx" for name in bad), f"{runs / 'big'}@cuda", runs / "small"]
    found = compare(paths, patience=6.0, seconds=3)
    assert [entry["name"] for entry in found.results] == ["big", "small"]
    assert found.results[1]["speedup"]["verdict"] == "faster"
    told = {entry["name"]: (entry["kind"], entry["exit_code"]) for entry in found.failed}
    assert told["hang"] == ("hung", 4)
    assert told["divide"] == ("refused", 4) and told["cut"] == ("refused", 7)
    assert told["big (2)"] == ("missing provider", 8)
    assert "no answer for 6 s" in next(e["reason"] for e in found.failed if e["name"] == "hang")
    assert found.exit_code == 4
    assert all(name in found.table() for name in ("hang", "refused", "missing provider"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_candidate_that_takes_its_process_down_is_named(runs, monkeypatch):
    (runs / "hang.onnx").write_bytes(hanging_onnx())
    real = subprocess.Popen

    def shot(command, **options):
        process = real(command, **options)
        starts.append(process)
        if len(starts) == 2:  # the probe of the second candidate
            threading.Timer(5.0, lambda: os.kill(process.pid, signal.SIGSEGV)).start()
        return process

    starts = []
    monkeypatch.setattr(subprocess, "Popen", shot)
    found = compare([runs / "big", runs / "hang.onnx", runs / "small"], seconds=4)
    assert [(f["name"], f["kind"]) for f in found.failed] == [("hang", "crashed")]
    assert "SIGSEGV" in found.failed[0]["reason"] and "first call" in found.failed[0]["reason"]
    assert found.results[1]["speedup"]["verdict"] == "faster" and found.exit_code == 4


@pytest.mark.parametrize(("candidate", "left"), [("small", ["big"]), ("big", ["small"]), (CONTROL, ["small"])])
def test_what_fails_only_while_it_is_timed_is_left_out_and_the_rest_timed_anew(runs, monkeypatch, candidate, left):
    real, jobs = steps.run_job, []

    def once(job, candidates, on_event, **options):
        jobs.append(job["kind"])
        if job["kind"] == "latency" and jobs.count("latency") == 1:
            return Ended("crashed", candidate, "timing", "the process ended by SIGSEGV while timing")
        return real(job, candidates, on_event, **options)

    monkeypatch.setattr(steps, "run_job", once)
    found = compare([runs / "big", runs / "small"], **QUICK)
    assert [entry["name"] for entry in found.results] == left and len(found.failed) == 1
    assert found.results[0]["speedup"] is None
    assert any("timed anew" in warning for warning in found.record["warnings"])
    if left == ["small"]:
        assert any("no speed-up" in warning for warning in found.record["warnings"])


def test_where_the_first_cannot_be_measured_the_next_is_what_the_others_are_compared_with(runs):
    (runs / "divide.onnx").write_bytes(dividing_onnx())
    found = compare([runs / "divide.onnx", runs / "big", runs / "small"], **QUICK)
    assert found.record["baseline"] == "big" and found.results[1]["speedup"]["value"] > 0
    assert any("speed-up is against big" in warning for warning in found.record["warnings"])
    asked = compare([runs / "big", runs / "small"], runs / "divide.onnx", **QUICK)  # not where it was asked for
    assert asked.results[0]["speedup"] is None and any("no speed-up" in w for w in asked.record["warnings"])


def test_a_budget_that_opening_the_models_would_exceed_opens_them_once_and_says_so(runs, monkeypatch):
    monkeypatch.setattr("evaluate.benchmark.bench_steps.LEAST_SHARE", 1e-3)
    monkeypatch.setattr(comparison, "LEAST_SHARE", 1e-3)
    monkeypatch.setattr(comparison, "LATE", -100.0)
    heard = []
    found = compare(
        [runs / "big", runs / "small"], seconds=0.1, status=lambda message, done, total: heard.append(message)
    )
    assert any("opened once" in warning for warning in found.record["warnings"])
    assert found.results[1]["noise_floor"] >= 0.02
    assert any("where 0.1 were asked for" in warning for warning in found.record["warnings"])
    assert any("sittings take some" in message for message in heard)


def test_where_nothing_can_be_measured_the_first_reason_is_the_error(runs):
    (runs / "divide.onnx").write_bytes(dividing_onnx())
    with pytest.raises(ModelError, match=r"could not run on"):
        compare([runs / "divide.onnx"], **QUICK)
    with pytest.raises(NoRuntimeError, match=r"'cuda' was asked for"):
        compare([runs / "small"], provider="cuda", **QUICK)


def test_real_samples_are_timed_and_scored_by_the_same_session_options(runs):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 256)).astype(np.float32)
    outputs = {name: open_session(runs / name / "model.onnx").run({"x": x})[0] for name in ("big", "small")}
    expected = {"big": outputs["big"], "small": outputs["small"] + 3.0}
    samples = Samples(
        {"x": x}, outputs["big"].argmax(1), "accuracy", tuple("c" * (i + 1) for i in range(256)), expected
    )
    found = compare([runs / "big", runs / "small"], samples=samples, batch=8, **QUICK)
    big, small = found.results
    assert big["accuracy"]["value"] == 100 and big["accuracy"]["n"] == 50 and big["drop"] is None
    assert small["accuracy"]["value"] < 100 and small["drop"]["value"] == 100 - small["accuracy"]["value"]
    assert big["agreement"]["same"] == 50 and big["agreement"]["max_abs"] < 1e-3
    assert small["agreement"]["same"] == 50 and small["agreement"]["max_abs"] == pytest.approx(3, abs=1e-3)
    assert found.record["settings"]["inputs"] == "50 real"


def test_an_input_of_any_name_takes_samples(tmp_path):
    node = helper.make_node("Identity", ["file"], ["y"])
    data = model_bytes([node], [("file", TensorProto.FLOAT, ["n", 4])], [("y", TensorProto.FLOAT, None)])
    (tmp_path / "named.onnx").write_bytes(data)
    x = np.eye(4, dtype=np.float32)
    (entry,) = compare([tmp_path / "named.onnx"], samples=Samples({"file": x}, np.arange(4)), **QUICK).results
    assert entry["accuracy"]["value"] == 100 and entry["inputs"][0]["name"] == "file"


def test_samples_for_other_inputs_are_refused(runs):
    with pytest.raises(UsageError, match=r"takes x; the samples are for image"):
        compare([runs / "small"], samples=Samples({"image": np.ones((3, 256), np.float32)}), **QUICK)


def one_node(operator, shape=None, dtype=TensorProto.FLOAT, **attributes):
    """A model of one operator: x [batch, 256] float32 -> y."""
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    return model_bytes([node], [("x", TensorProto.FLOAT, ["batch", 256])], [("y", dtype, shape)])


def test_what_cannot_be_scored_on_the_samples_is_named_and_the_others_are_measured(runs):
    bad = {
        "late": (one_node("Sqrt"), "not finite", "1 NaN, on the samples"),
        "scalar": (one_node("ReduceSum", keepdims=0), "refused", "numbers for each of 1 samples"),
        "words": (one_node("Cast", None, TensorProto.STRING, to=TensorProto.STRING), "refused", "of object"),
        "three": (linear_onnx(256, 3), "refused", "the model's output has 3 classes"),
    }
    for name, (data, _, _) in bad.items():
        (runs / f"{name}.onnx").write_bytes(data)
    x = np.abs(np.random.default_rng(0).normal(size=(20, 256))).astype(np.float32)
    x[13, 2] = -1  # beyond the first call
    samples = Samples({"x": x}, np.arange(20), "accuracy", tuple(map(str, range(256))))
    found = compare([runs / "big", *(runs / f"{name}.onnx" for name in bad)], samples=samples, **QUICK)
    assert [entry["name"] for entry in found.results] == ["big"] and found.exit_code == 4
    for entry in found.failed:
        _, kind, words = bad[entry["name"]]
        assert entry["kind"] == kind and words in entry["reason"]


def test_a_baseline_from_outside_never_takes_the_name_of_a_model(runs):
    entries = compare([runs / "small"], baseline=runs / "big", names=["big"], **QUICK).results
    assert [(e["name"], e["baseline"]) for e in entries] == [("big (2)", True), ("big", False)]
    assert entries[0]["file"].endswith("big/model.onnx") and entries[1]["file"].endswith("small/model.onnx")


@pytest.mark.parametrize(
    ("dtype", "name", "most"),
    [
        (TensorProto.FLOAT, "float32", 10),
        (TensorProto.FLOAT16, "float16", 10),
        (TensorProto.DOUBLE, "float64", 10),
        (TensorProto.UINT8, "uint8", 255),
        (TensorProto.INT8, "int8", 1),
        (TensorProto.INT64, "int64", 1),
        (TensorProto.BOOL, "bool", 1),
    ],
)
def test_inputs_of_every_type_are_filled_and_run(dtype, name, most):
    session = open_session(cast_onnx(dtype, ["batch", 500]))
    (feeds,) = calls_for(session, batch=4, seed=1)
    assert feeds["x"].shape == (4, 500) and str(feeds["x"].dtype) == name
    assert len(np.unique(feeds["x"])) > 1 and float(feeds["x"].max()) <= most
    session.bind(feeds)()
    np.testing.assert_array_equal(feeds["x"], calls_for(session, batch=4, seed=1)[0]["x"])


def test_real_inputs_begin_anew_where_a_batch_needs_more():
    session = open_session(linear_onnx(2))
    real = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}
    np.testing.assert_array_equal(rows_for(session, 5, real)["x"][3:], real["x"][:2])


def test_an_input_that_is_no_number_is_named():
    with pytest.raises(ModelError, match=r"'x' is a tensor\(string\)"):
        calls_for(open_session(cast_onnx(TensorProto.STRING, ["n"])), 1, 0)


def test_a_provider_that_is_none_is_named_beside_the_nearest(runs):
    with pytest.raises(UsageError, match=r"unknown provider 'cudo'; did you mean 'cuda'\?"):
        compare([f"{runs / 'small'}@cudo"], **QUICK)


def test_names_are_short_and_differ(tmp_path):
    paths = [tmp_path / p for p in ("a/model.onnx", "b/model.onnx", "x/net.onnx", "y/net.onnx", "a/model.onnx")]
    names = unique_names(paths, taken=["b"])
    assert names == ["a", "b (2)", "x/net", "y/net", "a (2)"]


def test_places_without_a_model_are_named(runs):
    (runs / "empty").mkdir()
    (runs / "empty" / "net.onnx").write_bytes(linear_onnx())
    with pytest.raises(ArtifactError, match=r"holds no model.onnx; name one of its files: net.onnx"):
        compare([runs / "empty"], **QUICK)
    with pytest.raises(ArtifactError, match=r"there is no file .*smal"):
        compare([runs / "smal"], **QUICK)
    with pytest.raises(ArtifactError, match=r"no baseline .*did you mean .*small"):
        compare([runs / "small"], baseline=runs / "smal", **QUICK)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch of at least 1, got 0"),
        ({"threads": []}, "threads of at least 1, got nothing"),
        ({"threads": [1, 1]}, "threads names a value twice"),
        ({"seconds": 0}, "seconds must be above 0"),
        ({"seconds": float("inf")}, "seconds must be above 0, and finite"),
        ({"patience": -1}, "patience must be above 0"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"io": "hosts"}, "did you mean 'host'"),
        ({"provider": "cudo"}, "did you mean 'cuda'"),
        ({"names": ["a", "b"]}, "1 model and 2 names"),
    ],
)
def test_wrong_arguments_are_refused(runs, options, words):
    with pytest.raises(UsageError, match=words):
        compare([runs / "small"], **options)
    with pytest.raises(UsageError, match=r"models"):
        compare([])
