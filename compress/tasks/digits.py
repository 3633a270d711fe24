"""scikit-learn's handwritten digits: 1,797 grey images of 8x8, embedded in the package (Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.tasks.image_files import image_outline
from compress.tasks.task_registry import register_task
from evaluate.core.errors import DataError

if TYPE_CHECKING:
    from compress.tasks.splits import TensorSplit
    from compress.tasks.task import Task

CLASSES = tuple("0123456789")
_SHARE = 0.2  # of all samples, for validation and for test each


@register_task("digits", outline=lambda: image_outline("digits", (1, 8, 8), CLASSES))
def digits(
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    train_limit: Annotated[int, Field(ge=10, le=10**9)] | None = None,
    test_limit: Annotated[int, Field(ge=10, le=10**9)] | None = None,
) -> Task:
    """scikit-learn's digits, 1x8x8 in 0..1, ten classes: 1,079 / 359 / 359 samples; no download."""
    from compress.tasks.splits import split_indices
    from compress.tasks.task import Task

    everything = _load()
    count = round(len(everything) * _SHARE)
    rest, test = split_indices(everything.targets, count, split_seed)
    remaining = everything.select(rest)
    train, validation = split_indices(remaining.targets, count, split_seed + 1)
    return Task(
        "digits",
        train=remaining.select(train).take(train_limit or len(train), split_seed),
        validation=remaining.select(validation),
        test=everything.select(test).take(test_limit or count, split_seed),
        classes=CLASSES,
    )


def _load() -> TensorSplit:
    import torch

    from compress.tasks.splits import TensorSplit

    images, labels = _read()
    pixels = torch.from_numpy((images / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    return TensorSplit({"image": pixels}, torch.from_numpy(labels.astype(np.int64)))


def _read() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values 0..16 (n, 64) and labels (n,): the file inside scikit-learn, whose import would take two seconds."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError(
            "task 'digits' comes with scikit-learn, which is not installed: pip install 'leanfit[digits]' "
            "(or pip install scikit-learn)."
        )
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        values = np.loadtxt(file, delimiter=",")
        return values[:, :-1], values[:, -1]
    from sklearn.datasets import load_digits  # which knows where another version of it keeps them

    images, labels = load_digits(return_X_y=True)
    return images, labels
