"""What Linux shows of a processor under /proc and /sys: clocks, temperature, throttling, load.

Every reader takes the root folder, so that another machine can be laid out as files, and gives None for what is not
there. Names of files: Documentation/admin-guide/pm/cpufreq.rst, Documentation/hwmon/sysfs-interface.rst and
Documentation/driver-api/thermal/sysfs-api.rst of the Linux kernel.

What a container or a service may use: its share of the cores, its memory, and how often it was stopped.

Both versions of control groups, from inside a container and from outside. (Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/ of the Linux kernel.)
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
_CPU = "sys/devices/system/cpu"
# Sensors of the processor, the best first: hwmon drivers of Intel, AMD and ARM boards, then thermal zones by their type
# ("cpu-thermal" on a Raspberry Pi, "CPU-therm" or "cpu-thermal" on a Jetson); ACPI's zone is often a constant.
_HWMON = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_ZONES = (r"x86_pkg_temp", r"cpu.*", r"soc.*", r"acpitz")
# One mark of a run must stay cheap on a machine of hundreds of cores.
_MOST_COUNTERS = 32
_VIRTUAL = re.compile(r"amazon ec2|google|qemu|kvm|vmware|xen|innotek|parallels|openstack|digitalocean|hetzner", re.I)


def text(path: Path) -> str | None:
    """A file's text without the white space and zero bytes around it; None where it is empty or cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\x00 \n\t") or None
    except OSError:
        return None


def integer(path: Path) -> int | None:
    """A file's text as a whole number; None where it is none."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def cpuinfo(root: Path = ROOT) -> dict[str, str]:
    """The first value of every key of /proc/cpuinfo, keys in lower case; {} where there is none."""
    pairs: dict[str, str] = {}
    for line in (text(root / "proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            pairs.setdefault(key.strip().lower(), value.strip())
    return pairs


def load(root: Path = ROOT) -> list[float] | None:
    """Processes that ran or waited to run, averaged over 1, 5 and 15 minutes."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        shown = text(root / "proc/loadavg")
        if shown is not None:
            return [float(word) for word in shown.split()[:3]]
        return [round(x, 2) for x in os.getloadavg()] if root == ROOT else None
    return None


def governor(root: Path = ROOT) -> str | None:
    """What chooses the clock of the first core: `performance`, `schedutil`, `powersave` ..."""
    return text(root / _CPU / "cpu0/cpufreq/scaling_governor")


def clock_driver(root: Path = ROOT) -> str | None:
    """The kernel's driver of the clock: what a governor's name means depends on it."""
    return text(root / _CPU / "cpu0/cpufreq/scaling_driver")


def clocks(root: Path = ROOT) -> dict[str, float | None]:
    """Clocks in MHz: `now` of the fastest core, and the lowest and highest the settings allow (`min`, `max`)."""
    folders = list((root / _CPU).glob("cpu[0-9]*/cpufreq"))
    now = _most(folders, "scaling_cur_freq")
    return {
        "now": now if now is not None else _cpuinfo_mhz(root),
        "min": _most(folders, "scaling_min_freq", least=True),
        "max": _most(folders, "scaling_max_freq"),
    }


def clock_mhz(root: Path = ROOT, core: int = 0) -> float | None:
    """The clock of one core now, in MHz, where the kernel sets clocks (cpufreq)."""
    khz = integer(root / _CPU / f"cpu{core}/cpufreq/scaling_cur_freq")
    return None if khz is None else khz / 1000


def boost(root: Path = ROOT) -> bool | None:
    """Whether the processor may run above its rated clock (turbo)."""
    off = integer(root / _CPU / "intel_pstate/no_turbo")
    if off is not None:
        return off == 0
    on = integer(root / _CPU / "cpufreq/boost")
    return None if on is None else on == 1


def smt(root: Path = ROOT) -> bool | None:
    """Whether two threads share a core."""
    active = integer(root / _CPU / "smt/active")
    return None if active is None else active == 1


