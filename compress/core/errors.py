"""Errors a user can cause. Library code raises them; only the command line turns them into an exit code.

Every message says what went wrong, where, what was expected and what was got, and the next step.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "ArtifactError",
    "DataError",
    "EnvironmentProblem",
    "GoalMissed",
    "LeanfitError",
    "ModelError",
    "PassError",
    "RecipeError",
    "did_you_mean",
    "disk_problem",
]

_SPACE, _PLACE = "free some space", "choose another place"
_DISK = {
    errno.ENOSPC: ("the disk is full", _SPACE),
    errno.EDQUOT: ("the disk quota is used up", _SPACE),
    errno.EFBIG: ("a file would be larger than is allowed here", f"{_SPACE}, raise the limit (ulimit -f)"),
    errno.EACCES: ("permission denied", f"{_PLACE}, or change its rights,"),
    errno.EPERM: ("not permitted", f"{_PLACE}, or change its rights,"),
    errno.EROFS: ("the file system is read-only", f"{_PLACE}, or change its rights,"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", _PLACE),
    errno.EISDIR: ("this is a folder, a file was expected", _PLACE),
    errno.ENAMETOOLONG: ("the file name is too long", _PLACE),
    errno.ELOOP: ("links that lead to one another", _PLACE),
    errno.EIO: ("the disk does not answer (input/output error)", "check the disk"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
}


class LeanfitError(Exception):
    """Base of every error leanfit raises on purpose; `exit_code` is the command's exit status."""

    exit_code = 1


class RecipeError(LeanfitError):
    """The recipe (or a `--set`) is wrong: raised before any work is done, with all problems at once."""

    exit_code = 3


class ModelError(LeanfitError):
    """The model cannot be built, loaded, run or exported."""

    exit_code = 4


class DataError(LeanfitError):
    """The task's data is missing, empty, of the wrong shape, or not finite."""

    exit_code = 5


class PassError(LeanfitError):
    """A pass cannot do what was asked, or would change nothing."""

    exit_code = 6


class ArtifactError(LeanfitError):
    """An artifact, an ONNX file or a journal is incomplete, damaged or not what it claims."""

    exit_code = 7


class EnvironmentProblem(LeanfitError):
    """The machine lacks something: a runtime, a provider, disk space, permissions."""

    exit_code = 8


class GoalMissed(LeanfitError):
    """The run is complete and saved, and a goal of the recipe was not met."""

    exit_code = 9


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'ratio'?"` for the nearest of `known`, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def disk_problem(error: OSError, place: Path | None = None) -> EnvironmentProblem | None:
    """An error of the operating system as the user's own problem, with the file (or `place`) and the next step.

    None for errors that say nothing of the machine, as a file that is not there.
    """
    if error.errno not in _DISK:
        return None
    what, remedy = _DISK[error.errno]
    where = error.filename if error.filename is not None else place
    return EnvironmentProblem(f"{what}{f': {where}' if where else ''}; {remedy} and run the same command again")
