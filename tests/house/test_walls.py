"""The walls of the house: one way between rooms, one name for one thing, doors that open, nothing at the roots.

Imports are counted wherever they stand: at the top, inside a function, under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import importlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("compress", "evaluate")

# Which rooms a room may use. docs/architecture.md draws it; a new arrow is a decision, not an accident.
ARROWS = {
    "evaluate.core": "",
    "evaluate.hardware": "core",
    "evaluate.runtime": "core hardware",
    "evaluate.metrics": "core runtime",
    "evaluate.profiling": "core runtime hardware metrics",
    "evaluate.load_test": "core runtime hardware metrics",
    "evaluate.scaling": "core metrics",
    "evaluate.report": "core hardware metrics profiling load_test scaling",
    "evaluate.benchmark": "core runtime hardware metrics profiling load_test report",
    "evaluate.bundle": "core runtime hardware metrics benchmark report",
    "compress.core": "evaluate.core",
    "compress.models": "core evaluate.core",
    "compress.tasks": "core evaluate.core evaluate.metrics",
    "compress.training": "core tasks evaluate.core evaluate.metrics",
    "compress.recipe": "core training evaluate.core",
    "compress.graph": "core evaluate.core evaluate.runtime",
    "compress.passes": "core recipe models tasks training graph evaluate",
    "compress.pipeline": "core recipe models tasks training graph passes evaluate",
    "compress.study": "core recipe models tasks training graph passes pipeline evaluate",
    "compress.bundle": "core recipe models tasks graph passes pipeline evaluate",
    "compress.cli": "core recipe models tasks training graph passes pipeline study bundle evaluate",
}


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield from [m for m in (f"{node.module}.{alias.name}", node.module) if m in modules()][:1]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())


@cache
def edges() -> dict[str, set[str]]:
    """module -> modules it imports; the lazy doors at the roots of the packages left out."""
    inner = {name: path for name, path in modules().items() if "." in name and name != "compress.__main__"}
    return {name: {other for other in imported(path) if other in inner} for name, path in inner.items()}


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another."""

    def reached(start: str) -> set[str]:
        found, waiting = set(), [start]
        while waiting:
            fresh = graph.get(waiting.pop(), set()) - found
            found |= fresh
            waiting += fresh
        return found

    reach = {node: reached(node) for node in graph}
    groups = {tuple(sorted(b for b in graph if b in reach[a] and a in reach[b])) for a in graph if a in reach[a]}
    return [list(group) for group in sorted(groups)]


def test_no_circle_between_files():
    assert circles(edges()) == []


def test_no_circle_between_rooms():
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, others in edges().items():
        rooms[room(module)] |= {room(other) for other in others} - {room(module)}
    assert circles(rooms) == []


@pytest.mark.parametrize("name", sorted({room(module) for module in edges()}))
def test_a_room_uses_only_the_rooms_below_it(name: str):
    package = name.split(".")[0]
    allowed = {word if "." in word else f"{package}.{word}" for word in ARROWS[name].split() if word != "evaluate"}
    if "evaluate" in ARROWS[name].split():
        allowed |= {other for other in ARROWS if other.startswith("evaluate.")}
    used = {room(other): module for module, others in edges().items() if room(module) == name for other in others}
    assert not {f"{module} -> {other}" for other, module in used.items() if other not in {name, *allowed}}


def test_no_base_name_twice():
    names = Counter(path.stem for path in modules().values() if path.stem not in ("__init__", "__main__"))
    assert {name for name, count in names.items() if count > 1} <= {"errors", "base"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_roots_hold_nothing_else(package: str):
    assert {path.name for path in (ROOT / package).glob("*.py")} <= {"__init__.py", "__main__.py"}


def test_every_room_has_a_door_that_says_what_it_is():
    folders = {path.parent for path in modules().values()}
    for folder in folders:
        door = folder / "__init__.py"
        assert door.is_file(), f"{folder} is no package"
        assert ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))), f"{door} does not say what the room is"


