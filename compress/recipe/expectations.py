"""Words for a JSON schema and for the values in a recipe: what was expected, what was got, and the nearest choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from evaluate.core.errors import did_you_mean

_PLAIN = {"boolean": "true or false", "null": "null", "string": "a text"}
_BOUNDS = {"exclusiveMinimum": "above {}", "minimum": "of at least {}", "exclusiveMaximum": "below {}"}
_BOUNDS |= {"maximum": "of at most {}"}
BEYOND_REASON = 1000


def options(schema: dict[str, Any], root: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The alternatives a schema allows, with references and unions resolved."""
    root = root or schema
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return options(target, root)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return [o for branch in schema[union] for o in options(branch, root)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def describe(here: list[dict[str, Any]], root: dict[str, Any], value: Any = None) -> str:
    """The alternatives in words: `'auto' or a whole number of at least 1`; empty where nothing is known of them.

    value : what was given instead. A bound that only keeps slips of the finger out is named to whom it concerns.
    """
    if not here or any(not _known(option) for option in here):
        return ""
    wanted = [option for option in here if option.get("type") != "null"] or here
    return _either(list(dict.fromkeys(w for option in wanted for w in _words(option, root, value))))


def _known(option: dict[str, Any]) -> bool:
    return any(key in option for key in ("type", "const", "enum"))


def _words(option: dict[str, Any], root: dict[str, Any], value: Any) -> list[str]:
    if "const" in option or "enum" in option:
        return [got(value) for value in option.get("enum", [option.get("const")])]
    kind = option["type"]
    if kind in ("integer", "number"):
        bounds = [words.format(_number(option[key])) for key, words in _BOUNDS.items() if _matters(option, key, value)]
        noun = "a whole number" if kind == "integer" else "a number"
        return [f"{noun} {' and '.join(bounds)}".rstrip()]
    if kind == "array":
        return [_array(option, root)]
    if kind == "object":
        keys = list(option.get("properties", {}))
        return [f"a block with keys such as {', '.join(keys[:6])}" if keys else "a block of keys"]
    if "x-words" in option:
        return [option["x-words"]]
    if "pattern" in option:
        return [f"a text that matches {option['pattern']}"]
    return [_PLAIN.get(str(kind), str(kind))]


def _matters(option: dict[str, Any], key: str, value: Any) -> bool:
    bound = option.get(key)
    given = isinstance(value, int | float) and not isinstance(value, bool)
    return bound is not None and (key != "maximum" or bound < BEYOND_REASON or (given and value > bound))


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def _array(option: dict[str, Any], root: dict[str, Any]) -> str:
    least = option.get("minItems")
    noun = "a list" if not least else "a list of at least one entry" if least == 1 else f"a list of {least} or more"
    items = option.get("items")
    each = describe(options(items, root), root) if isinstance(items, dict) else ""
    return f"{noun}, each {each}" if each else noun


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def got(value: Any) -> str:
    """A value as a recipe writes it, shortened."""
    if isinstance(value, dict):
        return f"a block with the keys {', '.join(map(str, list(value)[:4]))}" if value else "an empty block"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**18 else "a very large number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(value: Any, here: list[dict[str, Any]]) -> str:
    """`; did you mean ...?` among the choices of the alternatives."""
    if not isinstance(value, str):
        return ""
    choices = [c for option in here for c in option.get("enum", [option.get("const")]) if isinstance(c, str)]
    folded = {c.lower(): c for c in choices}
    if value.lower() in folded:
        return f"; did you mean {folded[value.lower()]!r}?"
    return did_you_mean(value, choices)


def slip(missing: str, keys: Iterable[str]) -> str:
    """`; did you mean 'name' by 'nmae'?` where a key close to the missing one is there."""
    near = difflib.get_close_matches(missing, list(keys), n=1, cutoff=0.6)
    return f"; did you mean {missing!r} by {near[0]!r}?" if near else ""


def scalar_fits(value: Any, option: dict[str, Any]) -> bool:
    """Whether a scalar is of a kind the alternative allows; unknown alternatives allow everything."""
    if not _known(option):
        return True
    allowed = [option["type"]] if "type" in option else [_kind(v) for v in option.get("enum", [option.get("const")])]
    kind = _kind(value)
    whole = isinstance(value, float) and value.is_integer() and "integer" in allowed
    return kind in allowed or whole or (kind == "integer" and "number" in allowed)


def _kind(value: Any) -> str:
    for type_, kind in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (type(None), "null")):
        if isinstance(value, type_):
            return kind
    return "object" if isinstance(value, dict) else "array"
