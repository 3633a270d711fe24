"""The kinds of error that only compress raises, on the one family of `evaluate.core.errors`."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

try:
    from evaluate.core.errors import LeanfitError, MachineError
except ImportError as error:
    place = getattr(sys.modules.get("evaluate"), "__file__", None)
    raise ImportError(
        f"the package `evaluate` that Python finds{f' ({place})' if place else ''} is not leanfit's own (Hugging Face "
        "has one of that name): uninstall it, or use a virtual environment of leanfit's own",
        name="evaluate",
    ) from error


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


class RecipeError(LeanfitError):
    """The recipe (or a `--set`) is wrong: raised before any work is done, with all problems at once."""

    exit_code = 3


class PassError(LeanfitError):
    """A pass cannot do what was asked, or would change nothing."""

    exit_code = 6


class GoalMissedError(LeanfitError):
    """The run is complete and saved, and a goal of the recipe was not met."""

    exit_code = 9


def disk_problem(error: OSError, place: Path | None = None) -> MachineError | None:
    """An error of the operating system as the user's own problem, with the file (or `place`) and the next step.

    None for errors that say nothing of the machine, as a file that is not there.
    """
    if error.errno not in _DISK:
        return None
    what, remedy = _DISK[error.errno]
    where = error.filename if error.filename is not None else place
    return MachineError(f"{what}{f': {where}' if where else ''}; {remedy} and run the same command again")
