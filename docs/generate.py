"""Write docs/recipe-reference.md from the recipe schema and docs/law-reference.md from the laws.

`python docs/generate.py`; `--check` only compares.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.recipe.schema import recipe_schema
from compress.recipe.validate import describe, options
from evaluate.scaling.forms.form import LAWS, Form, Parameter
from evaluate.scaling.law import law_class

HERE = Path(__file__).parent
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


LAW_HEAD = """# Law reference

Generated from the code by `make docs`; do not edit. A name is what `leanfit fit --law NAME` takes; the class in
brackets is in `evaluate.scaling`. [Scaling laws](scaling-laws.md) says how one is chosen and read.
"""


def law_page() -> str:
    """Every law: its docstring, and its parameters with their bounds."""
    lines = [LAW_HEAD]
    for name in LAWS.all():
        kind = law_class(name)
        text = inspect.cleandoc(kind.__doc__ or "").replace("_", "\\_").replace("*", "\\*")
        lines += [f"## `{name}` ({kind.__name__})", "", text, ""]
        form = getattr(kind, "form", None)
        lines += _parameters(form) if isinstance(form, Form) else []
    return "\n".join(lines).rstrip() + "\n"


def _parameters(form: Form) -> list[str]:
    rows = [f"| `{p.name}` | {_bounds(p)} | {_role(p, form)} |" for p in form.parameters]
    return ["| parameter | bounds | |", "|---|---|---|", *rows, ""] if rows else []


def _bounds(parameter: Parameter) -> str:
    if math.isinf(parameter.low) and math.isinf(parameter.high):
        return "any"
    sign = ">" if parameter.scale == "log" and parameter.low == 0 else ">="
    return f"{sign} {parameter.low:g}" + ("" if math.isinf(parameter.high) else f", <= {parameter.high:g}")


def _role(parameter: Parameter, form: Form) -> str:
    return "the floor" if parameter.name == form.floor else "exponent" if parameter.exponent else ""


def main(arguments: list[str]) -> int:
    pages = {HERE / "recipe-reference.md": page(), HERE / "law-reference.md": law_page()}
    if arguments == ["--check"]:
        stale = [p for p, text in pages.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
        sys.stderr.writelines(f"{path} is not what the code says: run `make docs`\n" for path in stale)
        return 1 if stale else 0
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
