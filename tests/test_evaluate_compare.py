"""`leanfit bench`: real models, really timed."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from onnx import TensorProto
from tiny_onnx import cast_onnx, linear_onnx

from evaluate.compare import compare, random_feeds
from evaluate.errors import FileProblem, ModelProblem, UsageProblem
from evaluate.session import open_session

QUICK = {"rounds": 5, "seconds": 2.0}


@pytest.fixture
def runs(tmp_path):
    """Two run folders: `big` does many times the work of `small`."""
    for name, depth in (("small", 1), ("big", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(linear_onnx(256, 256, depth=depth))
    return tmp_path


def test_a_smaller_model_is_found_faster_than_the_baseline(runs):
    small, big = compare([runs / "small", runs / "big"], baseline=runs / "big", batch=16, rounds=15, seconds=5)
    assert (small["baseline"], big["baseline"]) == (False, True)
    assert small["speedup"]["verdict"] == "faster" and small["speedup"]["low"] > 2
    assert big["speedup"] is None
    assert small["latency"]["median_ms"] < big["latency"]["median_ms"]
    assert small["latency"]["batch"] == 16 and small["latency"]["provider"] == "cpu"


def test_entries_carry_what_a_report_needs_and_are_json(runs):
    entries = compare([runs / "small" / "model.onnx"], **QUICK)
    assert json.loads(json.dumps(entries)) == entries
    (entry,) = entries
    data = (runs / "small" / "model.onnx").read_bytes()
    assert entry["sizes"] == {"bytes": len(data), "packed_bytes": len(zlib.compress(data, 9))}
    assert entry["inputs"] == [{"name": "x", "shape": [1, 256], "dtype": "float32"}]
    assert set(entry["latency"]) == {"median_ms", "low", "high", "p90", "provider", "threads", "batch", "n"}
    assert np.size(entry["samples"]) == entry["latency"]["n"] and len(entry["samples"]) == 5
    assert entry["noise_floor"] >= 0 and entry["warnings"] == []


def test_the_first_path_is_the_baseline_where_none_is_named(runs):
    entries = compare([runs / "big", runs / "small"], **QUICK)
    assert [e["baseline"] for e in entries] == [True, False]
    assert set(entries[1]["speedup"]) == {"value", "low", "high", "verdict"}


def test_a_baseline_from_outside_is_measured_too(runs):
    entries = compare([runs / "small"], baseline=runs / "big" / "model.onnx", **QUICK)
    assert [e["baseline"] for e in entries] == [True, False]
    assert entries[0]["file"].endswith("big/model.onnx")


def test_a_path_given_twice_is_measured_twice(runs):
    one, other = compare([runs / "small", runs / "small"], **QUICK)
    assert one["baseline"] and not other["baseline"]
    assert one["samples"] != other["samples"]
    assert 0.5 < other["speedup"]["value"] < 2


def test_models_of_other_inputs_are_measured_and_named(tmp_path, runs):
    (tmp_path / "wide.onnx").write_bytes(linear_onnx(32))
    _, wide = compare([runs / "small", tmp_path / "wide.onnx"], **QUICK)
    assert wide["latency"]["median_ms"] > 0
    assert len(wide["warnings"]) == 1
    assert "x [1, 32] float32" in wide["warnings"][0] and "different work" in wide["warnings"][0]


def test_a_fixed_batch_and_open_dimensions_are_named(tmp_path):
    (tmp_path / "fixed.onnx").write_bytes(linear_onnx(batch=8))
    (tmp_path / "open.onnx").write_bytes(cast_onnx(TensorProto.INT64, ["n", "tokens", None]))
    fixed, free = compare([tmp_path / "fixed.onnx", tmp_path / "open.onnx"], batch=2, **QUICK)
    assert fixed["latency"]["batch"] == 8 and "fixed batch of 8" in fixed["warnings"][0]
    assert free["inputs"][0]["shape"] == [2, 1, 1]
    assert "tokens, dimension 2 open" in free["warnings"][0]


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
    feeds = random_feeds(session, batch=4, seed=1)
    assert feeds["x"].shape == (4, 500) and str(feeds["x"].dtype) == name
    assert len(np.unique(feeds["x"])) > 1 and float(feeds["x"].max()) <= most
    session.bind(feeds)()
    np.testing.assert_array_equal(feeds["x"], random_feeds(session, batch=4, seed=1)["x"])


def test_an_input_that_is_no_number_is_named():
    with pytest.raises(ModelProblem, match=r"'x' is a tensor\(string\)"):
        random_feeds(open_session(cast_onnx(TensorProto.STRING, ["n"])))


def test_places_without_a_model_are_named(runs):
    (runs / "empty").mkdir()
    (runs / "empty" / "net.onnx").write_bytes(linear_onnx())
    with pytest.raises(FileProblem, match=r"holds no model.onnx; name one of its files: net.onnx"):
        compare([runs / "empty"], **QUICK)
    with pytest.raises(FileProblem, match=r"there is no file .*smal"):
        compare([runs / "smal"], **QUICK)
    with pytest.raises(FileProblem, match=r"no baseline .*did you mean .*small"):
        compare([runs / "small"], baseline=runs / "smal", **QUICK)


@pytest.mark.parametrize(("options", "words"), [({"batch": 0}, "batch"), ({"rounds": 2}, "rounds")])
def test_wrong_arguments_are_refused(runs, options, words):
    with pytest.raises(UsageProblem, match=words):
        compare([runs / "small"], **options)
    with pytest.raises(UsageProblem, match=r"models"):
        compare([])
