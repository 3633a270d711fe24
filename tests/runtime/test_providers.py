"""Sessions on a GPU: what is asked of the runtime, when data moves, and what its faults are called.

The machine that runs the tests has no GPU: a stand-in keeps the diary. Tests marked `gpu` ask the real one.
"""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fake_runtime import CPU, CUDA, TENSORRT, FakeGpu
from onnx import TensorProto, helper
from tiny_onnx import cast_onnx, linear_onnx, model_bytes

from evaluate.core.errors import ArtifactError, ModelError, NoRuntimeError, UsageError
from evaluate.runtime import providers
from evaluate.runtime import session as sessions
from evaluate.runtime.session import open_session, require_provider

X = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
STATE = onnxruntime.capi.onnxruntime_pybind11_state
CUDA_CALL = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:122 std::conditional_t<THRW, void, Status> "
    "onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError; bool THRW = true] {} ; GPU=-1 ; "
    "hostname=c4327188 ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=336 ;"
)


@pytest.fixture
def gpu(monkeypatch):
    fake = FakeGpu()
    monkeypatch.setattr(sessions, "load_runtime", lambda: fake.runtime)
    return fake


def expected(x=X):
    return open_session(linear_onnx()).run({"x": x})[0]


def identity(batch="n"):
    return model_bytes(
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.FLOAT16, [batch, 2])],
        [("y", TensorProto.FLOAT16, None)],
    )


# What moves when


def test_device_io_moves_inputs_before_and_nothing_in_the_call(gpu):
    call = open_session(linear_onnx(), provider="cuda").bind({"x": X}, try_once=False)
    assert gpu.diary == ["to device", "sync inputs"]
    gpu.diary.clear()
    call()
    assert gpu.diary == ["run", "sync outputs"]


def test_host_io_hands_over_host_memory_at_every_call(gpu):
    call = open_session(linear_onnx(), provider="cuda", io="host").bind({"x": X}, try_once=False)
    assert gpu.diary == []
    assert call()[0].shape == (3, 10)
    assert gpu.diary == ["run from host"]


def test_a_graph_is_recorded_when_bound_and_replayed_after(gpu):
    session = open_session(linear_onnx(), provider="cuda", graphs=True)
    assert gpu.asked == [(CUDA, {"enable_cuda_graph": True})]
    session.bind({"x": X})
    assert gpu.diary == ["to device", "sync inputs", *sessions.GRAPH_RUNS * ["run", "sync outputs"]]


def test_a_graph_with_transfers_copies_into_the_memory_it_reads_from(gpu):
    session = open_session(linear_onnx(), provider="cuda", graphs=True, io="host")
    x = X.copy()
    call = session.bind({"x": x}, try_once=False)
    gpu.diary.clear()
    np.testing.assert_array_equal(call()[0], expected_on(gpu, x))
    assert gpu.diary == ["to device", "sync inputs", "run", "to host"]
    x *= 2
    np.testing.assert_array_equal(call()[0], expected_on(gpu, x))


def expected_on(gpu, x):
    return onnxruntime.InferenceSession(linear_onnx(), providers=[CPU]).run(None, {"x": x})[0]


def test_a_graph_holds_one_set_of_inputs(gpu):
    session = open_session(linear_onnx(), provider="cuda", graphs=True)
    session.bind({"x": X})
    with pytest.raises(UsageError, match="open it again"):
        session.bind({"x": X})
    with pytest.raises(UsageError, match="replay only what was bound"):
        session.run({"x": X})
    np.testing.assert_array_equal(session.fetch()[0], expected_on(gpu, X))


def test_outputs_that_move_are_no_graph(gpu):
    gpu.moves = True
    with pytest.raises(ModelError, match="move in memory"):
        open_session(linear_onnx(), provider="cuda", graphs=True).bind({"x": X})
    open_session(linear_onnx(), provider="cuda").bind({"x": X})


