"""What is compared, and how: the models behind the paths, and the checked settings of one comparison."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from evaluate.core.errors import ArtifactError, UsageError, did_you_mean
from evaluate.core.execution_providers import PROVIDERS, provider_named, provider_of
from evaluate.runtime.onnx_file import external_files


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

    A file that one runtime alone reads, as .tflite, is measured by that.

    Raises UsageError where the file is there and the provider is none.
    """
    head, at, tail = str(path).rpartition("@")
    if not at or not head or Path(path).exists():
        return Path(path), provider_of(Path(path).suffix, provider)
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
    """SHA-256 and sizes of a file, with those beside it that hold its weights."""
    data = b"".join(_bytes(part) for part in (file, *external_files(file)))
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
