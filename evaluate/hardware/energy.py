"""Energy in joules from the counters that processors and GPUs keep themselves; nothing is guessed from power ratings.

A counter belongs to a whole package or board: what the machine takes when idle, and what other processes use, is in it.
One short difference means little: RAPL moves every millisecond, NVML some ten times a second. Sums of many differences,
taken at no fixed beat, or differences over seconds do, on a quiet machine.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluate.core.execution_providers import provider_named
from evaluate.hardware.gpu import load_nvml
from evaluate.hardware.sysfs import ROOT, integer, text

_RAPL = "sys/class/powercap"
_ALLOW = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next boot; a udev rule makes it last)"


class Meter:
    """An energy counter. `source` says what is counted; where nothing is, it is None and `why` says why not."""

    def __init__(self, count: Callable[[], float] | None, source: str | None, why: str | None = None) -> None:
        self.source = source
        self.why = why
        self._count = count

    def read(self) -> float | None:
        """Joules since some moment, never falling; None where nothing is counted, or no longer (then see `why`)."""
        if self._count is None:
            return None
        try:
            return self._count()
        except _Lost as lost:
            self._count, self.source, self.why = None, None, str(lost)
            return None


def open_meter(provider: str = "cpu", root: Path = ROOT) -> Meter:
    """The meter of what a provider runs on: the processor's packages on the host, else the first GPU in use.

    host : RAPL (Intel's manual, volume 3, "Power and Thermal Management"; AMD has the same), as Linux shows it under
           /sys/class/powercap. Its counter starts again after 65 to 260 kJ: read it at least once a minute.
    else : NVML's nvmlDeviceGetTotalEnergyConsumption, for GPUs since Volta.

    Never raises: a machine without a counter gives a meter that reads None and says why.
    """
    return _rapl(root) if provider_named(provider).on_host else _nvml()


class _Lost(Exception):
    """A counter that could be read before cannot be read now."""


class _Domain:
    """One RAPL counter, its wraps undone."""

    def __init__(self, folder: Path) -> None:
        self.name = text(folder / "name") or folder.name
        self._path = folder / "energy_uj"
        self._range = integer(folder / "max_energy_range_uj")
        self._last = self._microjoules()
        self._total = 0

    def joules(self) -> float:
        now = self._microjoules()
        if now < self._last:  # it went through its highest value, and on from zero
            if self._range is None:
                raise _Lost(f"{self._path} started again from zero, and its range is not shown")
            self._last -= self._range
        self._total += now - self._last
        self._last = now
        return self._total / 1e6

    def _microjoules(self) -> int:
        try:
            return int(self._path.read_bytes())
        except (OSError, ValueError) as error:
            raise _Lost(f"{self._path} can no longer be read: {error}") from error


def _rapl(root: Path) -> Meter:
    if platform.system() != "Linux":
        return Meter(None, None, f"energy of the processor is read on Linux only, and this is {platform.system()}")
    # Only whole packages: their parts (core, uncore) are inside them, and psys counts them once more.
    zones = sorted((root / _RAPL).glob("intel-rapl:*"))
    packages = [zone for zone in zones if (text(zone / "name") or "").startswith("package")]
    if not packages:
        return Meter(None, None, _no_counter(root))
    denied = [zone for zone in packages if not _readable(zone / "energy_uj")]
    if denied:
        return Meter(None, None, _denied(denied[0] / "energy_uj"))
    try:
        domains = [_Domain(zone) for zone in packages]
    except _Lost as lost:
        return Meter(None, None, str(lost))
    names = ", ".join(domain.name for domain in domains)
    source = f"RAPL {names}: the whole processor package, idle power and other processes included"
    return Meter(lambda: sum(domain.joules() for domain in domains), source)


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except PermissionError:
        return False
    except OSError:
        return True  # a fault of another kind, which the first reading names
    return True


def _denied(path: Path) -> str:
    return (
        f"{path} may be read by root only, as on most systems since 2020 (CVE-2020-8694); next: run this as root, or "
        f"{_ALLOW}"
    )


def _no_counter(root: Path) -> str:
    if (root / "etc/nv_tegra_release").exists():
        return (
            "a Jetson has no energy counter, only sensors of momentary power, and energy is not guessed from those; "
            "measure at the power supply"
        )
    if platform.machine().startswith(("arm", "aarch")):
        return "ARM processors have no energy counter that Linux can read (RAPL); measure at the power supply"
    return (
        f"there is no energy counter (RAPL) under {root / _RAPL}: virtual machines have none, containers hide it; on "
        "a machine of your own, try: sudo modprobe intel_rapl_msr"
    )


def _nvml() -> Meter:
    nvml, why = load_nvml()
    if nvml is None:
        return Meter(None, None, why)
    try:
        handle = _first_gpu(nvml)
        name = nvml.nvmlDeviceGetName(handle)
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (nvml.NVMLError, ValueError) as error:
        return Meter(None, None, f"this GPU's energy counter cannot be read: {error}")

    def joules() -> float:
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except nvml.NVMLError as error:
            raise _Lost(f"the GPU's energy counter can no longer be read: {error}") from error

    shown = name.decode() if isinstance(name, bytes) else str(name)
    return Meter(joules, f"NVML {shown}: the whole board, idle power and other processes included")


def _first_gpu(nvml: Any) -> Any:
    """The handle of what CUDA calls device 0, which CUDA_VISIBLE_DEVICES may move.

    CUDA numbers GPUs from the fastest on and NVML by their place on the bus: the same only for GPUs of one kind.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.isdigit():
        if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and _kinds(nvml) > 1:
            raise ValueError(
                "which of several kinds of GPU CUDA takes first is not known; set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            )
        return nvml.nvmlDeviceGetHandleByIndex(int(first))
    if first.startswith("GPU-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    raise ValueError(f"CUDA_VISIBLE_DEVICES is {first!r}, and energy is counted for whole GPUs only")


def _kinds(nvml: Any) -> int:
    """How many models of GPU are here."""
    every = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    return len({nvml.nvmlDeviceGetName(handle) for handle in every})
