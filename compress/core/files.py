"""Files that appear whole or not at all, hashes of what they hold, and where data sets and weights are looked for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core.errors import disk_problem
from evaluate.core.whole_files import write_together

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHT_FILES = (".pt", ".pth", ".th", ".ckpt", ".bin", ".safetensors", ".pt2")
SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What the three splits are called in folders and in data sets."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside `path`, flush to disk, then rename: a reader, or a crash, sees the old file or the new one."""
    write_together(path.parent, {path.name: data})


def clear_parts(*folders: Path) -> None:
    """Remove what a killed process was writing. Only for whoever holds the folders alone."""
    for folder in folders:
        for part in folder.glob(".*.part"):
            if part.is_file():
                part.unlink()


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raise MachineError, with the place, where the disk is full or may not be written."""
    try:
        yield
    except OSError as error:
        problem = disk_problem(error, place)
        if problem is None:
            raise
        raise problem from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """`write_bytes` of named arrays as an .npz file."""
    import numpy as np  # a recipe is read and checked without it

    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON with sorted keys; NaN and infinity are refused with ValueError."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Indented JSON with sorted keys; NaN and infinity are refused with ValueError."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def canonical_json(value: Any) -> str:
    """One line, sorted keys, no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)


def hash_of(*values: Any) -> str:
    """SHA-256, in hex, of JSON-able values."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256, in hex, of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_folder() -> Path:
    """$LEANFIT_DATA, or ~/.cache/leanfit (below $XDG_CACHE_HOME where that is set)."""
    given = os.environ.get("LEANFIT_DATA")
    if given:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "leanfit"
