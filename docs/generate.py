"""Write docs/recipe-reference.md from the recipe schema: `python docs/generate.py`; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.reading.schema import recipe_schema
from compress.reading.words import describe, options

PAGE = Path(__file__).parent / "recipe-reference.md"
HEAD = """# Recipe reference

Generated from the schema by `make docs`; do not edit. `leanfit schema` prints the same as JSON, which editors use to
complete and check recipes: put `# yaml-language-server: $schema=leanfit.schema.json` at the top of a recipe after
`leanfit schema > leanfit.schema.json`.
"""


TITLES = {"model": "model:", "task": "task:", "passes": "pass:"}


def page() -> str:
    """The whole reference as Markdown."""
    schema = recipe_schema()
    lines = [HEAD, "## The recipe", "", *_table(schema, schema)]
    for title, definition in _blocks(schema):
        lines += ["", f"## {title}", "", *_intro(definition), *_table(definition, schema)]
    return "\n".join(lines) + "\n"


def _blocks(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    seen: set[tuple[str, str]] = set()
    for block in TITLES:
        for option in _choices(schema["$defs"][block], schema):
            properties = option.get("properties", {})
            name = next((properties[k]["const"] for k in ("kind", "name") if "const" in properties.get(k, {})), None)
            if name is not None and (block, name) not in seen:
                seen.add((block, name))
                yield f"{TITLES[block]} `{name}`", option
    shared = {name.split(".")[-1]: definition for name, definition in schema["$defs"].items() if name not in TITLES}
    for name, definition in sorted(shared.items()):
        if "properties" in definition and not _constant(definition):
            yield f"`{name}`", definition


def _constant(definition: dict[str, Any]) -> bool:
    return any("const" in p and key in ("kind", "name") for key, p in definition["properties"].items())


def _choices(definition: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if definition.get("type") == "array":
        return options(definition["items"], schema)
    return options(definition, schema)


def _intro(definition: dict[str, Any]) -> list[str]:
    text = " ".join(str(definition.get("description", "")).split())
    return [text, ""] if text else []


def _table(definition: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    rows = ["| key | takes | default | |", "|---|---|---|---|"]
    required = definition.get("required", [])
    for key, field in definition.get("properties", {}).items():
        takes = _takes(field, schema)
        default = "required" if key in required else _default(field)
        cells = (f"`{key}`", takes, default, " ".join(str(field.get("description", "")).split()))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _takes(field: dict[str, Any], schema: dict[str, Any]) -> str:
    words = describe(options(field, schema), schema)
    return "see below" if not words or "block with keys" in words else words


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None or (isinstance(value, dict | list) and not value):
        return "none"
    return "see below" if isinstance(value, dict) else f"`{value}`"


def main(arguments: list[str]) -> int:
    text = page()
    if arguments == ["--check"]:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        sys.stderr.write("" if same else f"{PAGE} is not what the schema says: run `make docs`\n")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
