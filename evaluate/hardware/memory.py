"""How much memory a process holds, and held at most: its own, and its share of a GPU's.

1 MB is 2**20 bytes here, as in /proc and nvidia-smi.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import NamedTuple

from evaluate.hardware.gpu import ask, load_nvml, number
from evaluate.hardware.sysfs import ROOT, text


class Reading(NamedTuple):
    """A figure, or the reason why there is none."""

    value: float | None
    why: str | None


def peak_rss_mb(root: Path = ROOT) -> float | None:
    """The most memory (resident set, MB) this process held since its program was started; `rss_why` tells of None.

    On Linux it is VmHWM of /proc/self/status, and not ru_maxrss of getrusage(2): that one is handed on through fork and
    exec, so a small process started by a large one would report the large one's peak. (Kernels from 6.2 count pages for
    each core apart, and may be off by some MB on machines of many cores.) On macOS, where there is no other, it is
    ru_maxrss.
    """
    system = platform.system()
    return _maxrss_mb() if system == "Darwin" else _status_mb(root, "VmHWM")


def rss_mb(root: Path = ROOT) -> float | None:
    """The memory (resident set, MB) this process holds now; None elsewhere than on Linux."""
    return _status_mb(root, "VmRSS")


def rss_why(root: Path = ROOT) -> str | None:
    """Why `peak_rss_mb` gives None here; None where it gives a figure."""
    if peak_rss_mb(root) is not None:
        return None
    if platform.system() != "Linux":
        return f"the peak memory of a process is read on Linux and macOS only, and this is {platform.system()}"
    return f"{root / 'proc/self/status'} shows no VmHWM: /proc is not mounted, or is another system's"


def gpu_memory_mb(pid: int) -> Reading:
    """The memory (MB) process `pid` holds on all NVIDIA GPUs together, its CUDA context included.

    By NVML where the module pynvml (package nvidia-ml-py) is installed, else by nvidia-smi, which takes longer.
    """
    held = _nvml_processes()
    if held is None:
        answer = ask("--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits")
        if answer.text is None:
            return Reading(None, answer.why)
        rows = [line.split(",") for line in answer.text.splitlines() if "," in line]
        held = [(int(number(row[0]) or -1), number(row[1])) for row in rows]
    mine = [megabytes for other, megabytes in held if other == pid]
    known = [megabytes for megabytes in mine if megabytes is not None]
    if known and len(known) == len(mine):
        return Reading(sum(known), None)
    if mine:
        return Reading(None, "the driver does not tell the memory of single processes (as under Windows, or with MIG)")
    return Reading(
        None,
        f"the driver shows no process {pid} on a GPU: it uses none, or it runs in a container, where the driver hides "
        "processes or knows them by the host's numbers; run on the host to see it",
    )


def _status_mb(root: Path, key: str) -> float | None:
    for line in (text(root / "proc/self/status") or "").splitlines():
        if line.startswith(f"{key}:"):
            words = line.split()
            return int(words[1]) / 1024 if len(words) == 3 and words[1].isdigit() else None
    return None


def _maxrss_mb() -> float:
    import resource  # not there under Windows

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def _nvml_processes() -> list[tuple[int, float | None]] | None:
    """(process, MB) of every compute process on every GPU; None without pynvml or where it fails."""
    nvml, _ = load_nvml()
    if nvml is None:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        running = [process for handle in handles for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except nvml.NVMLError:
        return None
    return [(int(p.pid), None if p.usedGpuMemory is None else p.usedGpuMemory / 2**20) for p in running]
