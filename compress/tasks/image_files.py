"""What image tasks share: files fetched with a checksum, and the way from two official splits to three."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.core.progress import Status, silent
from evaluate.core.errors import DataError, MachineError

if TYPE_CHECKING:
    from compress.tasks.task import Task

_CHUNK = 1 << 18
_TIMEOUT = 20.0
Limit: TypeAlias = Annotated[int, Field(ge=10, le=10**9)] | None
SCALES = {  # mean and standard deviation by channel, of pixels in 0..255
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "none": ((0.0,) * 3, (1.0,) * 3),
}


def image_task(
    name: str,
    train: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    test: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    scale: tuple[Sequence[float], Sequence[float]],
    classes: tuple[str, ...],
    held: int,
    limits: tuple[Limit, Limit, Limit],
    seed: int,
) -> Task:
    """The task of an official train and test split, `held` training samples being set aside for validation.

    train, test : images (n, c, h, w) and labels (n,).
    scale       : mean and standard deviation by channel, in units of 0..255.
    limits      : largest numbers of training, validation and test samples, for quick runs; None takes all.
    """
    import torch

    from compress.tasks.splits import Normalize, TensorSplit, split_indices
    from compress.tasks.task import Task

    seen = Normalize(tuple(scale[0]), tuple(scale[1]))
    learnt, judged = (
        TensorSplit({"image": torch.from_numpy(images.copy())}, torch.from_numpy(labels.astype(np.int64)), seen)
        for images, labels in (train, test)
    )
    rest, validation = split_indices(learnt.targets, held, seed)
    whole = (learnt.select(rest), learnt.select(validation), judged)
    limited = [s if limit is None else s.take(limit, seed) for s, limit in zip(whole, limits, strict=True)]
    return Task(name, limited[0], limited[1], limited[2], classes)


def image_outline(name: str, shape: tuple[int, int, int], classes: tuple[str, ...]) -> Task:
    """A task of one made-up image (c, h, w) for each class, standard normal as normalised ones nearly are."""
    import torch

    from compress.core.seeding import generator
    from compress.tasks.splits import TensorSplit
    from compress.tasks.task import Task

    images = torch.randn(len(classes), *shape, generator=generator(0))
    split = TensorSplit({"image": images}, torch.arange(len(classes)))
    return Task(name, split, split, split, classes)


def check_read(images: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int, where: str, advice: str) -> None:
    """As many images as labels, and labels within 0 .. classes - 1. Raises DataError."""
    problem = ""
    if len(images) != len(labels):
        problem = f"{len(images)} images and {len(labels)} labels"
    elif not len(labels):
        problem = "no samples"
    elif labels.max() >= classes:
        problem = f"class ids run from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
    if problem:
        raise DataError(f"{where}: {problem}: damaged. Delete it. {advice}")


def read_bytes(path: Path, size: int, advice: str) -> bytes:
    """The content of a data file of exactly `size` bytes. Raises DataError for any other size."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {advice}") from error
    if len(content) != size:
        raise DataError(f"{path}: {len(content)} bytes, expected {size}: cut off or damaged. Delete it. {advice}")
    return content


def fetch(url: str, md5: str, target: Path, *, advice: str, status: Status = silent, timeout: float = _TIMEOUT) -> None:
    """Download `url` to `target`, checking the md5 its publisher states.

    `advice` ends every message: where the file can be put by hand. Raises DataError where the address cannot be
    reached, the connection breaks off or the checksum differs, MachineError where the folder cannot be written;
    nothing is left behind then.
    """
    with writable(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    part = Path(name)
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in _chunks(url, timeout, advice, status):
                digest.update(chunk)
                with writable(target.parent):
                    file.write(chunk)
        if digest.hexdigest() != md5:
            raise DataError(f"{url}: md5 {digest.hexdigest()}, expected {md5}: damaged, or changed since. {advice}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _chunks(url: str, timeout: float, advice: str, status: Status) -> Iterator[bytes]:
    done = total = 0
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                status(f"downloading {url.rsplit('/', 1)[-1]}", done, max(total, done))
                yield chunk
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise DataError(f"{url} cannot be fetched ({error}). {advice}") from error
    if done < total:
        raise DataError(f"{url}: the connection broke off after {done} of {total} bytes; try again. {advice}")


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an MachineError that names the folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(
            f"{folder}: cannot be written ({reason}). Free some space, or set LEANFIT_DATA to another folder."
        ) from error
