"""The one family of errors a user can cause. Library code raises them; only a command turns them into an exit code.

Every message says what went wrong, where, what was expected and what was got, and the next step.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class LeanfitError(Exception):
    """Base of every error leanfit raises on purpose; `exit_code` is the command's exit status."""

    exit_code = 1

    def __str__(self) -> str:
        """The message, in which no control character of a value that it names reaches a terminal."""
        return printable(super().__str__())


class UsageError(LeanfitError):
    """The call or the command line is wrong: an unknown provider, metric or baseline."""

    exit_code = 2


class ModelError(LeanfitError):
    """The model cannot be built, loaded, run or exported, or gives outputs that cannot be scored."""

    exit_code = 4


class DataError(LeanfitError):
    """Data, inputs or targets are missing, empty, of the wrong shape, or not finite."""

    exit_code = 5


class ArtifactError(LeanfitError):
    """An artifact, an ONNX file, a journal or a law is missing, damaged, or not what it claims."""

    exit_code = 7


class MachineError(LeanfitError):
    """The machine lacks something: a runtime, a provider, disk space, permissions."""

    exit_code = 8


class NoRuntimeError(MachineError):
    """onnxruntime, or the execution provider asked for, is not there."""


def printable(text: str) -> str:
    """`text`, with every control character but the end of a line written as Python writes it, as \\x1b."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def quoted(value: object, limit: int = 200) -> str:
    """A value as Python writes it, at most `limit` characters of it: what a message shows of what a user gave."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes, or a nesting without end
        return "a very large value"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'ratio'?"` for the nearest of `known`, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


MOST_LETTERS = 200
_QUOTED = re.compile(r"(['\"])((?:(?!\1).){201,})\1", re.S)


def shortened(text: str) -> str:
    """A message in which no quoted value is longer than 200 letters: what was given may be a whole file."""

    def cut(match: re.Match[str]) -> str:
        quote, value = match.groups()
        return f"{quote}{value[: MOST_LETTERS - 20]}...{quote} ({len(value)} letters)"

    return _QUOTED.sub(cut, text)
