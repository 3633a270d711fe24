"""Grids: blocks of keys whose values may be lists, as every combination, each value with its place in the study."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.recipe.positions import Key


@dataclass(frozen=True)
class Point:
    """One combination: values by key, and the place of each in the study."""

    values: dict[str, Any]
    places: dict[str, Key]


def blocks(data: Any, place: Key) -> list[tuple[Mapping[str, Any], Key]]:
    """One block or a list of blocks, each with its place; what is neither is left out, and is a finding elsewhere."""
    if isinstance(data, Mapping):
        return [(data, place)]
    listed = enumerate(data) if isinstance(data, list | tuple) else ()
    return [(block, (*place, n)) for n, block in listed if isinstance(block, Mapping)]


def expand(data: Any, place: Key = ()) -> Iterator[Point]:
    """Every combination of the values of each block; of several blocks, one block after the other."""
    for block, where in blocks(data, place):
        names = list(block)
        for choice in itertools.product(*(_choices(block[name], (*where, name)) for name in names)):
            chosen = dict(zip(names, choice, strict=True))
            yield Point({n: value for n, (value, _) in chosen.items()}, {n: key for n, (_, key) in chosen.items()})


def _choices(value: Any, place: Key) -> Sequence[tuple[Any, Key]]:
    if isinstance(value, list | tuple):
        return [(item, (*place, n)) for n, item in enumerate(value)]
    return [(value, place)]


def fits(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether each wanted key has the value that is wanted, or one of them."""
    return all(
        key in values and values[key] in (choice if isinstance(choice, list | tuple) else [choice])
        for key, choice in wanted.items()
    )


def fill(data: Any, values: Mapping[str, Any]) -> Any:
    """Plain data in which every text "$name" is replaced by the value of that name; an unknown name stays as it is."""
    if isinstance(data, Mapping):
        return {key: fill(item, values) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [fill(item, values) for item in data]
    return values.get(data[1:], data) if isinstance(data, str) and data.startswith("$") else data


def placeholders(data: Any, place: Key = ()) -> Iterator[tuple[str, Key]]:
    """The name and the place of every text "$name" in plain data."""
    if isinstance(data, str) and data.startswith("$"):
        yield data[1:], place
    parts = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list | tuple) else ()
    for key, item in parts:
        yield from placeholders(item, (*place, key))
