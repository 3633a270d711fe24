"""Every number that a recipe or a study may hold has both bounds, and what is said of a wrong one stays readable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from compress.core.errors import RecipeError
from compress.recipe.load import load_recipe
from compress.recipe.schema import recipe_schema
from compress.recipe.validate import schema_of
from compress.study import spec

SPECS = [c for c in vars(spec).values() if isinstance(c, type) and issubclass(c, BaseModel) and c is not BaseModel]
HUGE = [
    ("train.learning_rate", "1e300"),
    ("train.epochs", "1000000000000000000000000000000"),
    ("train.batch_size", str(2**63)),
    ("passes.0.calibrate.samples", str(2**64)),
    ("goals.drop", "1e30"),
    ("model.width", str(2**63)),
    ("model.inputs", str(2**63)),
    ("train.augment.crop", "1000000"),
]


def unbounded(node: Any, path: str = "") -> Iterator[str]:
    """The numbers in a JSON schema that lack a bound."""
    if isinstance(node, dict):
        low = {"minimum", "exclusiveMinimum"} & set(node)
        high = {"maximum", "exclusiveMaximum"} & set(node)
        if node.get("type") in ("integer", "number") and not {"const", "enum"} & set(node) and not (low and high):
            yield path
        for key, value in node.items():
            if ":" not in key:  # of a component that another test registered
                yield from unbounded(value, f"{path}.{key}")
    elif isinstance(node, list):
        for n, value in enumerate(node):
            yield from unbounded(value, f"{path}.{n}")


def test_every_number_of_a_recipe_has_both_bounds():
    assert list(unbounded(recipe_schema())) == []


@pytest.mark.parametrize("model", SPECS, ids=lambda c: c.__name__)
def test_every_number_of_a_study_has_both_bounds(model: type[BaseModel]):
    assert list(unbounded(schema_of(model))) == []


@pytest.mark.parametrize(("key", "value"), HUGE)
def test_a_number_beyond_reason_is_refused_by_name(key: str, value: str):
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits-mlp-int8", [f"{key}={value}"])
    assert f"--set {key}" in str(caught.value) and "of at most" in str(caught.value)


@pytest.mark.parametrize("depth", [41, 1200])
def test_a_set_that_digs_too_deep_is_one_clear_error(depth: int):
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits-mlp-int8", [".".join(["train", *["x"] * depth]) + "=1"])
    assert len(str(caught.value)) < 1000


def test_a_long_value_is_cut_and_control_characters_are_escaped():
    value = "x" * 5000
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits-mlp-int8", [f"train.optimizer={value}", "model.name=\x1b[2J\x07"])
    said = str(caught.value)
    assert len(said) < 2500 and "x" * 300 not in said
    assert "\x1b" not in said and "\x07" not in said


def test_at_most_fifty_problems_are_shown():
    passes = [{"kind": "quantize", f"wrong{n}": n} for n in range(3000)]
    with pytest.raises(RecipeError) as caught:
        load_recipe({"version": 1, "passes": passes})
    lines = str(caught.value).splitlines()
    assert len(lines) == 51
    assert lines[-1].startswith("... and ") and lines[-1].endswith("more problems; mend these first")


def test_what_stands_under_an_unknown_name_is_checked_against_the_nearest():
    recipe = {
        "version": 1,
        "model": {"name": "resnett", "widht": 8},
        "task": {"name": "digts", "split_sed": 3},
        "train": {"epochs": 1},
        "passes": [{"kind": "prun", "keep": {"mac": 0.5}}, {"kind": "zzz", "foo": 1}],
    }
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    text = str(caught.value)
    for wrong in ("resnett", "widht", "digts", "split_sed", "prun", "mac", "zzz"):
        assert f"'{wrong}'" in text
    assert "'foo'" not in text, "nothing is near to zzz, so nothing is known of its keys"
