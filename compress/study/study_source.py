"""Finding and reading a study file, without anything that needs torch: a finished study is recognised by this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.recipe.load import apply_overrides, not_a_mapping, read_file, shipped_files
from compress.recipe.positions import RecipeProblems, SourceMap


class StudyProblems(RecipeProblems):
    """Everything that is wrong with a study, in the order of its lines."""

    what = "study"


def shipped_studies() -> dict[str, Path]:
    """The studies that come with leanfit, by name."""
    return shipped_files("studies")


def read_study(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> SourceMap:
    """The plain data of a study with its overrides, named after its file where it names itself not.

    Raises RecipeError where there is no such file, StudyProblems where it is not YAML.
    """
    if isinstance(source, Mapping):
        read = SourceMap("study", dict(source))
    else:
        read = read_file(source, "study", shipped_studies())
    read = apply_overrides(read, overrides)
    if not isinstance(read.data, dict):
        wanted = "'version: 1', 'task', 'model' and 'sizes'"
        raise StudyProblems(read.problems or [not_a_mapping(read, "study", wanted)])
    return read