@pytest.mark.parametrize("options", [{}, {"io": "host"}, {"graphs": True}, {"graphs": True, "io": "host"}])
def test_nothing_is_left_of_a_model_that_was_closed(gpu, options):
    gc.disable()
    try:
        with open_session(linear_onnx(), provider="cuda", **options) as session:
            call = session.bind({"x": X})
            native = weakref.ref(session._native)
        call()
        del call
        assert native() is None
    finally:
        gc.enable()


# What is asked for


def test_cuda_is_asked_for_alone_and_by_its_defaults(gpu):
    open_session(linear_onnx(), provider="cuda")
    assert gpu.asked == [(CUDA, {})]


def test_tensorrt_leaves_to_cuda_what_it_cannot_run(gpu):
    open_session(linear_onnx(batch=4), provider="tensorrt", graphs=True)
    assert [name for name, _ in gpu.asked] == [TENSORRT, CUDA]
    asked = gpu.asked[0][1]
    assert asked["trt_cuda_graph_enable"] is True
    assert asked["trt_fp16_enable"] is False and asked["trt_int8_enable"] is False


def test_tensorrt_computes_in_the_precision_of_the_file(gpu):
    open_session(identity(), provider="tensorrt")
    assert gpu.asked[0][1]["trt_fp16_enable"] is True
    node = helper.make_node("QuantizeLinear", ["x", "scale"], ["y"])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    ports = [("x", TensorProto.FLOAT, [4])], [("y", TensorProto.UINT8, [4])]
    open_session(model_bytes([node], *ports, [scale]), provider="tensorrt")
    assert gpu.asked[0][1]["trt_int8_enable"] is True and gpu.asked[0][1]["trt_fp16_enable"] is False


def engine_folder(gpu, model):
    open_session(model, provider="tensorrt")
    asked = gpu.asked[0][1]
    assert asked.get("trt_engine_cache_enable", False) is ("trt_engine_cache_path" in asked)
    return asked.get("trt_engine_cache_path")


def test_an_engine_is_kept_for_the_very_same_weights_only(gpu, tmp_path):
    """The runtime names engines by the graph: two trainings of one architecture would share theirs."""
    one, other = linear_onnx(batch=4), linear_onnx(batch=4, seed=1)
    first = engine_folder(gpu, one)
    assert Path(first).is_dir() and engine_folder(gpu, one) == first != engine_folder(gpu, other)
    here, there = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path in (here, there):
        path.write_bytes(one)  # large weights lie beside the file, and may differ
    assert len({first, engine_folder(gpu, here), engine_folder(gpu, there)}) == 3


def test_an_engine_for_a_free_batch_is_not_kept(gpu):
    assert engine_folder(gpu, linear_onnx()) is None


def test_a_damaged_file_is_named_on_tensorrt_as_well(gpu):
    with pytest.raises(ArtifactError, match="not a complete ONNX model"):
        open_session(b"garbage", provider="tensorrt")


# What does not run where it should


def test_a_silent_fall_back_to_the_cpu_is_an_error(gpu, capsys):
    gpu.runs_on = [CPU]
    with pytest.raises(NoRuntimeError, match=r"ran on CPUExecutionProvider instead.*libraries are missing.*cudnn"):
        open_session(linear_onnx(), provider="cuda")
    gpu.says = "Failed to load libcudnn.so.9: no such file\nPlease follow the guide"
    with pytest.raises(NoRuntimeError, match=r"libcudnn\.so\.9: no such file\); run: .*or use provider cpu") as caught:
        open_session(linear_onnx(), provider="cuda")
    assert caught.value.exit_code == 8 and "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_tensorrt_that_falls_back_to_cuda_is_an_error_too(gpu):
    gpu.runs_on = [CUDA, CPU]
    with pytest.raises(NoRuntimeError, match=r"'tensorrt' was asked for.*ran on CUDAExecutionProvider instead"):
        open_session(linear_onnx(), provider="tensorrt")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.skipif(len(onnxruntime.get_available_providers()) > 2, reason="this runtime has more than the CPU")
