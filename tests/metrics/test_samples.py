"""Packed samples: small, and bit for bit what they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluate.core.errors import ArtifactError, DataError
from evaluate.metrics.samples import Samples

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool")


def same(a, b):
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def image_samples(count=20, seed=0):
    """Images normalised by channel from bytes, as a task's are."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 3, 16, 16), np.uint8).astype(np.float32)
    scale, offset = rng.normal(size=(2, 1, 3, 1, 1)).astype(np.float32)
    return Samples({"image": pixels * scale + offset}, rng.integers(0, 10, count), "accuracy", tuple("abcdefghij"))


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    )
)
@settings(max_examples=150, deadline=None)
def test_every_array_comes_back_bit_for_bit(array):
    loaded = Samples.load(Samples({"x": array}, expected={"a": array}).save())
    assert same(loaded.inputs["x"], array)
    assert same(loaded.expected["a"], array)
    assert loaded.targets is None


def test_signed_zeros_and_every_nan_come_back():
    bits = np.array([0x80000000, 0, 0x7FC00000, 0x7FC00001, 0xFFC00000, 0x7F800000, 0x3F800000] * 60, np.uint32)
    array = bits.view(np.float32).reshape(20, 3, 7)
    assert Samples({"x": array}).save() != Samples({"x": np.abs(array)}).save()
    assert same(Samples.load(Samples({"x": array}).save()).inputs["x"], array)


@pytest.mark.parametrize("shape", [(50, 3, 16, 16), (50, 1, 8, 8), (200, 64)])
def test_what_was_made_of_bytes_takes_a_byte_an_element(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    array = pixels / 255 - np.arange(shape[1], dtype=np.float32).reshape(-1, *[1] * (len(shape) - 2)) * (len(shape) > 2)
    stored = Samples({"x": array}).save()
    assert len(stored) < array.size + 3 * 256 * 4 + 2000 < array.nbytes
    assert same(Samples.load(stored).inputs["x"], array)


def test_what_takes_many_values_is_stored_as_it_is():
    array = np.random.default_rng(0).normal(size=(20, 3, 16, 16)).astype(np.float32)
    assert array.nbytes < len(Samples({"x": array}).save()) < array.nbytes + 2000


def test_equal_samples_give_equal_bytes_and_other_ones_do_not():
    assert image_samples().save() == image_samples().save() != image_samples(seed=1).save()


def test_names_classes_and_order_are_kept():
    rows = np.zeros((3, 2), np.float32)
    given_ = Samples({"b/1": rows, "a": rows + 1}, np.arange(3), "accuracy", ("é", "x y"), {"m 2": rows, "m1": rows})
    loaded = Samples.load(given_.save())
    assert list(loaded.inputs) == ["b/1", "a"]
    assert list(loaded.expected) == ["m 2", "m1"]
    assert (loaded.metric, loaded.classes, loaded.targets.tolist()) == ("accuracy", ("é", "x y"), [0, 1, 2])


@pytest.mark.parametrize("size", [1, 3, 7, 10, 11])
def test_batches_hold_every_sample_once_and_in_order(size):
    samples = Samples({"x": np.arange(10), "y": -np.arange(10)})
    parts = list(samples.batches(size))
    assert np.concatenate([part["x"] for part in parts]).tolist() == list(range(10))
    assert all(len(part["x"]) == size for part in parts[:-1])
    assert all((part["x"] == -part["y"]).all() for part in parts)


def test_feeds_begin_anew_where_samples_are_few():
    samples = Samples({"x": np.arange(3)})
    assert samples.feeds(2)["x"].tolist() == [0, 1]
    assert samples.feeds(7)["x"].tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"inputs": {}}, "no samples"),
        ({"inputs": {"x": np.zeros((0, 3))}}, "no samples"),
        ({"inputs": {"x": np.array(1.0)}}, "no samples"),
        ({"inputs": {"x": np.zeros(3)}, "targets": np.zeros(4)}, "input 'x' 3, targets 4"),
        ({"inputs": {"x": np.zeros(3)}, "expected": {"m": np.zeros(2)}}, "expected output of 'm' 2"),
    ],
)
def test_samples_that_do_not_fit_together_are_refused(parts, said):
    with pytest.raises(DataError, match=said):
        Samples(**parts)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least 1"):
        next(Samples({"x": np.zeros(3)}).batches(0))


def test_damaged_samples_are_one_file_problem_or_the_same_samples():
    whole = image_samples(4).save()
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(0, 8)
        try:
            loaded = Samples.load(bytes(damaged))
        except ArtifactError:
            refused += 1
        else:  # a date or a right in the zip's directory
            assert same(loaded.inputs["image"], image_samples(4).inputs["image"])
    assert refused > 200


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_samples_is_one_file_problem(data, tmp_path):
    with pytest.raises(ArtifactError, match="pack them again"):
        Samples.load(data)
    (tmp_path / "samples.npz").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"samples\.npz"):
        Samples.load(tmp_path / "samples.npz")


def test_a_newer_schema_is_said(monkeypatch):
    stored = image_samples().save()
    monkeypatch.setattr("evaluate.metrics.samples.SCHEMA", 0)
    with pytest.raises(ArtifactError, match="schema 1"):
        Samples.load(stored)
