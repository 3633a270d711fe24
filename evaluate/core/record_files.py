"""What a Record must look like to be read, and Records in JSON files: one Record, or a list of them."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.core.errors import MachineError

SCHEMA = 1
_OBJECTS = ("environment", "hashes", "recipe", "task", "samples", "settings", "machine")
_LISTS = ("goals", "passes", "per_class_drop", "warnings", "results", "floors", "failed", "profiles", "scenarios")
_SIDES = ("baseline", "compressed", "drop", "speedup")


def fault_of(record: Mapping[str, Any]) -> str:
    """Why a Record cannot be used, as the end of a sentence; empty where it can."""
    if record.get("schema", SCHEMA) != SCHEMA:
        return f"has schema {record['schema']!r}, and this leanfit reads {SCHEMA}; it was skipped (update leanfit)"
    # In a benchmark's Record the baseline is a name, and a speed-up belongs to each result.
    sides: dict[str, type] = {"baseline": str} if record.get("kind") == "bench" else dict.fromkeys(_SIDES, dict)
    shapes: dict[str, type] = {**dict.fromkeys(_OBJECTS, dict), **dict.fromkeys(_LISTS, list), **sides}
    wrong = [name for name, kind in shapes.items() if not isinstance(record.get(name) or kind(), kind)]
    return f"has another {', '.join(wrong)} than leanfit writes; it was skipped" if wrong else ""


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
        elif fault := fault_of(item):
            problems.append(f"{where} {fault}")
        else:
            found.append(item)
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
    part = path.parent / f".{path.name}.{os.getpid()}.part"  # not with_name, which a folder like "." has not
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_special(path):
            path.write_text(json.dumps(plain(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
            return
        with part.open("w", encoding="utf-8") as file:
            json.dump(plain(record), file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise MachineError(
            f"{path} could not be written: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


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


def is_special(path: Path) -> bool:
    """Whether a path is a device or a pipe, as /dev/stdout: such a one is written to, never replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numpy to Python, tuples to lists, paths to text, NaN and infinities to null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
