"""A study's plain data, checked as strictly as a recipe, in every combination; the laws that it asks for too."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compress.recipe.named_blocks import read_model, read_passes, read_task
from compress.recipe.positions import Key, SourceMap
from compress.recipe.validate import Issue, check, issues_of
from compress.study.spec import DENSE, Point, Study, blocks, chain_of, expand, fits, passes_of, placeholders, variants
from compress.study.study_source import StudyProblems, read_study
from compress.training.settings import TrainConfig
from evaluate.core.errors import UsageError, did_you_mean
from evaluate.scaling.forms.form import LAWS, laws_with_levels
from evaluate.scaling.points.cells import parse_conditions
from evaluate.scaling.points.trial_points import NAMES, rows_of_records

VARIED = ("task", "train")


def load_study(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Study:
    """A checked study from a path, the name of a shipped one, or a mapping. Raises StudyProblems, all at once."""
    return check_study(read_study(source, tuple(overrides)))


def check_study(source: SourceMap) -> Study:
    """The study of what was read. Raises StudyProblems: one that names every problem, each with its place."""
    problems = list(source.problems)
    try:
        study = check(Study, source.data, _once(_findings(source.data)))
    except ValidationError as error:
        found = [source.problem(f.path, f.message, at_key=f.at != "value") for f in issues_of(error)]
        # A misspelt key of a size is found in the grid and again in every model that it makes: once a line is enough.
        once = {(p.where.rpartition(":")[0], p.message): p for p in reversed(found)}
        raise StudyProblems([*problems, *once.values()]) from None
    if problems:
        raise StudyProblems(problems)
    return study


def _once(found: Iterable[Issue]) -> list[Issue]:
    return list({(f.path, f.message): f for f in found}.values())


def _findings(data: Mapping[str, Any]) -> Iterator[Issue]:
    """Problems that only the resolved trials show."""
    yield from _of_sizes(data)
    yield from _of_levels(data.get("levels"))
    for n, axis in enumerate(data["data"] if isinstance(data.get("data"), list) else ()):
        if isinstance(axis, Mapping):
            yield from _of_axis(data, axis, ("data", n))
    yield from _of_native(data)
    yield from of_laws(data)


def _of_sizes(data: Mapping[str, Any]) -> Iterator[Issue]:
    model = data.get("model")
    if not isinstance(model, Mapping):
        return
    for point in expand(data.get("sizes"), ("sizes",)):
        try:
            read_model({**model, **point.values})
        except ValidationError as error:
            places: dict[Key, Key] = {(key,): place for key, place in point.places.items()}
            yield from (_moved(f, places, ("model",)) for f in issues_of(error))
    for block, place in blocks(data.get("sizes"), ("sizes",)):
        for key in {"name"} & set(block):
            yield Issue((*place, key), "all sizes are of one family: give the name in `model`", "key")


def _moved(finding: Issue, places: Mapping[Key, Key], home: Key, note: str = "") -> Issue:
    """A finding of a resolved part, at the place in the study where that value was written."""
    for end in range(len(finding.path), 0, -1):
        place = places.get(finding.path[:end])
        if place is not None:
            return Issue((*place, *finding.path[end:]), finding.message + note, finding.at)
    return Issue((*home, *finding.path), finding.message + note, finding.at)


def _of_levels(levels: Any) -> Iterator[Issue]:
    for name in levels if isinstance(levels, Mapping) else ():
        if isinstance(levels[name], Mapping):
            yield from _of_names(levels, name)
            yield from _of_passes(levels, name)


def _of_names(levels: Mapping[str, Any], name: str) -> Iterator[Issue]:
    """A level's own name, the one it comes after, and values that no pass takes or no value stands for."""
    level, place = levels[name], ("levels", name)
    if name in (DENSE, "native"):
        yield Issue(place, f"a level cannot be called {name!r}: that is the uncompressed one; give another name", "key")
    after = level.get("after")
    if isinstance(after, str) and after not in levels:
        yield Issue((*place, "after"), f"unknown level {after!r}{did_you_mean(after, levels) or '.'}")
    elif isinstance(after, str) and levels[chain_of(levels, name)[0]].get("after") in chain_of(levels, name):
        yield Issue((*place, "after"), f"level {name!r} comes after itself")
    chain = [levels[part].get("values") for part in chain_of(levels, name)]
    given = {key for values in chain for block, _ in blocks(values, ()) for key in block}
    asked = [(key, (*place, "passes", *at)) for key, at in placeholders(level.get("passes"))]
    for key, at in asked:
        if key not in given:
            known = f"; values: {', '.join(sorted(given))}" if given else "; the level has no `values`"
            yield Issue(at, f"'${key}' stands for no value{did_you_mean(key, given) or known}")
    own = {key for block, _ in blocks(level.get("values") or {}, ()) for key in block}
    for key in sorted(own - {key for key, _ in asked}):
        at = next((*w, key) for b, w in blocks(level.get("values"), (*place, "values")) if key in b)
        yield Issue(at, f"no pass of this level takes it: write '${key}' where it belongs", "key")
    if "name" in own:
        yield Issue((*place, "values"), "a value cannot be called 'name'", "key")


