"""The command line: arguments in, rooms called, messages and exit codes out."""

from __future__ import annotations

from compress.cli.commands import main

__all__ = ["main"]
