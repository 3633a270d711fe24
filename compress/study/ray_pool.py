"""Trials as tasks of a Ray cluster (Moritz et al. 2018). Ray places them and tries again where a worker dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from compress.study.pools import Event
from compress.study.trial import Trial
from evaluate.core.errors import MachineError

RETRIES = 1


class RayPool:
    """At most `workers` tasks at a time (by default one for each core of the cluster), in the order of the study.

    The study's folder must be at the same path on every node for stages to be shared and trainings to be resumed.
    Raises MachineError where ray is not installed, or no cluster answers.
    """

    retries = False

    def __init__(self, address: str, workers: int | None, out: Path, device: str) -> None:
        self.ray = _connected(address, workers)
        resources = self.ray.cluster_resources()
        cores, gpus = max(1, int(resources.get("CPU", 1))), resources.get("GPU", 0.0)
        self.slots = workers or cores
        self.threads = max(1, cores // self.slots)
        share = gpus / self.slots if device != "cpu" and gpus else 0.0
        options = {"num_cpus": min(self.threads, cores), "max_retries": RETRIES, "retry_exceptions": False}
        self.task = self.ray.remote(**options, num_gpus=min(share, 1.0))(_work)
        self.settings = (str(out.resolve()), device, self.threads)
        self.running: dict[Any, Trial] = {}

    def start(self, trial: Trial) -> None:
        """Hand a trial to the cluster."""
        self.running[self.task.remote(trial.as_dict(), *self.settings)] = trial

    def wait(self, seconds: float) -> list[Event]:
        """The trials that have ended."""
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        return [self._event(reference) for reference in done]

    def _event(self, reference: Any) -> Event:
        trial = self.running.pop(reference)
        try:
            return Event(trial, result=self.ray.get(reference))
        except self.ray.exceptions.RayError as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            return Event(trial, died=f"its Ray worker died ({type(error).__name__}: {reason[:200]})")

    def stop(self) -> None:
        """Cancel what is running and leave the cluster."""
        for reference in self.running:
            self.ray.cancel(reference, force=True)
        self.running = {}
        self.ray.shutdown()


def _connected(address: str, workers: int | None) -> Any:
    """The module ray, connected: "auto" takes the cluster that is there, or starts one on this machine."""
    try:
        import ray
    except ImportError as error:
        raise MachineError(
            '--ray needs the package ray, which is not installed: pip install "leanfit[ray]"; or leave --ray out, '
            "and the study runs in processes of this machine"
        ) from error
    home = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH", "")) if p)
    settings: dict[str, Any] = {
        "runtime_env": {"env_vars": {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, ValueError) as error:
        if address != "auto":
            reason = (str(error).splitlines() or [""])[0]
            raise MachineError(f"--ray {address}: no Ray cluster answers there ({reason})") from error
        ray.init(num_cpus=workers, include_dashboard=False, **settings)
    return ray


def _work(trial: dict[str, Any], out: str, device: str, threads: int) -> dict[str, Any]:
    """One trial in a process of Ray's."""
    from compress.core.progress import silent
    from compress.study.study_worker import attempt, limit_threads

    limit_threads(threads)
    result: dict[str, Any] = attempt(trial, Path(out), device, silent)
    return result
