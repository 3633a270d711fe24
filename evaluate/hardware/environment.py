"""What machine is this: processor, instruction sets, cores, governor, load, versions, providers.

Latency means nothing without it, so it goes into every Record. Complete on Linux (x86-64 and ARM); elsewhere what
cannot be found out is None.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluate.hardware import sysfs
from evaluate.hardware.gpu import gpus
from evaluate.hardware.sysfs import ROOT, cpuinfo, text

Int8Path = Literal["vnni", "avx512", "avx2", "neon-dot", "neon", "other"]
# Distributions that all install the one module `onnxruntime`, and overwrite each other's files.
_DISTRIBUTIONS = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn",
    "onnxruntime-rocm", "ort-nightly", "ort-nightly-gpu",
)  # fmt: skip
# The flags that choose kernels, by the kernel's names on x86 and ARM; the list in a Record stays readable.
_RELEVANT = frozenset({
    "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme",
})  # fmt: skip
# numpy's names where there is no /proc/cpuinfo; each of its x86 levels stands for a set.
_NUMPY_NAMES = {
    "X86_V3": ("avx", "avx2", "fma", "f16c"),
    "X86_V4": ("avx512f", "avx512bw", "avx512vl"),
    "FMA3": ("fma",),
    "AVX512_SKX": ("avx512f", "avx512bw", "avx512vl"),
    "AVX512_CLX": ("avx512_vnni",),
    "AVX512_ICL": ("avx512_vnni",),
    "NEON": ("neon",),
    "ASIMD": ("asimd",),
    "ASIMDDP": ("asimddp",),
    "ASIMDHP": ("asimdhp",),
    "SVE": ("sve",),
}


def environment(root: Path = ROOT) -> dict[str, Any]:
    """All that a latency depends on, JSON-able; None for what cannot be read, the reason being under `why`.

    Load, the clocks and temperatures that are now, and what is used of a GPU change by themselves; `gpu` is described
    by `evaluate.hardware.gpu.gpus`.
    """
    found, why = gpus(root)
    flags = isa(root)
    facts = {
        "machine_id": _id(root, found),
        "cpu": _cpu(root, flags),
        "int8_path": int8_path(flags),
        "channel_block": channel_block(flags),
        "memory_mb": _memory_mb(root),
        "memory_limit_mb": sysfs.memory_limit_mb(root),
        "transparent_hugepages": sysfs.transparent_hugepages(root),
        "container": sysfs.container(root),
        "hypervisor": sysfs.hypervisor(root),
        "load": sysfs.load(root),
        "gpu": found,
        "os": f"{platform.system()} {platform.release()}",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, **onnxruntime_distributions()},
        "providers": _asked("get_available_providers"),
        "onnxruntime_build": _asked("get_build_info"),
    }
    return {**facts, "why": _reasons(facts, why)}


def _cpu(root: Path, flags: frozenset[str]) -> dict[str, Any]:
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "name": cpu_model(root),
        "architecture": platform.machine(),
        "isa": sorted(flags & _RELEVANT),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(root),
        "affinity_cores": len(affinity(0)) if affinity else None,
        "quota_cores": sysfs.quota_cores(root),
        "smt": sysfs.smt(root),
        "governor": sysfs.governor(root),
        "clock_driver": sysfs.clock_driver(root),
        "frequency_mhz": sysfs.clocks(root),
        "boost": sysfs.boost(root),
        "temperature_c": sysfs.temperature_c(sysfs.sensors(root)),
        "virtual": "hypervisor" in flags if "sse2" in flags else None,
    }


def _reasons(facts: dict[str, Any], gpu: str | None) -> dict[str, str]:
    """Why what one would expect in an environment is None."""
    if not facts["os"].startswith("Linux "):
        return {"cpu": "clocks, governor, temperature and quotas are read on Linux only"}
    shown = "a virtual machine shows none" if facts["hypervisor"] else "this system shows none"
    cpu = facts["cpu"]
    absent = {
        "cpu.governor": cpu["governor"] is None,
        "cpu.frequency_mhz": cpu["frequency_mhz"]["max"] is None,
        "cpu.temperature_c": cpu["temperature_c"] is None,
    }
    return {**{name: shown for name, missing in absent.items() if missing}, **({"gpu": gpu} if gpu else {})}


@functools.lru_cache(maxsize=8)
def isa(root: Path = ROOT) -> frozenset[str]:
    """The processor's feature flags by Linux's names (`avx2`, `avx512_vnni`, `asimddp`); empty where not known."""
    info = cpuinfo(root)
    flags = info.get("flags") or info.get("features")
    if flags is not None:
        return frozenset(flags.split())
    try:
        simd = np.show_config(mode="dicts")["SIMD Extensions"]
    except TypeError:  # numpy before 1.26 can only print it
        return frozenset()
    names = [*simd.get("baseline", ()), *simd.get("found", ())]
    return frozenset(flag for name in names for flag in _NUMPY_NAMES.get(name, (name.lower(),)))


def int8_path(flags: frozenset[str] | None = None) -> Int8Path:
    """By which instructions ONNX Runtime multiplies int8 here.

    `avx512` and `avx2` have no int8 dot product: u8 x s8 pairs are added in 16 bits and can saturate, so weights need
    reduce_range. `vnni` and `neon-dot` accumulate in 32 bits.
    """
    have = isa() if flags is None else flags
    if have & {"avx512_vnni", "avx_vnni"}:
        return "vnni"
    if {"avx512f", "avx512bw", "avx512vl"} <= have:
        return "avx512"
    if "avx2" in have:
        return "avx2"
    if "asimddp" in have:
        return "neon-dot"
    return "neon" if have & {"asimd", "neon"} else "other"


def channel_block(flags: frozenset[str] | None = None) -> int:
    """How many fp32 channels one vector register holds: the step in which a convolution's width pays off."""
    have = isa() if flags is None else flags
    if "avx512f" in have:
        return 16
    if "avx2" in have:
        return 8
    return 4 if have & {"asimd", "neon"} else 8


