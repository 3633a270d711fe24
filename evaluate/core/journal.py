"""The results journal: one JSON object a line, append-only, safe with several writers and with a killed one."""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluate.core.errors import ArtifactError, MachineError
from evaluate.core.records import holds_records, read_json_records, repaired
from evaluate.core.whole_files import plain, sync_folder

JOURNAL = "records.jsonl"
Record = dict[str, Any]


class Journal:
    """A journal file. `problems` says, after `read`, which lines could not be used and why."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.problems: list[str] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and return once it is on the disk.

        Writers take a lock on the file (on Windows there is none: one writer at a time); a line torn by a killed writer
        is closed first, so that it spoils no other line; a line that does not fit on the disk is taken back. Numbers
        that are not finite become null.
        Raises MachineError where the file cannot be written (no space, no permission).
        """
        text = json.dumps(plain(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = text.encode(errors="surrogatepass") + b"\n"  # a path that is no UTF-8; json.loads reads it back
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, exclusive=True) as handle:
                _append(handle, line)
            sync_folder(self.path.parent)
        except OSError as error:
            raise MachineError(
                f"the record could not be written to {self.path}: {error.strerror or error}. Free some space or allow "
                "writing there, and run the same command again; finished work is kept."
            ) from error

    def read(self) -> list[Record]:
        """All whole records in the order written; [] where there is no file yet. Broken lines go to `problems`.

        Raises ArtifactError where the file cannot be read at all.
        """
        return list(self.records())

    def records(self) -> Iterator[Record]:
        """The same one by one, so that a journal of any length takes the memory of its longest line."""
        self.problems = []
        try:
            with _locked(self.path, os.O_RDONLY, exclusive=False) as handle, open(handle, "rb", closefd=False) as file:
                for number, line in enumerate(file, start=1):
                    record = self._parse(line, number, torn=not line.endswith(b"\n"))
                    if record is not None:
                        yield record
        except FileNotFoundError:
            return
        except OSError as error:
            raise ArtifactError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _parse(self, line: bytes, number: int, torn: bool) -> Record | None:
        if not line.strip():
            return None
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # of json, and of bytes that are no UTF-8
            why = "was cut off while it was written" if torn else "is not a JSON object"
            self.problems.append(f"{self.path}:{number}: this record {why}; it was skipped")
            return None
        if not isinstance(record, dict):
            self.problems.append(f"{self.path}:{number}: this line is not a JSON object; it was skipped")
            return None
        whole, fault = repaired(record)
        if fault:
            self.problems.append(f"{self.path}:{number}: this record {fault}")
        return whole


def find_records(
    path: str | Path,
    *,
    on_problem: Callable[[str], None] | None = None,
    whole: int | None = None,
    status: Callable[[str, float, float], None] | None = None,
) -> list[Record]:
    """All records of a journal or a JSON file (one Record, or a list), or of all of these below a folder; oldest first.

    A record found twice (a copied folder) is given once, the last one read. `on_problem` is called with a sentence for
    every line and every Record that could not be used. Below a folder, JSON files without Records are passed over.

    whole  : so many of the newest are kept whole, of older ones only what a line of an overview needs; None keeps all.
    status : called with (message, files done, files in all).
    Raises ArtifactError where there is no such place, where it cannot be read, or where no record is in it.
    """
    place = Path(path)
    if not place.exists():
        raise ArtifactError(f"there is no {place}; give a run's folder, a folder of runs, or a {JOURNAL} or .json file")
    found: dict[tuple[object, ...], Record] = {}
    newest: list[tuple[str, int, tuple[object, ...]]] = []
    problems: list[str] = []
    files = _files(place)
    for done, file in enumerate(files, start=1):
        for number, record in enumerate(_read_file(file, place.is_dir(), problems)):
            key = _key(record, file, number)
            found[key] = record
            heapq.heappush(newest, (str(record.get("created", "")), len(found), key))
            if whole is not None and len(newest) > whole:
                _, _, old = heapq.heappop(newest)
                found[old] = _line_of(found[old])
        if status is not None:
            status("reading Records", done, len(files))
    for problem in problems:
        (on_problem or _ignored)(problem)
    if not found:
        why = f"; {problems[0]}" if problems else ""
        raise ArtifactError(
            f"no records were found in {place}{why}. `leanfit compress RECIPE --out DIR` writes DIR/{JOURNAL}, "
            "`leanfit bench ... --out FILE.json` that of a benchmark."
        )
    return sorted(found.values(), key=lambda record: str(record.get("created", "")))


# What a line of an overview, and a trial's point, is made of; the rest of a Record is most of its bytes.
_HEAVY = {"samples", "recipe", "passes", "per_class_drop", "profiles", "scenarios", "floors", "machine", "widths"}
_HEAVY |= {"per_class", "inputs", "memory", "energy", "versions", "providers", "onnxruntime_build", "why"}


def _line_of(record: Record) -> Record:
    """A Record without what only its own report shows."""

    def light(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: light(item) for key, item in value.items() if key not in _HEAVY}
        return [light(item) for item in value] if isinstance(value, list) else value

    if record.get("kind") in _LAWS:
        return record
    lighter: Record = light(record)
    return lighter


_LAWS = ("law", "trial")  # their own pages are made of all of them


def _key(record: Record, file: Path, number: int) -> tuple[object, ...]:
    """What makes a record the same one in two files: its id, else its place."""
    known = record.get("id")
    return (known,) if known and isinstance(known, (str, int)) else (str(file), number)


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    return sorted([*place.rglob(JOURNAL), *(file for file in place.rglob("*.json") if holds_records(file))])


def _read_file(file: Path, quiet: bool, problems: list[str]) -> Iterator[Record]:
    """The records of one file; what is wrong with it goes to `problems`. A journal may be named .json as well."""
    journal = Journal(file)
    if file.suffix.lower() == ".json" and file.is_file():
        try:
            whole = read_json_records(file, quiet=quiet)
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read: {error.strerror or error}") from error
        if whole is not None:
            problems += whole[1]
            yield from whole[0]
            return
    yield from journal.records()
    problems += journal.problems


def _append(handle: int, line: bytes) -> None:
    """One write at the end; whatever of it did not reach the disk is taken back."""
    size = os.fstat(handle).st_size
    rest = memoryview(b"\n" + line if _ends_torn(handle, size) else line)
    try:
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, size)
        raise


def _ends_torn(handle: int, size: int) -> bool:
    if size == 0:
        return False
    os.lseek(handle, size - 1, os.SEEK_SET)
    return os.read(handle, 1) != b"\n"


@contextlib.contextmanager
def _locked(path: Path, flags: int, *, exclusive: bool) -> Iterator[int]:
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)
    try:
        if sys.platform != "win32":
            import fcntl

            # A file system without locks is no reason to lose a record: one appended write has to do there.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield handle
    finally:
        os.close(handle)


def _ignored(problem: str) -> None:
    """What becomes of problems when nobody asked for them."""
