"""The one way of a recipe: find it, read it, put `--set` into it, check it, and say all that is wrong at once."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compress.core.errors import RecipeError
from compress.recipe.named_blocks import has_weights, is_file
from compress.recipe.plain import plain_data
from compress.recipe.positions import Key, Problem, RecipeProblems, SourceMap
from compress.recipe.schema import OF_FILES, Recipe
from compress.recipe.validate import Issue, check, issues_of
from compress.recipe.yaml_text import MAX_DEPTH, read_yaml
from evaluate.core.errors import did_you_mean, quoted

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 1024 * 1024
_PACKAGE = Path(__file__).parents[1]  # compress/
_LISTS = {"recipe": " (leanfit list recipes)"}


def load_recipe(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """A checked recipe with all defaults filled in.

    source    : a path, the name of a shipped recipe, a mapping, or a recipe.
    overrides : texts such as `passes.0.calibrate.samples=512`, applied before anything is checked.

    Raises RecipeError: one that names every problem, each with file, line and column, or the `--set` it came from.
    """
    if isinstance(source, Recipe) and not overrides:
        return source
    read = apply_overrides(_read(source), overrides)
    if not isinstance(read.data, dict):
        raise RecipeProblems(read.problems or [not_a_mapping(read, "recipe", "'version: 1' and 'passes: [...]'")])
    problems = list(read.problems)
    try:
        recipe = check(Recipe, read.data, _cross_issues(read.data))
    except ValidationError as error:
        raise RecipeProblems([*problems, *(_located(f, read) for f in issues_of(error))]) from None
    if problems:
        raise RecipeProblems(problems)
    recipe._source = read
    return recipe


def _read(source: str | Path | Mapping[str, Any] | Recipe) -> SourceMap:
    if isinstance(source, Recipe):
        return SourceMap(source.name, source.dump())
    if isinstance(source, Mapping):
        return SourceMap("recipe", plain_data(source))
    return read_file(source, "recipe", shipped_recipes())


def read_file(given: str | Path, noun: str, shipped: Mapping[str, Path]) -> SourceMap:
    """The plain data of a recipe's or a study's file, named after it where it names itself not. Raises RecipeError."""
    path = find_file(given, noun, shipped)
    shown = str(given) if Path(given) == path else str(path)
    read = read_yaml(read_text(path, shown, noun), shown)
    if isinstance(read.data, dict) and "name" not in read.data:
        read.data["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:100] or noun
    return read


def not_a_mapping(read: SourceMap, noun: str, wanted: str) -> Problem:
    """What is wrong where a file holds no block of keys."""
    value = f"a single value, {json.dumps(read.data, default=str)[:60]}"
    kind = "empty" if read.data is None else "a list" if isinstance(read.data, list) else value
    return read.problem((), f"the {noun} is {kind}; expected a mapping with at least {wanted}")


def _cross_issues(data: dict[str, Any]) -> Iterator[Issue]:
    """Problems of blocks that do not go together."""
    model = data.get("model")
    if isinstance(model, dict) and not has_weights(model) and data.get("train") is None:
        message = "the model has no 'weights' and the recipe no 'train' block: there would be nothing to keep accurate"
        yield Issue(("model",), f"{message}; give one of them", "key")
    task, file = data.get("task"), is_file("model", model)
    if isinstance(model, dict) and file and model.get("weights") is not None:
        yield Issue(("model", "weights"), "an ONNX file holds its weights itself", "key")
    if isinstance(model, dict) and isinstance(task, dict) and file != is_file("task", task):
        message = "an ONNX file is judged on {data: FILE}" if file else "a network's task is not {data: FILE}"
        yield Issue(
            ("task",), f"{message}: {'it has no network to train' if file else 'that is for ONNX files'}", "key"
        )
    benchmark = data.get("benchmark")
    if isinstance(model, dict) and not file and isinstance(benchmark, dict):
        for key in OF_FILES:
            if benchmark.get(key) is not None:
                message = "for ONNX files only: a network is timed on samples of its task"
                yield Issue(("benchmark", key), message, "key")


def _located(issue: Issue, source: SourceMap) -> Problem:
    return source.problem(issue.path, issue.message, at_key=issue.at != "value")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with leanfit, by name."""
    return shipped_files("recipes")


def shipped_files(folder: str) -> dict[str, Path]:
    """The .yaml files of a folder of a checkout, or of the installed package (with an underscore), by name."""
    inside = _PACKAGE / f"_{folder}"
    files = (inside if inside.is_dir() else _PACKAGE.parent / folder).glob("*.yaml")
    return {path.stem: path for path in sorted(files)}


def summary_line(path: Path) -> str:
    """The last line of the comment a recipe begins with: what it gives."""
    comments = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# ").rstrip())
    return next((c for c in reversed(comments) if c), "")


