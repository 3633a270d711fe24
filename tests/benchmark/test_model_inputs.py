"""What models are fed: shapes by name over all inputs, values from files, and what is asked for otherwise."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array
from tiny_onnx import cast_onnx, nan_onnx

from compress.bundle.pack import pack
from evaluate.benchmark.compare import compare, measure
from evaluate.benchmark.first_call import first_call
from evaluate.benchmark.model_inputs import (
    MOST_CALLS,
    Wanted,
    batch_of,
    calls_for,
    parse_dims,
    parse_shapes,
    read_values,
    stored_calls,
    wanted_of,
    write_values,
)
from evaluate.bundle.zipapp import read_bundle
from evaluate.core.errors import ArtifactError, DataError, ModelError, UsageError
from evaluate.runtime.onnx_file import external_files, inputs_without_shape
from evaluate.runtime.session import open_session

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
info = helper.make_tensor_value_info


def made(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def identity(*shapes, dtype=FLOAT):
    """A model with an input of each shape, which it gives back."""
    names = [f"x{n}" for n in range(len(shapes))] if len(shapes) > 1 else ["x"]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    ports = [info(name, dtype, shape) for name, shape in zip(names, shapes, strict=True)]
    return made(nodes, ports, [info(f"{name}_out", dtype, shape) for name, shape in zip(names, shapes, strict=True)])


def lstm():
    rng = np.random.default_rng(0)
    weights = [from_array(rng.normal(size=s).astype("f"), n) for n, s in (("W", (1, 32, 6)), ("R", (1, 32, 8)))]
    node = helper.make_node("LSTM", ["x", "W", "R", "", "", "h", "c"], ["y", "hn", "cn"], hidden_size=8)
    state = [info(name, FLOAT, [1, "batch", 8]) for name in ("h", "c", "hn", "cn")]
    ports = [info("x", FLOAT, ["seq", "batch", 6]), *state[:2]]
    return made([node], ports, [info("y", FLOAT, ["seq", 1, "batch", 8]), *state[2:]], weights)


def gather(rows=1):
    """Ids of which only 0 is one, where `rows` is 1."""
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    table = from_array(np.ones((rows, 3), "f"), "table")
    return made([node], [info("ids", INT64, ["batch", 5])], [info("y", FLOAT, ["batch", 5, 3])], [table])


def wrong_rank():
    """An output whose declared rank is wrong: the runtime refuses to write to it a second time where it is bound."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Mul", ["s", "z"], ["t"]),
        helper.make_node("Cast", ["t"], ["a"], to=INT64),
        helper.make_node("Squeeze", ["x", "a"], ["y"]),
    ]
    zero = [from_array(np.zeros(1, "f"), "z")]
    return made(nodes, [info("x", FLOAT, [1, "points", 4])], [info("y", FLOAT, ["points"])], zero)


def fed(data, batch=1, shapes=None, dims=None, inputs=None):
    return calls_for(open_session(data), batch, 0, wanted_of(shapes, dims, inputs))


# --- shapes --------------------------------------------------------------------------------------------------------


def test_a_symbol_is_one_dimension_over_all_inputs_wherever_it_stands():
    (feeds,) = fed(lstm(), batch=4, dims={"seq": 5})
    assert {name: a.shape for name, a in feeds.items()} == {"x": (5, 4, 6), "h": (1, 4, 8), "c": (1, 4, 8)}
    assert batch_of(open_session(lstm()), feeds) == 4
    (feeds,) = fed(lstm(), shapes={"x": (7, 3, 6)})
    assert feeds["h"].shape == (1, 3, 8)


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        (["batch", "sequence"], r"leaves 'sequence' .* --dim sequence=128 or --shape x=1,128"),
        (["seq", 4], r"--dim seq=128 or --shape x=128,4"),
        (["batch", 3, None, None], r"leaves dimension 2 and dimension 3 .* as in --shape x=1,3,128,128"),
        ([1, "n", 4], r"leaves 'n' "),  # no batch: it stands behind another first dimension
        (None, r"does not say what shape its input 'x' has: say it, as in --shape x="),
    ],
)
def test_a_dimension_that_nothing_binds_is_asked_for(shape, cure):
    with pytest.raises(UsageError, match=cure):
        fed(identity(shape))


@pytest.mark.parametrize(
    "shape",
    [["batch", 3], ["batch_size", 3], ["N", 3], [None, 3], ["unk__12", 3], ["s77", 3], ["p2o.DynamicDimension.0", 3]],
)
def test_a_first_dimension_that_is_a_batch_is_the_batch_asked_for(shape):
    (feeds,) = fed(identity(shape), batch=4)
    assert feeds["x"].shape == (4, 3)


