"""Errors a user can cause on the device side. The exit codes are those of `compress.core.errors`.

Every message says what went wrong, where, what was expected and what was got, and the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DataProblem",
    "EvaluateError",
    "FileProblem",
    "MachineProblem",
    "ModelProblem",
    "RuntimeMissing",
    "UsageProblem",
    "did_you_mean",
]


class EvaluateError(Exception):
    """Base of every error this package raises on purpose; `exit_code` is the command's exit status."""

    exit_code = 1


class UsageProblem(EvaluateError):
    """The call or the command line is wrong: an unknown provider, metric or baseline."""

    exit_code = 2


class ModelProblem(EvaluateError):
    """The model cannot be run as asked, or gives outputs that cannot be scored."""

    exit_code = 4


class DataProblem(EvaluateError):
    """Inputs or targets are missing, empty or of the wrong shape."""

    exit_code = 5


class FileProblem(EvaluateError):
    """An ONNX file or a journal is missing, truncated, or not what it claims."""

    exit_code = 7


class MachineProblem(EvaluateError):
    """The machine lacks something: disk space, permissions."""

    exit_code = 8


class RuntimeMissing(MachineProblem):
    """onnxruntime, or the execution provider asked for, is not there."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'ratio'?"` for the nearest of `known`, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
