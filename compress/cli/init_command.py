"""`leanfit init`: a recipe to start from, for images in folders, a table, or texts, written beside them."""

from __future__ import annotations

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


def _there(data: Path, folder: bool) -> Path:
    from evaluate.core.errors import DataError

    if not (data.is_dir() if folder else data.is_file()):
        raise DataError(f"{data}: no such {'folder' if folder else 'file'}.")
    return data


def _image(data: Path | None, file: Path) -> str:
    from compress.tasks.from_files import class_folders

    classes = 10 if data is None else len(class_folders(_there(data, folder=True))[1])
    return _IMAGE.format(file=file, own=_OWN, path=_quoted(data or "images"), size=32, classes=classes) + _PASSES


def _tabular(data: Path | None, file: Path) -> str:
    from compress.tasks.from_files import table

    target, columns, classes = "label", 10, 2
    if data is not None:
        head, rows = table(_there(data, folder=False))
        target, columns = head[-1], len(head) - 1
        classes = _outputs([row[-1] for row in rows], data)
    path = _quoted(data or "table.csv")
    filled = _TABULAR.format(file=file, own=_OWN, path=path, target=_quoted(target), columns=columns, classes=classes)
    return filled + _PASSES


def _text(data: Path | None, file: Path) -> str:
    from compress.tasks.from_files import json_lines

    classes = 2
    if data is not None:
        classes = _outputs([label for _, label in json_lines(_there(data, folder=False), ("text", "label"))], data)
    return _TEXT.format(file=file, path=_quoted(data or "texts.jsonl"), folder="my-network", classes=classes)


def _outputs(targets: list[Any], data: Path) -> int:
    """As many as there are classes; one where the task takes the targets for numbers."""
    from compress.tasks.from_files import targets_of

    names = targets_of(targets, "auto", data)[1]
    return 1 if names is None else len(names)
