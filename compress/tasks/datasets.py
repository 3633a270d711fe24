"""Data sets of torch, torchvision and Hugging Face as splits: in memory where small, else read batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compress.core.files import SPLITS
from compress.tasks.heads import packed
from compress.tasks.splits import LoaderSplit, Split, TensorSplit, split_indices
from evaluate.core.errors import DataError, did_you_mean
from evaluate.core.text import a_few

TARGETS = ("label", "labels", "target", "targets", "y", "fine_label", "class")
IN_MEMORY = 2**29  # bytes of one split, above which it is read batch by batch
_BATCH = 64


class Pairs(Dataset[Any]):
    """A data set of any form as (inputs by name, target) pairs of tensors; the indices name the samples that it has."""

    def __init__(
        self, data: Any, inputs: str | Sequence[str] | None, target: str | Sequence[str] | None, where: str
    ) -> None:
        if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
            raise DataError(
                f"{where}: {type(data).__name__} has no length or no items by number; give a map-style data set, or "
                "loaders to Task.from_loaders."
            )
        if len(data) == 0:
            raise DataError(f"{where}: the data set is empty.")
        self.data, self.inputs, self.target, self.where = data, inputs, target, where
        self.indices = torch.arange(len(data))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        number = int(self.indices[index])
        inputs, target = _pair(self.data[number], self.inputs, self.target, f"{self.where}, sample {number}")
        return inputs, target

    def targets(self) -> Tensor:
        """(n, ...) targets of every sample, one after the other; no two inputs are held."""
        return torch.stack([self[n][1] for n in range(len(self))])

    def select(self, indices: Tensor) -> Pairs:
        """The samples of these places."""
        chosen = Pairs(self.data, self.inputs, self.target, self.where)
        chosen.indices = self.indices[indices]
        return chosen

    def split(self, shuffle: bool) -> Split:
        """In memory where it is small, else behind a loader."""
        inputs, target = self[0]
        size = sum(tensor.numel() * tensor.element_size() for tensor in (*inputs.values(), target))
        if size * len(self) > IN_MEMORY:
            return LoaderSplit(DataLoader(self, batch_size=_BATCH, shuffle=shuffle), self.where)
        samples = [self[n] for n in range(len(self))]
        stacked = {name: _stack([given[name] for given, _ in samples], name, self.where) for name in inputs}
        return TensorSplit(stacked, _stack([wanted for _, wanted in samples], "target", self.where))


def dataset_splits(
    data: Any,
    validation: Any,
    test: Any,
    inputs: str | Sequence[str] | None,
    target: str | Sequence[str] | None,
    fractions: tuple[float, float],
    seed: int,
    name: str,
) -> tuple[Split, Split, Split]:
    """Train, validation and test of a data set; what is not given is held out of train, keeping the share of classes.

    fractions : of the samples for validation and for test, where they are held out. Raises DataError.
    """
    if isinstance(data, Mapping):
        found = {split: next((data[n] for n in names if n in data), None) for split, names in SPLITS.items()}
        if found["train"] is None:
            raise DataError(f"task {name!r}: no split named 'train' among {a_few(list(map(str, data)))}.")
        data, validation, test = found["train"], validation or found["validation"], test or found["test"]
    train = Pairs(data, inputs, target, f"task {name!r}, train split")
    held: dict[str, Pairs | None] = {}
    for where, given in (("validation", validation), ("test", test)):
        held[where] = None if given is None else Pairs(given, inputs, target, f"task {name!r}, {where} split")
    total = len(train)
    for where, fraction in zip(("validation", "test"), fractions, strict=True):
        if held[where] is None:
            count = max(1, round(total * fraction))
            if not 0 < fraction < 1 or count >= len(train):
                raise DataError(f"task {name!r}: {len(train)} samples are too few to hold {count} out for {where}.")
            rest, out = split_indices(train.targets(), count, seed)
            train, held[where] = train.select(rest), train.select(out)
    parts = [pairs.split(shuffle=pairs is train) for pairs in (train, held["validation"], held["test"]) if pairs]
    return parts[0], parts[1], parts[2]


def class_names(data: Any, target: str | None) -> tuple[str, ...] | None:
    """The names of the classes, where a data set knows them: torchvision's `classes`, Hugging Face's features."""
    data = next(iter(data.values()), None) if isinstance(data, Mapping) else data
    features = getattr(data, "features", None)
    if isinstance(features, Mapping):
        key = target or next((name for name in TARGETS if name in features), "")
        names = getattr(features.get(key), "names", None)
    else:
        names = getattr(data, "classes", None)
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None


def _pair(
    sample: Any, inputs: str | Sequence[str] | None, target: str | Sequence[str] | None, where: str
) -> tuple[dict[str, Tensor], Tensor]:
    if target is not None and not isinstance(target, str):
        given, heads = _several(sample, inputs, target, where)
        return given, packed({name: value[None] for name, value in heads.items()}, where)[0]
    if isinstance(sample, Mapping):
        key = target or next((name for name in TARGETS if name in sample), None)
        if key is None or key not in sample:
            raise _no_key(key, sample, "target", where)
        wanted = [inputs] if isinstance(inputs, str) else [*(inputs or (n for n in sample if n != key))]
        for name in wanted:
            if name not in sample:
                raise _no_key(name, sample, "input", where)
        given = {str(name): as_value(sample[name], f"{where}, {name!r}") for name in wanted}
        return given, as_value(sample[key], f"{where}, {key!r}")
    if not isinstance(sample, tuple | list) or len(sample) < 2:
        raise DataError(f"{where}: expected a pair (input, target) or a dict, got {type(sample).__name__}.")
    values = [as_value(item, where) for item in sample]
    names = [inputs] if isinstance(inputs, str) else [*(inputs or ())]
    if not names:
        names = ["input"] if len(values) == 2 else [f"input{n}" for n in range(len(values) - 1)]
    if len(names) != len(values) - 1:
        raise DataError(f"{where}: {len(names)} names for {len(values) - 1} inputs: {', '.join(names)}.")
    return dict(zip(names, values[:-1], strict=True)), values[-1]


def _several(
    sample: Any, inputs: str | Sequence[str] | None, targets: Sequence[str], where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(inputs by name, targets by head) of a sample that is a dict."""
    if not isinstance(sample, Mapping):
        raise DataError(f"{where}: several targets are entries of a dict, got {type(sample).__name__}.")
    wanted = [inputs] if isinstance(inputs, str) else [*(inputs or (n for n in sample if n not in targets))]
    for name, what in (*((n, "input") for n in wanted), *((n, "target") for n in targets)):
        if name not in sample:
            raise _no_key(name, sample, what, where)
    values = {str(name): as_value(sample[name], f"{where}, {name!r}") for name in (*wanted, *targets)}
    return {str(name): values[str(name)] for name in wanted}, {str(name): values[str(name)] for name in targets}


