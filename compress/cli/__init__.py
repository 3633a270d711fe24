"""The command line: arguments in, rooms called, messages and exit codes out."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script."""
    try:
        from compress.cli.commands import main as run
    except ImportError as error:
        if error.name != "evaluate":
            raise
        sys.stderr.write(f"leanfit: {error}\n")
        sys.exit(8)
    run()
