"""What was paid for stays on disk: a store of finished stages, each in a folder that appears by one rename.

A stage is found again by its key, the hash of everything that can change its result. While it runs its folder has a
name of its own, which survives a kill, so that a training inside it goes on from its last finished epoch.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.errors import EnvironmentProblem
from compress.files import write_json
from evaluate.results import Journal

__all__ = ["Stages"]

WORK = "work"


class Stages:
    """The finished stages of one run, in `folder`; each one that finishes is also a line in the journal."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder = folder
        self.journal = journal
        self.used: set[str] = set()
        self.seconds = 0.0

    def run(self, name: str, key: str, work: Callable[[Path, Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
        """The folder and the result of a stage, done now or found.

        `work(folder, checkpoints)` writes the stage's files into `folder`, may keep checkpoints in the other, and
        returns a JSON-able result.
        """
        final = self.folder / f"{name}-{key[:16]}"
        self.used.add(final.name)
        if not (final / "result.json").is_file():
            self._make(final, name, key, work)
        stored = json.loads((final / "result.json").read_text(encoding="utf-8"))
        self.seconds += stored["seconds"]
        return final, stored

    def _make(self, final: Path, name: str, key: str, work: Callable[[Path, Path], dict[str, Any]]) -> None:
        part = self.folder / f".{final.name}.part"
        checkpoints = part / WORK
        checkpoints.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        result = work(part, checkpoints)
        seconds = round(time.perf_counter() - began, 3)
        write_json(part / "result.json", {**result, "seconds": seconds})
        shutil.rmtree(checkpoints)
        part.replace(final)
        _sync_folder(self.folder)
        line = {"schema": 1, "kind": "stage", "name": name, "key": key, "seconds": seconds, "ended": time.time()}
        self.journal.append(line)

    def tidy(self) -> None:
        """Remove the stages that this run did not use: those of an earlier recipe in the same folder."""
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in self.used:
                shutil.rmtree(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder against a second process. Raises EnvironmentProblem where one is at work in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentProblem(
                f"{folder}: another leanfit process is at work in this folder; wait for it, or give another --out"
            ) from error
        yield


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
