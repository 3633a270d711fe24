"""A unit of one's own, in one file: a recipe sets a goal in it, the run is judged by it, and tables show it."""

from __future__ import annotations

import sys

import pytest

from compress import compress
from compress.recipe.load import load_recipe
from compress.recipe.positions import RecipeProblems
from compress.recipe.schema import recipe_schema
from evaluate.core.units import UNITS, known_units, show_amount, size_labels

UNIT = '''
from evaluate.core.text import size
from evaluate.core.units import BYTES, register_unit

@register_unit("flash", factors=BYTES, example='"256kB"', goal="Flash that it fills.", show=size)
def flash(deployed):
    """Bytes of flash, in blocks of 4 kB."""
    return -(-len(deployed.data) // 4096) * 4096
'''
RECIPE = {
    "version": 1,
    "model": {"name": "mlp", "inputs": 64, "width": 8},
    "task": {"name": "digits", "train_limit": 100},
    "train": {"epochs": 1},
    "passes": [{"kind": "quantize", "choose": "fixed"}],
    "benchmark": {"seconds": 0.2},
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "mypkg_flash.py").write_text(UNIT)
    monkeypatch.syspath_prepend(tmp_path)
    yield "mypkg_flash:flash"
    UNITS.forget("flash")
    sys.modules.pop("mypkg_flash", None)


def test_a_goal_in_a_unit_of_ones_own_is_judged_and_shown(own, tmp_path):
    artifact = compress(recipe={**RECIPE, "goals": {own: "8kB", "drop": 50}}, out=tmp_path / "run", force=True)
    record = artifact.record()
    (goal,) = [goal for goal in record["goals"] if goal["goal"] == own]
    assert goal == {"goal": own, "limit": "8kB", "value": record["compressed"]["sizes"][own], "status": goal["status"]}
    assert goal["value"] % 4096 == 0
    assert goal["status"] == ("met" if goal["value"] <= 8000 else "missed")
    table = artifact.table()
    assert "flash" in table
    assert show_amount(own, goal["value"]) in table
    assert f"goals.{own}" not in table
    again = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert again.dump()["goals"] == {own: "8kB", "drop": 50}


def test_a_unit_that_is_imported_already_goes_by_its_name(own):
    __import__("mypkg_flash")
    recipe = load_recipe({**RECIPE, "goals": {"flash": 0.5}})
    assert recipe.dump()["goals"] == {own: 0.5}
    assert own in recipe_schema()["$defs"]["Goals"]["properties"]


@pytest.mark.parametrize("name", ["mypkg_flash:flush", "no_such_module_here:unit", "flsh"])
def test_an_unknown_unit_is_an_error_with_its_place(own, name):
    with pytest.raises(RecipeProblems, match="goals"):
        load_recipe({**RECIPE, "goals": {name: 0.5}})


def test_every_unit_reads_its_own_examples_and_shows_amounts():
    for name, unit in known_units().items():
        assert unit.label
        assert show_amount(name, 1234.5) != "-"
        assert show_amount(name, float("nan")) == "-"
        assert bool(unit.example) == bool(unit.goal), name


def test_a_unit_that_is_not_known_here_is_shown_as_a_number_under_its_name():
    labels = size_labels({"params": 3, "their:unit": 2.5, "bytes": None})
    assert labels == {"params": "params", "their:unit": "their:unit"}
    assert show_amount("their:unit", 2.5) == "2.5"