def _of_passes(levels: Mapping[str, Any], name: str) -> Iterator[Issue]:
    if not isinstance(levels[name].get("passes"), list) or not levels[name]["passes"]:
        return
    for point in variants(levels, name):
        steps = passes_of(levels, name, point.values)
        try:
            read_passes([step for step, _ in steps])
        except ValidationError as error:
            for found in issues_of(error):
                yield _of_pass(found, steps, point, levels)


def _of_pass(found: Issue, steps: list[tuple[Any, Key]], point: Point, levels: Mapping[str, Any]) -> Issue:
    """A finding of a resolved pass where the pass, or the value that it took, was written."""
    if not found.path or not isinstance(found.path[0], int):
        return Issue(steps[0][1][:-1], found.message, found.at)
    place = (*steps[found.path[0]][1], *found.path[1:])
    written: Any = {"levels": levels}
    for part in place:
        if isinstance(written, Mapping | list) and (not isinstance(written, Mapping) or part in written):
            written = written[part]  # type: ignore[index]
    if isinstance(written, str) and written[1:] in point.places:
        return Issue(point.places[written[1:]], f"{found.message} (for {written} in {'.'.join(map(str, place))})")
    return Issue(place, found.message, found.at)


def apply_point(data: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """The `task` and `train` blocks of a study with dotted keys such as task.train_limit set."""
    changed = {head: copy.deepcopy(dict(data.get(head) or {})) for head in VARIED}
    for key, value in point.values.items():
        head, *parts = key.split(".")
        here = changed[head]
        for part in parts[:-1]:
            if not isinstance(here.get(part), dict):  # the check of the whole says what is wrong
                here[part] = {}
            here = here[part]
        here[parts[-1]] = value
    return changed


def _of_axis(data: Mapping[str, Any], axis: Mapping[str, Any], place: Key) -> Iterator[Issue]:
    known = [DENSE, *(data["levels"] if isinstance(data.get("levels"), Mapping) else ())]
    for n, level in enumerate(axis["levels"] if isinstance(axis.get("levels"), list) else ()):
        if level not in known:
            near = did_you_mean(str(level), known) or f"; known levels: {', '.join(known)}"
            yield Issue((*place, "levels", n), f"unknown level {level!r}{near}")
    yield from _of_axis_sizes(data, axis, place)
    bad = [(w, key) for b, w in blocks(axis.get("set"), (*place, "set")) for key in b if not _varies(key)]
    for where, key in bad:
        yield Issue((*where, key), "expected a key of the task or of train, such as task.train_limit", "key")
    if not bad and isinstance(data.get("task"), Mapping) and isinstance(data.get("train") or {}, Mapping):
        for point in expand(axis.get("set"), (*place, "set")):
            yield from _of_point(data, point)


def _of_axis_sizes(data: Mapping[str, Any], axis: Mapping[str, Any], place: Key) -> Iterator[Issue]:
    """Sizes of which the study has none: the axis would be passed over without a word."""
    wanted = axis.get("sizes")
    points = [point.values for point in expand(data.get("sizes"), ("sizes",))]
    if not isinstance(wanted, Mapping) or not points:
        return
    known = {key for values in points for key in values}
    for key in wanted.keys() - known:
        near = did_you_mean(str(key), sorted(known)) or f"; sizes vary in {', '.join(sorted(known))}"
        yield Issue((*place, "sizes", key), f"no size of this study has a {key!r}{near}", "key")
    if not wanted.keys() - known and not any(fits(values, wanted) for values in points):
        there = "; ".join(" ".join(f"{k} {v}" for k, v in values.items()) for values in points[:9])
        yield Issue((*place, "sizes"), f"the study has none of these sizes; it has {there}", "key")


def _varies(key: str) -> bool:
    head, _, rest = key.partition(".")
    return head in VARIED and bool(rest) and all(rest.split("."))


def _of_point(data: Mapping[str, Any], point: Point) -> Iterator[Issue]:
    """What is wrong with the task or with train once they are changed, at the key that changed it."""
    changed = apply_point(data, point)
    for head in {key.partition(".")[0] for key in point.places}:
        try:
            read_task(changed[head]) if head == "task" else check(TrainConfig, changed[head])
        except ValidationError as error:
            for found in issues_of(error):
                path = (head, *found.path)
                keys = [(tuple(key.split(".")), place) for key, place in point.places.items()]
                at = next(((k, place) for k, place in keys if path[: len(k)] == k[: len(path)]), None)
                if at is not None:
                    yield Issue((*at[1], *path[len(at[0]) :]), found.message, found.at)


def _of_native(data: Mapping[str, Any]) -> Iterator[Issue]:
    """What the native small models need: training, and a family with a width."""
    model, trained = data.get("model"), data.get("train") is not None
    if not trained and isinstance(model, Mapping) and "weights" not in _keys(data):
        message = "the models have no 'weights' and the study no 'train' block: give one of them"
        yield Issue(("model",), message, "key")
    if data.get("native", True) is not True or not data.get("levels") or not isinstance(model, Mapping):
        return
    if not trained:
        yield Issue(("model",), "native models have to be trained: give `train`, or set native: false", "key")
    try:
        args = read_model({**model, **next(expand(data.get("sizes"))).values}).args
    except (ValidationError, StopIteration):
        return
    if "width" not in args:
        reason = "native models are searched over `width`, which this model has not; set native: false"
        yield Issue(("model",), reason, "key")


def _keys(data: Mapping[str, Any]) -> set[str]:
    return {*data["model"], *(key for block, _ in blocks(data.get("sizes"), ()) for key in block)}


AUTO = "auto"
Words = Mapping[str, Sequence[str]]  # the values that a column of names will have, where they are known


def of_laws(data: Mapping[str, Any]) -> Iterator[Issue]:
    """Laws that are not there, columns and values that no trial of this study will have, unreadable conditions."""
    specs, levels = data.get("laws"), data.get("levels")
    words = {
        "role": ["dense", "compressed", "native"],
        "level": ["dense", "native", *map(str, levels if isinstance(levels, Mapping) else ())],
    }
    columns = _columns(data)
    for n, spec in enumerate(specs if isinstance(specs, list) else ()):
        if isinstance(spec, Mapping):
            yield from _of_law(spec, ("laws", n), columns, words)


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


def _of_law(spec: Mapping[str, Any], place: Key, columns: Collection[str], words: Words) -> Iterator[Issue]:
    law = spec.get("law", AUTO)
    known = [AUTO, *LAWS.all()]
    if isinstance(law, str) and law not in known and ":" not in law:
        near = did_you_mean(law, known) or f"; known: {', '.join(known)}"
        yield Issue((*place, "law"), f"there is no law {law!r}{near}")
    named = law in laws_with_levels()
    x = spec.get("x")
    for at, name in enumerate(x) if isinstance(x, list) else [(None, x)]:
        key = (*place, "x") if at is None else (*place, "x", at)
        column = name.rpartition("=")[2].strip() if isinstance(name, str) else None
        yield from _of_column(column, key, columns, numbers=not named)
    yield from _of_column(spec.get("y"), (*place, "y"), columns, numbers=True)
    yield from _of_column(spec.get("group"), (*place, "group"), columns)
    where = spec.get("where")
    for at, condition in enumerate(where if isinstance(where, list) else ()):
        yield from _of_condition(condition, (*place, "where", at), columns, words)
    pool = spec.get("pool")
    yield from _of_column(pool, (*place, "pool"), columns)
    if pool is not None and (law != AUTO or (isinstance(x, list) and len(x) > 1)):
        yield Issue((*place, "pool"), f"pool lets curves along one x lend their exponent, under law: {AUTO}")
    against = spec.get("against")
    if isinstance(against, str) and re.search(r"[<>=]", against):  # else a law's file, or points
        yield from _of_condition(against, (*place, "against"), columns, words)


def _of_condition(text: Any, place: Key, columns: Collection[str], words: Words) -> Iterator[Issue]:
    try:
        conditions = parse_conditions(text) if isinstance(text, str) else []
    except UsageError as error:
        yield Issue(place, str(error))
        return
    for condition in conditions:
        yield from _of_column(condition.name, place, columns)
        known = words.get(condition.name, ())
        for value in condition.values if known and condition.sign in ("=", "!=") else ():
            if value.casefold() not in {word.casefold() for word in known}:
                near = did_you_mean(value, known) or f"; known: {', '.join(known)}"
                yield Issue(place, f"no trial of this study has {condition.name} {value!r}{near}")


def _of_column(name: Any, place: Key, columns: Collection[str], *, numbers: bool = False) -> Iterator[Issue]:
    if isinstance(name, str) and name not in columns:
        near = did_you_mean(name, columns) or f"; it has {', '.join(columns)}"
        yield Issue(place, f"no trial of this study has a column {name!r}{near}")
    elif numbers and name in NAMES:
        told = ", ".join(column for column in columns if column not in NAMES)
        yield Issue(place, f"the column {name!r} holds names, and a law needs numbers; those are: {told}")
