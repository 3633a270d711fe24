"""What models are measured on: which file is meant, under which name, and seeded or real inputs for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import ArtifactError, MachineError, ModelError, UsageError
from evaluate.core.execution_providers import PROVIDERS, provider_named
from evaluate.runtime.session import Port, Session

Feeds = dict[str, NDArray[Any]]


def model_file(path: str | Path) -> Path:
    """The ONNX file meant by a path: itself, or `model.onnx` in a folder. Raises ArtifactError where there is none."""
    place = Path(path)
    if not place.is_dir():
        return place
    file = place / "model.onnx"
    if not file.exists():
        other = ", ".join(sorted(p.name for p in place.glob("*.onnx"))[:5])
        raise ArtifactError(f"{place} holds no model.onnx" + (f"; name one of its files: {other}" if other else ""))
    return file


def split_provider(path: str | Path, provider: str) -> tuple[Path, str]:
    """`model.onnx@cuda` is that file on that provider; a path that exists as it stands is taken as it stands.

    Raises UsageError where the file is there and the provider is none.
    """
    head, at, tail = str(path).rpartition("@")
    if not at or not head or Path(path).exists():
        return Path(path), provider
    if tail in PROVIDERS.all():
        return Path(head), tail
    if Path(head).exists():
        try:
            return Path(head), provider_named(tail).name
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    return Path(path), provider


def unique_names(paths: Sequence[Path], taken: Iterable[str] = ()) -> list[str]:
    """Short names that differ: the folder's or file's own, more of its path where two are alike, then a number."""
    parts = [_parts(path) for path in paths]
    depths = [1] * len(parts)
    while True:
        names = ["/".join(p[-d:]) for p, d in zip(parts, depths)]
        # One path given twice stays alike, however much of it is shown.
        alike = [
            i
            for i, name in enumerate(names)
            if depths[i] < len(parts[i]) and any(n == name and p != parts[i] for n, p in zip(names, parts))
        ]
        if not alike:
            break
        for i in alike:
            depths[i] += 1
    used, found = set(taken), []
    for name in names:
        count, free = 1, name
        while free in used:
            count += 1
            free = f"{name} ({count})"
        used.add(free)
        found.append(free)
    return found


def _parts(path: Path) -> tuple[str, ...]:
    place = path.resolve()
    if place.name == "model.onnx":
        return place.parent.parts[1:] or (place.stem,)
    return (*place.parts[1:-1], place.stem if place.suffix == ".onnx" else place.name)


def random_feeds(session: Session, batch: int = 1, seed: int = 0) -> Feeds:
    """Seeded inputs of the model's shapes and dtypes: a free first dimension is `batch`, any other free one 1.

    Floats are standard normal, uint8 is an image's 0 to 255, other integers are 0 or 1, so that they are valid indices.
    Raises ModelError for an input that is no numeric tensor.
    """
    rng = np.random.default_rng(seed)
    return {port.name: _random(port, _shape(port, batch), rng, session.label) for port in session.inputs}


def feeds_for(session: Session, batch: int, seed: int, real: Mapping[str, NDArray[Any]] | None = None) -> Feeds:
    """Inputs for one call: the first `batch` of the `real` ones (repeated where they are fewer), else random ones.

    Raises UsageError where real inputs are given and the model takes others.
    """
    size = true_batch(session, batch)
    if real is None:
        return random_feeds(session, size, seed)
    wanted = {port.name for port in session.inputs}
    if wanted != set(real):
        raise UsageError(
            f"{session.label} takes {', '.join(sorted(wanted))}; the samples are for {', '.join(sorted(real))}"
        )
    return {name: np.resize(rows, (size, *rows.shape[1:])) for name, rows in real.items()}


def true_batch(session: Session, asked: int) -> int:
    """The batch a model is measured with: its own where that is fixed, else the one asked for."""
    shape = session.inputs[0].shape if session.inputs else ()
    return shape[0] if shape and isinstance(shape[0], int) else asked


def input_warnings(path: Path, session: Session, asked: int) -> list[str]:
    """Says where a model is not measured with the batch asked for, and which other dimensions it leaves open."""
    batch, warnings = true_batch(session, asked), []
    if batch != asked:
        warnings.append(f"{path} has a fixed batch of {batch}: measured with that, not with {asked}")
    for port in session.inputs:
        free = [d or f"dimension {axis}" for axis, d in enumerate(port.shape) if axis > 0 and not isinstance(d, int)]
        if free:
            warnings.append(f"{path}: input {port.name!r} leaves {', '.join(map(str, free))} open: measured with 1")
    return warnings


def _shape(port: Port, batch: int) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else batch if axis == 0 else 1 for axis, d in enumerate(port.shape))


def _random(port: Port, shape: tuple[int, ...], rng: np.random.Generator, label: str) -> NDArray[Any]:
    try:
        dtype = np.dtype(port.dtype)
    except TypeError:
        raise ModelError(
            f"{label}: input {port.name!r} is a {port.dtype}; bench can fill only numeric tensors"
        ) from None
    try:
        if dtype.kind == "f":
            return rng.standard_normal(shape).astype(dtype)
        return rng.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)
    except (MemoryError, ValueError, OverflowError) as error:  # beyond this memory, or beyond any
        raise MachineError(
            f"{label}: an input {port.name!r} of shape {shape} does not fit into memory; take a smaller batch"
        ) from error