def test_a_provider_that_the_runtime_lacks_is_refused(provider):
    for ask in (lambda: open_session(linear_onnx(), provider=provider), lambda: require_provider(provider)):
        with pytest.raises(NoRuntimeError, match=r"this onnxruntime has only CPU;.*leanfit\[gpu\]") as caught:
            ask()
        assert caught.value.exit_code == 8


def test_cuda_may_show_only_after_its_libraries_were_found(gpu):
    """As where the wheel brings CUDA as a plugin, which needs CUDA's libraries to be listed."""
    there = [CPU]
    gpu.runtime.get_available_providers = lambda: there
    gpu.runtime.preload_dlls = lambda: there.insert(0, CUDA)
    assert open_session(linear_onnx(), provider="cuda").provider == "cuda"
    there[:], gpu.runtime.preload_dlls = [CPU], lambda: print("Failed to load libcublas.so.13: not found")
    with pytest.raises(NoRuntimeError, match=r"has only CPU \(Failed to load libcublas.so.13: not found\)"):
        open_session(linear_onnx(), provider="cuda")


def test_two_distributions_of_the_runtime_are_the_first_suspects(monkeypatch):
    both = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0"}
    monkeypatch.setattr(providers, "onnxruntime_distributions", lambda: both)
    monkeypatch.setattr(providers, "onnxruntime_conflict", lambda: "both are installed; run: pip uninstall both")
    assert "first of all, both are installed" in providers.refused("cuda", "why")
    monkeypatch.setattr(providers, "onnxruntime_distributions", dict)  # built from source: none is known
    assert "both" not in providers.refused("cuda", "why")


def test_nodes_on_the_cpu_are_said(gpu):
    gpu.placed = [(CUDA, "Conv", "Relu", "Conv"), (CPU, "Shape"), (CPU, "NonMaxSuppression", "Shape")]
    (said,) = open_session(linear_onnx(), provider="cuda").warnings
    assert "3 of 6 nodes run on CPU, not on cuda (Shape 2, NonMaxSuppression 1)" in said


def test_nodes_that_tensorrt_left_to_cuda_are_said(gpu):
    gpu.placed = [(TENSORRT, "Conv"), (CUDA, "Einsum")]
    (said,) = open_session(linear_onnx(), provider="tensorrt").warnings
    assert "1 of 2 nodes run on CUDA, not on tensorrt (Einsum 1)" in said


@pytest.mark.parametrize("placed", [None, [], [(CUDA, "Conv")]])
def test_nothing_is_said_where_all_is_well_or_nothing_is_known(gpu, placed):
    gpu.placed = placed
    assert open_session(linear_onnx(), provider="cuda").warnings == ()


def test_a_runtime_that_cannot_tell_where_nodes_are_is_no_fault():
    plain = onnxruntime.InferenceSession(linear_onnx(), providers=[CPU])  # opened without the record
    assert providers.misplaced(plain, "cuda", "it") == []


def test_a_model_that_runs_elsewhere_altogether_is_refused(gpu):
    gpu.placed = [(CPU, "QLinearConv", "QLinearConv")]
    with pytest.raises(ModelError, match=r"all of its 2 nodes \(QLinearConv 2\) run on CPU.*no kernels"):
        open_session(linear_onnx(), provider="cuda")


def test_the_real_runtime_tells_where_its_nodes_are():
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    native = onnxruntime.InferenceSession(linear_onnx(depth=2), options, providers=[CPU])
    assert providers.misplaced(native, "cpu", "it") == []
    if hasattr(native, "get_provider_graph_assignment_info"):
        with pytest.raises(ModelError, match=r"all of its 3 nodes \(MatMul 2, Relu 1\) run on CPU"):
            providers.misplaced(native, "cuda", "it")


