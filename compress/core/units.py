"""Amounts a recipe asks for: a ratio of the baseline (`0.5`), or an absolute figure with its unit (`"2MB"`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Unit = Literal["params", "macs", "bytes", "latency", "ratio"]

_COUNTS = {"k": 1e3, "m": 1e6, "g": 1e9}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_FACTORS: dict[str, dict[str, float]] = {
    "params": _COUNTS,
    "macs": _COUNTS,
    "bytes": _BYTES,
    "latency": _SECONDS,
    "ratio": {},
}
_EXAMPLES = {
    "params": '"300k" or "1.5M" params',
    "macs": '"1.5M" or "2G" MACs',
    "bytes": '"2MB", "300kB" or "64KiB"',
    "latency": '"5ms" or "200us"',
    "ratio": "",
}
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_WRITTEN = re.compile(rf"\s*({_NUMBER})\s*([A-Za-zµ%]*)\s*")


@dataclass(frozen=True)
class Amount:
    """A target size or cost.

    value    : a ratio in (0, 1] where `relative`, else the absolute figure: params, MACs, bytes, or seconds of latency.
    relative : whether `value` is a ratio of the baseline.
    written  : what the user wrote; it is what a recipe shows again. Not part of the comparison.
    """

    value: float
    relative: bool
    written: float | int | str = field(default="", compare=False)

    def resolve(self, baseline: float) -> float:
        """The absolute figure, in the unit of `baseline` (params, MACs, bytes or seconds)."""
        return self.value * baseline if self.relative else self.value

    def __str__(self) -> str:
        return str(self.written)


def parse_amount(value: Any, unit: Unit) -> Amount:
    """Read an amount: a plain number is a ratio in (0, 1], a string is absolute and carries its unit.

    Latency is held in seconds. Raises ValueError, saying what was expected and what was got.
    """
    if isinstance(value, Amount):
        return value
    if isinstance(value, str):
        return _absolute(value, unit)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_expected(unit)}; got {value!r}")
    if not 0 < value <= 1:  # also refuses nan
        raise ValueError(f"{_expected(unit)}; got {value!r}")
    return Amount(float(value), True, value)


def _absolute(text: str, unit: Unit) -> Amount:
    match = _WRITTEN.fullmatch(text)
    factors = _FACTORS[unit]
    if match is None or match[2].lower() not in factors:
        raise ValueError(f"{_expected(unit)}; got {text!r}{_hint(match, unit)}")
    number = float(match[1]) * factors[match[2].lower()]
    if number <= 0 or not math.isfinite(number):
        raise ValueError(f"{_expected(unit)}; got {text!r}, which is not above zero")
    return Amount(number, False, text.strip())


def _hint(match: re.Match[str] | None, unit: Unit) -> str:
    """The likeliest remedy, for the slips people make with units."""
    if match is None:
        return ""
    number, suffix = match[1], match[2]
    if suffix == "%" and 0 < float(number) <= 100:
        return f"; write {float(number) / 100:g} for {text_of(number)} per cent"
    if suffix == "" and 0 < float(number) <= 1:
        return f"; write {number} without quotes"
    if unit == "bytes" and suffix.lower() in _COUNTS:
        return f"; did you mean '{number}{suffix}B'?"
    return ""


def text_of(number: str) -> str:
    """A number without a needless fraction: `50.0` as `50`."""
    return f"{float(number):g}"


def _expected(unit: Unit) -> str:
    ratio = "expected a ratio of the baseline, a number above 0 and up to 1"
    return ratio if unit == "ratio" else f"{ratio}, or an absolute amount such as {_EXAMPLES[unit]}"


@dataclass(frozen=True)
class AmountOf:
    """The pydantic annotation of an `Amount` in one unit; it serialises back to what the user wrote."""

    unit: Unit

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(lambda amount: amount.written)
        return core_schema.no_info_plain_validator_function(self._validate, serialization=written)

    def _validate(self, value: Any) -> Amount:
        try:
            return parse_amount(value, self.unit)
        except ValueError as error:
            raise PydanticCustomError("amount", "{reason}", {"reason": str(error)}) from None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        ratio = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
        if self.unit == "ratio":
            return ratio
        units = "|".join("".join(f"[{c.upper()}{c}]" if c.isascii() else c for c in u) for u in _FACTORS[self.unit])
        return {"anyOf": [ratio, {"type": "string", "pattern": rf"^\s*({_NUMBER})\s*({units})\s*$"}]}


ParamsAmount = Annotated[Amount, AmountOf("params")]
MacsAmount = Annotated[Amount, AmountOf("macs")]
BytesAmount = Annotated[Amount, AmountOf("bytes")]
LatencyAmount = Annotated[Amount, AmountOf("latency")]
RatioAmount = Annotated[Amount, AmountOf("ratio")]
