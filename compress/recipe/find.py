"""Finding and reading recipe files: a path, or the name of a recipe that comes with leanfit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compress.core.errors import RecipeError
from evaluate.core.errors import did_you_mean

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 1024 * 1024
_PACKAGE = Path(__file__).parents[1]  # compress/


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with leanfit, by name: `./recipes` of a checkout, or those inside the installed package."""
    inside = _PACKAGE / "_recipes"
    folder = inside if inside.is_dir() else _PACKAGE.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def summary_line(path: Path) -> str:
    """The last line of the comment a recipe begins with: what it gives."""
    comments = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# ").rstrip())
    return next((c for c in reversed(comments) if c), "")


def find_recipe(given: Any) -> Path:
    """The file meant by a path or by a shipped recipe's name. Raises RecipeError with the nearest names."""
    if not isinstance(given, str | Path):
        raise RecipeError(f"expected a path, a recipe's name or a mapping, got {type(given).__name__}")
    text = str(given)
    if "\n" in text or "\0" in text or not text.strip():
        raise RecipeError(f"expected a recipe's path or name, got {_shortened(text)}; recipe text goes into a file")
    path = Path(given).expanduser()
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise RecipeError(f"{path}: a folder, where a recipe file was expected{_inside(path)}")
        there = path.exists()
    except OSError as error:
        raise RecipeError(f"{_shortened(text)}: cannot be a recipe's path: {error.strerror}") from error
    if there:
        raise RecipeError(f"{path}: not an ordinary file, so it is not read as a recipe")
    shipped = shipped_recipes()
    if text in shipped:
        return shipped[text]
    raise RecipeError(f"{path}: no such recipe{_nearest(path, shipped)}")


def _inside(folder: Path) -> str:
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    preferred = [p for p in files if p.name == "recipe.yaml"] or files
    return f"; did you mean {str(preferred[0])!r}?" if preferred else "; there is none in it"


def _nearest(path: Path, shipped: Iterable[str]) -> str:
    """The nearest file beside the path, or the nearest shipped recipe."""
    folder = path.parent
    beside = [p.name for p in folder.iterdir() if p.suffix in SUFFIXES] if folder.is_dir() else []
    near = did_you_mean(path.name, beside)
    if near and folder != Path():
        near = near.replace("mean '", f"mean '{folder}/", 1)
    near = near or did_you_mean(path.stem, shipped)
    listed = ", ".join(shipped)
    return near or f"; expected a file, or one of {listed} (leanfit list recipes)"


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def read_text(path: Path, shown: str) -> str:
    """A recipe's text. Raises RecipeError where it is not readable UTF-8 of a sensible size."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{shown}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{shown}: larger than {MAX_BYTES // 1024} KiB, which no recipe is")
    if b"\0" in data[:4096]:
        raise RecipeError(f"{shown}:1:1: a binary file (or not UTF-8), where a YAML recipe was expected")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise RecipeError(
            f"{shown}:{line}:{column}: not UTF-8 text (byte 0x{data[error.start]:02x}); save the recipe as UTF-8"
        ) from error
