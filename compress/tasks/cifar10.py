"""CIFAR-10: 60,000 colour images of 32x32 in ten classes (Krizhevsky 2009), from the official binary layout."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.core.files import data_folder
from compress.core.progress import Status, silent
from compress.tasks.image_files import SCALES, Limit, check_read, fetch, image_outline, image_task, read_bytes, writable
from compress.tasks.task_registry import register_task
from evaluate.core.errors import DataError

if TYPE_CHECKING:
    from compress.tasks.task import Task

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{index}.bin" for index in range(1, 6))
TEST_FILE = "test_batch.bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORDS = 10_000  # images a file
_HELD = 5_000

_SCALES = {**SCALES, "cifar10": ((125.307, 122.961, 113.8575), (62.985, 62.0925, 66.708))}


@register_task("cifar10", outline=lambda: image_outline("cifar10", (3, 32, 32), CLASSES))
def cifar10(
    normalize: Literal["imagenet", "cifar10", "none"] = "cifar10",
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    train_limit: Limit = None,
    validation_limit: Limit = None,
    test_limit: Limit = None,
    status: Status = silent,
) -> Task:
    """CIFAR-10, 3x32x32, ten classes: 45,000 / 5,000 / 10,000 images, the validation split off the training files.

    `normalize` must be what the checkpoint was trained with: (x / 255 - mean) / std of ImageNet or of CIFAR-10, or
    none: float pixels from 0 to 255 as they are.
    """
    root = data_folder()
    _obtain(root, status)
    parts = [_read(root / FOLDER / name) for name in TRAIN_FILES]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return image_task(
        "cifar10",
        (images, labels),
        _read(root / FOLDER / TEST_FILE),
        _SCALES[normalize],
        CLASSES,
        len(labels) * _HELD // 50_000,
        (train_limit, validation_limit, test_limit),
        split_seed,
    )


def _advice(root: Path) -> str:
    return (
        f"CIFAR-10 is read from {root / FOLDER}: {TRAIN_FILES[0]} ... {TRAIN_FILES[-1]} and {TEST_FILE}, as in "
        f"{URL}. Put them there, or set LEANFIT_DATA to the folder that holds {FOLDER}/."
    )


def _obtain(root: Path, status: Status) -> None:
    """Fetch and unpack the archive where no file of it is there."""
    wanted = (*TRAIN_FILES, TEST_FILE)
    missing = [name for name in wanted if not (root / FOLDER / name).is_file()]
    if not missing:
        return
    if len(missing) < len(wanted):
        raise DataError(f"{root / FOLDER}: {', '.join(missing)} missing. {_advice(root)}")
    archive = root / URL.rsplit("/", 1)[-1]
    fetch(URL, MD5, archive, advice=_advice(root), status=status)
    _unpack(archive, root, wanted)
    archive.unlink()


def _unpack(archive: Path, root: Path, wanted: tuple[str, ...]) -> None:
    with writable(root), tempfile.TemporaryDirectory(dir=root) as scratch:
        with tarfile.open(archive) as tar:
            members = [tar.getmember(f"{FOLDER}/{name}") for name in wanted]
            tar.extractall(scratch, members=members, filter="data")
        (root / FOLDER).mkdir(exist_ok=True)
        for name in wanted:
            (Path(scratch) / FOLDER / name).replace(root / FOLDER / name)


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 3, 32, 32) and labels (n,): each record is one label byte and 3,072 pixel bytes."""
    content = read_bytes(path, RECORDS * 3073, _advice(path.parent.parent))
    records = np.frombuffer(content, np.uint8).reshape(RECORDS, 3073)
    images, labels = records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
    check_read(images, labels, len(CLASSES), str(path), _advice(path.parent.parent))
    return images, labels
