"""A worker process of a study: takes trials as JSON lines on stdin, gives Records as JSON lines on stdout.

It ends when stdin does, so that none outlives a study that was killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

SAYS_EVERY = 1.0  # seconds between two lines on how far a trial is
STOPS = ("MachineError", "MachineError", "NoRuntimeError", "RecipeError", "RecipeProblems")


def limit_threads(threads: int) -> None:
    """Divide the cores: torch takes so many threads here; ONNX Runtime always takes as many as the recipe says, one."""
    import torch

    torch.set_num_threads(threads)


def attempt(trial: dict[str, Any], out: Path, device: str, status: Callable[[str, float, float], None]) -> Any:
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
    """Work until stdin ends. The first line is {out, device, threads}, every other one a trial."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the study itself ends its workers
    says = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints, prints into the log
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    settings = jobs.get()
    limit_threads(settings["threads"])
    _say(says, {"ready": os.getpid()})
    while True:
        trial = jobs.get()
        result = attempt(trial, Path(settings["out"]), settings["device"], _status(says))
        _say(says, {"id": trial["id"], **result})


def _listen(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Hand on what comes in; at the end of it, end: what is half done goes on from its checkpoint next time."""
    for line in sys.stdin:
        jobs.put(json.loads(line))
    os._exit(0)


def _say(says: TextIO, message: dict[str, Any]) -> None:
    says.write(json.dumps(message) + "\n")
    says.flush()


def _status(says: TextIO) -> Callable[[str, float, float], None]:
    last = 0.0

    def status(message: str, done: float, total: float) -> None:
        nonlocal last
        if time.monotonic() - last >= SAYS_EVERY:
            last = time.monotonic()
            _say(says, {"status": message})

    return status


if __name__ == "__main__":
    main()
