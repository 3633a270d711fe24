"""Checking plain data against a pydantic class, with messages for people: all problems at once, each with its path.

The class's JSON schema says what was expected, which keys are known, and which scalars pydantic would silently convert
(`"12"` or `true` for a number), which a recipe may not do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError

from compress.recipe.positions import Key
from evaluate.core.errors import did_you_mean, quoted

M = TypeVar("M", bound=BaseModel)
_OURS = "recipe_"
BEYOND_REASON = 1000


class _Schema(GenerateJsonSchema):
    """A field that has no JSON schema (a callable, a user's class) may be anything."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


@lru_cache(maxsize=256)
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a class, shared: not to be changed."""
    return model.model_json_schema(schema_generator=_Schema)


class Issue(NamedTuple):
    """One problem in plain data. `at` says where a caret belongs: at the `key`, the `value`, or the `block` around."""

    path: Key
    message: str
    at: str = "value"

    def details(self) -> InitErrorDetails:
        """What pydantic takes for one of its own errors."""
        kind = PydanticCustomError(_OURS + self.at, "{message}", {"message": self.message})
        return {"type": kind, "loc": self.path, "input": None}


def as_error(title: str, found: Iterable[Issue]) -> ValidationError:
    """Issues as the error a pydantic validator raises; an outer class puts its own path before theirs."""
    return ValidationError.from_exception_data(title, [f.details() for f in found])


def issues_of(error: ValidationError) -> list[Issue]:
    """The issues in an error that `check` raised."""
    return [Issue(e["loc"], e["msg"], e["type"].removeprefix(_OURS)) for e in error.errors()]


def check(model: type[M], data: Any, extra: Iterable[Issue] = ()) -> M:
    """An instance of `model` made of `data`. Raises ValidationError, of issues only, where anything is wrong."""
    found = [*extra]
    instance = None
    try:
        instance = model.model_validate(data)
    except ValidationError as error:
        found += _explained(error.errors(include_url=False), data, schema_of(model))
    taken = {f.path for f in found}
    found += [f for f in _converted(options(schema_of(model)), schema_of(model), data, ()) if f.path not in taken]
    if found or instance is None:
        raise as_error(model.__name__, found)
    return instance


def _explained(errors: list[ErrorDetails], data: Any, schema: dict[str, Any]) -> list[Issue]:
    found: dict[tuple[Key, str], Issue] = {}
    for error in errors:
        path = _path(error["loc"], data)
        issue = _issue(error, path, data, schema)
        found.setdefault((issue.path, issue.message), issue)
    paths = {f.path for f in found.values()}
    return [f for f in found.values() if f.at != "branch" or not any(_inside(p, f.path) for p in paths)]


def _inside(path: Key, block: Key) -> bool:
    return len(path) > len(block) and path[: len(block)] == block


def _path(loc: Key, data: Any) -> Key:
    """A pydantic location without the tags of unions, which are not in the data."""
    path: list[str | int] = []
    for part in loc:
        if (isinstance(data, dict) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        ):
            data = data[part]  # type: ignore[index]
            path.append(part)
    return tuple(path)


def _issue(error: ErrorDetails, path: Key, data: Any, schema: dict[str, Any]) -> Issue:
    kind, message = error["type"], error["msg"]
    if kind.startswith(_OURS):
        return Issue((*path, *error["loc"][len(path) :]), message, kind.removeprefix(_OURS))
    if kind == "missing":
        name = str(error["loc"][-1])
        wanted = describe(_at(schema, (*path, name), data), schema)
        return Issue(path, f"missing key {name!r}" + (f": expected {wanted}" if wanted else ""), "block")
    if kind == "extra_forbidden":
        return Issue(path, _unknown_key(path, data, schema), "key")
    if kind in ("value_error", "assertion_error", "amount"):
        return Issue(path, message.removeprefix("Value error, ").removeprefix("Assertion failed, "), _place(error))
    return Issue(path, _unfit(_at(schema, path, data), schema, error["input"], message), _place(error, len(path)))


def _place(error: ErrorDetails, depth: int | None = None) -> str:
    """A block that is wrong as a whole is shown by its key; one branch of a union gives way to problems further in."""
    if isinstance(error["input"], dict | list | tuple) and depth is not None and depth < len(error["loc"]):
        return "branch"
    return "key" if isinstance(error["input"], dict) else "value"


def _unknown_key(path: Key, data: Any, schema: dict[str, Any]) -> str:
    known = list(dict.fromkeys(k for o in _at(schema, path[:-1], data) for k in o.get("properties", {})))
    listed = f"; known keys: {', '.join(known)}" if known else "; no keys are known here"
    return f"unknown key {quoted(str(path[-1]))}{did_you_mean(str(path[-1]), known) or listed}"


def _unfit(here: list[dict[str, Any]], schema: dict[str, Any], value: Any, fallback: str) -> str:
    wanted = describe(here, schema, value)
    if not wanted:
        return f"{fallback[:1].lower()}{fallback[1:]}; got {got(value)}"
    return f"expected {wanted}; got {got(value)}{nearest(value, here)}"


def _at(schema: dict[str, Any], path: Key, data: Any) -> list[dict[str, Any]]:
    """The alternatives of the schema that may stand at `path`."""
    here = options(schema)
    for part in path:
        here = [o for h in here for o in _inner(h, part, schema)]
    return here


def _inner(schema: dict[str, Any], part: str | int, root: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(part, str):
        inner = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
    else:
        prefix = schema.get("prefixItems", [])
        inner = prefix[part] if part < len(prefix) else schema.get("items")
    return options(inner, root) if isinstance(inner, dict) else []


def _converted(here: list[dict[str, Any]], root: dict[str, Any], data: Any, path: Key) -> Iterator[Issue]:
    """Scalars of a kind that the schema does not name here, though pydantic may have converted them."""
    parts = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list | tuple) else None
    if parts is not None:
        for part, value in parts:
            yield from _converted([o for h in here for o in _inner(h, part, root)], root, value, (*path, part))
    elif data is not None and here and not any(scalar_fits(data, option) for option in here):
        yield Issue(path, _unfit(here, root, data, "not allowed"))


_PLAIN = {"boolean": "true or false", "null": "null", "string": "a text"}
_BOUNDS = {"exclusiveMinimum": "above {}", "minimum": "of at least {}", "exclusiveMaximum": "below {}"}
_BOUNDS |= {"maximum": "of at most {}"}


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
        return f"a block with the keys {', '.join(map(str, list(value)[:4])):.200}" if value else "an empty block"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value, 80) if not isinstance(value, int) or abs(value) < 10**18 else "a very large number"


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
