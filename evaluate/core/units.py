"""The one table of units: how amounts of each are written, read, shown, measured and judged.

Recipes, goals, targets, tables and laws ask it. A unit of your own is one decorated function, in any file:

    @register_unit("flash", factors=BYTES, example='"256kB"', goal="Flash that it fills: 0.5, or '256kB'.", show=size)
    def flash(deployed):
        \"\"\"Bytes of flash, in blocks of 4 kB.\"\"\"
        return -(-len(deployed.data) // 4096) * 4096

A recipe then asks for `goals: {flash: 256kB}`, or for `mypkg:flash` where nothing else imports the module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, TypeVar

from evaluate.core.components import Component, Registry
from evaluate.core.errors import UsageError
from evaluate.core.text import clean, count, duration, finite, size

F = TypeVar("F", bound=Callable[[Any], float])

COUNTS = {"k": 1e3, "m": 1e6, "g": 1e9}
BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
LONG_TIMES = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
JOULES = {"j": 1.0, "mj": 1e-3, "uj": 1e-6}
NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_WRITTEN = re.compile(rf"\s*({NUMBER})\s*([A-Za-zµ%]*)\s*", re.ASCII)


def split_amount(text: str) -> tuple[float, str] | None:
    """`"1.5 MB"` as (1.5, "MB"): an unsigned number and what follows it; None where it is no such text."""
    match = _WRITTEN.fullmatch(text)
    return (float(match[1]), match[2]) if match else None


def parse_number(text: str, factors: Mapping[str, float], *, any_case: bool = False) -> float | None:
    """The number of a text with one of the suffixes in `factors`, in its base; None where it is no such text."""
    parts = split_amount(text)
    if parts is None:
        return None
    factor = factors.get(parts[1].lower() if any_case else parts[1])
    return None if factor is None or not math.isfinite(parts[0] * factor) else parts[0] * factor


def digits(value: Any) -> str:
    """A plain number of three digits."""
    return f"{value:.3g}" if finite(value) else "-"


def joules(value: Any) -> str:
    """An energy given in joules: `4.1 mJ`."""
    if not finite(value):
        return "-"
    scale, unit = next((u for u in ((1, "J"), (1e-3, "mJ"), (1e-6, "uJ")) if value >= u[0]), (1e-6, "uJ"))
    return f"{value / scale:.3g} {unit}"


def _size(name: str, record: Mapping[str, Any], relative: bool) -> tuple[float, float, float]:
    """A size of the compressed model, exact; a ratio of the baseline's where `relative`."""
    value = record["compressed"]["sizes"][name] / (record["baseline"]["sizes"][name] if relative else 1)
    return value, value, value


def _seconds(name: str, record: Mapping[str, Any], relative: bool) -> tuple[float, float, float]:
    """The latency with its interval; its ratio comes from the paired comparison."""
    if relative:
        speedup = record["speedup"]
        return 1 / speedup["value"], 1 / speedup["high"], 1 / speedup["low"]
    milliseconds = record["compressed"]["latency"]
    return milliseconds["median_ms"] / 1e3, milliseconds["low"] / 1e3, milliseconds["high"] / 1e3


@dataclass(frozen=True)
class Unit:
    """A unit of size or cost; less is better in all of them.

    name    : the key in recipes and Records; `module:name` for one of the user's own.
    label   : what tables call it.
    factors : the suffixes an absolute amount may have (lower case), each with what one of it is in the unit's base.
    example : absolute amounts as messages show them; empty where only a ratio can be asked for.
    goal    : the description of a goal in it; empty where a recipe cannot set one.
    show    : an amount as tables show it.
    measure : what a deployed model takes, for a unit that a Record does not have anyhow.
    spread  : by how much of itself an exact figure may differ on another machine.
    judged  : (name, record, relative) -> value, low and high in a Record, as a ratio of the baseline where `relative`.
    """

    name: str
    label: str = ""
    factors: Mapping[str, float] = field(default_factory=dict)
    example: str = ""
    goal: str = ""
    show: Callable[[Any], str] = count
    measure: Callable[[Any], float] | None = None
    judged: Callable[[str, Mapping[str, Any], bool], tuple[float, float, float]] = _size
    spread: float = 0.0

    @property
    def is_size(self) -> bool:
        """Whether it is exact, as sizes are; what is measured has an interval."""
        return self.judged is _size


