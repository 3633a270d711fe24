"""Calling `leanfit fit` and its kin in this process, and the points to call them on."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from compress.cli.commands import main

PUBLISHED = Path(__file__).parents[1] / "studies" / "points"
QUICK = ("--bootstrap", "24", "--quiet")


def called(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["leanfit", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
    return int(caught.value.code or 0), out.getvalue(), err.getvalue()


def write_table(path: Path, columns: dict) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path
