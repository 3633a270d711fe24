"""What was paid for stays on disk: a store of finished stages, each in a folder that appears by one rename.

A stage is found again by its key, the hash of everything that can change its result, and only while its files are what
they were when it finished. While it runs its folder has a name of its own, which survives a kill, so that a training
inside it goes on from its last finished epoch.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from compress.core.files import file_hash, write_json
from evaluate.core.errors import MachineError
from evaluate.core.journal import Journal
from evaluate.core.records import StageLine
from evaluate.core.whole_files import sync_folder

WORK = "work"
RESULT = "result.json"
OURS = re.compile(r"\.?[\w-]+-[0-9a-f]{16}(\.part)?")

Work = Callable[[Path, Path], dict[str, Any]]
"""(folder, checkpoints) -> JSON-able result. Writes a stage's files into the one; may keep checkpoints in the other."""


class Stages:
    """The finished stages of one run, in `folder`; each one that finishes is also a line in the journal.

    shared : several processes use this folder: each stage has a lock of its own, so that one makes it and others wait.
    """

    def __init__(self, folder: Path, journal: Journal, *, shared: bool = False) -> None:
        self.folder = folder
        self.journal = journal
        self.shared = shared
        self.used: set[str] = set()
        self.seconds = 0.0

    def run(self, name: str, key: str, work: Work) -> tuple[Path, dict[str, Any]]:
        """The folder and the result of a stage, done now or found. One that was damaged since is done again."""
        final = self.folder / f"{name}-{key[:16]}"
        self.used.add(final.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The lock of a process that was killed is free at once.
        with FileLock(self.folder / f".{final.name}.lock") if self.shared else nullcontext():
            stored = _found(final)
            if stored is None:
                shutil.rmtree(final, ignore_errors=True)
                self._make(final, name, key, work)
                stored = dict(json.loads((final / RESULT).read_text(encoding="utf-8")))
            shutil.rmtree(final / WORK, ignore_errors=True)
        self.seconds += stored["seconds"]
        return final, stored

    def _make(self, final: Path, name: str, key: str, work: Work) -> None:
        part = self.folder / f".{final.name}.part"
        checkpoints = part / WORK
        checkpoints.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        result = work(part, checkpoints)
        seconds = round(time.perf_counter() - began, 3)
        files = {path.name: file_hash(path) for path in part.iterdir() if path.is_file() and path.name != RESULT}
        write_json(part / RESULT, {**result, "seconds": seconds, "files": files})
        part.replace(final)
        sync_folder(self.folder)
        # Only now: killed in between, a training that has finished would have lost its checkpoints.
        shutil.rmtree(final / WORK)
        entries = {"schema": 1, "kind": "stage", "name": name, "key": key, "seconds": seconds, "ended": time.time()}
        self.journal.append(StageLine.of(entries).raw)

    def tidy(self) -> None:
        """Remove the stages that this run did not use: those of an earlier recipe in the same folder."""
        for path in self.folder.iterdir():
            if path.is_dir() and OURS.fullmatch(path.name) and path.name not in self.used:
                shutil.rmtree(path)


def _found(final: Path) -> dict[str, Any] | None:
    """The result of a finished stage; None where there is none, or where a file of it is not what it was."""
    try:
        stored = dict(json.loads((final / RESULT).read_text(encoding="utf-8")))
        whole = all(file_hash(final / name) == claimed for name, claimed in stored["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return stored if whole else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder against a second process. Raises MachineError where one is at work in it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise MachineError(
            f"{folder}: another leanfit process is at work in this folder; wait for it, or give another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()