def test_a_question_mark_is_no_name():
    (feeds,) = fed(identity([None, 3, "?", "?"]), shapes={"x": (1, 3, 20, 30)})
    assert feeds["x"].shape == (1, 3, 20, 30)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"shapes": {"x": (2, 3, 4)}}, r"input 'x' is \[batch, 8\], not \[2, 3, 4\]"),
        ({"shapes": {"x": (2, 9)}}, r"input 'x' is \[batch, 8\], not \[2, 9\]"),
        ({"shapes": {"x": (2, 8)}, "dims": {"batch": 3}}, r"batch is 3 and 2"),
    ],
)
def test_a_shape_that_is_not_the_models_is_refused(said, sentence):
    with pytest.raises(UsageError, match=sentence):
        fed(identity(["batch", 8]), **said)


def test_a_name_that_no_model_has_is_said_with_the_nearest(tmp_path):
    (tmp_path / "m.onnx").write_bytes(lstm())
    with pytest.raises(UsageError, match=r"no model here has .* 'sek'; did you mean 'seq'\?"):
        compare(tmp_path / "m.onnx", dims={"seq": 2, "sek": 3}, seconds=0.5)


@pytest.mark.parametrize("text", ["x", "=1,2", "x=", "x=1,b", "x=-1,3"])
def test_a_shape_that_is_none_is_a_usage_error(text):
    if text == "x=":
        assert parse_shapes([text]) == {"x": ()}  # a scalar
        return
    with pytest.raises(UsageError, match=r"--shape takes an input and its sizes"):
        parse_shapes([text])


def test_inputs_with_an_equals_sign_or_a_colon_can_be_named():
    assert parse_shapes(["serving_default:0=1,2", "a=b=3"]) == {"serving_default:0": (1, 2), "a=b": (3,)}
    assert parse_dims(["seq=4"]) == {"seq": 4}
    with pytest.raises(UsageError, match=r"--dim takes the name"):
        parse_dims(["seq=four"])


# --- values --------------------------------------------------------------------------------------------------------


def test_rows_of_a_file_are_calls_of_the_batch(tmp_path):
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    np.savez(tmp_path / "v.npz", x=rows)
    calls = fed(identity(["batch", 2]), batch=4, inputs=tmp_path / "v.npz")
    assert [call["x"].tolist() for call in calls] == [rows[:4].tolist(), rows[4:8].tolist()]
    (one,) = fed(identity(["batch", 2]), batch=16, inputs=tmp_path / "v.npz")
    np.testing.assert_array_equal(one["x"], rows[np.arange(16) % 10])
    fixed = fed(identity([5, 2]), inputs={"x": rows})
    assert [call["x"].shape for call in fixed] == [(5, 2), (5, 2)]
    assert len(fed(identity(["batch", 2]), inputs={"x": np.zeros((1000, 2), "f")})) == MOST_CALLS


def test_one_dimension_more_is_a_stack_of_calls_and_what_is_not_given_is_seeded():
    stack = np.zeros((3, 5, 1, 6), np.float32)
    calls = fed(lstm(), inputs={"x": stack})
    assert len(calls) == 3 and calls[0]["x"].shape == (5, 1, 6) and calls[0]["h"].shape == (1, 1, 8)
    np.testing.assert_array_equal(calls[0]["h"], calls[2]["h"])


def test_calls_of_their_own_lengths_come_from_a_list(tmp_path):
    (tmp_path / "v.json").write_text(json.dumps([{"x": [[1, 2]]}, {"x": [[1, 2, 3]]}]))
    calls = fed(identity(["batch", "length"]), inputs=tmp_path / "v.json")
    assert [call["x"].shape for call in calls] == [(1, 2), (1, 3)] and calls[0]["x"].dtype == np.float32
    (tmp_path / "m.onnx").write_bytes(identity(["batch", "length"]))
    found = compare(tmp_path / "m.onnx", inputs=tmp_path / "v.json", seconds=0.5)
    assert found.record["settings"]["inputs"].endswith("v.json, 2 calls in turn")


