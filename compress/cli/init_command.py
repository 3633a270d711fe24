"""`leanfit init`: a recipe to start from, for images in folders, a table, or texts, written beside them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from compress.cli.console import Json, emit, error_boundary

Kind = Literal["image", "text", "tabular"]

_PASSES = """\
passes:
  - kind: prune                    # half the multiply-adds, then a short training from the model before
    keep: {macs: 0.5}
    recover: {epochs: 5, learning_rate: 0.02, distill: {temperature: 4, weight: 0.9}}
  - kind: quantize                 # int8, ranges from 512 training samples
    calibrate: {method: minmax, samples: 512}
goals: {drop: 1.0, bytes: 0.35}    # at most 1 lost of what is measured, and bytes of the file over the baseline's
"""
_OWN = """\
# A trained network of your own: put it into a module that Python finds,
#   @leanfit.register_model("net")
#   def net() -> torch.nn.Module: ...
# name it here as my_module:net with its weights, and take out `train`:
#   model: {name: "my_module:net", weights: best.pt}
"""
_IMAGE = """\
# leanfit compress {file}
# Images in a folder for each class ({path}), resized to {size} pixels a side.
version: 1
{own}model: {{name: resnet, depth: 20, classes: {classes}}}
task: {{name: images, path: {path}, size: {size}}}
train: {{epochs: 30, learning_rate: 0.1, schedule: {{kind: one_cycle}}, augment: {{flip: true, crop: 2}}}}
"""
_TABULAR = """\
# leanfit compress {file}
# A table with a head line ({path}): {target} from the {columns} other columns.
version: 1
{own}model: {{name: mlp, inputs: {columns}, width: 128, classes: {classes}}}
task: {{name: csv, path: {path}, target: {target}}}
train: {{epochs: 30, optimizer: adamw, learning_rate: 0.003}}
"""
_TEXT = """\
# leanfit compress {file}      (needs leanfit[transformers])
# Lines of JSON with a text and a label ({path}); the network and its tokenizer lie in one folder of Transformers.
version: 1
model: {{name: hf, path: {folder}, classes: {classes}}}
task: {{name: text, path: {path}, tokenizer: {folder}, length: 128}}
# Fine-tuning, where the network has not learnt these labels yet; hours without a GPU. Take it out where it has.
train: {{epochs: 3, batch_size: 32, optimizer: adamw, learning_rate: 5.0e-5}}
passes:
  - kind: quantize                 # int8, ranges from 256 training samples
    calibrate: {{method: minmax, samples: 256}}
goals: {{drop: 1.0, bytes: 0.35}}    # points lost, and bytes of the file over the baseline's
"""


def init(
    kind: Annotated[Kind, typer.Argument(help="What the data are.")],
    data: Annotated[
        Path | None, typer.Argument(help="A folder of class folders, a CSV file, or lines of JSON.", metavar="[DATA]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The recipe.  [default: KIND.yaml]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a recipe to start from, filled in from the data where they are named."""
    with error_boundary(as_json):
        file = out if out is not None else Path(f"{kind}.yaml")
        text = {"image": _image, "tabular": _tabular, "text": _text}[kind](data, file)
        _write(file, text, force)
        if as_json:
            emit({"recipe": str(file)})
            return
        print(f"wrote      {file}\nnext       leanfit compress {file} --dry-run\n           leanfit compress {file}")


def _write(file: Path, text: str, force: bool) -> None:
    from compress.core.errors import RecipeError

    if file.exists() and not force:
        raise RecipeError(f"{file} is there already; it was left alone: give another name by -o, or --force.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{file} cannot be written: {error.strerror or error}.") from error


def _quoted(value: Any) -> str:
    """A value as YAML in a flow mapping; quoted where plain text could mean something else."""
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z_./][\w./ -]*", text) and text.lower() not in ("true", "false", "null")
    return text if plain else json.dumps(text)


def _there(data: Path | None, default: str, folder: bool) -> Path:
    """What was named, which has to be there; a name to be filled in where none was."""
    from evaluate.core.errors import DataError

    if data is not None and not (data.is_dir() if folder else data.is_file()):
        raise DataError(f"{data}: no such {'folder' if folder else 'file'}.")
    return data if data is not None else Path(default)


def _image(data: Path | None, file: Path) -> str:
    from evaluate.core.errors import DataError

    root = _there(data, "images", folder=True)
    classes = 10
    if data is not None:
        inside = [child for child in sorted(root.iterdir()) if child.is_dir()]
        train = next((child for child in inside if child.name in ("train", "training")), None)
        found = [child for child in train.iterdir() if child.is_dir()] if train else inside
        if len(found) < 2:
            raise DataError(f"{root}: expected a folder for each class, at least two, got {len(found)}.")
        classes = len(found)
    return _IMAGE.format(file=file, own=_OWN, path=_quoted(root), size=32, classes=classes) + _PASSES


def _tabular(data: Path | None, file: Path) -> str:
    from evaluate.core.errors import DataError

    table = _there(data, "table.csv", folder=False)
    target, columns, classes = "label", 10, 2
    if data is not None:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
        if len(rows) < 2 or len(rows[0]) < 2:
            raise DataError(f"{table}: expected a head line of two columns or more, and rows.")
        target, columns = rows[0][-1], len(rows[0]) - 1
        classes = _outputs([row[-1] for row in rows[1:]])
    return (
        _TABULAR.format(
            file=file, own=_OWN, path=_quoted(table), target=_quoted(target), columns=columns, classes=classes
        )
        + _PASSES
    )


def _outputs(targets: list[str]) -> int:
    """As many as there are classes; one where the task `csv` takes the targets for numbers."""
    try:
        numbers = {float(value) for value in targets}
    except ValueError:
        return max(2, len(set(targets)))
    return max(2, len(numbers)) if len(numbers) <= 50 and all(n.is_integer() for n in numbers) else 1


def _text(data: Path | None, file: Path) -> str:
    from evaluate.core.errors import DataError

    lines = _there(data, "texts.jsonl", folder=False)
    classes = 2
    if data is not None:
        try:
            read = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
            classes = max(2, len({str(row["label"]) for row in read}))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{lines}: expected lines of JSON with text and label, as {{"text": "...", "label": 1}} ({error}).'
            ) from error
    return _TEXT.format(file=file, path=_quoted(lines), folder="my-network", classes=classes)