def transparent_hugepages(root: Path = ROOT) -> str | None:
    """`always`, `madvise` or `never`."""
    chosen = re.search(r"\[(\w+)\]", text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    return chosen.group(1) if chosen else None


def hypervisor(root: Path = ROOT) -> str | None:
    """Who makes the virtual machine this runs in; None on bare metal, and where nothing says so."""
    info = cpuinfo(root)
    vendor, product = (text(root / "sys/class/dmi/id" / name) or "" for name in ("sys_vendor", "product_name"))
    named = vendor if _VIRTUAL.search(vendor) and "metal" not in product else product if "Virtual" in product else ""
    tree = text(root / "proc/device-tree/hypervisor/compatible")
    flagged = "a hypervisor" if "hypervisor" in info.get("flags", "").split() else None
    return text(root / "sys/hypervisor/type") or named or tree or flagged


def sensors(root: Path = ROOT) -> list[Path]:
    """The files of the processor's best temperature sensor; several where there are several packages."""
    for chip in _HWMON:
        folders = [f for f in (root / "sys/class/hwmon").glob("hwmon*") if text(f / "name") == chip]
        found = [path for folder in sorted(folders) for path in _hottest_inputs(folder)]
        if found:
            return found
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    for kind in _ZONES:
        files = [zone / "temp" for zone in zones if re.fullmatch(kind, text(zone / "type") or "", re.I)]
        found = [file for file in files if _celsius(file) is not None]
        if found:
            return found
    return []


def temperature_c(files: list[Path]) -> float | None:
    """The hottest of these sensors in degrees Celsius."""
    return max((degrees for degrees in map(_celsius, files) if degrees is not None), default=None)


class Throttling(NamedTuple):
    """events : a counter that rises with every throttling; active : whether the clock is held down right now."""

    events: int
    active: bool


def throttling_files(root: Path = ROOT) -> dict[str, list[Path]]:
    """Where this machine says that it throttled: Intel, Jetson (over-current), Raspberry Pi, and cooling by clocks."""
    counters = [
        *sorted((root / _CPU).glob("cpu0/thermal_throttle/package_throttle_count")),
        *sorted((root / _CPU).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")),
        *sorted((root / "sys/class/hwmon").glob("hwmon*/oc[0-9]*_event_cnt")),
    ]
    cooling = (root / "sys/class/thermal").glob("cooling_device*")
    return {
        "counters": counters[:_MOST_COUNTERS],
        "cooling": sorted(f / "cur_state" for f in cooling if "cpufreq" in (text(f / "type") or "")),
        "pi": sorted((root / "sys/devices/platform").glob("soc*/soc*firmware/get_throttled")),
    }


def throttling(files: dict[str, list[Path]]) -> Throttling | None:
    """What those files say now; None where none can be read."""
    counters = [n for n in map(integer, files["counters"]) if n is not None]
    cooling = [n for n in map(integer, files["cooling"]) if n is not None]
    # Bits 0 to 3: under-voltage, capped, throttled, soft limit now; bits 16 to 19: the same at any time since the boot.
    pi = [bits for bits in map(_hexadecimal, files["pi"]) if bits is not None]
    if not (counters or cooling or pi):
        return None
    since_boot = sum(bin(bits >> 16 & 0xF).count("1") for bits in pi)
    return Throttling(sum(counters) + since_boot, any(cooling) or any(bits & 0xF for bits in pi))


def _hottest_inputs(folder: Path) -> list[Path]:
    """The package's own input where one is labelled so, else all of the chip's."""
    inputs = [path for path in sorted(folder.glob("temp*_input")) if _celsius(path) is not None]
    labels = {path: text(path.with_name(path.name.replace("_input", "_label"))) or "" for path in inputs}
    return [path for path in inputs if labels[path].startswith(("Package", "Tctl", "Tdie"))][:1] or inputs


def _celsius(path: Path) -> float | None:
    """Thousandths of a degree; a sensor that is switched off shows an error or an absurd figure."""
    thousandths = integer(path)
    return thousandths / 1000 if thousandths is not None and -40_000 < thousandths < 150_000 else None


def _most(folders: list[Path], name: str, *, least: bool = False) -> float | None:
    """The highest (or lowest) of one kHz figure over these cpufreq folders, in MHz."""
    khz = [value for value in (integer(folder / name) for folder in folders) if value is not None]
    return (min if least else max)(khz) / 1000 if khz else None


def _cpuinfo_mhz(root: Path) -> float | None:
    found = re.findall(r"^cpu MHz\s*:\s*([0-9.]+)", text(root / "proc/cpuinfo") or "", re.M)
    return max(map(float, found), default=None)


def _hexadecimal(path: Path) -> int | None:
    try:
        return int(path.read_bytes(), 16)
    except (OSError, ValueError):
        return None


_SIGNS = {"docker": "docker", "kubepods": "kubernetes", "libpod": "podman", "lxc": "lxc", "containerd": "containerd"}


def quota(root: Path = ROOT) -> tuple[int, int] | None:
    """(allowed, period) in microseconds of the tightest group this process is in; None without a limit."""
    found = [text(folder / "cpu.max") for folder in _folders(root, None)]
    found += [_quota_v1(folder) for folder in _folders(root, "cpu")]
    limits = [tuple(map(int, words)) for words in (t.split() for t in found if t) if _are_numbers(words)]
    return min(((q, p) for q, p in limits if p > 0), key=lambda qp: qp[0] / qp[1], default=None)


def quota_cores(root: Path = ROOT) -> float | None:
    """The same as a number of cores: 1.5 where three tasks of half a period may run in every period."""
    limit = quota(root)
    return None if limit is None else limit[0] / limit[1]


def memory_limit_mb(root: Path = ROOT) -> int | None:
    """The memory (2**20 bytes) that the tightest group may take; None without a limit."""
    found = [text(folder / "memory.max") for folder in _folders(root, None)]
    found += [text(folder / "memory.limit_in_bytes") for folder in _folders(root, "memory")]
    # Version 1 writes "no limit" as a number near 2**63.
    limits = [int(t) for t in found if t and t.isdigit() and int(t) < 2**60]
    return min(limits) >> 20 if limits else None


def stopped_files(root: Path = ROOT) -> list[Path]:
    """The statistics of the groups that have a quota, to be read by `stopped_seconds`; [] where there is no quota."""
    if quota(root) is None:
        return []
    places = [folder / "cpu.stat" for name in (None, "cpu") for folder in _folders(root, name)]
    return [path for path in places if "throttled_" in (text(path) or "")]


def stopped_seconds(files: list[Path]) -> float | None:
    """For how long the quota has held this group back since it was made, added up over cores.

    Of nested groups, the one held back most.
    """
    found = [seconds for seconds in map(_throttled, files) if seconds is not None]
    return max(found, default=None)


def container(root: Path = ROOT) -> str | None:
    """The kind of container this runs in (`docker`, `podman`, `kubernetes` ...); None where nothing shows one."""
    groups = text(root / "proc/self/cgroup") or ""
    named = [kind for sign, kind in _SIGNS.items() if sign in groups]
    if "kubernetes" in named:
        return "kubernetes"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    return text(root / "run/systemd/container") or (named[0] if named else None)


def _folders(root: Path, controller: str | None) -> Iterator[Path]:
    """The folders of the groups of this process, the innermost first; version 2 where no controller is named.

    Inside a container the path may be the host's: then only the top is there.
    """
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if (not controllers) if controller is None else (controller in controllers.split(",")):
            top = root / "sys/fs/cgroup" / (controller or "")
            inner = Path(path.strip("/"))
            yield from (top / inner, *(top / parent for parent in inner.parents))


def _quota_v1(folder: Path) -> str | None:
    allowed, period = text(folder / "cpu.cfs_quota_us"), text(folder / "cpu.cfs_period_us")
    return f"{allowed} {period}" if allowed and period else None


def _are_numbers(words: list[str]) -> bool:
    return len(words) == 2 and all(word.isdigit() for word in words)


def _throttled(path: Path) -> float | None:
    """`throttled_usec` of version 2, `throttled_time` (nanoseconds) of version 1."""
    pairs = dict([*line.split(), ""][:2] for line in (text(path) or "").splitlines())
    with contextlib.suppress(ValueError):
        if "throttled_usec" in pairs:
            return int(pairs["throttled_usec"]) / 1e6
        if "throttled_time" in pairs:
            return int(pairs["throttled_time"]) / 1e9
    return None
