"""Who runs trials: local worker processes. Every pool takes trials, and tells what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from compress.study.trial import Trial
from evaluate.core.errors import MachineError

LOG = "workers.log"
TAIL = 4000


@dataclass(frozen=True)
class Event:
    """What a pool tells: a `result` of a trial (see `worker.attempt`), why its worker `died`, or a `status`."""

    trial: Trial
    result: dict[str, Any] | None = None
    died: str = ""
    status: str = ""


class Pool(Protocol):
    """Workers that run trials. `retries`: whether a trial whose worker died is worth handing out again."""

    slots: int
    retries: bool

    def start(self, trial: Trial) -> None:
        """Begin a trial; called only while fewer than `slots` are running."""

    def wait(self, seconds: float) -> list[Event]:
        """What has happened; returns early where something has."""

    def stop(self) -> None:
        """End all workers at once."""


class LocalPool:
    """Processes on this machine, each with its share of the cores."""

    retries = True

    def __init__(self, workers: int, out: Path, device: str, threads: int) -> None:
        self.slots, self.out, self.device, self.threads = workers, out, device, threads
        self.said: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
        self.idle: list[_Worker] = []
        self.busy: list[_Worker] = []
        self.gpus = _gpus() if device != "cpu" else 0

    def start(self, trial: Trial) -> None:
        """Hand a trial to an idle worker, or to a new one."""
        worker = self.idle.pop() if self.idle else self._open()
        worker.trial = trial
        self.busy.append(worker)
        worker.send(trial.as_dict())

    def _open(self) -> _Worker:
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
        environment["OMP_NUM_THREADS"] = str(self.threads)
        if self.gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(len(self.busy) % self.gpus)
        worker = _Worker(environment, self.out / LOG, self.said)
        worker.send({"out": str(self.out), "device": self.device, "threads": self.threads})
        return worker

    def wait(self, seconds: float) -> list[Event]:
        """Results, signs of life, and workers that are gone. Raises MachineError where none can even start."""
        events = []
        with contextlib.suppress(queue.Empty):
            events += self._event(*self.said.get(timeout=seconds))
            while True:
                events += self._event(*self.said.get_nowait())
        return events

    def _event(self, worker: _Worker, message: dict[str, Any] | None) -> list[Event]:
        trial = worker.trial
        if message is not None and "ready" in message:
            worker.ready = True
        elif trial is None:
            self.idle = [other for other in self.idle if other is not worker or message is not None]
        elif message is None:
            self.busy.remove(worker)
            worker.close()
            if not worker.ready:
                raise MachineError(f"a worker of the study could not start: {self._last_words()}")
            return [Event(trial, died=worker.how_it_ended())]
        elif "status" in message:
            return [Event(trial, status=message["status"])]
        else:
            worker.trial = None
            self.busy.remove(worker)
            self.idle.append(worker)
            return [Event(trial, result=message)]
        return []

    def _last_words(self) -> str:
        text = (self.out / LOG).read_bytes()[-TAIL:].decode(errors="replace").strip()
        return f"{text.splitlines()[-1] if text else 'it said nothing'} (see {self.out / LOG})"

    def stop(self) -> None:
        """Kill all workers: their stages are kept, and trainings go on from their last epoch."""
        for worker in [*self.busy, *self.idle]:
            worker.process.kill()
        for worker in [*self.busy, *self.idle]:
            worker.end()
        self.busy, self.idle = [], []


class _Worker:
    """One process, and the thread that reads what it says."""

    def __init__(
        self, environment: dict[str, str], log: Path, said: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]
    ) -> None:
        self.trial: Trial | None = None
        self.ready = False
        command = [sys.executable, "-m", "compress.study.study_worker"]
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
            )
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout, said), daemon=True)
        self.reader.start()

    def _read(self, lines: IO[str], said: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]) -> None:
        for line in lines:
            with contextlib.suppress(ValueError):  # cut off while it was said
                said.put((self, json.loads(line)))
        said.put((self, None))

    def send(self, message: dict[str, Any]) -> None:
        """One line to the worker; one that is gone shows by the end of what it says."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(json.dumps(message) + "\n")
                self.process.stdin.flush()

    def how_it_ended(self) -> str:
        """The reason in words."""
        code = self.process.wait()
        if code >= 0:
            return f"its worker ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ", as the system does when memory runs out: take fewer --workers" if name == "SIGKILL" else ""
        return f"its worker was ended by {name}{hint}"

    def end(self) -> None:
        """Wait until it is gone, and what it said is read: the pipe of a reader may not be closed."""
        self.process.wait()
        self.reader.join(1)
        self.close()

    def close(self) -> None:
        """Let go of its pipes."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
