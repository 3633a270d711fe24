"""JSON objects as dataclasses: the one tolerant reader, driven by the types, and their JSON schema.

A field is a key of the same name (or of `metadata["json"]`). Reading never raises: what has another type than expected
is None or empty, with a sentence that says where; keys that a type does not know are kept in `extra`.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

MOST_PROBLEMS = 20
MOST_DEPTH = 60
RAW = {"raw": True}
"""Marks a field that is kept as it came, unchecked: raw samples, of which there are many."""

B = TypeVar("B", bound="Block")


@dataclass(frozen=True)
class Block:
    """A part of a Record. `extra` holds the keys that its type does not know.

    present : the keys it was read from, in their order, and whether each held null.
    """

    extra: dict[str, Any] = field(default_factory=dict)
    present: dict[str, bool] = field(default_factory=dict, repr=False, compare=False, metadata={"json": None})

    def __bool__(self) -> bool:
        """Whether it holds anything: a part that a file does not hold is there, and empty."""
        return bool(self.present) or any(_holds(getattr(self, name)) for name, _ in _fields(type(self)).values())

    def to_json(self) -> dict[str, Any]:
        """The JSON object: the keys it was read from, in their order; else all of its type; {} of an empty part."""
        known = {key: getattr(self, name) for key, (name, _) in _fields(type(self)).items()}
        keys = self.present or ((*known, *self.extra) if self else ())
        values = {key: _written(known[key] if key in known else self.extra.get(key)) for key in keys}
        return {key: None if self.present.get(key) else value for key, value in values.items()}


def read_block(kind: type[B], value: Mapping[str, Any], where: str, problems: list[str]) -> B:
    """A block of this type made of a mapping, whatever the mapping holds."""
    known = _fields(kind)
    found = {
        name: item
        for key, (name, spec) in known.items()
        if key in value and (item := _converted(spec, value[key], f"{where}{key}", problems, 1)) is not None
    }
    extra = {_text(str(key)): item for key, item in value.items() if key not in known}
    return kind(extra=extra, present={_text(str(key)): item is None for key, item in value.items()}, **found)


def misshapen(kind: type[Block], value: Mapping[str, Any]) -> list[str]:
    """The keys under which a mapping holds no block, list or mapping, though its type has one there."""
    shapes: dict[str, Any] = {"block": Mapping, "dict": Mapping, "list": (list, tuple)}
    wanted = {key: shapes[spec[0]] for key, (_, spec) in _fields(kind).items() if spec[0] in shapes}
    return [key for key, shape in wanted.items() if value.get(key) and not isinstance(value[key], shape)]


def _holds(value: Any) -> bool:
    return bool(value) if isinstance(value, (Block, tuple, dict)) else value is not None


def as_block(kind: type[B], value: Mapping[str, Any] | B | None) -> B:
    """A block of this type: itself, or made of a mapping, whatever the mapping holds."""
    return value if isinstance(value, kind) else read_block(kind, value or {}, "", [])  # type: ignore[arg-type]


def _written(value: Any) -> Any:
    if isinstance(value, Block):
        return value.to_json() or None
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    return value


def _home(kind: type[Block], name: str) -> str:
    """The module whose class declares a field: there its annotation means something."""
    return next(c.__module__ for c in reversed(kind.__mro__) if name in vars(c).get("__annotations__", {}))


Spec = tuple[str, Any]
"""How a value is read: ("number" | "whole" | "bool" | "text" | "any" | "block" | "list" | "dict", what is inside)."""


_KNOWN: dict[type[Block], dict[str, tuple[str, Spec]]] = {}


def _fields(kind: type[Block]) -> dict[str, tuple[str, Spec]]:
    """JSON key -> (attribute, how it is read)."""
    if kind not in _KNOWN:
        named = {f.metadata.get("json", f.name): (f.name, _of_field(kind, f)) for f in dataclasses.fields(kind)}
        _KNOWN[kind] = {str(key): entry for key, entry in named.items() if key not in (None, "extra")}
    return _KNOWN[kind]


def _of_field(kind: type[Block], one: dataclasses.Field[Any]) -> Spec:
    return ("raw", None) if one.metadata.get("raw") else _spec(str(one.type), _home(kind, one.name))


def _spec(annotation: str, module: str) -> Spec:
    """From an annotation as it is written: `tuple[ClassScore, ...]`, `float | None`."""
    written = annotation.replace(" | None", "").strip()
    several = re.fullmatch(r"tuple\[(.+), \.\.\.\]", written)
    if several:
        return "list", _spec(several.group(1), module)
    mapped = re.fullmatch(r"dict\[str, (.+)\]", written)
    if mapped:
        return "dict", _spec(mapped.group(1), module)
    plain = {"float": "number", "bool": "bool", "str": "text", "Any": "any", "Mapping[str, Any]": "any"}
    return (plain[written], None) if written in plain else ("block", getattr(sys.modules[module], written))


def _converted(spec: Spec, value: Any, where: str, problems: list[str], depth: int) -> Any:
    """The value as its type wants it; None or empty, and a sentence, where it is another."""
    kind, inner = spec
    empty: Any = {"list": (), "dict": {}}.get(kind)
    if value is None or kind == "raw":
        return empty if value is None else value
    if kind == "number" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "text" and isinstance(value, str):
        return _text(value)
    if kind == "any":
        return _any(value, depth)
    if kind == "block" and isinstance(value, Mapping):
        return read_block(inner, value, f"{where}.", problems)
    if kind == "list" and isinstance(value, (list, tuple)):
        listed = (_converted(inner, item, f"{where}.{n}", problems, depth + 1) for n, item in enumerate(value))
        return tuple(item for item in listed if item is not None)
    if kind == "dict" and isinstance(value, Mapping):
        named = {_text(str(k)): _converted(inner, v, f"{where}.{k}", problems, depth + 1) for k, v in value.items()}
        return {key: item for key, item in named.items() if item is not None or inner[0] == "any"}
    if len(problems) < MOST_PROBLEMS:
        problems.append(f"{_text(where)[:100]} is {_kind_of(value)}, which leanfit does not write there")
    return empty


def _number(value: float) -> float | None:
    """Finite, and small enough to be reckoned with."""
    try:
        return value if math.isfinite(value) and abs(value) < 1e300 else None
    except OverflowError:
        return None


def _text(value: str) -> str:
    """Without control characters and lone surrogates, which neither terminals nor files can take."""
    kept = value if value.isprintable() else "".join(c if c.isprintable() or c == "\n" else "?" for c in value)
    return kept if len(kept) <= 4000 else f"{kept[:4000]}..."


def _any(value: Any, depth: int) -> Any:
    if depth > MOST_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {_text(str(key)): _any(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_any(item, depth + 1) for item in value]
    if isinstance(value, str):
        return _text(value)
    return _number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    names: list[tuple[Any, str]] = [(Mapping, "an object"), ((list, tuple), "a list"), (str, "a text")]
    return next((name for kind, name in [*names, ((int, float), "a number")] if isinstance(value, kind)), "nothing")


def define_block(kind: type[Block], definitions: dict[str, Any]) -> None:
    """Add the JSON schema of a type, and of those inside it, to `definitions` by their names."""
    if kind.__name__ in definitions:
        return
    entry: dict[str, Any] = {"type": "object", "description": (kind.__doc__ or "").split("\n")[0], "properties": {}}
    definitions[kind.__name__] = entry
    for key, (_, spec) in _fields(kind).items():
        entry["properties"][key] = _described(spec, definitions)


def _described(spec: Spec, definitions: dict[str, Any]) -> dict[str, Any]:
    kind, inner = spec
    if kind in ("any", "raw"):
        return {}
    if kind == "block":
        define_block(inner, definitions)
        return {"anyOf": [{"$ref": f"#/$defs/{inner.__name__}"}, {"type": "null"}]}
    if kind == "list":
        return {"type": ["array", "null"], "items": _described(inner, definitions)}
    if kind == "dict":
        return {"type": ["object", "null"], "additionalProperties": _described(inner, definitions)}
    return {"type": [{"number": "number", "bool": "boolean", "text": "string"}[kind], "null"]}
