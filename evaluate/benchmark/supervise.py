"""Work that may crash or hang is done by a worker process, and watched over from here.

The worker says what it finds by JSON lines on its stdout, and where it is by a few bytes of shared memory (a beacon),
so that even a leg that takes the process down in the middle of a timed block is named.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from evaluate.core.errors import MachineError

# What a worker can be at; the beacon holds the index.
DOING = ("starting", "opening", "first call", "timing", "checking its outputs", "profiling", "serving requests")
SHOT = struct.Struct("<QII")
POLL = 0.1
GRACE = 5.0
TAIL = 2000

Event = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a worker ended: `kind` is "done", "crashed" or "hung"; then the leg it was at, what it did, and the words."""

    kind: str
    leg: str | None = None
    doing: str = ""
    reason: str = ""


class Beacon:
    """Where a worker is: a counter, a leg and what is done with it, in a file mapped by both processes."""

    def __init__(self, path: str | Path, legs: Sequence[str]) -> None:
        self.legs = list(legs)
        with Path(path).open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), SHOT.size)
        self._numbers = {leg: number for number, leg in enumerate(self.legs, start=1)}
        self._count = 0

    def show(self, leg: str, doing: str) -> None:
        """Say what is being done; costs about a microsecond."""
        self._count += 1
        SHOT.pack_into(self._shared, 0, self._count, self._numbers.get(leg, 0), DOING.index(doing))

    def read(self) -> tuple[int, str | None, str]:
        """(counter, leg, what is done with it)."""
        count, leg, doing = SHOT.unpack_from(self._shared, 0)
        return count, self.legs[leg - 1] if 0 < leg <= len(self.legs) else None, DOING[min(doing, len(DOING) - 1)]

    def close(self) -> None:
        """Let go of the shared memory."""
        self._shared.close()


def run_job(
    job: Mapping[str, Any],
    legs: Sequence[str],
    on_event: Callable[[Event], None],
    *,
    patience: float,
    command: Sequence[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Ended:
    """Hand `job` to a worker and pass on what it says until it ends.

    legs     : the names that the job can be at.
    patience : seconds without an event and without a step of the beacon after which the worker counts as hung.
    command  : what to start; a Python with this package's worker where not given.
    Raises MachineError where no process can be started, RuntimeError for a fault of the worker's own.
    """
    with tempfile.TemporaryDirectory(prefix="leanfit-bench-") as folder, _log(folder) as log:
        place = Path(folder) / "beacon"
        place.write_bytes(bytes(SHOT.size))
        beacon = Beacon(place, legs)
        process = _start(command or _command(), log, folder)
        try:
            _send(process, {**job, "beacon": str(place), "legs": list(legs)})
            ended = _watch(process, beacon, on_event, patience, clock)
            return _explained(ended, process, log) if ended.kind == "crashed" else ended
        finally:
            _stop(process)
            beacon.close()


def _command() -> list[str]:
    """This Python, with this process's own search path, running the worker: also out of a zipped bundle."""
    if not sys.executable:
        raise MachineError(
            "a benchmark starts a process of its own, and this Python does not know its own program (sys.executable is "
            "empty); run it from an ordinary Python"
        )
    # The first place is the working directory, whose json.py or random.py nobody means.
    start = (
        "import sys; del sys.path[0]; import json; sys.path[:] = json.loads(sys.argv.pop()); "
        "from evaluate.benchmark.worker import main; main()"
    )
    home = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-c", start, json.dumps([home, *(p for p in map(str, sys.path) if p != home)])]


@contextlib.contextmanager
def _log(folder: str) -> Iterator[IO[bytes]]:
    with (Path(folder) / "stderr").open("w+b") as file:
        yield file


def _start(command: Sequence[str], log: IO[bytes], scratch: str) -> subprocess.Popen[bytes]:
    """The worker ends by being killed, so its temporary files lie in a folder that is removed here."""
    places = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)}
    try:
        return subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=places)
    except OSError as error:
        raise MachineError(f"no process could be started for the benchmark: {error.strerror or error}") from error


def _send(process: subprocess.Popen[bytes], job: Mapping[str, Any]) -> None:
    """The job goes down the pipe; the pipe stays open, as its end tells the worker that nobody listens any more."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()


def _watch(
    process: subprocess.Popen[bytes],
    beacon: Beacon,
    on_event: Callable[[Event], None],
    patience: float,
    clock: Callable[[], float],
) -> Ended:
    lines = _lines(process)
    count, seen = 0, clock()
    while True:
        try:
            line = lines.get(timeout=POLL)
        except queue.Empty:
            line = b""
        now = clock()
        if line is None:
            return Ended("crashed", *beacon.read()[1:])
        if line:
            event = _event(line)
            if "bug" in event:
                raise RuntimeError(f"the benchmark's worker failed: {event['bug']}")
            if event.get("done"):
                return Ended("done")
            if event:
                on_event(event)
            seen = now
        if beacon.read()[0] != count:
            count, seen = beacon.read()[0], now
        if now - seen > patience:
            _, leg, doing = beacon.read()
            return Ended("hung", leg, doing, f"no answer for {patience:g} s while {doing}")


def _event(line: bytes) -> Event:
    """What a line says; nothing where it is none of the worker's, as a library may print while it is imported."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _lines(process: subprocess.Popen[bytes]) -> queue.Queue[bytes | None]:
    """The worker's lines as they come, then None; a thread reads them, because a pipe cannot be polled everywhere."""
    found: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        if process.stdout is not None:
            with contextlib.suppress(OSError, ValueError):
                for line in process.stdout:
                    if line.endswith(b"\n"):
                        found.put(line)
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found


def _explained(ended: Ended, process: subprocess.Popen[bytes], log: IO[bytes]) -> Ended:
    """How the process ended, in words: its signal or exit code, and the last thing it said."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    code = process.returncode
    how = _signal_name(-code) if code is not None and code < 0 else f"exit code {code}"
    log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
    said = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last = f"; its last words: {said[-1].strip()[:300]}" if said else ""
    return Ended("crashed", ended.leg, ended.doing, f"the process ended by {how} while {ended.doing}{last}")


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (killed: perhaps out of memory)" if name == "SIGKILL" else name


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