# What its faults are called


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (CUDA_CALL.format("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"),
         NoRuntimeError, r"driver is too old.*CUDA failure 35.*update the NVIDIA driver"),
        (CUDA_CALL.format("CUDA failure 100: no CUDA-capable device is detected"),
         NoRuntimeError, r"CUDA sees no GPU.*nvidia-smi"),
        (CUDA_CALL.format("CUDA failure 2: out of memory"), ModelError, r"GPU's memory.*smaller batch"),
        ("Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared "
         "object file: No such file or directory", NoRuntimeError, r"libcublasLt.so.13.*onnxruntime-gpu\[cuda,cudnn\]"),
        ("[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature as requested by the user "
         "as the model has control flow nodes", ModelError, r"CUDA graph on cuda: it has control flow.*without CUDA"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("error", [STATE.Fail, STATE.RuntimeException, RuntimeError])
def test_what_the_gpu_lacks_is_named_with_the_next_step(gpu, error, text, kind, words):
    gpu.fails_to_load = error(text)
    with pytest.raises(kind, match=words) as caught:
        open_session(linear_onnx(), provider="cuda")
    assert "onnxruntime_src" not in str(caught.value) and "c4327188" not in str(caught.value)


def test_too_large_a_batch_is_named_with_its_shape(gpu):
    gpu.fails_to_run = STATE.RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'c' "
        "Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::"
        "AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 939524096"
    )
    with pytest.raises(ModelError, match=r"GPU's memory on x \[3, 12\] float32; take a smaller batch") as caught:
        open_session(linear_onnx(), provider="cuda").bind({"x": X})
    assert caught.value.exit_code == 4


# The real one

cuda = pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="no CUDA in this runtime")
tensorrt = pytest.mark.skipif(TENSORRT not in onnxruntime.get_available_providers(), reason="no TensorRT")
SETTINGS = [{}, {"io": "host"}, {"graphs": True}, {"graphs": True, "io": "host"}]


def outputs(session, options, feeds):
    call = session.bind(feeds)
    given = call()
    return given[0] if options.get("io") == "host" else session.fetch()[0]


@pytest.mark.gpu
@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("provider", [pytest.param("cuda", marks=cuda), pytest.param("tensorrt", marks=tensorrt)])
def test_a_gpu_gives_what_the_cpu_gives(provider, options):
    data = linear_onnx(depth=3, batch=3)
    with open_session(data, provider=provider, **options) as session:
        np.testing.assert_allclose(outputs(session, options, {"x": X}), expected_deep(), rtol=1e-2, atol=1e-2)
        assert session.warnings == ()


def expected_deep():
    return open_session(linear_onnx(depth=3, batch=3)).run({"x": X})[0]


@pytest.mark.gpu
@cuda
def test_a_replayed_graph_follows_its_inputs():
    x = X.copy()
    call = open_session(linear_onnx(), provider="cuda", graphs=True, io="host").bind({"x": x})
    one = call()[0]
    x *= -3
    two = call()[0]
    np.testing.assert_allclose(two, -3 * one, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@cuda
def test_half_precision_runs_on_the_gpu():
    session = open_session(cast_onnx(TensorProto.FLOAT16, ["n"]), provider="cuda")
    session.bind({"x": np.arange(4, dtype=np.float16)})
    np.testing.assert_array_equal(session.fetch()[0], np.arange(4))


@pytest.mark.gpu
@cuda
def test_more_than_the_gpu_holds_is_one_clear_problem():
    size = helper.make_tensor("size", TensorProto.INT64, [1], [2**36])
    node = helper.make_node("Expand", ["x", "size"], ["y"])
    data = model_bytes([node], [("x", TensorProto.FLOAT, [1])], [("y", TensorProto.FLOAT, None)], [size])
    with pytest.raises(ModelError, match="GPU's memory"):
        open_session(data, provider="cuda").bind({"x": np.zeros(1, np.float32)})
