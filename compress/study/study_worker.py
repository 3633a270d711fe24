"""A worker process of a study: takes trials, gives their Records. None outlives a study that was killed."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path
from typing import Any

from compress.core.progress import Status
from evaluate.runtime.worker_process import Parent

STATUS_EVERY = 1.0  # seconds between two messages on how far a trial is
STOPS = ("MachineError", "NoRuntimeError", "RecipeError", "RecipeProblems")


def limit_threads(threads: int) -> None:
    """Divide the cores: torch takes so many threads here; ONNX Runtime always takes as many as the recipe says, one."""
    import torch

    torch.set_num_threads(threads)


def attempt(trial: dict[str, Any], out: Path, device: str, status: Status) -> Any:
    """What became of a trial: {"record": ...}, or {"failed": {kind, message, exit_code, stops}}.

    stops : the reason lies in the machine or the study, so that every other trial would end in the same way.
    """
    from compress.core.errors import disk_problem
    from compress.study.trial import Trial
    from compress.study.trial_run import run_trial

    try:
        return {"record": run_trial(Trial(**trial), out, device=device, status=status)}
    except OSError as error:
        problem = disk_problem(error, out)
        return _failure(problem if problem is not None else error)
    except Exception as error:  # noqa: BLE001  (whatever a trial does, its Record says so, and the study goes on)
        return _failure(error)


def _failure(error: Exception) -> dict[str, Any]:
    code = getattr(error, "exit_code", None)
    kind = type(error).__name__
    first = (str(error) or kind) if code is not None else f"{kind}: {(str(error).splitlines() or [''])[0]}"
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        first = "out of memory; take fewer --workers or a smaller batch_size"
    if code is None:
        traceback.print_exception(error)  # to the log of the workers
    return {"failed": {"kind": kind, "message": first, "exit_code": code or 1, "stops": kind in STOPS}}


def main() -> None:
    """Work until the study ends. The first message is {out, device, threads}, every other one a trial."""
    parent = Parent()
    settings = parent.receive()
    limit_threads(settings["threads"])
    parent.send({"ready": os.getpid()})
    while True:
        trial = parent.receive()
        result = attempt(trial, Path(settings["out"]), settings["device"], _status(parent))
        parent.send({"id": trial["id"], **result})


def _status(parent: Parent) -> Status:
    last = 0.0

    def status(message: str, done: float, total: float) -> None:
        nonlocal last
        if time.monotonic() - last >= STATUS_EVERY:
            last = time.monotonic()
            parent.send({"status": message})

    return status
