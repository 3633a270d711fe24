"""What else the machine did while it was measured: other processes, steal, throttling, clock, temperature.

`Watch.mark` takes a cheap snapshot between session runs, never inside a timed call; `Watch.summary` tells of all of
them, and `Watch.warnings` turns that into sentences with a next step. Linux only; elsewhere the load and the number of
cores are all that is known of the machine.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluate.hardware import sysfs
from evaluate.hardware.monitor_warnings import warnings
from evaluate.hardware.sysfs import ROOT

# Processor time is counted in ticks of 10 ms: shorter intervals would show noise as other people's work.
SHORTEST = 0.5
# Below this the whole watch is too short to say anything of other processes.
_LEAST = 0.1


class _Mark(NamedTuple):
    """One snapshot. busy, steal and total are ticks of the whole machine, own those of the watched processes."""

    seconds: float
    busy: int | None
    steal: int | None
    total: int | None
    own: int | None
    switches: int | None
    load: float | None
    mhz: float | None
    celsius: float | None
    throttling: sysfs.Throttling | None
    stopped: float | None


class Watch:
    """Watches the machine from one mark to the next.

    pids : processes that belong to the measurement beside this one and the children it has waited for. It may be
           changed between marks. What a watched process used up to its end stays counted.
    """

    def __init__(
        self, root: Path = ROOT, clock: Callable[[], float] = time.perf_counter, pids: Iterable[int] = ()
    ) -> None:
        self.pids = list(pids)
        self._root, self._clock = root, clock
        self._marks: list[_Mark] = []
        self._gone: dict[int, tuple[int, int]] = {}  # pid -> (its parent, its ticks) when last seen
        self._sensors = sysfs.sensors(root)
        self._throttling = sysfs.throttling_files(root)
        self._stopped = sysfs.stopped_files(root)
        names = [line.split()[0] for line in (sysfs.text(root / "proc/stat") or "").splitlines() if line[:3] == "cpu"]
        self._cores = len(names) - 1 if len(names) > 1 else os.cpu_count() if root == ROOT else None
        self._tick = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

    def mark(self) -> None:
        """Take a snapshot. The first belongs after the warm-up, so that the clock is not that of an idle core."""
        busy, steal, total = _machine_ticks(self._root)
        own, core = self._own()
        load = sysfs.load(self._root)
        snapshot = _Mark(
            seconds=self._clock(),
            busy=busy,
            steal=steal,
            total=total,
            own=own,
            switches=_switches(self._root),
            load=load[0] if load else None,
            mhz=sysfs.clock_mhz(self._root, core),
            celsius=sysfs.temperature_c(self._sensors),
            throttling=sysfs.throttling(self._throttling),
            stopped=sysfs.stopped_seconds(self._stopped),
        )
        self._marks.append(snapshot)

    def summary(self) -> dict[str, Any]:
        """All marks together, JSON-able; None for what cannot be read, with `why` naming some of the reasons.

        seconds, marks; cores of the machine; others_cores {median, max}: cores kept busy by other processes, over
        intervals of half a second or more; steal_share (0 to 1); load_1m [first, last]; frequency_mhz [min, max] of the
        core that measured; temperature_c [first, last, max]; throttled (bool); involuntary_switches of the main thread;
        governor and clock_driver; quota_cores and quota_stopped_s of the control group.
        """
        marks = self._marks
        clocks, heat = _seen(m.mhz for m in marks), _seen(m.celsius for m in marks)
        loads = _seen(m.load for m in marks)
        return {
            "seconds": round(marks[-1].seconds - marks[0].seconds, 3) if marks else 0.0,
            "marks": len(marks),
            "cores": self._cores,
            "others_cores": _others(marks, self._tick, self._cores),
            "steal_share": _steal_share(marks),
            "load_1m": [loads[0], loads[-1]] if loads else None,
            "frequency_mhz": [round(min(clocks), 1), round(max(clocks), 1)] if clocks else None,
            "temperature_c": [round(x, 1) for x in (heat[0], heat[-1], max(heat))] if heat else None,
            "throttled": _throttled(_seen(m.throttling for m in marks)),
            "involuntary_switches": _rise([m.switches for m in marks]),
            "governor": sysfs.governor(self._root),
            "clock_driver": sysfs.clock_driver(self._root),
            "quota_cores": sysfs.quota_cores(self._root),
            "quota_stopped_s": _rise([m.stopped for m in marks]),
            "why": self._why(bool(clocks), bool(heat)),
        }

    @staticmethod
    def warnings(summary: Mapping[str, Any]) -> list[str]:
        """What in a summary makes figures wide or wrong: plain sentences, each with the next step; [] where quiet."""
        return warnings(summary)

    def _own(self) -> tuple[int | None, int]:
        """Ticks of the watched processes, and the core on which the last of them ran."""
        own = _process(self._root, "self")
        if own is None:
            return None, 0
        total, core = own.ticks, own.core
        for pid in self.pids:
            found = _process(self._root, str(pid))
            if found is not None:
                self._gone[pid] = (found.parent, found.ticks)
                total, core = total + found.ticks, found.core
            elif pid in self._gone and self._gone[pid][0] != own.pid:
                total += self._gone[pid][1]  # a child of ours is in our own count once we have waited for it
        return total, core

    def _why(self, clocks: bool, heat: bool) -> dict[str, str]:
        """One sentence for each thing that one would expect and that cannot be read here."""
        if not self._marks:
            return {}
        if self._marks[0].busy is None:
            return {"others_cores": "there is no /proc/stat here: the work of other processes cannot be told"}
        virtual = sysfs.hypervisor(self._root) is not None
        nothing = "a virtual machine shows none" if virtual else "this system shows none"
        missing = {"frequency_mhz": ("clock", clocks), "temperature_c": ("temperature", heat)}
        return {key: f"{what} not readable: {nothing}" for key, (what, there) in missing.items() if not there}


class _Process(NamedTuple):
    pid: int
    parent: int
    ticks: int
    core: int


def _process(root: Path, name: str) -> _Process | None:
    """A process by proc(5): ticks are utime, stime and those of its children waited for; core is where it last ran."""
    try:
        head, _, tail = (root / "proc" / name / "stat").read_bytes().rpartition(b")")
        words = tail.split()
        # The first of `words` is the third field.
        ticks = sum(map(int, words[11:15]))
        return _Process(int(head.split()[0]), int(words[1]), ticks, int(words[36]))
    except (OSError, ValueError, IndexError):
        return None


def _machine_ticks(root: Path) -> tuple[int | None, int | None, int | None]:
    """(busy, stolen, all) ticks over all cores since the boot; guests' time is within user time already."""
    try:
        with (root / "proc/stat").open("rb") as file:
            words = file.readline().split()
        user, nice, system, idle, waiting, interrupts, soft, *rest = map(int, words[1:9])
    except (OSError, ValueError):
        return None, None, None
    busy, steal = user + nice + system + interrupts + soft, rest[0] if rest else 0
    return busy, steal, busy + steal + idle + waiting


