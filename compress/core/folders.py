"""Where data sets and pretrained weights are looked for."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """$LEANFIT_DATA, or ~/.cache/leanfit (below $XDG_CACHE_HOME where that is set)."""
    given = os.environ.get("LEANFIT_DATA")
    if given:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "leanfit"