_BUILT_IN = {
    "Unique parameters; tied weights are counted once.": Unit(
        "params", "params", COUNTS, '"300k" or "1.5M" params', 'Parameters: 0.5, or "300k".'
    ),
    "Parameters that are not exactly zero.": Unit(
        "nonzero", "nonzero", COUNTS, '"300k" or "1.5M" params', 'Parameters that are not zero: 0.5, or "300k".'
    ),
    "Multiply-adds of one sample; one multiply-add is one MAC.": Unit(
        "macs", "MACs", COUNTS, '"1.5M" or "2G" MACs', 'Multiply-adds of one sample: 0.5, or "1.5M".'
    ),
    "Size of the deployed file.": Unit(
        "bytes", "bytes", BYTES, '"2MB", "300kB" or "64KiB"', 'Size of model.onnx: 0.35, or "2MB", "64KiB".', size
    ),
    "Size of the deployed file after zlib level 9.": Unit(
        "packed_bytes",
        "packed bytes",
        BYTES,
        '"2MB", "300kB" or "64KiB"',
        "The same after zlib level 9: 0.35.",
        size,
        spread=0.05,
    ),
    "Average stored bits per weight.": Unit(
        "bits", "bits", {"bits": 1.0}, '"8bits"', 'Average stored bits per weight: 0.3, or "8bits".', digits
    ),
    "Median time of one call.": Unit(
        "latency",
        "latency",
        SECONDS,
        '"5ms" or "200us"',
        'Latency of one call: 0.65, or "5ms", "200us".',
        lambda seconds: duration(1e3 * seconds) if finite(seconds) else "-",
        judged=_seconds,
    ),
    "Energy of one call, where the machine has a meter.": Unit("energy", "energy", JOULES, show=joules),
    "Memory of a process that runs the model.": Unit("memory", "memory", BYTES, show=size),
}

UNITS: Registry[Any] = Registry("unit", error=UsageError)
for _summary, _unit in _BUILT_IN.items():
    UNITS.register(_unit.name, summary=_summary, unit=_unit)(_unit)


def register_unit(name: str, **facts: Any) -> Callable[[F], F]:
    """Register a function from what was deployed (module, example, graph, data) to a number; `facts` as in `Unit`."""

    def decorate(measure: F) -> F:
        unit = Unit(name, **{"label": name, "measure": measure, **facts})
        return UNITS.register(name, unit=unit)(measure)

    return decorate


def unit_named(name: str) -> Unit:
    """The unit of a name, or of `module:name`. Raises UsageError, with the nearest name."""
    return _unit_of(UNITS.get(name))


def known_units() -> dict[str, Unit]:
    """The units that are registered so far by the name that Records have for them, in the order of tables."""
    return {component.address: _unit_of(component) for component in UNITS.registered().values()}


def _unit_of(component: Component[Any]) -> Unit:
    unit: Unit = component.facts["unit"]
    return replace(unit, name=component.address)


def show_amount(name: str, value: Any) -> str:
    """An amount as the unit of that name in a Record shows it; a plain number where the unit is not known here."""
    unit = known_units().get(name)
    return (unit.show if unit else digits)(value)


def size_labels(*sizes: Mapping[str, Any]) -> dict[str, str]:
    """Name -> label of the units in these blocks of sizes, in the order of tables; a name stands for an unknown one."""
    units = known_units()
    numbers = [name for block in sizes for name in block if finite(block[name])]
    labels = {name: unit.label for name, unit in units.items() if name in numbers}
    return labels | {name: clean(name, 40) for name in numbers if name not in units}
