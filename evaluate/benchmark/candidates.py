"""What is compared, and how: the models behind the paths, and the checked settings of one comparison.

What models are measured on: which file is meant, under which name, and seeded or real inputs for it.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import ArtifactError, MachineError, ModelError, UsageError, did_you_mean
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


# The candidate that times the baseline a second time; no model may be called so.
CONTROL = "the baseline again"


@dataclass
class Candidate:
    """One model: where it is, and what its probe found."""

    name: str
    path: Path
    file: Path
    provider: str
    stored: dict[str, Any]  # "sha256", "sizes"
    probed: dict[str, Any] = field(default_factory=dict)
    outputs: NDArray[Any] | None = None
    scores: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    provider: str
    io: str
    graphs: bool
    threads: tuple[int, ...]
    batch: tuple[int, ...]
    seconds: float
    seed: int
    energy: bool
    patience: float

    @property
    def conditions(self) -> list[dict[str, int]]:
        return [{"threads": t, "batch": b} for t in self.threads for b in self.batch]


def checked(
    provider: str,
    io: str,
    graphs: bool,
    threads: int | Sequence[int],
    batch: int | Sequence[int],
    seconds: float,
    seed: int,
    energy: bool,
    patience: float,
    models: int,
) -> Settings:
    provider_named(provider)
    if io not in ("device", "host"):
        raise UsageError(f"io must be device or host, got {io!r}{did_you_mean(str(io), ('device', 'host'))}")
    several = {"threads": _several(threads), "batch": _several(batch)}
    for what, values in (*several.items(), ("models", (models,))):
        if not values or min(values) < 1:
            raise UsageError(f"bench needs {what} of at least 1, got {', '.join(map(str, values)) or 'nothing'}")
        if len(set(values)) < len(values):
            raise UsageError(f"{what} names a value twice: {', '.join(map(str, values))}")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
    for what, value in (("seconds", seconds), ("patience", patience)):
        if not 0 < value < math.inf:
            raise UsageError(f"{what} must be above 0, and finite; got {value:g}")
    return Settings(
        provider, io, graphs, several["threads"], several["batch"], float(seconds), seed, energy, float(patience)
    )


def _several(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def find_candidates(
    paths: Sequence[str | Path], baseline: str | Path | None, provider: str, names: Sequence[str] | None
) -> tuple[list[Candidate], str]:
    """The models to measure, and the name of the baseline. Raises ArtifactError for a file that is not there."""
    given = [split_provider(path, provider) for path in paths]
    if names is not None and (len(names) != len(paths) or len({*names, CONTROL}) <= len(names)):
        counts = f"{len(paths)} model{'s' if len(paths) > 1 else ''} and {len(names)} names"
        raise UsageError(f"names must be as many as models, and differ; got {counts}: {', '.join(names)}")
    first = 0
    if baseline is not None:
        wanted, its_provider = split_provider(baseline, provider)
        known = [(model_file(path).resolve(), where) for path, where in given]
        here = (model_file(wanted).resolve(), its_provider)
        if here in known:
            first = known.index(here)
        else:
            if not here[0].exists():
                near = did_you_mean(str(baseline), map(str, paths))
                raise ArtifactError(f"there is no baseline {baseline}{near}")
            given.insert(0, (wanted, its_provider))
            names = None if names is None else [*unique_names([wanted], [CONTROL, *names]), *names]
    called = list(names) if names is not None else unique_names([path for path, _ in given], [CONTROL])
    found = [
        Candidate(name, path, model_file(path), where, _stored(model_file(path)))
        for name, (path, where) in zip(called, given)
    ]
    return found, found[first].name


def _stored(file: Path) -> dict[str, Any]:
    """SHA-256 and sizes of a file: here, so that packing a large one counts as a part of the budget."""
    data = _bytes(file)
    sizes = {"bytes": len(data), "packed_bytes": len(zlib.compress(data, 9))}
    return {"sha256": hashlib.sha256(data).hexdigest(), "sizes": sizes}


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        siblings = [p.name for p in file.parent.glob("*.onnx")] if file.parent.is_dir() else []
        raise ArtifactError(f"there is no file {file}{did_you_mean(file.name, siblings)}") from None
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror or error}") from error
