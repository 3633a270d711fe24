"""The levels of a study: passes over values that vary. Plain data go in: wrong files are read as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compress.recipe.positions import Key
from compress.study.grid import Point, expand, fill

Levels = Mapping[str, Any]


def chain_of(levels: Levels, name: str) -> list[str]:
    """The level and those it comes after, the first to be applied first. Ends where a name is unknown or comes back."""
    chain: list[str] = []
    here: Any = name
    while isinstance(here, str) and isinstance(levels.get(here), Mapping) and here not in chain:
        chain.insert(0, here)
        here = levels[here].get("after")
    return chain


def variants(levels: Levels, name: str) -> Iterator[Point]:
    """Every combination of the values of a level and of those it comes after; one without values has one."""
    found = [Point({}, {})]
    for part in chain_of(levels, name):
        own = list(expand(levels[part].get("values") or {}, ("levels", part, "values")))
        found = [Point(a.values | b.values, a.places | b.places) for a in found for b in own]
    yield from found


def passes_of(levels: Levels, name: str, values: Mapping[str, Any]) -> list[tuple[Any, Key]]:
    """The passes of a level with these values put in, each with its place in the study."""
    return [
        (fill(step, values), ("levels", part, "passes", n))
        for part in chain_of(levels, name)
        for n, step in enumerate(levels[part].get("passes") or ())
    ]
