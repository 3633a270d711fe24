"""Saturation: the smallest batch that is shown to be as good as the best, and nothing where that cannot be said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate.load_test.saturation import saturation


def sweep(values, spread=0.001):
    return {2**i: (v, v * (1 - spread), v * (1 + spread)) for i, v in enumerate(values)}


@pytest.mark.parametrize(
    ("values", "spread", "expected"),
    [
        ([100, 190, 300, 305, 306], 0.001, 4),
        ([100, 200, 400, 800], 0.001, None),  # still rises
        ([100, 300, 200, 150], 0.001, 2),  # falls again: the best is the answer
        ([300, 299, 301], 0.001, 1),
        ([100, 300, 305, 306], 0.05, None),  # within 5 %, but the intervals do not show it
        ([100], 0.001, None),
        ([], 0.001, None),
    ],
)
def test_the_smallest_batch_that_is_enough(values, spread, expected):
    assert saturation(sweep(values, spread)) == expected


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=8), st.floats(0, 0.2), st.integers(-9, 9))
def test_the_answer_is_near_the_best_and_has_no_unit(values, spread, power):
    table = sweep(values, spread)
    found = saturation(table)
    if found is not None:
        assert found < max(table) and table[found][0] >= 0.95 * max(values) * (1 - 1e-12)
    scaled = {batch: tuple(2.0**power * x for x in row) for batch, row in table.items()}  # exact in binary
    assert saturation(scaled) == found


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=8))
def test_wider_intervals_never_find_a_smaller_batch(values):
    narrow, wide = saturation(sweep(values, 0.0)), saturation(sweep(values, 0.1))
    assert wide is None or (narrow is not None and narrow <= wide)


@pytest.mark.parametrize("row", [(1.0, 2.0, 3.0), (0.0, 0.0, 1.0), (float("nan"), 1.0, 2.0), (1.0, 0.5, float("inf"))])
def test_values_outside_their_intervals_are_refused(row):
    with pytest.raises(ValueError, match="batch 4"):
        saturation({4: row})


def test_a_tolerance_that_allows_everything_is_refused():
    with pytest.raises(ValueError, match="tolerance"):
        saturation({}, tolerance=1.0)