def sample_targets(data: Any, targets: Sequence[str], name: str) -> dict[str, Tensor]:
    """The targets (1, ...) of several heads in the first sample of a data set, or of a dict of splits."""
    if isinstance(data, Mapping):
        data = next(iter(data.values()))
    _, heads = _several(data[0], None, targets, f"task {name!r}, sample 0")
    return {head: value[None] for head, value in heads.items()}


def _no_key(key: str | None, sample: Mapping[str, Any], what: str, where: str) -> DataError:
    known = [str(name) for name in sample]
    said = f"has no {key!r}{did_you_mean(key, known)}" if key else f"says not which entry is the {what}"
    return DataError(f"{where}: a sample {said}; it has {a_few(known)}. Say {what}=..., as in {what}={known[-1]!r}.")


def as_value(value: Any, where: str) -> Tensor:
    """One entry of a sample as a tensor: floats in float32, numbers without a shape, images (c, h, w) in 0..1."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if hasattr(value, "convert") and hasattr(value, "getbands"):  # an image of Pillow's
        pixels = np.asarray(value if len(value.getbands()) != 4 else value.convert("RGB"), dtype=np.float32) / 255
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())
    if isinstance(value, str | bytes):
        raise DataError(f"{where}: a text, where numbers were expected: tokenize it in the data set, or use text:FILE.")
    try:
        array = np.asarray(value)
        return torch.as_tensor(array, dtype=torch.float32 if array.dtype.kind == "f" else torch.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {type(value).__name__} is no number, array or image.") from error


def _stack(values: Sequence[Tensor], name: str, where: str) -> Tensor:
    shapes = list(dict.fromkeys(tuple(value.shape) for value in values))
    if len(shapes) > 1:
        raise DataError(
            f"{where}: samples of {name!r} have shapes {list(shapes[0])} and {list(shapes[1])}: an exported file takes "
            "one. Resize, crop or pad them to one shape in the data set (images: transforms.Resize)."
        )
    return torch.stack(list(values))
