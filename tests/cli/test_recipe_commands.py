"""`leanfit list`, `show`, `check`: what there is, what it says, whether it is right."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from compress import load_recipe
from compress.cli.commands import app
from compress.recipe.load import shipped_files, shipped_recipes

GOOD = "version: 1\npasses:\n  - kind: quantize\n"


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_list_shows_everything_and_each_kind_alone():
    whole = json.loads(run("list", "--json").stdout)
    assert {"recipes", "studies", "passes", "models", "tasks", "metrics", "losses", "laws"} <= set(whole)
    for kind, entries in whole.items():
        assert json.loads(run("list", kind, "--json").stdout) == {kind: entries}
    text = run("list").stdout
    for kind, entries in whole.items():
        assert (f"{kind}\n" in text) == bool(entries), "a kind of which nothing is there has no heading"
    assert run("list", "recipe").exit_code == 2


@pytest.mark.parametrize("name", ["half-int8", "digits-resnet"])
def test_show_prints_the_file_as_it_is(name):
    path = {**shipped_files("studies"), **shipped_recipes()}[name]
    assert run("show", name).stdout == run("show", str(path)).stdout == path.read_text()


def test_what_show_resolves_runs_as_the_same_recipe(tmp_path):
    (tmp_path / "again.yaml").write_text(run("show", "half-int8", "--resolved").stdout)
    assert load_recipe(tmp_path / "again.yaml").hash == load_recipe("half-int8").hash
    assert json.loads(run("show", "half-int8", "--json").stdout) == load_recipe("half-int8").dump()


def test_check_goes_on_after_a_bad_file_and_says_every_problem_by_line(tmp_path):
    good, bad, study = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "study.yaml"
    good.write_text(GOOD)
    bad.write_text(GOOD + "pases: 1\nseed: x\n")
    study.write_text("version: 1\nsizes: {width: [4]}\ntask: {name: digitz}\nmodel: {name: resnet}\n")
    found = run("check", str(bad), str(good), str(study), str(tmp_path / "none.yaml"))
    assert found.exit_code == 3
    assert f"ok  {good}" in found.stdout
    assert f"{bad}:4:1: " in found.stdout and f"{bad}:5:7: " in found.stdout
    assert "did you mean 'digits'" in found.stdout and "none.yaml: no such recipe" in found.stdout
    answer = json.loads(run("check", str(bad), str(good), "--json").stdout)
    assert answer["ok"] is False and [bool(file["problems"]) for file in answer["files"]] == [True, False]


def test_every_shipped_file_is_right():
    names = [*shipped_recipes(), *map(str, shipped_files("studies").values())]
    assert run("check", *names).exit_code == 0
