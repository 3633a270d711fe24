"""A report inside a notebook: in a frame of its own, so that neither styles the other."""

from __future__ import annotations

import html
from pathlib import Path

HEIGHT = 640  # pixels


def framed(page: Path, otherwise: str) -> str:
    """HTML that shows a page that was written, or `otherwise` as text where it is not there."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError:
        return f"<pre>{html.escape(otherwise)}</pre>"
    return (
        f'<iframe title="{html.escape(otherwise, quote=True)}" srcdoc="{html.escape(text, quote=True)}" '
        f'style="width:100%;height:{HEIGHT}px;border:0"></iframe>'
    )
