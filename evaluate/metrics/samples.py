"""Samples to run a model on: inputs as the model takes them, targets, and the outputs another machine computed.

They travel in the edge bundle, so they are stored small, but exactly: an array that takes few different values, as an
image that was normalised from bytes does, is kept as one byte an element and a table of the values' bits.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from evaluate.core.components import only_allowed
from evaluate.core.errors import ArtifactError, DataError, LeanfitError
from evaluate.metrics.base import get_metric

Array = NDArray[Any]
Source = Union[str, Path, bytes]
SCHEMA = 1
CODES = 256
_UNREADABLE = (
    OSError, ValueError, KeyError, IndexError, TypeError, EOFError, RuntimeError, SyntaxError, MemoryError,
    zipfile.BadZipFile, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """n samples of one task.

    inputs   : input name -> (n, ...) array, of the dtype the model takes.
    targets  : (n,) class ids for accuracy, (n, ...) floats for mse; None where nothing is known of the truth.
    metric   : the name or `module:name` of a registered one.
    classes  : class names by id, () for regression.
    expected : model name -> (n, ...) first outputs, computed where the samples were packed.
    Raises DataError where there are no samples, or not equally many of everything.
    """

    inputs: Mapping[str, Array]
    targets: Array | None = None
    metric: str = "accuracy"
    classes: tuple[str, ...] = ()
    expected: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arrays = {f"input {name!r}": array for name, array in self.inputs.items()}
        arrays.update({f"expected output of {name!r}": array for name, array in self.expected.items()})
        if self.targets is not None:
            arrays["targets"] = self.targets
        rows = {what: len(array) if array.ndim else 0 for what, array in arrays.items()}
        if not self.inputs or min(rows.values()) == 0:
            raise DataError("there are no samples: an input, the targets or an expected output is empty")
        if len(set(rows.values())) > 1:
            told = ", ".join(f"{what} {count}" for what, count in rows.items())
            raise DataError(f"samples need equally many rows of everything, got {told}")

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def judged(self) -> tuple[Samples, list[str]]:
        """These samples; without targets, and a sentence why, where the metric's code is not here. Imports nothing."""
        try:
            with only_allowed():
                get_metric(self.metric)
        except LeanfitError as error:
            return replace(self, targets=None), [f"no {self.metric} is taken on this machine: {error}"]
        return self, []

    def batches(self, size: int) -> Iterator[dict[str, Array]]:
        """Feeds (input name -> array) of `size` samples each, in order; the last may hold fewer."""
        if size < 1:
            raise DataError(f"a batch needs at least 1 sample, got {size}")
        for start in range(0, len(self), size):
            yield {name: array[start : start + size] for name, array in self.inputs.items()}

    def feeds(self, size: int) -> dict[str, Array]:
        """The first `size` samples as one batch; they begin anew where there are fewer."""
        rows = np.arange(size) % len(self)
        return {name: np.ascontiguousarray(array[rows]) for name, array in self.inputs.items()}

    def save(self) -> bytes:
        """The samples as an .npz file, not deflated; equal samples give equal bytes."""
        arrays: dict[str, Array] = {}
        for number, array in enumerate(self.inputs.values()):
            arrays.update({f"{part}{number}": stored for part, stored in _packed(array).items()})
        if self.targets is not None:
            arrays["targets"] = np.asarray(self.targets)
        arrays.update({f"expected{number}": np.asarray(array) for number, array in enumerate(self.expected.values())})
        meta = {
            "schema": SCHEMA,
            "inputs": list(self.inputs),
            "metric": self.metric,
            "classes": list(self.classes),
            "expected": list(self.expected),
        }
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        return _npz(arrays)

    @classmethod
    def load(cls, source: Source) -> Samples:
        """The samples of an .npz file (a path, or its bytes), bit for bit as they were saved. Raises ArtifactError."""
        label = "the samples" if isinstance(source, bytes) else str(source)
        try:
            data = source if isinstance(source, bytes) else Path(source).read_bytes()
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                return cls._from(stored)
        except DataError as error:
            raise ArtifactError(f"{label} cannot be used: {error}") from error
        except _UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}"
            raise ArtifactError(f"{label} cannot be read as packed samples ({reason}); pack them again") from error

    @classmethod
    def _from(cls, stored: Mapping[str, Array]) -> Samples:
        meta = json.loads(stored["meta"].tobytes())
        if meta["schema"] != SCHEMA:
            raise DataError(f"they have schema {meta['schema']!r}, and this leanfit reads {SCHEMA}")
        return cls(
            inputs={name: _unpacked(stored, number) for number, name in enumerate(meta["inputs"])},
            targets=stored.get("targets"),
            metric=meta["metric"],
            classes=tuple(meta["classes"]),
            expected={name: stored[f"expected{number}"] for number, name in enumerate(meta["expected"])},
        )


def _packed(array: Array) -> dict[str, Array]:
    """The array as {"input": itself}, or, where it is smaller, as {"codes": uint8 of its shape, "table": values}.

    table : (channels, values) of the array's dtype; one channel for the whole array, or one for each of axis 1.
    """
    array = np.ascontiguousarray(array)
    if array.dtype.kind in "fiu" and array.dtype.itemsize > 1:
        for channels in (array[None], *([np.moveaxis(array, 1, 0)] if array.ndim > 2 else [])):
            found = _codes(channels)
            if found is not None and found[1].nbytes + array.size < array.nbytes:
                codes, table = found
                whole = len(channels) == 1 and codes.shape[1:] == array.shape
                return {"codes": codes[0] if whole else np.moveaxis(codes, 0, 1).copy(), "table": table}
    return {"input": array}


def _codes(channels: Array) -> tuple[Array, Array] | None:
    """uint8 codes of (channels, ...) values and their table, or None where a channel has more than 256 values."""
    bits = np.dtype(f"u{channels.dtype.itemsize}")
    codes = np.empty(channels.shape, np.uint8)
    tables = []
    for number, channel in enumerate(channels):
        flat = np.ascontiguousarray(channel).reshape(-1)
        # By their bits: two zeros of different sign, and every NaN, come back as they were.
        found, where = np.unique(flat.view(bits), return_inverse=True)
        if len(found) > CODES:
            return None
        order = np.argsort(found.view(channels.dtype), kind="stable")  # neighbouring values, neighbouring codes
        rank = np.empty(len(order), np.uint8)
        rank[order] = np.arange(len(order), dtype=np.uint8)
        codes[number] = rank[where.reshape(-1)].reshape(channel.shape)
        tables.append(found[order])
    table = np.zeros((len(tables), max(len(values) for values in tables)), bits)
    for row, values in zip(table, tables):
        row[: len(values)] = values
    return codes, table.view(channels.dtype)


def _unpacked(stored: Mapping[str, Array], number: int) -> Array:
    if f"input{number}" in stored:
        return stored[f"input{number}"]
    codes, table = stored[f"codes{number}"], stored[f"table{number}"]
    bits = table.view(np.dtype(f"u{table.dtype.itemsize}"))
    if len(bits) == 1:
        return np.ascontiguousarray(bits[0][codes]).view(table.dtype)
    channels = np.arange(len(bits)).reshape(1, -1, *[1] * (codes.ndim - 2))
    return np.ascontiguousarray(bits[channels, codes]).view(table.dtype)


def _npz(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
