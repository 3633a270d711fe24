"""Fashion-MNIST: 70,000 grey images of 28x28 in ten classes (Xiao, Rasul & Vollgraf 2017), from the idx files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.core.files import data_folder
from compress.core.progress import Status, silent
from compress.tasks.image_files import Limit, check_read, fetch, image_outline, image_task
from compress.tasks.task_registry import register_task
from evaluate.core.errors import DataError

if TYPE_CHECKING:
    from compress.tasks.task import Task

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FOLDER = "fashion-mnist"
FILES = {  # name -> md5
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_SCALE = ((255 * 0.2860,), (255 * 0.3530,))
_HELD_SHARE = 10  # one training image in ten


@register_task("fashion_mnist", outline=lambda: image_outline("fashion_mnist", (1, 28, 28), CLASSES))
def fashion_mnist(
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    train_limit: Limit = None,
    validation_limit: Limit = None,
    test_limit: Limit = None,
    status: Status = silent,
) -> Task:
    """Fashion-MNIST, 1x28x28, ten classes: 54,000 / 6,000 / 10,000 images, (x / 255 - 0.2860) / 0.3530."""
    folder = data_folder() / FOLDER
    for name, md5 in FILES.items():
        if not (folder / name).is_file():
            fetch(URL + name, md5, folder / name, advice=_advice(folder), status=status)
    train, test = _split(folder, "train"), _split(folder, "t10k")
    limits = (train_limit, validation_limit, test_limit)
    return image_task("fashion_mnist", train, test, _SCALE, CLASSES, len(train[1]) // _HELD_SHARE, limits, split_seed)


def _advice(folder: Path) -> str:
    return (
        f"Fashion-MNIST is read from {folder}: {', '.join(FILES)}. Put them there, or set LEANFIT_DATA to the folder "
        f"that holds {FOLDER}/."
    )


def _split(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 1, 28, 28) and labels (n,)."""
    images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3)
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1)
    check_read(images, labels, len(CLASSES), f"{folder} ({part})", _advice(folder))
    return images[:, None], labels


def _read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """The uint8 array of a gzipped idx file: magic 0x0000 08 rank, big-endian int32 sizes, then the values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}). Delete it. {_advice(path.parent)}") from error
    header = 4 + 4 * rank
    if len(content) < header or content[:4] != bytes((0, 0, 8, rank)):
        raise DataError(f"{path}: not an idx file of {rank} dimensions of bytes. Delete it. {_advice(path.parent)}")
    shape = struct.unpack(f">{rank}i", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(f"{path}: {len(content) - header} values for shape {shape}. Delete it. {_advice(path.parent)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
