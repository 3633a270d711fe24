"""Amounts a recipe asks for: a ratio of the baseline (`0.5`), or an absolute figure with its unit (`"2MB"`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from evaluate.core.errors import quoted
from evaluate.core.units import COUNTS, NUMBER, Unit, parse_number, split_amount, unit_named

RATIO = Unit("ratio")


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


def parse_amount(value: Any, unit: str | Unit) -> Amount:
    """Read an amount: a plain number is a ratio in (0, 1], a string is absolute and carries its unit.

    Latency is held in seconds. Raises ValueError, saying what was expected and what was got.
    """
    unit = _unit(unit)
    if isinstance(value, Amount):
        return value
    if isinstance(value, str):
        return _absolute(value, unit)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:  # also refuses nan
        raise ValueError(f"{_expected(unit)}; got {quoted(value)}")
    return Amount(float(value), True, value)


def _unit(unit: str | Unit) -> Unit:
    return unit if isinstance(unit, Unit) else RATIO if unit == RATIO.name else unit_named(unit)


def _absolute(text: str, unit: Unit) -> Amount:
    number = parse_number(text, unit.factors, any_case=True)
    if number is None:
        raise ValueError(f"{_expected(unit)}; got {quoted(text)}{_hint(text, unit)}")
    if number <= 0:
        raise ValueError(f"{_expected(unit)}; got {quoted(text)}, which is not above zero")
    return Amount(number, False, text.strip())


def _hint(text: str, unit: Unit) -> str:
    """The likeliest remedy, for the slips people make with units."""
    number, suffix = split_amount(text) or (0.0, "")
    if suffix == "%" and 0 < number <= 100:
        return f"; write {number / 100:g} for {number:g} per cent"
    if suffix == "" and 0 < number <= 1:
        return f"; write {text.strip()} without quotes"
    if f"{suffix}b".lower() in unit.factors and suffix.lower() in COUNTS:
        return f"; did you mean '{number:g}{suffix}B'?"
    return ""


def _expected(unit: Unit) -> str:
    ratio = "expected a ratio of the baseline, a number above 0 and up to 1"
    return f"{ratio}, or an absolute amount such as {unit.example}" if unit.factors else ratio


@dataclass(frozen=True)
class AmountOf:
    """The pydantic annotation of an `Amount` in one unit; it serialises back to what the user wrote."""

    unit: str

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
        factors = _unit(self.unit).factors
        if not factors:
            return ratio
        suffixes = "|".join("".join(f"[{c.upper()}{c}]" if c.isascii() else c for c in unit) for unit in factors)
        return {"anyOf": [ratio, {"type": "string", "pattern": rf"^\s*({NUMBER})\s*({suffixes})\s*$"}]}


ParamsAmount = Annotated[Amount, AmountOf("params")]
MacsAmount = Annotated[Amount, AmountOf("macs")]
BytesAmount = Annotated[Amount, AmountOf("bytes")]
LatencyAmount = Annotated[Amount, AmountOf("latency")]
