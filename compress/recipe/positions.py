"""A recipe's plain data with the line and column of every key and value in it, and the problems found in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from compress.core.errors import RecipeError
from evaluate.core.errors import MOST_LETTERS, printable, shortened

Key = tuple[str | int, ...]
_WIDTH = 110
MOST_PROBLEMS = 50


@dataclass(frozen=True)
class Position:
    """A place in the text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: where, what, and the line it stands on."""

    where: str
    message: str
    excerpt: str = ""
    position: Position | None = None

    def __str__(self) -> str:
        where = self.where if len(self.where) <= MOST_LETTERS else f"{self.where[: MOST_LETTERS - 20]}..."
        message = printable(f"{where}: {shortened(self.message)}")
        return message + (f"\n{self.excerpt}" if self.excerpt else "")


class RecipeProblems(RecipeError):
    """Everything that is wrong with a recipe, in the order of its lines."""

    what = "recipe"

    def __init__(self, problems: Iterable[Problem]) -> None:
        last = Position(10**9, 0)
        self.problems = tuple(sorted(problems, key=lambda p: ((p.position or last).line, (p.position or last).column)))
        more = len(self.problems) - MOST_PROBLEMS
        rest = [f"... and {more} more problems; mend these first"] if more > 0 else []
        super().__init__("\n".join([*(str(p) for p in self.problems[:MOST_PROBLEMS]), *rest]))


@dataclass(frozen=True)
class SourceMap:
    """A recipe's plain data, and the places of its parts: `keys[path]` and `values[path]`, path as in the data.

    overrides: what `--set` gave, as (path, text), applied to `data` already.
    """

    name: str
    data: Any
    lines: tuple[str, ...] = ()
    keys: dict[Key, Position] = field(default_factory=dict)
    values: dict[Key, Position] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    overrides: tuple[tuple[Key, str], ...] = ()

    def problem(self, path: Key, message: str, *, at_key: bool = False) -> Problem:
        """A problem with what stands at `path`, or with its key; with the nearest block around what is absent."""
        override = self._override(path)
        if override is not None:
            return Problem(f"--set {override}", message)
        if not self.values:
            return Problem(f"{self.name}: {dotted(path)}" if path else self.name, message)
        first, second = (self.keys, self.values) if at_key else (self.values, self.keys)
        while path not in first and path not in second:
            path = path[:-1]
            first, second = self.keys, self.values
        return self.problem_at(first.get(path) or second[path], message)

    def problem_at(self, position: Position, message: str) -> Problem:
        """A problem at a place in the text, with the line and a caret under it."""
        row, column = position.line, position.column
        line = self.lines[row - 1] if 0 < row <= len(self.lines) else ""
        return Problem(f"{self.name}:{row}:{column}", message, _excerpt(line, column), position)

    def _override(self, path: Key) -> str | None:
        """The text of the `--set` that gave what stands at `path`, if one did."""
        for where, text in reversed(self.overrides):
            inside = path[: len(where)] == where
            created = where[: len(path)] == path and path not in self.values and path
            if inside or created:
                return text
        return None


def dotted(path: Key) -> str:
    """A path as `--set` writes it: `passes.0.keep.macs`."""
    return ".".join(str(part) for part in path)


def _excerpt(line: str, column: int) -> str:
    if not line.strip():
        return ""
    shown = "".join(c if c.isprintable() else " " for c in line)
    start = max(0, min(column - _WIDTH // 2, len(shown) - _WIDTH))
    shown = shown[start : start + _WIDTH]
    return f"    {shown.rstrip()}\n    {' ' * (column - 1 - start)}^"
