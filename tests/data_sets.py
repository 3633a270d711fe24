"""The rule about missing data sets: skip loudly, by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compress.core.files import data_folder


def require_data(what: str, names: list[str]) -> Path:
    """The folder of the data sets; skips, saying by name what is missing, where one of `names` is not there."""
    folder = data_folder()
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        shown = os.environ.get("LEANFIT_DATA", "not set")
        pytest.skip(f"{what}: needs {', '.join(missing)} in {folder} (LEANFIT_DATA is {shown})")
    return folder
