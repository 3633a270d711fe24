"""`python -m compress` is the command `leanfit`."""

from __future__ import annotations

from compress.cli import main

main()
