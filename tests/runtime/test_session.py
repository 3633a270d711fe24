"""Sessions: what they run on is what was asked for, and files that are no models are named as such."""

from __future__ import annotations

import gc
import json
import sys
import types
import weakref

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tiny_onnx import cast_onnx, linear_onnx, model_bytes

from evaluate.core.errors import ArtifactError, ModelError, NoRuntimeError, UsageError
from evaluate.runtime.session import Port, open_session, output_addresses

X = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)


def write(folder, data, name="model.onnx"):
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_file_and_its_bytes_give_the_same_outputs(tmp_path):
    data = linear_onnx()
    outputs = [s.run({"x": X})[0] for s in (open_session(write(tmp_path, data)), open_session(data))]
    np.testing.assert_array_equal(*outputs)
    assert outputs[0].shape == (3, 10)


def test_the_ports_are_told():
    session = open_session(linear_onnx())
    assert session.inputs == (Port("x", ("batch", 12), "float32"),)
    assert [p.name for p in session.outputs] == ["y"] and session.provider == "cpu"
    assert open_session(cast_onnx(TensorProto.UINT8, [1, 3])).inputs[0] == Port("x", (1, 3), "uint8")
    assert open_session(cast_onnx(TensorProto.STRING, ["n"])).inputs[0].dtype == "tensor(string)"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_given_and_do_not_spin(threads):
    options = open_session(linear_onnx(), threads=threads)._native.get_session_options()
    assert options.intra_op_num_threads == threads and options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_optimisation_can_be_turned_off():
    level = onnxruntime.GraphOptimizationLevel
    data = linear_onnx(depth=3)
    plain, optimised = open_session(data, optimize=False), open_session(data)
    assert plain._native.get_session_options().graph_optimization_level == level.ORT_DISABLE_ALL
    assert optimised._native.get_session_options().graph_optimization_level == level.ORT_ENABLE_ALL
    np.testing.assert_allclose(plain.run({"x": X})[0], optimised.run({"x": X})[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("io", ["device", "host"])
def test_a_bound_call_runs_again_and_again_after_all_else_is_forgotten(io):
    call = open_session(linear_onnx(), io=io).bind({"x": X.copy()})
    gc.collect()
    for _ in range(50):
        call()


def test_bound_outputs_are_those_of_run_and_stay_where_they_are():
    session = open_session(linear_onnx(depth=2))
    call = session.bind({"x": X})
    first, addresses = session.fetch()[0], output_addresses(session._binding)
    np.testing.assert_array_equal(first, session.run({"x": X})[0])
    call()
    assert output_addresses(session._binding) == addresses
    session.bind({"x": 2 * X})()
    np.testing.assert_array_equal(first, session.run({"x": X})[0])  # a copy: later runs leave it alone
    np.testing.assert_array_equal(session.fetch()[0], session.run({"x": 2 * X})[0])


def test_host_io_takes_numpy_and_gives_new_arrays_at_every_call():
    session = open_session(linear_onnx(), io="host")
    call = session.bind({"x": X})
    one, two = call(), call()
    np.testing.assert_array_equal(one[0], session.run({"x": X})[0])
    assert isinstance(one[0], np.ndarray) and not np.shares_memory(one[0], two[0])


def test_a_call_can_be_had_without_running_it():
    session = open_session(linear_onnx())
    wrong = {"x": X[:, :5]}
    call = session.bind(wrong, try_once=False)
    with pytest.raises(ModelError, match=r"x \[3, 5\] float32.*takes x \[batch, 12\]"), session.explained(wrong):
        call()


@pytest.mark.parametrize("io", ["device", "host"])
def test_nothing_is_left_of_a_model_that_was_closed(io):
    arrays = {"x": X.copy()}
    gc.disable()  # what only the collector frees, would still be there when the next model is measured
    try:
        session = open_session(linear_onnx(), io=io)
        call = session.bind(arrays)
        native, kept = weakref.ref(session._native), weakref.ref(arrays["x"])
        session.close()
        session.close()
        call()
        del call, arrays
        assert native() is None and kept() is None
    finally:
        gc.enable()


def test_a_closed_session_says_so():
    with open_session(linear_onnx()) as session:
        session.run({"x": X})
    for use in (lambda: session.run({"x": X}), lambda: session.bind({"x": X}), session.fetch, session.end_profile):
        with pytest.raises(UsageError, match="is closed"):
            use()


def test_only_what_is_bound_to_a_device_can_be_fetched():
    session = open_session(linear_onnx(), io="host")
    session.bind({"x": X})
    with pytest.raises(UsageError, match="nothing is bound"):
        session.fetch()


def test_half_precision_goes_in_and_out():
    session = open_session(cast_onnx(TensorProto.FLOAT16, ["n"]))
    x = np.arange(4, dtype=np.float16)
    session.bind({"x": x})
    np.testing.assert_array_equal(session.fetch()[0], x)


def test_the_runtimes_profile_is_written_where_it_was_asked_for(tmp_path):
    session = open_session(linear_onnx(), profile=tmp_path / "new" / "mlp")
    session.bind({"x": X})()
    file = session.end_profile()
    assert file.parent == tmp_path / "new" and file.name.startswith("mlp")
    assert any(event["name"].endswith("kernel_time") for event in json.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("io", ["device", "host"])
def test_an_input_without_dimensions_stays_one(io):
    with open_session(cast_onnx(TensorProto.INT64, []), io=io) as session:
        (found,) = session.run({"x": np.array(3)})
        assert (found.shape, float(found)) == ((), 3.0)
        session.bind({"x": np.array(3)})()


def test_inputs_may_lie_in_memory_in_any_order():
    session = open_session(linear_onnx())
    flipped = np.asfortranarray(X)
    np.testing.assert_array_equal(session.run({"x": flipped})[0], session.run({"x": X})[0])
    session.bind({"x": flipped})()


@pytest.mark.parametrize("verb", ["run", "bind"])
@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"x": X[:, :5]}, r"x \[3, 5\] float32.*takes x \[batch, 12\] float32"),
        ({"x": X.astype(np.float64)}, r"float64.*takes x \[batch, 12\] float32"),
        ({"x": X[None]}, r"\[1, 3, 12\].*rank"),
        ({"X1": X}, r"no input 'X1'.*takes x"),
        ({}, r"given no x"),
    ],
)
def test_inputs_that_do_not_fit_are_shown_beside_what_fits(verb, feeds, words):
    with pytest.raises(ModelError, match=words) as caught:
        getattr(open_session(linear_onnx()), verb)(feeds)
    assert caught.value.exit_code == 4