def test_texts_and_scalars_and_sequences_are_fed(tmp_path):
    (call,) = fed(identity(["batch"], dtype=STRING), inputs={"x": ["a b", "c"]}, batch=2)
    assert call["x"].tolist() == ["a b", "c"]
    (tmp_path / "text.onnx").write_bytes(identity(["batch"], dtype=STRING))
    assert measure(tmp_path / "text.onnx", inputs={"x": ["a b"]}, seconds=0.5).latency["median_ms"] > 0
    (call,) = fed(identity([]), inputs={"x": 3})
    assert call["x"].shape == ()
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    node = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)
    (tmp_path / "seq.onnx").write_bytes(made([node], [sequence], [info("y", FLOAT, ["m"])]))
    with pytest.raises(ModelError, match=r"--inputs FILE\.json"):
        measure(tmp_path / "seq.onnx", seconds=0.5)
    assert measure(tmp_path / "seq.onnx", inputs={"s": [[1.0, 2.0], [3.0]]}, seconds=0.5).latency["median_ms"] > 0


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([[["a"]]], r"input 'x' is float32, and what inputs gives does not fit"),
        ([1.0], r"\[batch, 2\], and inputs gives one of shape \[1\]"),
        (np.zeros((0, 2), "f"), r"gives no sample for input 'x': its shape is \[0, 2\]"),
    ],
)
def test_values_that_do_not_fit_are_refused(value, sentence):
    with pytest.raises(DataError, match=sentence):
        fed(identity(["batch", 2]), inputs={"x": value})


def test_floats_are_no_ids_and_unequal_numbers_of_calls_are_none():
    with pytest.raises(DataError, match=r"is int64, and what inputs gives does not fit"):
        fed(gather(), inputs={"ids": [[0.5] * 5]})
    with pytest.raises(DataError, match=r"unequally many calls: x0 3, x1 2"):
        fed(identity(["batch", 2], ["batch", 2]), inputs={"x0": np.zeros((3, 2), "f"), "x1": np.zeros((2, 2), "f")})
    with pytest.raises(DataError, match=r"holds one array, and the model takes x0, x1"):
        fed(identity(["batch", 2], ["batch", 2]), inputs={"": np.zeros((3, 2), "f")})


@pytest.mark.parametrize("name", ["v.npz", "v.npy", "v.json", "v.txt", "gone.npz", "list.json"])
def test_a_file_that_cannot_be_read_is_said(tmp_path, name):
    (tmp_path / "list.json").write_text("[1, 2]")
    if name.startswith("v."):
        (tmp_path / name).write_bytes(b"no inputs")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_values(tmp_path / name)


def test_objects_in_a_file_are_not_loaded(tmp_path):
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"Python objects, which are not loaded"):
        read_values(tmp_path / "v.npy")


def test_values_travel_to_another_process_as_they_are(tmp_path):
    calls = [{"file": np.arange(3.0), "names": ["a", "b"], "n": 3}, {"file": np.ones((2, 2), "i1")}]
    calls.append(
        {"texts": np.array(["a", "bcd"], dtype=object), "list": [np.zeros(2), np.ones(1)], "one": np.float32(2)}
    )
    data, places = write_values(calls)
    (tmp_path / "v.npz").write_bytes(data)
    back = stored_calls(tmp_path / "v.npz", json.loads(json.dumps(places)))
    assert back[0]["names"] == ["a", "b"] and back[0]["n"] == 3 and back[1]["file"].dtype == np.int8
    np.testing.assert_array_equal(back[0]["file"], calls[0]["file"])
    assert back[2]["texts"].tolist() == ["a", "bcd"] and [len(v) for v in back[2]["list"]] == [2, 1]
    assert back[2]["one"] == 2 and back[2]["one"].shape == ()


# --- how a model can be run ----------------------------------------------------------------------------------------


def ran(data, seeded=("ids", "x")):
    session = open_session(data)
    return first_call(session, lambda zeros: calls_for(session, 1, 0, Wanted(dims={"points": 3}), zeros=zeros), seeded)


def test_ids_that_are_none_of_the_models_are_zeros_then(tmp_path):
    found = ran(gather())
    assert found.zeros and not found.feeds[0]["ids"].any() and "measured with 0" in found.said[0]
    assert not ran(gather(rows=2)).zeros
    (tmp_path / "m.onnx").write_bytes(gather())
    (result,) = compare(tmp_path / "m.onnx", seconds=0.5).results
    assert any("measured with 0" in warning for warning in result["warnings"])
    with pytest.raises(ModelError, match=r"could not run on ids"):  # what was given is what is fed
        compare(tmp_path / "m.onnx", inputs={"ids": np.ones((1, 5), int)}, seconds=0.5)


def test_an_output_of_another_rank_than_the_file_says_is_not_bound(tmp_path):
    found = ran(wrong_rank())
    assert found.unbound and "measured by run()" in found.said[0]
    (tmp_path / "m.onnx").write_bytes(wrong_rank())
    (result,) = compare(tmp_path / "m.onnx", dims={"points": 3}, seconds=0.5).results
    assert result["latency"]["median_ms"] > 0 and any("measured by run()" in w for w in result["warnings"])