def _switches(root: Path) -> int | None:
    """How often the main thread was taken off its core against its will."""
    found = (sysfs.text(root / "proc/self/status") or "").rpartition("nonvoluntary_ctxt_switches:")[2].split()
    return int(found[0]) if found and found[0].isdigit() else None


def _others(marks: Sequence[_Mark], tick: int, cores: int | None) -> dict[str, float] | None:
    """Cores used by what is not watched: median and maximum over intervals of at least SHORTEST seconds."""
    used = [m for m in marks if m.busy is not None and m.own is not None]
    if len(used) < 2 or cores is None or used[-1].seconds - used[0].seconds < _LEAST:
        return None
    found, start = [], used[0]
    for mark in used[1:]:
        if mark.seconds - start.seconds >= SHORTEST:
            found.append(_between(start, mark, tick, cores))
            start = mark
    found = found or [_between(used[0], used[-1], tick, cores)]
    return {"median": round(statistics.median(found), 2), "max": round(max(found), 2)}


def _between(a: _Mark, b: _Mark, tick: int, cores: int) -> float:
    others = ((b.busy or 0) - (a.busy or 0)) - ((b.own or 0) - (a.own or 0))
    return min(float(cores), max(0.0, others / tick / (b.seconds - a.seconds)))


def _steal_share(marks: Sequence[_Mark]) -> float | None:
    stolen, everything = _rise([m.steal for m in marks]), _rise([m.total for m in marks])
    return None if stolen is None or not everything else round(max(0.0, stolen / everything), 4)


def _throttled(seen: Sequence[sysfs.Throttling]) -> bool | None:
    """Whether it happened between the first and the last mark; None where the machine does not tell."""
    if not seen:
        return None
    return any(one.active for one in seen) or seen[-1].events > seen[0].events


def _rise(values: Sequence[Any]) -> Any:
    """By how much a counter rose from the first to the last reading; None for fewer than two."""
    seen = _seen(values)
    return round(seen[-1] - seen[0], 3) if len(seen) > 1 else None


def _seen(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]
