"""Issue and reading a study file, without anything that needs torch: a finished study is recognised by this alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.core.errors import RecipeError
from compress.recipe.load import SUFFIXES, apply_overrides, read_text
from compress.recipe.positions import Problem, RecipeProblems, SourceMap
from compress.recipe.yaml_text import read_yaml
from evaluate.core.errors import did_you_mean

_PACKAGE = Path(__file__).parents[1]  # compress/


class StudyProblems(RecipeProblems):
    """Everything that is wrong with a study, in the order of its lines."""

    what = "study"


def shipped_studies() -> dict[str, Path]:
    """The studies that come with leanfit, by name: `./studies` of a checkout, or those inside the installed package."""
    inside = _PACKAGE / "_studies"
    folder = inside if inside.is_dir() else _PACKAGE.parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_study(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> SourceMap:
    """The plain data of a study with its overrides, named after its file where it names itself not.

    Raises RecipeError where there is no such file, StudyProblems where it is not YAML.
    """
    if isinstance(source, Mapping):
        read = SourceMap("study", dict(source))
    else:
        path = _find(source)
        read = read_yaml(_text(path), str(path))
        if isinstance(read.data, dict) and "name" not in read.data:
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:100]
            read = replace(read, data={"name": name or "study", **read.data})
    read = apply_overrides(read, overrides)
    if not isinstance(read.data, dict):
        raise StudyProblems(read.problems or [_not_a_study(read)])
    return read


def _find(given: str | Path) -> Path:
    path = Path(given).expanduser()
    try:
        if path.is_file():
            return path
        if path.exists():
            raise RecipeError(f"{path}: not a file, where a study file was expected")
    except OSError as error:
        raise RecipeError(f"{str(given)[:60]!r}: cannot be a study's path: {error.strerror}") from error
    shipped = shipped_studies()
    if str(given) in shipped:
        return shipped[str(given)]
    raise RecipeError(f"{path}: no such study{_nearest(path, shipped)}")


def _nearest(path: Path, shipped: Iterable[str]) -> str:
    beside = [p.name for p in path.parent.iterdir() if p.suffix in SUFFIXES] if path.parent.is_dir() else []
    near = did_you_mean(path.name, beside) or did_you_mean(path.stem, shipped)
    return near or f"; expected a file, or one of {', '.join(shipped) or 'none'}"


def _text(path: Path) -> str:
    try:
        return read_text(path, str(path))
    except RecipeError as error:  # said of recipes, which are read the same way
        raise RecipeError(str(error).replace("recipe", "study")) from error


def _not_a_study(source: SourceMap) -> Problem:
    wanted = "expected a mapping with at least 'version: 1', 'task', 'model' and 'sizes'"
    kind = "empty" if source.data is None else "a list" if isinstance(source.data, list) else "a single value"
    return source.problem((), f"the study is {kind}; {wanted}")
