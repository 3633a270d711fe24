"""`leanfit list`, `show` and `check`: what there is, what a recipe or a study says, and whether it is right."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from compress.cli.console import Json, emit, error_boundary
from evaluate.bundle.terminal import say

# What has registries of components.
COMPONENTS = (
    "compress.core.registries", "evaluate.metrics.base", "evaluate.scaling.forms.form",
    "evaluate.core.execution_providers",
)  # fmt: skip


def list_(
    what: Annotated[
        str | None, typer.Argument(help="recipes, studies, passes, models, tasks, metrics, laws, ...", metavar="WHAT")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what recipes and studies are made of, with what installed packages add; all of it where nothing is named."""
    with error_boundary(as_json):
        names = [what] if what is not None else ["recipes", "studies", *_registries()]
        found = {name: _known(name) for name in names}
        if as_json:
            emit({kind: [{"name": n, "summary": s} for n, s in known.items()] for kind, known in found.items()})
            return
        width = max((len(name) for known in found.values() for name in known), default=0)
        for kind, known in found.items():
            if not known and what is None:
                continue
            indent = "" if what is not None else "  "
            lines = [f"{indent}{name:<{width}}  {summary}".rstrip() for name, summary in known.items()]
            print("\n".join(lines if what is not None else [kind, *lines, ""]))


def _known(what: str) -> dict[str, str]:
    """Name -> summary of what is shipped, or of all components of a kind. Raises UsageError for anything else."""
    shipped = _shipped()
    if what in shipped:
        from compress.recipe.load import summary_line

        return {name: summary_line(path) for name, path in shipped[what].items()}
    from evaluate.core.errors import did_you_mean

    kinds = _registries()
    if what not in kinds:
        names = [*shipped, *kinds]
        raise typer.BadParameter(
            f"there is no list of {what!r:.200}{did_you_mean(what, names) or '.'} Known: {', '.join(names)}"
        )
    found = {component.address: component.summary for component in kinds[what].all().values()}
    for problem in kinds[what].problems:
        say(f"warning: {problem}")
    return found


def _shipped() -> dict[str, Mapping[str, Path]]:
    from compress.recipe.load import shipped_files

    return {folder: shipped_files(folder) for folder in ("recipes", "studies")}


def _file(given: str) -> Path:
    """The recipe or study of a name or a path. Raises RecipeError."""
    from compress.recipe.load import find_file

    shipped = _shipped()
    return find_file(given, "recipe", {**shipped["studies"], **shipped["recipes"]})


def _registries() -> dict[str, Any]:
    from evaluate.core.components import registries

    for module in COMPONENTS:
        importlib.import_module(module)
    named = {kind: registry for kind, registry in registries().items() if not registry.inner}
    return {f"{kind}es" if kind.endswith("s") else f"{kind}s": registry for kind, registry in named.items()}


def show(
    name: Annotated[str, typer.Argument(help="A shipped recipe or study, or a path.")],
    resolved: Annotated[
        bool, typer.Option("--resolved", help="The recipe with every default spelled out, as it runs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a recipe or a study, to read or to start from: leanfit show half-int8 > mine.yaml."""
    with error_boundary(as_json):
        from compress.recipe.load import load_recipe, read_text

        path = _file(name)
        if as_json or resolved:
            recipe = load_recipe(path)
            emit(recipe.dump()) if as_json else print(recipe.to_yaml(), end="")
        else:
            print(read_text(path, str(path), "recipe"), end="")


def check(
    files: Annotated[list[str], typer.Argument(help="Recipes and studies, by path or name.", metavar="FILE...")],
    as_json: Json = False,
) -> None:
    """Say what is wrong with recipes and studies, by line, and run nothing: for pre-commit. Exit code 3."""
    with error_boundary(as_json):
        from compress.core.errors import RecipeError

        found = {file: _problems(file) for file in files}
        if as_json:
            emit({"ok": not any(found.values()), "files": [{"path": f, "problems": p} for f, p in found.items()]})
        else:
            for file, problems in found.items():
                print("\n".join(problems) if problems else f"ok  {file}")
        if any(found.values()):
            raise typer.Exit(RecipeError.exit_code)


def _problems(file: str) -> list[str]:
    """What is wrong with one file, each with its place."""
    from compress.core.errors import RecipeError
    from compress.recipe.load import load_recipe
    from compress.recipe.positions import RecipeProblems
    from compress.recipe.yaml_text import read_yaml
    from evaluate.core.errors import LeanfitError

    try:
        path = _file(file)
        data = read_yaml(path.read_text(encoding="utf-8"), file).data
        if isinstance(data, dict) and "sizes" in data:
            from compress.study.study_checks import load_study

            load_study(path)
        else:
            load_recipe(path)
    except RecipeProblems as error:
        return str(error).splitlines()
    except (RecipeError, LeanfitError, UnicodeDecodeError) as error:
        return [str(error) if str(error).startswith(file) else f"{file}: {error}"]
    return []
