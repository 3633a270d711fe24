"""The laws that a study wishes for, checked before anything is trained: after hours of trials it would be late."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from compress.recipe.check import Finding
from compress.recipe.positions import Key
from compress.study.grid import blocks
from evaluate.core.errors import UsageError, did_you_mean
from evaluate.scaling.forms.law_registry import LAWS
from evaluate.scaling.points.cells import parse_conditions
from evaluate.scaling.points.trial_points import rows_of_records

AUTO = "auto"


def of_laws(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Laws that are not there, columns that no trial of this study will have, conditions that cannot be read."""
    wishes = data.get("laws")
    columns = _columns(data)
    for n, wish in enumerate(wishes if isinstance(wishes, list) else ()):
        if isinstance(wish, Mapping):
            yield from _of_wish(wish, ("laws", n), columns)


def _columns(data: Mapping[str, Any]) -> list[str]:
    """What the finished trials of this study will be as points."""
    size = {key for block, _ in blocks(data.get("sizes"), ()) for key in block}
    levels = data["levels"].values() if isinstance(data.get("levels"), Mapping) else ()
    values = {
        key for level in levels if isinstance(level, Mapping) for b, _ in blocks(level.get("values"), ()) for key in b
    }
    trial = {
        "kind": "trial",
        "size": dict.fromkeys(sorted(size, key=str)),
        "level": dict.fromkeys(sorted(values, key=str)),
    }
    rows, _, _ = rows_of_records([trial])
    return list(rows[0])


def _of_wish(wish: Mapping[str, Any], place: Key, columns: Collection[str]) -> Iterator[Finding]:
    law = wish.get("law", AUTO)
    if isinstance(law, str) and law not in (AUTO, *LAWS):
        near = did_you_mean(law, [AUTO, *LAWS]) or f"; known: {AUTO}, {', '.join(LAWS)}"
        yield Finding((*place, "law"), f"there is no law {law!r}{near}")
    x = wish.get("x")
    for at, name in enumerate(x) if isinstance(x, list) else [(None, x)]:
        key = (*place, "x") if at is None else (*place, "x", at)
        yield from _of_column(name.rpartition("=")[2].strip() if isinstance(name, str) else None, key, columns)
    for role in ("y", "group"):
        yield from _of_column(wish.get(role), (*place, role), columns)
    where = wish.get("where")
    for at, condition in enumerate(where if isinstance(where, list) else ()):
        yield from _of_condition(condition, (*place, "where", at), columns)
    against = wish.get("against")
    if isinstance(against, str) and re.search(r"[<>=]", against):  # else a law's file, or points
        yield from _of_condition(against, (*place, "against"), columns)


def _of_condition(text: Any, place: Key, columns: Collection[str]) -> Iterator[Finding]:
    try:
        conditions = parse_conditions(text) if isinstance(text, str) else []
    except UsageError as error:
        yield Finding(place, str(error))
        return
    for condition in conditions:
        yield from _of_column(condition.name, place, columns)


def _of_column(name: Any, place: Key, columns: Collection[str]) -> Iterator[Finding]:
    if isinstance(name, str) and name not in columns:
        near = did_you_mean(name, columns) or f"; it has {', '.join(columns)}"
        yield Finding(place, f"no trial of this study has a column {name!r}{near}")
