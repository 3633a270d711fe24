"""The JSON schema of recipes: what it accepts is what `load_recipe` accepts, as far as a schema can tell."""

from __future__ import annotations

import copy
import json
import re

import pytest

from compress.core.registries import MODELS, PASSES, TASKS
from compress.passes.base import pass_kinds
from compress.recipe.load import load_recipe, shipped_recipes
from compress.recipe.schema import recipe_schema
from compress.recipe.yaml_text import read_yaml

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
LIMITS = {
    "minimum": lambda v, b: v >= b,
    "maximum": lambda v, b: v <= b,
    "exclusiveMinimum": lambda v, b: v > b,
    "exclusiveMaximum": lambda v, b: v < b,
    "minItems": lambda v, b: len(v) >= b,
    "minLength": lambda v, b: len(v) >= b,
    "pattern": lambda v, b: re.search(b, v) is not None,
}
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default"}
KNOWN = {"$ref", "anyOf", "oneOf", "const", "enum", "type", "required", "properties", "additionalProperties", "items"}


def valid(value, schema, root) -> bool:
    """The part of draft 2020-12 that the recipe schema uses; an unknown keyword fails the test."""
    assert set(schema) <= KNOWN | ANNOTATIONS | set(LIMITS), set(schema)
    if "$ref" in schema and not valid(value, resolved(schema["$ref"], root), root):
        return False
    if "anyOf" in schema and not any(valid(value, branch, root) for branch in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(valid(value, branch, root) for branch in schema["oneOf"]) != 1:
        return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    if "type" in schema and (
        not isinstance(value, TYPES[schema["type"]]) or (type(value) is bool) != (schema["type"] == "boolean")
    ):
        return False
    if not all(limit(value, schema[key]) for key, limit in LIMITS.items() if key in schema):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(valid(item, schema["items"], root) for item in value)
    return not isinstance(value, dict) or valid_keys(value, schema, root)


def valid_keys(value, schema, root) -> bool:
    rest = schema.get("additionalProperties", True)
    rest = {True: {}, False: None}[rest] if isinstance(rest, bool) else rest
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key, rest)
        if inner is None or not valid(item, inner, root):
            return False
    return all(key in value for key in schema.get("required", []))


def resolved(ref, root):
    assert ref.startswith("#/$defs/")
    return root["$defs"][ref.removeprefix("#/$defs/")]


@pytest.fixture(scope="module")
def schema():
    return recipe_schema()


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid_as_written_and_resolved(name, schema):
    written = read_yaml(shipped_recipes()[name].read_text(), name).data
    assert valid(written, schema, schema)
    assert valid(load_recipe(name).dump(), schema, schema)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("nmae",), "x"),
        (("passes",), []),
        (("passes", 0, "kind"), "prun"),
        (("passes", 0, "raito"), 1),
        (("passes", 0, "keep", "macs"), 2),
        (("passes", 0, "keep", "macs"), "2MB"),
        (("passes", 0, "recover", "epochs"), 0),
        (("passes", 0, "recover", "distill", "wieght"), 0.5),
        (("passes", 1, "calibrate", "method"), "maxmin"),
        (("model", "name"), "resnt"),
        (("model", "shortcut"), "C"),
        (("task", "train_limit"), "all"),
        (("train", "epochs"), True),
        (("goals", "bytes"), "2M"),
    ],
)
def test_what_a_recipe_may_not_say_is_not_valid(path, value, schema):
    data = copy.deepcopy(read_yaml(shipped_recipes()["digits-resnet-half-int8"].read_text(), "x").data)
    here = data
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    assert not valid(data, schema, schema)


def test_it_is_plain_json_with_every_name_and_no_loose_end(schema):
    text = json.dumps(schema)
    assert json.loads(text) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for ref in set(re.findall(r'"\$ref": "([^"]+)"', text)):
        resolved(ref, schema)
    for registry in (PASSES, MODELS, TASKS):
        for component in registry.all().values():
            assert f"{registry.kind}.{component.address}" in schema["$defs"]
    assert "x-leanfit" not in text


def test_a_recipe_is_described_wherever_it_can_be_filled_in(schema):
    bare = [key for key, value in schema["properties"].items() if not (value.get("description") or "$ref" in value)]
    for kind in pass_kinds():
        fields = schema["$defs"][f"pass.{kind}"]["properties"]
        bare += [f"{kind}.{key}" for key, value in fields.items() if not (value.get("description") or "$ref" in value)]
    assert bare == []


def test_a_model_of_the_users_own_is_valid(schema):
    recipe = {"version": 1, "model": {"name": "my.package:net", "anything": 3}, "passes": [{"kind": "quantize"}]}
    assert valid(recipe, schema, schema)
