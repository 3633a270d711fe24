"""Amounts: ratios and absolute figures with units, and back to what was written."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compress.core.amounts import (
    Amount,
    AmountOf,
    BytesAmount,
    LatencyAmount,
    MacsAmount,
    ParamsAmount,
    parse_amount,
)
from compress.core.config import Config


class Sizes(Config):
    params: ParamsAmount | None = None
    macs: MacsAmount | None = None
    bytes: BytesAmount | None = None
    latency: LatencyAmount | None = None
    share: Annotated[Amount, AmountOf("ratio")] | None = None


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("300k", "params", 300e3),
        ("1.5M", "macs", 1.5e6),
        ("2G", "macs", 2e9),
        ("2MB", "bytes", 2e6),
        ("300kB", "bytes", 300e3),
        ("64KiB", "bytes", 65536),
        ("1 MiB", "bytes", 2**20),
        ("17B", "bytes", 17),
        ("5ms", "latency", 0.005),
        ("200us", "latency", 200e-6),
        (".5s", "latency", 0.5),
    ],
)
def test_absolute(text, unit, value):
    amount = parse_amount(text, unit)
    assert amount.value == pytest.approx(value)
    assert not amount.relative
    assert amount.resolve(123.0) == amount.value


@given(st.floats(min_value=1e-6, max_value=1), st.floats(min_value=0, max_value=1e12))
def test_a_plain_number_is_a_ratio(ratio, baseline):
    amount = parse_amount(ratio, "bytes")
    assert amount.relative
    assert amount.resolve(baseline) == ratio * baseline


@pytest.mark.parametrize("unit", ["params", "macs", "bytes", "latency", "ratio"])
@pytest.mark.parametrize("value", [0, -0.5, 1.0001, 300000, True, False, None, [], {}, float("nan"), "", "x", "-3MB"])
def test_refused(value, unit):
    with pytest.raises(ValueError, match="expected a ratio of the baseline") as caught:
        parse_amount(value, unit)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "unit", "hint"),
    [
        ("2M", "bytes", "'2MB'"),
        ("50%", "macs", "write 0.5"),
        ("0.5", "params", "without quotes"),
        ("0MB", "bytes", "zero"),
    ],
)
def test_the_usual_slips_get_a_remedy(text, unit, hint):
    with pytest.raises(ValueError, match=hint):
        parse_amount(text, unit)


def test_a_ratio_takes_no_unit():
    with pytest.raises(ValidationError, match="above 0 and up to 1; got '2MB'"):
        Sizes(share="2MB")


def test_it_shows_what_was_written():
    sizes = Sizes(params="300k", macs=1, bytes="64KiB", latency=0.65)
    assert sizes.model_dump(exclude_none=True) == {"params": "300k", "macs": 1, "bytes": "64KiB", "latency": 0.65}
    assert Sizes.model_validate_json(sizes.model_dump_json()) == sizes
    assert str(sizes.bytes) == "64KiB"


def test_equal_amounts_are_equal_however_they_are_written():
    assert parse_amount("1000k", "params") == parse_amount("1M", "params")
    assert parse_amount(1, "params") != Amount(1.0, False, "1")


@pytest.mark.parametrize("field", ["params", "macs", "bytes", "latency", "share"])
def test_the_json_schema_says_what_is_allowed(field):
    schema = json.dumps(Sizes.model_json_schema()["properties"][field])
    assert '"exclusiveMinimum": 0' in schema
    assert ("pattern" in schema) == (field != "share")
