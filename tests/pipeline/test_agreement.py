"""Does a device compute what the machine that packed computed? The figures, and the sentence made of them."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_onnx import linear_onnx

from evaluate.core.bench_parts import Agreement
from evaluate.core.blocks import as_block
from evaluate.core.errors import DataError, ModelError
from evaluate.metrics.samples import Samples, agreement, outputs_on
from evaluate.report.messages.run_messages import agreement_sentence
from evaluate.runtime.session import open_session

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(100, 10))


def test_equal_outputs_agree_in_all():
    assert agreement(LOGITS, LOGITS) == {"n": 100, "same": 100, "max_abs": 0.0, "sqnr_db": None}


def test_answers_that_differ_are_counted():
    other = LOGITS.copy()
    other[:7] = -other[:7]
    found = agreement(other, LOGITS)
    assert (found["n"], found["same"]) == (100, 93)
    assert found["max_abs"] == pytest.approx(2 * np.abs(LOGITS[:7]).max())


@pytest.mark.parametrize("decibels", [10, 29, 47, 100])
def test_the_power_of_what_differs_is_found_again(decibels):
    noise = RNG.normal(size=LOGITS.shape)
    noise *= np.sqrt(np.sum(LOGITS**2) / np.sum(noise**2) / 10 ** (decibels / 10))
    assert agreement(LOGITS + noise, LOGITS)["sqnr_db"] == pytest.approx(decibels, abs=1e-6)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 3, 4)])
def test_what_has_no_classes_has_no_answers_to_count(shape):
    assert agreement(np.ones(shape), np.ones(shape))["same"] is None


@pytest.mark.parametrize(("got", "wanted"), [((3, 2), (3, 3)), ((3, 2), (4, 2)), ((0, 2), (0, 2))])
def test_outputs_of_other_shapes_are_refused(got, wanted):
    with pytest.raises(DataError, match="cannot be compared"):
        agreement(np.ones(got), np.ones(wanted))


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="not finite"):
        agreement(np.full((3, 2), np.nan), np.ones((3, 2)))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 30])
def test_outputs_do_not_depend_on_the_batch(count):
    samples = Samples({"x": RNG.normal(size=(count, 12)).astype(np.float32)})
    wanted = outputs_on(open_session(linear_onnx()), samples, batch=count)
    for batch, model in ((3, linear_onnx()), (50, linear_onnx(batch=8)), (1, linear_onnx(batch=1))):
        found = outputs_on(open_session(model), samples, batch=batch)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def typed(known):
    return as_block(Agreement, known)


SAME = {"n": 200, "same": 200, "max_abs": 1e-6, "sqnr_db": 120.0}


@pytest.mark.parametrize(
    "known",
    [None, {}, SAME, {**SAME, "sqnr_db": None}, {**SAME, "same": 197}, {**SAME, "same": None, "sqnr_db": 47.0}],
)
def test_rounding_is_not_worth_a_word(known):
    assert agreement_sentence(typed(known), "avx2") == ""


def test_a_device_that_answers_otherwise_is_told_with_figures():
    text = agreement_sentence(typed({"n": 200, "same": 187, "max_abs": 2.314, "sqnr_db": 29.1}))
    assert "13 of 200 answers differ, the largest difference is 2.31, SQNR 29 dB" in text
    assert "reduce_range" not in text
    assert "SQNR 29 dB" in agreement_sentence(typed({**SAME, "sqnr_db": 29.1}))
    assert "13 of 200" in agreement_sentence(typed({"n": 200, "same": 187, "max_abs": 2.3}))


@pytest.mark.parametrize(("path", "saturates"), [("avx2", True), ("avx512", True), ("vnni", False), (None, False)])
def test_where_int8_can_saturate_that_is_said(path, saturates):
    text = agreement_sentence(typed({"n": 200, "same": 150, "max_abs": 2.0, "sqnr_db": 29.0}), path)
    assert ("quantize it with reduce_range" in text) is saturates
