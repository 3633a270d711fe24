"""Work that may crash or hang is done by a worker process, and watched over from here.

The worker says where it is by a few bytes of shared memory (a beacon), so that even a candidate that takes the process
down in the middle of a timed block is named.
"""

from __future__ import annotations

import mmap
import queue
import struct
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.runtime.worker_process import Message, WorkerProcess

# What a worker can be at; the beacon holds the index.
DOING = ("starting", "opening", "first call", "timing", "checking its outputs", "profiling", "serving requests")
SHOT = struct.Struct("<QII")
POLL = 0.1
WORKER = "evaluate.benchmark.worker"


@dataclass(frozen=True)
class Ended:
    """How a worker ended: `kind` is "done", "crashed" or "hung"; then the candidate, what it did, and the words."""

    kind: str
    candidate: str | None = None
    doing: str = ""
    reason: str = ""


class Beacon:
    """Where a worker is: a counter, a candidate and what is done with it, in a file mapped by both processes."""

    def __init__(self, path: str | Path, candidates: Sequence[str]) -> None:
        self.candidates = list(candidates)
        with Path(path).open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), SHOT.size)
        self._numbers = {candidate: number for number, candidate in enumerate(self.candidates, start=1)}
        self._count = 0

    def show(self, candidate: str, doing: str) -> None:
        """Say what is being done; costs about a microsecond."""
        self._count += 1
        SHOT.pack_into(self._shared, 0, self._count, self._numbers.get(candidate, 0), DOING.index(doing))

    def read(self) -> tuple[int, str | None, str]:
        """(counter, candidate, what is done with it)."""
        count, candidate, doing = SHOT.unpack_from(self._shared, 0)
        return (
            count,
            self.candidates[candidate - 1] if 0 < candidate <= len(self.candidates) else None,
            DOING[min(doing, len(DOING) - 1)],
        )

    def close(self) -> None:
        """Let go of the shared memory."""
        self._shared.close()


def run_job(
    job: Mapping[str, Any],
    candidates: Sequence[str],
    on_event: Callable[[Message], None],
    *,
    patience: float,
    within: Path | None = None,
    command: Sequence[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Ended:
    """Hand `job` to a worker and pass on its events until it ends.

    candidates     : the names that the job can be at.
    patience : seconds without an event and without a step of the beacon after which the worker counts as hung.
    within   : where its temporary files lie, a folder that is removed afterwards, also where the making of one inside
    of it is interrupted; the system's place for them without it.
    command  : what to start; a Python with this package's worker where not given.
    Raises MachineError where no process can be started, RuntimeError for a fault of the worker's own.
    """
    # The worker ends by being killed, so its temporary files lie in a folder that is removed here.
    with tempfile.TemporaryDirectory(prefix="leanfit-bench-", dir=within) as folder:
        place, events = Path(folder) / "beacon", queue.SimpleQueue[Any]()
        place.write_bytes(bytes(SHOT.size))
        beacon = Beacon(place, candidates)
        scratch = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)
        try:
            worker = WorkerProcess(WORKER, Path(folder) / "log", events.put, environment=scratch, command=command)
            try:
                worker.send({**job, "beacon": str(place), "candidates": list(candidates)})
                return _watch(worker, events, beacon, on_event, patience, clock)
            finally:
                worker.stop()
        finally:
            beacon.close()


def _watch(
    worker: WorkerProcess,
    events: queue.SimpleQueue[Any],
    beacon: Beacon,
    on_event: Callable[[Message], None],
    patience: float,
    clock: Callable[[], float],
) -> Ended:
    count, seen = 0, clock()
    while True:
        try:
            event = events.get(timeout=POLL)
        except queue.Empty:
            event = {}
        now, (steps, candidate, doing) = clock(), beacon.read()
        if event is None:
            return Ended("crashed", candidate, doing, f"the process ended by {worker.ending(f' while {doing}')}")
        if "bug" in event:
            raise RuntimeError(f"the benchmark's worker failed: {event['bug']}")
        if event.get("done"):
            return Ended("done")
        if event:
            on_event(event)
        if event or steps != count:
            count, seen = steps, now
        if now - seen > patience:
            return Ended("hung", candidate, doing, f"no answer for {patience:g} s while {doing}")
