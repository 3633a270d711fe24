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
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import numpy as np

__all__ = [
    "channel_block",
    "cpu_model",
    "environment",
    "int8_path",
    "isa",
    "machine_id",
    "onnxruntime_conflict",
    "onnxruntime_distributions",
    "usable_cores",
]

Int8Path = Literal["vnni", "avx512", "avx2", "neon-dot", "neon", "other"]
ROOT = Path("/")
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
    "AVX512_ICL": ("avx512_vnni",),
    "NEON": ("neon",),
    "ASIMD": ("asimd",),
    "ASIMDDP": ("asimddp",),
    "ASIMDHP": ("asimdhp",),
    "SVE": ("sve",),
}


def environment(root: Path = ROOT) -> dict[str, Any]:
    """All that a latency depends on, JSON-able; load is the only entry that changes by itself."""
    flags = isa(root)
    return {
        "machine_id": machine_id(root),
        "cpu": {
            "name": cpu_model(root),
            "architecture": platform.machine(),
            "isa": sorted(flags & _RELEVANT),
            "cores": os.cpu_count(),
            "usable_cores": usable_cores(root),
            "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "virtual": "hypervisor" in flags if "sse2" in flags else None,
        },
        "int8_path": int8_path(flags),
        "channel_block": channel_block(flags),
        "memory_mb": _memory_mb(root),
        "load": _load(),
        "gpu": _gpu(),
        "os": f"{platform.system()} {platform.release()}",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, **onnxruntime_distributions()},
        "providers": _providers(),
    }


@functools.lru_cache(maxsize=8)
def isa(root: Path = ROOT) -> frozenset[str]:
    """The processor's feature flags by Linux's names (`avx2`, `avx512_vnni`, `asimddp`); empty where not known."""
    info = _cpuinfo(root)
    flags = info.get("flags") or info.get("features")
    if flags is not None:
        return frozenset(flags.split())
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
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
    quota = _quota(root)
    return cores if quota is None else max(1, min(cores, -(-quota[0] // quota[1])))


def cpu_model(root: Path = ROOT) -> str | None:
    """The processor's name; on ARM boards, which have none, the board's name or the core's implementer and part."""
    info = _cpuinfo(root)
    board = _text(root / "proc/device-tree/model") or info.get("hardware")
    part = (
        f"ARM implementer {info['cpu implementer']} part {info.get('cpu part')}" if "cpu implementer" in info else None
    )
    return info.get("model name") or board or part or platform.processor() or None


def machine_id(root: Path = ROOT) -> str:
    """12 hex digits that are the same for machines of the same kind, over reboots and updates; names no one machine."""
    flags = isa(root)
    gpus = [gpu["name"] for gpu in _gpu()]
    facts = (platform.machine(), cpu_model(root), os.cpu_count(), int8_path(flags), channel_block(flags), gpus)
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


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first value of every key of /proc/cpuinfo, keys in lower case; {} where there is none."""
    pairs: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            pairs.setdefault(key.strip().lower(), value.strip())
    return pairs


def _quota(root: Path) -> tuple[int, int] | None:
    """(allowed, period) in microseconds of the tightest cgroup this process is in; None without a limit."""
    found = []
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            found += [_text(folder / "cpu.max") for folder in _upwards(root / "sys/fs/cgroup", path)]
        elif "cpu" in controllers.split(","):
            found += [_quota_v1(folder) for folder in _upwards(root / "sys/fs/cgroup/cpu", path)]
    limits = [tuple(map(int, text.split())) for text in found if text and text.split()[0].lstrip("+").isdigit()]
    return min(((q, p) for q, p in limits if p > 0), key=lambda qp: qp[0] / qp[1], default=None)


def _quota_v1(folder: Path) -> str | None:
    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return f"{quota} {period}" if quota and period else None


def _upwards(top: Path, path: str) -> list[Path]:
    """A cgroup's folder and all above it; inside a container only the top may be there."""
    inner = Path(path.strip("/"))
    return [top / inner, *(top / parent for parent in inner.parents)]


def _memory_mb(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return None


def _load() -> list[float] | None:
    try:
        return [round(x, 2) for x in os.getloadavg()]
    except (AttributeError, OSError):
        return None


@functools.cache
def _gpu() -> list[dict[str, str]]:
    """Name, driver and memory of each NVIDIA GPU; [] where there is none or it does not answer in 5 seconds."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(", ") for line in done.stdout.splitlines())
    return [dict(zip(("name", "driver", "memory"), row, strict=False)) for row in rows if row[0]]


def _providers() -> list[str] | None:
    """The execution providers of the installed onnxruntime; None where it cannot be imported."""
    try:
        import onnxruntime

        return list(onnxruntime.get_available_providers())
    except (ImportError, AttributeError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\x00 \n\t") or None
    except OSError:
        return None
