"""Broken documents: seeded mutants of a JSON value and of bytes, as a stranger's file or a bad disk would give them.

Every test of a reader of foreign documents takes them from here: `json_mutants(document, 500, seed)` for what parses
and is wrong inside, `byte_mutants(data, 300, seed)` for what may not even parse.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[Any, ...]


def deep(levels: int = 1200, leaf: Any = 1) -> Any:
    """A list in a list in a list: deeper than Python's stack allows a recursive reader to go."""
    for _ in range(levels):
        leaf = [leaf]
    return leaf


STRANGE = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 1e300, -1e300, 5e-324, 0.5,
    float("nan"), float("inf"), -float("inf"), "", " ", "x", "0", "nan", "null", "1e999", "\x00", "\x1b[31mred",
    "\ud800", "\u202egnp.exe", "ﬁ\U0001f600", "a\nb", "x" * 5000, "../../../outside", "/outside", "C:\\outside",
    "file:///etc/passwd",
    "stranger:thing", "os:system", "__import__('os')", "<script>alert(1)</script>", "{{ 7 * 7 }}",
    "%s%n", [], {}, [None], [[]], {"": ""},
    {"x": None},
    [1, "a", None, {}], list(range(300)), {str(n): n for n in range(300)},
)  # fmt: skip
"""Values that no writer of ours puts anywhere; a stranger's file may hold each of them at any place."""


def json_mutants(document: Any, count: int, seed: int = 0, strange: tuple[Any, ...] = STRANGE) -> Iterator[Any]:
    """`count` documents, each with one to three things wrong with it; the one given stays as it is.

    Dropped, retyped, huge, deep, doubled, renamed, swapped, emptied, in letters of other alphabets, NaN.
    """
    rng = random.Random(seed)
    for _ in range(count):
        mutant = copy.deepcopy(document)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            mutant = rng.choice(JSON_CHANGES)(mutant, rng, strange)
        yield mutant


def byte_mutants(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` pieces of data, each with one to three things wrong: bits flipped, cut, filled in, doubled, moved."""
    rng = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(BYTE_CHANGES)(mutant, rng)
        yield bytes(mutant)


def json_of(document: Any) -> str:
    """As `json.dumps`, of documents too deep for it as well."""
    parts: list[str] = []
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Text):
            parts.append(value)
        elif isinstance(value, dict):
            inner = [piece for key, item in value.items() for piece in (_Text(f"{json.dumps(key)}:"), item, _Text(","))]
            waiting += [_Text("}"), *reversed(inner[:-1]), _Text("{")]
        elif isinstance(value, list):
            inner = [piece for item in value for piece in (item, _Text(","))]
            waiting += [_Text("]"), *reversed(inner[:-1]), _Text("[")]
        else:
            parts.append(json.dumps(value))
    return "".join(parts)


class _Text(str):
    """A piece of JSON that is written already."""


def places(document: Any) -> list[Path]:
    """The path to every value in a document, its own, (), first."""
    found: list[Path] = []
    waiting: list[tuple[Path, Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        found.append(path)
        if len(path) < 40:  # a mutant that is deep already gets no deeper
            items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            waiting += [((*path, key), inner) for key, inner in items]
    return found


def at(document: Any, path: Path) -> Any:
    """The value at a path."""
    for key in path:
        document = document[key]
    return document


def put(document: Any, path: Path, value: Any) -> Any:
    """The document, with `value` at a path."""
    if not path:
        return value
    at(document, path[:-1])[path[-1]] = value
    return document


def _retype(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    return put(document, rng.choice(places(document)), copy.deepcopy(rng.choice(strange)))


def _drop(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    path = rng.choice(places(document))
    if path:
        del at(document, path[:-1])[path[-1]]
    return document


def _deepen(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    return put(document, rng.choice(places(document)), deep(rng.choice((50, 900, 1200, 5000))))


def _wrap(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    path = rng.choice(places(document))
    value = at(document, path)
    return put(document, path, rng.choice(([value], {"value": value}, [value, value])))


def _swap(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    """Two values change places, unless one lies in the other."""
    one, other = rng.choice(places(document)), rng.choice(places(document))
    if one[: len(other)] == other or other[: len(one)] == one:
        return document
    first, second = at(document, one), at(document, other)
    return put(put(document, one, second), other, first)


def _rename(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    keyed = [path for path in places(document) if path and isinstance(at(document, path[:-1]), dict)]
    if keyed:
        path = rng.choice(keyed)
        owner = at(document, path[:-1])
        new = rng.choice(("", "x", str(path[-1]).upper(), f"{path[-1]} ", "__class__", "\x1b[2J", "é" * 400))
        owner[new] = owner.pop(path[-1])
    return document


def _scale(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    """A number of it, far beyond what it can be."""
    numbers = [path for path in places(document) if type(at(document, path)) in (int, float)]
    if numbers:
        path = rng.choice(numbers)
        value = at(document, path)
        document = put(document, path, rng.choice((-value, value + 1, value * 2**70, float(value) * 1e30, str(value))))
    return document


def _spell(document: Any, rng: random.Random, strange: tuple[Any, ...]) -> Any:
    """A text of it, spelt otherwise."""
    texts = [path for path in places(document) if isinstance(at(document, path), str)]
    if texts:
        path = rng.choice(texts)
        text = at(document, path)
        spelt = (text[:-1], text + "x", text.upper(), f"stranger:{text}", f"../{text}", f"{text}\x1b[0m", text * 50)
        document = put(document, path, rng.choice(spelt))
    return document


JSON_CHANGES: tuple[Callable[[Any, random.Random, tuple[Any, ...]], Any], ...] = (
    _retype, _retype, _retype, _drop, _drop, _deepen, _wrap, _swap, _rename, _scale, _spell,
)  # fmt: skip


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 8)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 2, 16, 400))]


def _insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.choice((b"\0", b"\xff\xfe", b"\n", b'"', b"}", b"[" * 2000, b"9" * 6000, rng.randbytes(20)))


def _double(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = data[start : start + rng.choice((1, 16, 400))]


def _zero(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice((1, 4, 512))]
    data[start : start + len(piece)] = bytes(len(piece))


BYTE_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _flip, _cut, _remove, _insert, _double, _zero,
)  # fmt: skip
