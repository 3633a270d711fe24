"""Files that appear whole or not at all, and values as JSON can hold them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluate.core.errors import MachineError


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files by name, each beside its place, flushed to disk, then renamed in the order given.

    A reader, or a crash, sees the old file or the new one; none appears before all are on the disk.
    """
    parts = {name: folder / f".{name}.{os.getpid()}.part" for name in files}
    try:
        for name, data in files.items():
            with parts[name].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink()


def write_whole(path: Path, data: bytes | str, what: str = "the Record") -> None:
    """`write_together` of one file, in a folder that is made; text as UTF-8. A pipe or a device is written to.

    Raises MachineError, in which it is called `what`, where it cannot be written.
    """
    content = data.encode("utf-8", "replace") if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_special(path):
            path.write_bytes(content)
        elif not path.name:
            raise IsADirectoryError(f"{path} is a folder")
        else:
            write_together(path.parent, {path.name: content})
    except OSError as error:
        raise MachineError(
            f"cannot write {what} to {path}: {error.strerror or error}; free some space, or choose another place, and "
            "run the same command again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes the file's name as durable as its content; file systems that cannot sync a folder are left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_special(path: Path) -> bool:
    """Whether a path is a device or a pipe, as /dev/stdout: such a one is written to, never replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numpy to Python, tuples to lists, paths to text, NaN and infinities to null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # of numpy, which a recipe is read without
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
