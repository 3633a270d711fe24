"""Runtimes of their own beside ONNX Runtime: one network as .onnx and .tflite, exported by Keras (docs/onnx.md)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from evaluate.benchmark.compare import compare
from evaluate.benchmark.model_inputs import calls_for
from evaluate.core.errors import ModelError, NoRuntimeError, UsageError
from evaluate.core.execution_providers import PROVIDERS, provider_of, register_runtime
from evaluate.runtime.session import open_session

TWINS = Path(__file__).parents[1] / "fixtures" / "onnx"
ONNX, TFLITE = TWINS / "twin.onnx", TWINS / "twin.tflite"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
needs_openvino = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is not installed")
needs_litert = pytest.mark.skipif(
    not importlib.util.find_spec("ai_edge_litert"), reason="ai-edge-litert is not installed"
)
RUNTIMES = [
    pytest.param("openvino", ONNX, marks=needs_openvino),
    pytest.param("litert", TFLITE, marks=needs_litert),
]


@needs_openvino
@needs_litert
def test_one_table_of_three_runtimes_says_that_they_agree():
    found = compare([ONNX, f"{ONNX}@openvino", TFLITE], seconds=2.0)
    assert [result["latency"]["provider"] for result in found.results] == ["cpu", "openvino", "litert"]
    assert all(result["speedup"]["value"] > 0 for result in found.results[1:])
    for result in found.results[1:]:
        said = " ".join(result["warnings"])
        assert "gives what twin gives on the same inputs within" in said and "the same model?" not in said
        assert f"by {'openvino' if result['latency']['provider'] == 'openvino' else 'ai-edge-litert'} " in said


@pytest.mark.parametrize(("provider", "file"), RUNTIMES)
def test_outputs_are_those_of_onnxruntime_and_stay_what_they_are(provider, file):
    reference, session = open_session(ONNX), open_session(file, provider=provider, threads=1)
    rng = np.random.default_rng(0)
    for batch in (1, 5, 2):
        x = rng.normal(size=(batch, 8, 8, 1)).astype(np.float32)
        (wanted,) = reference.run({reference.inputs[0].name: x})
        (got,) = session.run({session.inputs[0].name: x})
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        before = got.copy()
        session.run({session.inputs[0].name: x + 1})
        np.testing.assert_array_equal(got, before)
    (feeds,) = calls_for(session, 3, 0)
    assert next(iter(feeds.values())).shape == (3, 8, 8, 1)  # the free dimension is the batch
    session.bind(feeds)()


@pytest.mark.parametrize(("provider", "file"), RUNTIMES)
def test_what_it_cannot_open_or_run_is_one_sentence(provider, file, tmp_path):
    broken = tmp_path / f"broken{file.suffix}"
    broken.write_bytes(file.read_bytes()[:100])
    with pytest.raises(Exception, match=r"broken") as caught:
        open_session(broken, provider=provider)
    assert isinstance(caught.value, ModelError)
    session = open_session(file, provider=provider)
    with pytest.raises(ModelError, match=rf"{provider} says"):
        session.bind({session.inputs[0].name: np.zeros((1, 2, 2, 1), np.float32)})()


def test_a_runtime_that_is_not_there_says_how_to_get_it(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))
    with pytest.raises(NoRuntimeError, match=r'openvino is not installed; run: pip install "leanfit\[openvino\]"'):
        open_session(ONNX, provider="openvino")


def test_a_file_that_one_runtime_alone_reads_goes_to_it():
    assert provider_of(".tflite", "cpu") == provider_of(".TFLITE", "cpu") == "litert"
    assert provider_of(".onnx", "cpu") == "cpu" and provider_of("", "cuda") == "cuda"
    with pytest.raises(UsageError, match=r"CUDA graphs need provider cuda or tensorrt, got litert"):
        open_session(TFLITE, provider="litert", graphs=True)


def test_a_runtime_of_ones_own_is_one_function():
    class Doubling:
        said = "by a test"

        def get_inputs(self):
            return [type("Port", (), {"name": "x", "shape": ["batch", 2], "type": "tensor(float)"})]

        get_outputs = get_inputs

        def run(self, names, feeds):
            return [2 * feeds["x"]]

        def bound(self, feeds):
            return lambda: self.run(None, feeds)

    @register_runtime("doubling", package="numpy", install="")
    def doubling(source, threads):
        return Doubling()

    try:
        session = open_session(ONNX, provider="doubling")
        assert session.run({"x": np.ones((3, 2), np.float32)})[0].tolist() == [[2, 2]] * 3
        assert session.warnings == (f"{ONNX}: by a test",)
    finally:
        PROVIDERS.forget("doubling")