def test_minus_infinity_on_purpose_is_measured_and_said(tmp_path):
    mask = from_array(np.array([0, 0, -np.inf, -np.inf], "f"), "m")
    node = helper.make_node("Add", ["x", "m"], ["y"])
    masked = made([node], [info("x", FLOAT, ["n", 4])], [info("y", FLOAT, ["n", 4])], [mask])
    for name, data, words in (("mask", masked, "2 -inf"), ("nan", nan_onnx(), "NaN")):
        (tmp_path / f"{name}.onnx").write_bytes(data)
        (result,) = compare(tmp_path / f"{name}.onnx", seconds=0.5).results
        assert any(words in warning for warning in result["warnings"])


# --- what the file says --------------------------------------------------------------------------------------------


def test_an_input_without_a_shape_is_told_from_a_scalar():
    assert inputs_without_shape(identity(None)) == {"x"}
    assert inputs_without_shape(identity([])) == inputs_without_shape(b"no model") == frozenset()
    session = open_session(identity(None))
    assert session.without_shape == {"x"} and calls_for(session, 1, 0, Wanted({"x": (2, 3)}))[0]["x"].shape == (2, 3)


@pytest.fixture
def outside(tmp_path):
    """A model whose weights lie in files beside it: of a Constant node, and in the body of an If."""
    rng = np.random.default_rng(0)

    def constant(name):
        return helper.make_node(
            "Constant", [], [name], value=from_array(rng.normal(size=(64, 64)).astype("f"), "value")
        )

    def branch(name):
        return helper.make_graph([constant(name)], name, [], [info(name, FLOAT, [64, 64])])

    nodes = [
        constant("w"),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["yes"], to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["v"], then_branch=branch("a"), else_branch=branch("b")),
        helper.make_node("MatMul", ["x", "w"], ["t"]),
        helper.make_node("MatMul", ["t", "v"], ["y"]),
    ]
    model = onnx.load_from_string(made(nodes, [info("x", FLOAT, ["n", 64])], [info("y", FLOAT, ["n", 64])]))
    (tmp_path / "big").mkdir()
    path = tmp_path / "big" / "outside.onnx"
    onnx.save(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, location="outside.data",
        size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    return path


def test_weights_in_files_beside_the_model_are_counted_and_packed(outside, tmp_path):
    beside = outside.parent / "outside.data"
    assert external_files(outside) == (beside,)
    (result,) = compare(outside, seconds=0.5).results
    assert result["sizes"]["bytes"] == outside.stat().st_size + beside.stat().st_size
    packed = pack([outside], tmp_path / "b.pyz")
    assert read_bundle(packed.path).models["outside"]["bytes"] >= beside.stat().st_size
    beside.write_bytes(b"cut off")
    with pytest.raises(ArtifactError, match=r"weights in files beside it"):
        open_session(outside)


def test_only_a_damaged_file_is_called_damaged(tmp_path):
    with pytest.raises(ArtifactError, match=r"not a complete ONNX model"):
        open_session(identity(["n"])[:20])
    node = helper.make_node("Add", ["x", "gone"], ["y"])
    with pytest.raises(ModelError, match=r"cannot load: .*gone") as caught:
        open_session(made([node], [info("x", FLOAT, ["n"])], [info("y", FLOAT, ["n"])]))
    assert caught.value.exit_code == 4 and "damaged" not in str(caught.value)


# --- bundles -------------------------------------------------------------------------------------------------------


def test_a_bundle_carries_shapes_and_values_and_is_tried_before(tmp_path):
    from evaluate.bundle.device import main

    (tmp_path / "m.onnx").write_bytes(lstm())
    with pytest.raises(UsageError, match=r"leaves 'seq'"):
        pack([tmp_path / "m.onnx"], tmp_path / "b.pyz")
    np.savez(tmp_path / "h.npz", h=np.zeros((1, 4, 8), "f"))
    packed = pack([tmp_path / "m.onnx"], tmp_path / "b.pyz", dims={"seq": 5}, inputs=tmp_path / "h.npz")
    out = tmp_path / "device.json"
    assert main(["--out", str(out), "--seconds", "0.5", "--batch", "4", "--quiet"], packed.path) == 0
    shapes = {i["name"]: i["shape"] for i in json.loads(out.read_text())["results"][0]["inputs"]}
    assert shapes == {"x": [5, 4, 6], "h": [1, 4, 8], "c": [1, 4, 8]}


def test_ids_as_the_runtime_wants_them_stay_what_they_are():
    (feeds,) = fed(cast_onnx(INT64, ["batch", 2]), inputs={"x": [[7, 9]]})
    assert feeds["x"].dtype == np.int64 and feeds["x"].tolist() == [[7, 9]]
