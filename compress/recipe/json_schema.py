"""The JSON schema of recipes, for editors: every key with its description, by pass, model and task."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from compress.core.arguments import arguments_of
from compress.core.registries import PASSES
from compress.recipe.check import schema_of
from compress.recipe.named import BLOCK, REGISTRIES, Block, block_class
from compress.recipe.schema import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OWN_NAME = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.]*:.+$", "description": "package.module:name"}


def recipe_schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of a whole recipe, with the passes, models and tasks that are registered now."""
    definitions: dict[str, Any] = {}
    schema = _adopt(schema_of(Recipe), "", definitions)
    definitions["passes"] = {
        "type": "array",
        "minItems": 1,
        "items": {
            "oneOf": [
                _choice("pass", "kind", component.address, component.facts["config"], component.summary, definitions)
                for component in PASSES.all().values()
            ]
        },
    }
    blocks: tuple[Block, ...] = ("model", "task")
    for block in blocks:
        known = [
            _choice(block, "name", c.address, block_class(arguments_of(c), block), c.summary, definitions)
            for c in REGISTRIES[block].all().values()
        ]
        definitions[block] = {"oneOf": [*known, {"properties": {"name": _OWN_NAME}, "required": ["name"]}]}
    return {"$schema": DIALECT, "title": "leanfit recipe", **schema, "$defs": dict(sorted(definitions.items()))}


def _choice(
    block: str, tag: str, name: str, model: type[BaseModel], summary: str, definitions: dict[str, Any]
) -> dict[str, Any]:
    """The settings of one kind or name, with the key that chooses it. Returns a reference to them."""
    own = _adopt(schema_of(model), f"{block}.{name}.", definitions)
    own["properties"] = {tag: None} | own.get("properties", {}) | {tag: {"const": name, "description": summary}}
    own["required"] = list(dict.fromkeys([tag, *own.get("required", [])]))
    own["description"] = summary
    definitions[f"{block}.{name}"] = own
    return {"$ref": f"#/$defs/{block}.{name}"}


def _adopt(schema: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A copy of a schema, its own definitions moved into the shared ones under a prefix."""
    own = _renamed(copy.deepcopy(schema), prefix)
    for name, definition in own.pop("$defs", {}).items():
        definitions[prefix + name] = definition
    own.pop("title", None)
    return dict(own)


def _renamed(node: Any, prefix: str) -> Any:
    """References with the prefix put in, and marked blocks as references to their definition."""
    if isinstance(node, list):
        return [_renamed(item, prefix) for item in node]
    if not isinstance(node, dict):
        return node
    if BLOCK in node:
        rest = {key: value for key, value in node.items() if key not in (BLOCK, "title")}
        return {"$ref": f"#/$defs/{node[BLOCK]}", **rest}
    result = {key: _renamed(value, prefix) for key, value in node.items() if key != "title" or isinstance(value, dict)}
    if isinstance(node.get("$ref"), str):
        result["$ref"] = node["$ref"].replace("#/$defs/", f"#/$defs/{prefix}")
    return result
