"""What a container or a service may use: its share of the cores, its memory, and how often it was stopped.

Both versions of control groups, from inside a container and from outside. (Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/ of the Linux kernel.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from evaluate.hardware.sysfs import ROOT, text

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