def test_every_truncation_is_one_clear_problem():
    data = linear_onnx(features=4, classes=3)
    for length in range(len(data)):
        with pytest.raises(ArtifactError, match=r"ONNX model") as caught:
            open_session(data[:length])
        assert "\n" not in str(caught.value) and "/onnxruntime_src" not in str(caught.value)


def test_a_flipped_byte_never_escapes_as_the_runtimes_own_error():
    data = linear_onnx(features=4, classes=3)
    refused = 0
    for i in range(len(data)):
        try:
            open_session(data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :])
        except (ArtifactError, ModelError):
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x00" * 100, "not a complete ONNX model"),
        (b"<html>404</html>", "not a complete ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a complete ONNX model"),
        (np.random.default_rng(0).bytes(5000), "not a complete ONNX model"),
    ],
)
def test_files_that_are_no_models_are_named(tmp_path, data, words):
    path = write(tmp_path, data)
    with pytest.raises(ArtifactError, match=words) as caught:
        open_session(path)
    assert str(path) in str(caught.value) and caught.value.exit_code == 7


def test_a_missing_file_is_named_with_the_nearest(tmp_path):
    write(tmp_path, linear_onnx(), "resnet20.onnx")
    with pytest.raises(ArtifactError, match=r"no file .*did you mean 'resnet20.onnx'"):
        open_session(tmp_path / "resnet2O.onnx")
    with pytest.raises(ArtifactError, match=r"no file"):
        open_session(tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(ArtifactError, match=r"is a folder"):
        open_session(tmp_path)


@pytest.mark.parametrize(("opset", "ir"), [(999, 10), (20, 999)])
def test_a_model_of_the_future_asks_for_an_update(opset, ir):
    node = helper.make_node("Relu", ["x"], ["y"])
    ports = [("x", TensorProto.FLOAT, [1])], [("y", TensorProto.FLOAT, [1])]
    with pytest.raises(ArtifactError, match=r"newer runtime.*999.*Update onnxruntime"):
        open_session(model_bytes([node], *ports, opset=opset, ir=ir))


@pytest.mark.parametrize(("op", "dtype"), [("Nonsense", TensorProto.FLOAT), ("Relu", TensorProto.BFLOAT16)])
def test_an_operator_without_a_kernel_is_a_problem_of_the_model(op, dtype):
    node = helper.make_node(op, ["x"], ["y"])
    with pytest.raises(ModelError, match=f"needs an operator .*{op}"):
        open_session(model_bytes([node], [("x", dtype, [1])], [("y", dtype, [1])]))


def test_the_runtime_prints_nothing(capfd):
    open_session(linear_onnx(unused=True)).run({"x": X})  # an unused weight is something the runtime warns of
    for broken in (b"garbage", linear_onnx()[:50]):
        with pytest.raises(ArtifactError):
            open_session(broken)
    with pytest.raises(ModelError):
        open_session(linear_onnx()).run({"x": X[:, :5]})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": "cudo"}, "did you mean 'cuda'"),
        ({"threads": 0}, "got 0"),
        ({"io": "hots"}, "did you mean 'host'"),
        ({"graphs": True}, "CUDA graphs need provider cuda or tensorrt, got cpu"),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(UsageError, match=words) as caught:
        open_session(linear_onnx(), **options)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("module", "words"), [(None, r"cannot be imported.*leanfit\[cpu\]"), (types.ModuleType("onnxruntime"), "damaged")]
)
def test_an_absent_or_half_removed_runtime_is_named(monkeypatch, module, words):
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    with pytest.raises(NoRuntimeError, match=words) as caught:
        open_session(b"anything")
    assert caught.value.exit_code == 8
