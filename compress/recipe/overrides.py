"""`--set passes.0.calibrate.samples=512`: a value put into a recipe's data before it is checked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from compress.recipe.positions import Key, Problem, Source
from compress.recipe.yaml_text import MAX_DEPTH, read_yaml
from evaluate.core.errors import did_you_mean


class _Refused(Exception):
    pass


def apply_overrides(source: Source, texts: Sequence[str]) -> Source:
    """`source` with every `KEY=VALUE` applied, the value read as YAML; what cannot be applied is added to `problems`.

    A block on the way that the recipe leaves out is made. A list is entered by an index that it has.
    """
    data = copy.deepcopy(source.data)
    problems, done = list(source.problems), list(source.overrides)
    for text in texts:
        try:
            key, value = _parse(text)
            path = _put(data, key, value)
        except _Refused as reason:
            problems.append(Problem(f"--set {text}", str(reason)))
        else:
            done.append((path, text))
    return replace(source, data=data, problems=tuple(problems), overrides=tuple(done))


def _parse(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise _Refused("expected KEY=VALUE, such as passes.0.keep.macs=0.5")
    if len(parts) > MAX_DEPTH:
        raise _Refused(f"it leads {len(parts)} levels deep, and nothing lies deeper than {MAX_DEPTH}")
    read = read_yaml(value, "the value")
    if read.problems:
        raise _Refused(f"the value is not YAML: {read.problems[0].message}")
    return parts, read.data


def _put(data: Any, parts: list[str], value: Any) -> Key:
    """Set the value where `parts` lead; gives that path, with list indices as numbers."""
    path: list[str | int] = []
    here = data
    for n, part in enumerate(parts):
        place = _step(here, part, path)
        path.append(place)
        if n == len(parts) - 1:
            here[place] = value
        else:
            here = _enter(here, place, parts[n + 1])
    return tuple(path)


def _step(here: Any, part: str, path: list[str | int]) -> str | int:
    """The key or index by which `here` is entered."""
    name = ".".join(str(p) for p in path)
    if isinstance(here, dict):
        return part
    if not isinstance(here, list):
        raise _Refused(f"{name or 'the recipe'} is a single value and has nothing named {part!r}")
    if not (part.isascii() and part.isdigit() and len(part) < 6 and int(part) < len(here)):
        allowed = f"one of 0 to {len(here) - 1}" if here else "nothing: the list is empty"
        raise _Refused(f"{name} is a list; expected {allowed}, got {part!r}")
    return int(part)


def _enter(here: Any, place: str | int, following: str) -> Any:
    """What stands at `place`; an empty block is put there where nothing does."""
    if isinstance(place, str) and here.get(place) is None:
        if following.isdigit():
            raise _Refused(f"there is no list {place!r} to take entry {following} of{did_you_mean(place, here)}")
        here[place] = {}
    return here[place]
