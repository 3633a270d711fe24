"""Who runs trials: local worker processes. Every pool takes trials, and says what became of them."""

from __future__ import annotations

import contextlib
import queue
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from compress.study.trial import Trial
from evaluate.core.errors import MachineError
from evaluate.runtime.worker_process import Message, WorkerProcess

WORKER = "compress.study.study_worker"


@dataclass(frozen=True)
class Event:
    """What a pool says: a `result` of a trial (see `study_worker.attempt`), why its worker `died`, or a `status`."""

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


class _Worker(WorkerProcess):
    """A process, the trial it works on, and whether it has come as far as to take one."""

    def __init__(self, messages: queue.SimpleQueue[Any], log: Path, environment: dict[str, str]) -> None:
        self.trial: Trial | None = None
        self.ready = False
        super().__init__(WORKER, log, lambda message: messages.put((self, message)), environment=environment)


class LocalPool:
    """Processes on this machine, each with its share of the cores and a log of its own in the study's folder."""

    retries = True

    def __init__(self, workers: int, out: Path, device: str, threads: int) -> None:
        self.slots, self.out, self.device, self.threads = workers, out, device, threads
        self.messages: queue.SimpleQueue[tuple[_Worker, Message | None]] = queue.SimpleQueue()
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
        free = {self.out / f"worker-{n}.log" for n in range(self.slots)} - {worker.log for worker in self.busy}
        environment = {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
        if self.gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(len(self.busy) % self.gpus)
        worker = _Worker(self.messages, min(free), environment)
        worker.send({"out": str(self.out), "device": self.device, "threads": self.threads})
        return worker

    def wait(self, seconds: float) -> list[Event]:
        """Results, signs of life, and workers that are gone. Raises MachineError where none can even start."""
        events = []
        with contextlib.suppress(queue.Empty):
            events += self._event(*self.messages.get(timeout=seconds))
            while True:
                events += self._event(*self.messages.get_nowait())
        return events

    def _event(self, worker: _Worker, message: Message | None) -> list[Event]:
        trial = worker.trial
        if message is not None and "ready" in message:
            worker.ready = True
        elif trial is None:
            if message is None:
                self.idle.remove(worker)
                worker.stop()
        elif message is None:
            self.busy.remove(worker)
            ending = worker.ending()
            worker.stop()
            if not worker.ready:
                raise MachineError(f"a worker of the study could not start: {ending} (see {worker.log})")
            hint = "; where memory runs out, take fewer --workers" if "SIGKILL" in ending else ""
            return [Event(trial, died=f"its worker ended by {ending}{hint}")]
        elif "status" in message:
            return [Event(trial, status=message["status"])]
        else:
            worker.trial = None
            self.busy.remove(worker)
            self.idle.append(worker)
            return [Event(trial, result=message)]
        return []

    def stop(self) -> None:
        """Kill all workers: their stages are kept, and trainings go on from their last epoch."""
        for worker in [*self.busy, *self.idle]:
            worker.stop()
        self.busy, self.idle = [], []


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