# Words that are a component's name somewhere and mean something else here.
OTHER_MEANINGS = {
    ("evaluate/core/blocks.py", "text"): "a kind of JSON value",
    ("evaluate/report/charts/svg.py", "text"): "an SVG element",
    ("compress/passes/quantization/calibrate.py", "mse"): "a way to choose a range, not the metric",
    ("evaluate/report/charts/svg.py", "linear"): "matplotlib's name of a scale, not the law",
    ("compress/study/study_report.py", "bits"): "a key of a trial's level",
    ("compress/study/trial.py", "bits"): "a key of a trial's level",
    ("evaluate/report/html/study_page.py", "bits"): "a key of a trial's level",
    ("compress/study/law_fit.py", "params"): "a column of the user's table",
    ("compress/passes/pruning/prune_settings.py", "params"): "what the amounts of a unit are counted in",
    ("evaluate/report/charts/study_charts.py", "bytes"): "a column of the trials",
    ("evaluate/report/charts/study_charts.py", "bits"): "a column of the trials",
    ("evaluate/report/charts/study_charts.py", "data"): "what an axis of a study varies",
    ("evaluate/scaling/select/selection.py", "data"): "a role of a column",
    ("evaluate/report/html/run_page.py", "bytes"): "the axis of one of two pictures",
    ("evaluate/report/html/run_page.py", "latency"): "the axis of one of two pictures",
    ("evaluate/report/charts/intervals.py", "bytes"): "the axis of one of two pictures",
    ("evaluate/scaling/forms/form.py", "huber"): "how a law is fitted, not a loss of training",
    ("evaluate/scaling/fit/fitted.py", "huber"): "how a law is fitted, not a loss of training",
    ("evaluate/report/messages/law_messages.py", "huber"): "how a law is fitted, not a loss of training",
    ("compress/training/placement.py", "cuda"): "a type of torch device",
    ("compress/study/ray_pool.py", "cpu"): "a type of torch device",
    ("compress/study/trial_run.py", "cpu"): "a type of torch device",
    ("compress/study/pools.py", "cpu"): "a type of torch device",
    ("evaluate/runtime/session.py", "cpu"): "where memory lies, as the runtime calls it",
    ("evaluate/runtime/session.py", "cuda"): "where memory lies, as the runtime calls it",
    ("evaluate/profiling/costs.py", "cpu"): "where a node of a trace ran",
    ("evaluate/profiling/trace.py", "cpu"): "where a node of a trace ran",
    ("evaluate/hardware/monitor.py", "cpu"): "a line of /proc/stat",
}
KINDS = {
    "pass",
    "model",
    "task",
    "metric",
    "loss",
    "optimizer",
    "schedule",
    "law",
    "unit",
    "rewrite",
    "constraint",
    "provider",
}


def compared_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Texts that a file compares something with: ==, !=, in, match."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                parts = side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]
                yield from (
                    (p.lineno, p.value) for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)
                )
        elif isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)


def registered() -> dict[str, set[Path]]:
    """Every built-in component's name, with the files that define one of that name."""
    for home in ("compress.core.registries", "evaluate.core.units", "evaluate.core.execution_providers"):
        importlib.import_module(home)
    from evaluate.core.components import registries
    from evaluate.metrics.base import METRICS
    from evaluate.scaling.forms.form import LAWS

    assert METRICS and LAWS and set(registries()) >= KINDS
    found: dict[str, set[Path]] = defaultdict(set)
    for registry in registries().values():
        for name, component in registry.all(installed=False).items():
            found[name].add(modules().get(component.module, Path()))
    return found


def test_no_comparison_with_the_name_of_a_component():
    """One that adds a metric, a pass or a law must not have to find who asks for its name."""
    known = registered()
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: compares with {text!r}"
        for path in modules().values()
        for line, text in compared_texts(path)
        if text in known and path not in known[text]
        if (path.relative_to(ROOT).as_posix(), text) not in OTHER_MEANINGS
    ]
    assert not wrong, "\n".join(wrong)
