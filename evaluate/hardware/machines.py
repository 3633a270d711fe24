"""Whether two environments are of one machine in one set-up: figures of different machines are not compared as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What makes another machine, by the words for it and its place in `evaluate.hardware.environment.environment()`.
_MACHINE = {
    "processor": "cpu.name",
    "architecture": "cpu.architecture",
    "number of cores": "cpu.cores",
    "GPU": "gpu.name",
    "int8 path": "int8_path",
}
# What makes the same machine run at another speed.
_SETUP = {
    "runtime": "versions",
    "build of the runtime": "onnxruntime_build",
    "providers": "providers",
    "usable cores": "cpu.usable_cores",
    "quota of cores": "cpu.quota_cores",
    "governor": "cpu.governor",
    "clock's driver": "cpu.clock_driver",
    "lowest clock (MHz)": "cpu.frequency_mhz.min",
    "highest clock (MHz)": "cpu.frequency_mhz.max",
    "turbo": "cpu.boost",
    "two threads a core": "cpu.smt",
    "huge pages": "transparent_hugepages",
    "container": "container",
    "GPU driver": "gpu.driver",
    "GPU power limit (W)": "gpu.power_limit_w",
    "GPU highest clock (MHz)": "gpu.sm_max_mhz",
    "GPU compute mode": "gpu.compute_mode",
    "GPU power mode": "gpu.power_mode",
    "MIG": "gpu.mig",
}

Environment = Mapping[str, Any]


def differences(a: Environment, b: Environment) -> list[str]:
    """What makes these two (as `environment()` gives them, also from older records) not one machine in one set-up.

    One sentence a difference, those of the machine first; [] where they are the same. A fact that one of them does not
    hold is passed over, except for the machine's id: without it nothing shows that they are one machine.
    """
    return _machine(a, b) + _different(a, b, _SETUP, "other set-up")


def same_machine(a: Environment, b: Environment) -> bool:
    """Whether both were taken on machines of the same kind; their set-up may differ."""
    return not _machine(a, b)


def _machine(a: Environment, b: Environment) -> list[str]:
    for name, one in (("first", a), ("second", b)):
        if not one.get("machine_id"):
            return [f"unknown machine: the {name} environment has no machine_id, so nothing shows that it is the same"]
    found = _different(a, b, _MACHINE, "different machines")
    if not found and a["machine_id"] != b["machine_id"]:
        found = [f"different machines: id {a['machine_id']} against {b['machine_id']}"]
    return found


def _different(a: Environment, b: Environment, facts: Mapping[str, str], what: str) -> list[str]:
    pairs = ((words, _fact(a, place), _fact(b, place)) for words, place in facts.items())
    return [f"{what}: {words} {x} against {y}" for words, x, y in pairs if None not in (x, y) and x != y]


def _fact(environment: Environment, place: str) -> str | None:
    """The fact at a place, as text; None where it is not known."""
    top, *rest = place.split(".")
    value = environment.get(top)
    if top == "gpu":
        return _of_gpus(value, rest[0])
    if top == "versions":
        return _runtime(value)
    for key in rest:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else _plain(value)


def _of_gpus(gpus: Any, key: str) -> str | None:
    """One fact of all GPUs, settings that they share being said once; "none" for the names of none."""
    if not isinstance(gpus, list):
        return None
    known = [gpu.get(key) for gpu in gpus]
    if None in known:
        return None
    if key == "name":
        return ", ".join(map(str, known)) or "none"
    return ", ".join(dict.fromkeys(map(_plain, known))) or None


def _runtime(versions: Any) -> str | None:
    """The installed distributions of onnxruntime, of all the versions."""
    if not isinstance(versions, Mapping):
        return None
    return ", ".join(f"{n} {v}" for n, v in sorted(versions.items()) if n.startswith(("onnxruntime", "ort-"))) or None


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
