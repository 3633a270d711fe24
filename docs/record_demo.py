"""The terminal of the demo as a picture, docs/pictures/demo.svg: what `leanfit compress` says, drawn by rich.

python docs/record_demo.py runs/demo
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

import leanfit

COMMAND = "leanfit compress digits-resnet-half-int8"
PICTURE = Path(__file__).parent / "pictures" / "demo.svg"


def main() -> None:
    """Draw the table of a run that is on disk; nothing is run."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {COMMAND}\n", style="bold"))
    for line in leanfit.load(sys.argv[1]).table().splitlines():
        shown = Text(line)
        shown.highlight_regex(r"\bfaster\b|\bmet\b", "green")
        shown.highlight_regex(r"not resolved", "yellow")
        console.print(shown)
    drawn = console.export_svg(title="leanfit", clear=False)
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S)  # no font from elsewhere
    PICTURE.write_text(drawn, encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")


if __name__ == "__main__":
    main()