def find_file(given: Any, noun: str, shipped: Mapping[str, Path]) -> Path:
    """The file meant by a path, or by the name of a shipped one. Raises RecipeError with the nearest names."""
    if not isinstance(given, str | Path):
        raise RecipeError(f"expected a path, a {noun}'s name or a mapping, got {type(given).__name__}")
    text = str(given)
    if "\n" in text or "\0" in text or not text.strip():
        raise RecipeError(f"expected a {noun}'s path or name, got {quoted(text, 60)}; {noun} text goes into a file")
    path = Path(given).expanduser()
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise RecipeError(f"{path}: a folder, where a {noun} file was expected{_inside(path, noun)}")
        there = path.exists()
    except OSError as error:
        raise RecipeError(f"{quoted(text, 60)}: cannot be a {noun}'s path: {error.strerror}") from error
    if there:
        raise RecipeError(f"{path}: not an ordinary file, so it is not read as a {noun}")
    if text in shipped:
        return shipped[text]
    listed = f"; expected a file, or one of {', '.join(shipped)}{_LISTS.get(noun, '')}"
    raise RecipeError(f"{path}: no such {noun}{_nearest(path, shipped) or listed}")


def _inside(folder: Path, noun: str) -> str:
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    preferred = [p for p in files if p.stem == noun] or files
    return f"; did you mean {str(preferred[0])!r}?" if preferred else "; there is none in it"


def _nearest(path: Path, shipped: Iterable[str]) -> str:
    """The nearest file beside the path, or the nearest shipped one."""
    folder = path.parent
    beside = [p.name for p in folder.iterdir() if p.suffix in SUFFIXES] if folder.is_dir() else []
    near = did_you_mean(path.name, beside)
    if near and folder != Path():
        near = near.replace("mean '", f"mean '{folder}/", 1)
    return near or did_you_mean(path.stem, shipped)


def read_text(path: Path, shown: str, noun: str = "recipe") -> str:
    """A file's text. Raises RecipeError where it is not readable UTF-8 of a sensible size."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{shown}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{shown}: larger than {MAX_BYTES // 1024} KiB, which no {noun} is")
    if b"\0" in data[:4096]:
        raise RecipeError(f"{shown}:1:1: a binary file (or not UTF-8), where a YAML {noun} was expected")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        place, byte = f"{shown}:{line}:{column}", f"0x{data[error.start]:02x}"
        raise RecipeError(f"{place}: not UTF-8 text (byte {byte}); save the {noun} as UTF-8") from error


class _Refused(Exception):
    pass


def apply_overrides(read: SourceMap, texts: Sequence[str]) -> SourceMap:
    """`read` with every `KEY=VALUE` applied, the value read as YAML; what cannot be applied is added to `problems`.

    A block on the way that the recipe leaves out is made. A list is entered by an index that it has.
    """
    data = copy.deepcopy(read.data)
    problems, done = list(read.problems), list(read.overrides)
    for text in texts:
        try:
            key, value = _parse(text)
            path = _put(data, key, value)
        except _Refused as reason:
            problems.append(Problem(f"--set {text}", str(reason)))
        else:
            done.append((path, text))
    return replace(read, data=data, problems=tuple(problems), overrides=tuple(done))


def _parse(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise _Refused("expected KEY=VALUE, such as passes.0.keep.macs=0.5")
    if len(parts) > MAX_DEPTH:
        raise _Refused(f"it leads {len(parts)} levels deep, and nothing lies deeper than {MAX_DEPTH}")
    read = read_yaml(value, "the value")
    if read.problems:
        raise _Refused(f"the value is not YAML: {read.problems[0].message}")
    return parts, read.data


def _put(data: Any, parts: list[str], value: Any) -> Key:
    """Set the value where `parts` lead; gives that path, with list indices as numbers."""
    path: list[str | int] = []
    here = data
    for n, part in enumerate(parts):
        place = _step(here, part, path)
        path.append(place)
        if n == len(parts) - 1:
            here[place] = value
        else:
            here = _enter(here, place, parts[n + 1])
    return tuple(path)


def _step(here: Any, part: str, path: list[str | int]) -> str | int:
    """The key or index by which `here` is entered."""
    name = ".".join(str(p) for p in path)
    if isinstance(here, dict):
        return part
    if not isinstance(here, list):
        raise _Refused(f"{name or 'the recipe'} is a single value and has nothing named {part!r}")
    if not (part.isascii() and part.isdigit() and len(part) < 6 and int(part) < len(here)):
        allowed = f"one of 0 to {len(here) - 1}" if here else "nothing: the list is empty"
        raise _Refused(f"{name} is a list; expected {allowed}, got {part!r}")
    return int(part)


def _enter(here: Any, place: str | int, following: str) -> Any:
    """What stands at `place`; an empty block is put there where nothing does."""
    if isinstance(place, str) and here.get(place) is None:
        if following.isdigit():
            raise _Refused(f"there is no list {place!r} to take entry {following} of{did_you_mean(place, here)}")
        here[place] = {}
    return here[place]