def usable_cores(root: Path = ROOT) -> int:
    """Cores this process may use: by its CPU affinity, and by its cgroup's quota (rounded up)."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = sysfs.quota(root)
    return cores if quota is None else max(1, min(cores, -(-quota[0] // quota[1])))


def cpu_model(root: Path = ROOT) -> str | None:
    """The processor's name; on ARM boards, which have none, the board's name or the core's implementer and part."""
    info = cpuinfo(root)
    board = text(root / "proc/device-tree/model") or info.get("hardware")
    part = (
        f"ARM implementer {info['cpu implementer']} part {info.get('cpu part')}" if "cpu implementer" in info else None
    )
    return info.get("model name") or board or part or platform.processor() or None


def machine_id(root: Path = ROOT) -> str:
    """12 hex digits that are the same for machines of the same kind, over reboots and updates; names no one machine."""
    return _id(root, gpus(root)[0])


def _id(root: Path, found: list[dict[str, Any]]) -> str:
    flags = isa(root)
    # A GPU inside the processor is named by it; whether it is listed depends on the version of its driver.
    names = [gpu["name"] for gpu in found if not gpu.get("integrated")]
    facts = (platform.machine(), cpu_model(root), os.cpu_count(), int8_path(flags), channel_block(flags), names)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def onnxruntime_distributions() -> dict[str, str]:
    """The installed distributions that carry the module `onnxruntime`: name -> version. More than one is a fault."""
    found = {}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def onnxruntime_conflict() -> str | None:
    """What is wrong with the installed onnxruntime distributions and what to run; None where there is exactly one."""
    found = onnxruntime_distributions()
    if len(found) == 1:
        return None
    if not found:
        return 'onnxruntime is not installed; run: pip install "leanfit[cpu]" (or "leanfit[gpu]")'
    names = " and ".join(f"{name} {version}" for name, version in found.items())
    extra = "gpu" if any("gpu" in name for name in found) else "cpu"
    return (
        f"{names} are installed together and overwrite each other's files; run: pip uninstall -y {' '.join(found)} && "
        f'pip install "leanfit[{extra}]"'
    )


def _memory_mb(root: Path) -> int | None:
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return None


def _asked(name: str) -> Any:
    """What a function of the installed onnxruntime says; None where it cannot be imported or has no such function."""
    try:
        import onnxruntime

        return getattr(onnxruntime, name)()
    except (ImportError, AttributeError):
        return None
