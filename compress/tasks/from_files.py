"""Tasks of files: images:FOLDER, csv:FILE, npz:FILE, text:FILE. What has no splits of its own is split under a seed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.core.files import SPLITS, data_folder
from compress.core.progress import Status, silent
from compress.tasks.image_files import SCALES
from compress.tasks.task_registry import register_task
from evaluate.core.errors import DataError, did_you_mean
from evaluate.core.text import a_few

if TYPE_CHECKING:
    from compress.tasks.splits import TensorSplit
    from compress.tasks.task import Task

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Annotated[int, Field(ge=1, le=8192)] | None
_FEWEST_CLASSES = 50  # whole numbers of at most so many values are class ids
_SCALES = {**SCALES, "unit": ((0.0,) * 3, (255.0,) * 3)}


@dataclass(frozen=True)
class Part:
    """What was read of one split, or of all samples: arrays (n, ...) by name, targets (n, ...)."""

    inputs: dict[str, NDArray[Any]]
    targets: NDArray[Any]


@register_task("images", takes="path")
def images(
    path: str,
    size: Side = None,
    normalize: Literal["imagenet", "unit", "none"] = "imagenet",
    validation_fraction: Fraction = 0.1,
    test_fraction: Fraction = 0.2,
    seed: Seed = 0,
    status: Status = silent,
) -> Task:
    """A folder of class folders of images, or of train, val and test folders of those; colour, resized to `size`."""
    root = _found(path)
    folders, classes = class_folders(root)
    read = [_read_images(folder, classes, size, status) for folder in folders]
    fractions = validation_fraction, test_fraction
    return _task("images", read, fractions, seed, root, classes, scale=_SCALES[normalize])


@register_task("csv", takes="path")
def csv_table(
    path: str,
    target: str | None = None,
    kind: Literal["auto", "classes", "values"] = "auto",
    standardize: bool = True,
    validation_fraction: Fraction = 0.1,
    test_fraction: Fraction = 0.2,
    seed: Seed = 0,
) -> Task:
    """A table with a head line; `target` is its last column unless named, all others are numbers, the input."""
    file = _found(path)
    head, body = table(file)
    wanted = target if target is not None else head[-1]
    if wanted not in head:
        raise DataError(f"{file}: no column {wanted!r}{did_you_mean(wanted, head) or '.'} It has {a_few(head, 8)}.")
    place = head.index(wanted)
    values = np.array([[_number(v, file, n + 2, head[c]) for c, v in enumerate(row) if c != place]
                       for n, row in enumerate(body)], dtype=np.float32)  # fmt: skip
    targets, classes = targets_of([row[place] for row in body], kind, file)
    fractions = validation_fraction, test_fraction
    return _task("csv", [Part({"input": values}, targets)], fractions, seed, file, classes, standardize=standardize)


@register_task("npz", takes="path")
def arrays(path: str, validation_fraction: Fraction = 0.1, test_fraction: Fraction = 0.2, seed: Seed = 0) -> Task:
    """Arrays x and y, or x_train, y_train, x_test, y_test (and x_validation, y_validation), of an .npz file."""
    file = _found(path)
    try:
        with np.load(file, allow_pickle=False) as stored:
            known = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as .npz without pickles ({error}).") from error
    names = [""] if {"x", "y"} <= set(known) else [f"_{part}" for part in SPLITS if f"x_{part}" in known]
    if not names or any(f"y{name}" not in known for name in names):
        raise DataError(f"{file}: expected arrays x and y, or x_train, y_train, ...; it has {a_few(list(known))}.")
    read = [Part({"input": known[f"x{n}"]}, known[f"y{n}"]) for n in names]
    return _task("npz", read, (validation_fraction, test_fraction), seed, file)


@register_task("data", takes="file", file=True)
def file_data(file: str, labels: str | None = None, metric: str | None = None) -> Task:
    """What an ONNX file will see (.npz, .npy, .json), with labels (.npy) and their metric, or neither."""
    raise DataError(
        f"{file}: the data of an ONNX file, and a task with splits is needed here, such as npz:FILE: a network is "
        "trained on one split and judged on another"
    )


@register_task("text", takes="path")
def texts(
    path: str,
    tokenizer: str,
    text: str = "text",
    second: str | None = None,
    together: bool = True,
    target: str = "label",
    metric: str | None = None,
    length: Annotated[int, Field(ge=1, le=8192)] = 128,
    kind: Literal["auto", "classes", "values"] = "auto",
    validation_fraction: Fraction = 0.1,
    test_fraction: Fraction = 0.2,
    seed: Seed = 0,
) -> Task:
    """Lines of JSON with a text (and a `second` one) and a label; `tokenizer` is a folder or name of Transformers'.

    Texts are padded to `length`. Two are read `together`, as a cross-encoder takes them, or each by itself, as
    `head: pair-score` does: the inputs of the second then begin with second_.
    """
    file = _found(path)
    rows = json_lines(file, (text, target) if second is None else (text, target, second))
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise DataError(f'text needs Transformers ({error}): pip install "leanfit[transformers]".') from error
    try:
        try:
            encode = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        except (OSError, ValueError):  # not here: Transformers asks the hub, and tries for a minute where there is none
            encode = AutoTokenizer.from_pretrained(tokenizer)
        how = {"padding": "max_length", "truncation": True, "max_length": length}
        first, other = [str(row[0]) for row in rows], [str(row[-1]) for row in rows]
        encoded = encode(first, other, **how) if second is not None and together else encode(first, **how)
        apart = encode(other, **how) if second is not None and not together else {}
    except Exception as error:  # whatever Transformers raises, offline for instance
        raise DataError(f"tokenizer {tokenizer!r} cannot be used: {type(error).__name__}: {error}") from error
    used = [name for name in encoded if name != "token_type_ids" or (second is not None and together)]
    inputs = {name: np.array(encoded[name], dtype=np.int64) for name in used}
    inputs |= {f"second_{name}": np.array(apart[name], dtype=np.int64) for name in used if name in apart}
    targets, classes = targets_of([row[1] for row in rows], kind, file)
    fractions = validation_fraction, test_fraction
    return _task("text", [Part(inputs, targets)], fractions, seed, file, classes, metric=metric)


def class_folders(root: Path) -> tuple[list[Path], list[str]]:
    """Folders that hold one folder for each class (train and test, or `root` itself), and the classes' names."""
    parts = {name: _subfolder(root, names) for name, names in SPLITS.items()}
    folders = [folder for folder in parts.values() if folder] if parts["train"] and parts["test"] else [root]
    classes = sorted({child.name for folder in folders for child in folder.iterdir() if child.is_dir()})
    if len(classes) < 2:
        raise DataError(f"{root}: expected a folder for each class, at least two, got {a_few(classes) or 'none'}.")
    return folders, classes


