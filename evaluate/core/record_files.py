"""Records in JSON files: one Record, or a list of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluate.core.errors import MachineError
from evaluate.core.records import repaired
from evaluate.core.whole_files import is_special, plain, write_whole


def holds_records(path: Path) -> bool:
    """Whether a JSON file may hold Records: it has the words "schema" and "kind", and can be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return b'"schema"' in data and b'"kind"' in data


def read_json_records(path: Path, *, quiet: bool = False) -> tuple[list[dict[str, Any]], list[str]] | None:
    """The Records in a JSON file, and a sentence for each one that cannot be used; None where it holds JSON lines.

    quiet : say nothing of objects that are no Records, as in a folder that holds other people's JSON.
    Raises OSError where the file cannot be read.
    """
    data = path.read_bytes()
    value = _parsed(data)
    if value is None:
        torn = f"{path}: this file is not whole JSON (was it cut off?); it was skipped: copy or write it again"
        return None if _parsed(data.partition(b"\n")[0]) is not None else ([], [torn])
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, item in enumerate(value if isinstance(value, list) else [value], start=1):
        where = f"{path}: record {number}" if isinstance(value, list) else f"{path}: this record"
        if not _is_record(item):
            said = f'{where} has no "schema" and "kind": it is no Record of leanfit; it was skipped'
            problems += [] if quiet else [said]
            continue
        record, fault = repaired(item)
        problems += [f"{where} {fault}"] if fault else []
        found += [record] if record is not None else []
    return found, problems


def _parsed(data: bytes) -> Any:
    """The JSON value; None for what is no JSON (and for null)."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_record(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("schema"), int) and isinstance(item.get("kind"), str)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one Record as a JSON file: whole, or not at all; numbers that are not finite become null.

    Raises MachineError where it cannot be written.
    """
    write_whole(path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n")


def require_writable(path: Path, option: str) -> None:
    """Raise MachineError, before anything is measured, where a Record could not be written to `path` afterwards.

    A file that is there and holds something else than Records is left alone. option : the flag that names it.
    """
    if is_special(path):
        return
    folder = path.parent
    if path.is_dir():
        raise MachineError(f"{path} is a folder; {option} takes the name of a file, as {path / 'out.json'}")
    if not folder.is_dir():
        raise MachineError(f"there is no folder {folder} for {option}; make it, or choose another place")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise MachineError(f"{path} may not be written; choose another place for {option}, or change its rights")
    if path.exists() and path.stat().st_size:
        held = read_json_records(path, quiet=True)
        if held is None or not held[0]:
            raise MachineError(f"{path} is there and holds no Record; it was left alone: name another file by {option}")
