"""Samples to run a model on: inputs as the model takes them, targets, and the outputs another machine computed.

They travel in the edge bundle, so they are stored small, but exactly: an array that takes few different values, as an
image that was normalised from bytes does, is kept as one byte an element and a table of the values' bits.

What a deployed model gives on samples, and how near that comes to what another machine computed.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, Union

import numpy as np
from numpy.typing import ArrayLike

from evaluate.core.components import only_allowed
from evaluate.core.errors import ArtifactError, DataError, LeanfitError, ModelError
from evaluate.metrics.base import Array, finite_outputs, get_metric
from evaluate.runtime.session import Session, judged_place

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


BATCH = 50


class Agreement(TypedDict):
    """How near outputs come to those another machine computed from the same file on the same n samples.

    same    : samples whose largest output is the same one; None where outputs are no (n, classes).
    max_abs : the largest difference, in the outputs' unit.
    sqnr_db : power of the expected outputs over that of the differences, in dB; None where nothing differs.
    """

    n: int
    same: int | None
    max_abs: float
    sqnr_db: float | None


def predict(session: Session, batches: Iterable[Mapping[str, Array]], heads: int = 1) -> Array:
    """The model's first output of floats over all batches (name -> (n, ...) array), joined along the first axis.

    heads : where more than 1, the first so many outputs, (n, columns) side by side.

    A file that finds ranges call by call (dynamic int8) gets row by row, as a device that answers one at a time gives
    it: in a batch its outputs would depend on who else is in it.

    Raises DataError where there is no batch, ModelError where the model cannot run on one, or gives another number
    of rows than it was handed.
    """
    outputs: list[Array] = []
    for feeds in _row_by_row(batches) if session.ranges_by_call and not _fixed_batch(session) else batches:
        rows = len(next(iter(feeds.values())))
        found = session.run(feeds)
        place = judged_place(found)
        given = found[place : place + heads]
        for output in given:
            if output.ndim == 0 or len(output) != rows:
                raise ModelError(f"{session.label} gave an output of shape {list(output.shape)} for {rows} samples")
        outputs.append(given[0] if heads == 1 else np.concatenate([part.reshape(rows, -1) for part in given], 1))
    if not outputs:
        raise DataError("there are no samples to predict: the split is empty")
    return np.concatenate(outputs)


def outputs_on(session: Session, samples: Samples, batch: int = BATCH) -> Array:
    """The model's judged output (n, ...) on packed samples, in batches of `batch`, or of the model's own fixed size.

    Where the batch is fixed the last one is filled up with the first samples, and their outputs are cut off.
    Raises as `predict` does.
    """
    fixed = _fixed_batch(session)
    if not fixed:
        return predict(session, samples.batches(batch))
    filled = Samples(samples.feeds(-(-len(samples) // fixed) * fixed))
    return predict(session, filled.batches(fixed))[: len(samples)]


def _fixed_batch(session: Session) -> int:
    """The rows of a call, where the model takes no other number; else 0."""
    return next((port.shape[0] for port in session.inputs if port.shape and isinstance(port.shape[0], int)), 0)


def _row_by_row(batches: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
    for feeds in batches:
        for row in range(len(next(iter(feeds.values())))):
            yield {name: values[row : row + 1] for name, values in feeds.items()}


def agreement(outputs: ArrayLike, expected: ArrayLike) -> Agreement:
    """Compare outputs (n, ...) with those expected of the same file. Raises DataError where their shapes differ."""
    got, wanted = finite_outputs(outputs), finite_outputs(expected)
    if got.shape != wanted.shape or not got.size:
        raise DataError(f"outputs {list(got.shape)} cannot be compared with expected ones, {list(wanted.shape)}")
    classes = got.ndim == 2 and got.shape[1] > 1
    noise = float(np.sum((got - wanted) ** 2))
    power = max(float(np.sum(wanted**2)), np.finfo(np.float64).tiny)
    return Agreement(
        n=len(got),
        same=int(np.sum(got.argmax(axis=1) == wanted.argmax(axis=1))) if classes else None,
        max_abs=float(np.max(np.abs(got - wanted))),
        sqnr_db=10 * float(np.log10(power / noise)) if noise else None,
    )