def table(file: Path) -> tuple[list[str], list[list[str]]]:
    """The head line of a CSV file and its rows, all of its length. Raises DataError."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = [row for row in csv.reader(stream) if row]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(
            f"{file}: expected a head line of two columns or more, and rows; got {len(rows)} lines"
            + (f", {a_few(rows[0])} the first." if rows else ".")
        )
    head, body = rows[0], rows[1:]
    short = next((n for n, row in enumerate(body) if len(row) != len(head)), None)
    if short is not None:
        raise DataError(f"{file}, line {short + 2}: {len(body[short])} values for {len(head)} columns.")
    return head, body


def json_lines(file: Path, keys: Sequence[str]) -> list[list[Any]]:
    """What `keys` name in each line of a file of JSON objects. Raises DataError."""
    lines = file.read_text("utf-8").splitlines()
    rows = [_line(line, n, file, keys) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{file}: it holds no lines.")
    return rows


def _task(
    name: str,
    read: Sequence[Part],
    fractions: tuple[float, float],
    seed: int,
    where: Path,
    classes: Sequence[str] | None = None,
    *,
    metric: str | None = None,
    scale: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    standardize: bool = False,
) -> Task:
    """The task of what was read: of one part, of two (train, test), or of three.

    scale : mean and standard deviation by channel of uint8 images, which are stored as they are.
    """
    import torch

    from compress.tasks.checks import as_inputs, as_targets
    from compress.tasks.splits import Normalize, TensorSplit
    from compress.tasks.task import Task

    seen = None if scale is None else Normalize(*scale)
    splits = []
    for part in read:
        stored = (
            {n: torch.from_numpy(v) for n, v in part.inputs.items()} if seen else as_inputs(part.inputs, str(where))
        )
        splits.append(TensorSplit(stored, as_targets(part.targets, str(where)), seen))
    train, validation, test = _divided(splits, *fractions, seed, where)
    if standardize:
        train, validation, test = _standardized(train, validation, test)
    return Task.from_tensors(train, validation, test, name=name, classes=classes, metric=metric)  # type: ignore[arg-type]


def _found(path: str) -> Path:
    given = Path(path).expanduser()
    places = [given, data_folder() / given]
    for place in places:
        if place.exists():
            return place
    raise DataError(f"{path}: not found here nor in {data_folder()}.")


def _subfolder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _read_images(folder: Path, classes: list[str], size: Side, status: Status) -> Part:
    from PIL import Image, UnidentifiedImageError

    files = [(f, n) for n, name in enumerate(classes) for f in sorted((folder / name).glob("**/*")) if _is_image(f)]
    if not files:
        raise DataError(f"{folder}: no images ({', '.join(IMAGES)}) in its class folders.")
    pixels = []
    for done, (file, _) in enumerate(files):
        status(f"reading images of {folder.name}", done, len(files))
        try:
            with Image.open(file) as image:
                colour = image.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{file}: cannot be read as an image ({error}). Repair or remove it.") from error
        pixels.append(np.asarray(colour if size is None else colour.resize((size, size), Image.Resampling.BILINEAR)))
        if pixels[-1].shape != pixels[0].shape:
            raise DataError(
                f"{file} is {list(pixels[-1].shape[:2])} pixels, {files[0][0]} {list(pixels[0].shape[:2])}: say to "
                "which `size` they are resized, as in --set task.size=224."
            )
    return Part({"image": np.stack(pixels).transpose(0, 3, 1, 2).copy()}, np.array([n for _, n in files]))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGES and file.is_file()


def _divided(
    read: Sequence[TensorSplit], validation: float, test: float, seed: int, where: Path
) -> tuple[TensorSplit, TensorSplit, TensorSplit]:
    """Train, validation and test of one split, of two (train, test) or of three."""
    if len(read) == 3:
        return read[0], read[1], read[2]
    from compress.tasks.splits import split_indices

    whole, total = read[0], len(read[0])
    held: list[TensorSplit] = []
    for fraction in (validation, test)[: 3 - len(read)]:
        count = max(1, round(total * fraction))
        if count >= len(whole):
            raise DataError(f"{where}: {total} samples are too few to split into train, validation and test.")
        rest, out = split_indices(whole.targets, count, seed)
        whole, held = whole.select(rest), [*held, whole.select(out)]
    return whole, held[0], held[1] if len(read) == 1 else read[1]


def _standardized(*splits: TensorSplit) -> Iterator[TensorSplit]:
    """Each column less its mean, over its spread, both of the first split."""
    values = splits[0].inputs["input"]
    mean, spread = values.mean(0), values.std(0).nan_to_num(1.0)
    spread[spread == 0] = 1.0
    return (replace(s, inputs={"input": (s.inputs["input"] - mean) / spread}) for s in splits)


def _number(text: str, file: Path, line: int, column: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{file}, line {line}: column {column!r} holds {text[:40]!r}, no number. Encode it, or leave it out."
        ) from None


def targets_of(values: Sequence[Any], kind: str, where: Path) -> tuple[NDArray[Any], list[str] | None]:
    """(n,) class ids and the names of the classes, or (n,) floats and None."""
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError):
        numbers = []
    whole = bool(numbers) and all(v.is_integer() for v in numbers) and len(set(numbers)) <= _FEWEST_CLASSES
    if kind == "values" or (kind == "auto" and numbers and not whole):
        if not numbers:
            raise DataError(f"{where}: the target holds {values[0]!r}, no number; say kind: classes.")
        return np.array(numbers, dtype=np.float32), None
    names = sorted(set(map(int, numbers))) if whole else sorted({str(v) for v in values})
    known = {name: n for n, name in enumerate(names)}
    ids = [known[int(v)] for v in numbers] if whole else [known[str(v)] for v in values]
    return np.array(ids), [str(name) for name in names]


def _line(line: str, number: int, file: Path, keys: Sequence[str]) -> list[Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{file}, line {number}: not JSON ({error}).") from error
    missing = [key for key in keys if not isinstance(row, dict) or key not in row]
    if missing:
        known = a_few(list(row)) if isinstance(row, dict) else type(row).__name__
        raise DataError(f"{file}, line {number}: no {missing[0]!r}; it has {known}. Say which by text and target.")
    return [row[key] for key in keys]
