"""What image tasks share: settings, and the way from two official splits to three."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from compress.tasks.sampling import split_indices
from compress.tasks.splits import TensorSplit
from compress.tasks.task import Task
from evaluate.core.errors import DataError

Limit: TypeAlias = Annotated[int, Field(ge=10, le=10**9)] | None


@dataclass(frozen=True)
class Limits:
    """Largest numbers of samples for quick runs; None takes all. Subsets are seeded and keep the share of a class."""

    train: int | None
    validation: int | None
    test: int | None


def image_task(
    name: str, train: TensorSplit, test: TensorSplit, classes: tuple[str, ...], held: int, limits: Limits, seed: int
) -> Task:
    """The task of an official train and test split, `held` training samples being set aside for validation."""
    rest, validation = split_indices(train.targets, held, seed)
    return Task(
        name,
        train=_limited(train.select(rest), limits.train, seed),
        validation=_limited(train.select(validation), limits.validation, seed),
        test=_limited(test, limits.test, seed),
        classes=classes,
    )


def _limited(split: TensorSplit, limit: int | None, seed: int) -> TensorSplit:
    return split if limit is None else split.take(limit, seed)


def read_bytes(path: Path, size: int, advice: str) -> bytes:
    """The content of a data file of exactly `size` bytes. Raises DataError for any other size."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {advice}") from error
    if len(content) != size:
        raise DataError(f"{path}: {len(content)} bytes, expected {size}: cut off or damaged. Delete it. {advice}")
    return content
