"""From a matplotlib figure to an SVG inside a page: its colors are the page's variables, its text the page's.

Figures are drawn in marker colors that no one would choose; each becomes a CSS variable, so that one picture serves a
light page, a dark one and paper. Nothing here touches pyplot.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure


INK, MUTED, LINE, BASE, ACCENT, LOST, GAINED = (f"#0{i}0{i}0{i}" for i in range(1, 8))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", BASE: "base", ACCENT: "accent", LOST: "lost", GAINED: "gained"}
# Narrow enough that the text keeps its size on a phone; the page shows two of them side by side where there is room.
WIDTH = 400
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.frameon": False,
    "legend.fontsize": 12,
}


@dataclass(frozen=True)
class Picture:
    """An inline SVG with the words that stand for it: `title` heads it, `text` says what it shows in figures."""

    title: str
    text: str
    svg: str


def draw(paint: Callable[[Figure], None], *, height: int, title: str, text: str, key: str) -> Picture:
    """The figure that `paint` fills, 400 units wide, as inline SVG.

    key : makes the ids inside the SVG its own; the same key and data give the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        # The reader's browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        paint(figure)
        raw = io.StringIO()
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    return Picture(title, text, _inline(raw.getvalue(), title, text, key))


def _inline(raw: str, title: str, text: str, key: str) -> str:
    """The SVG without prolog, metadata and namespaces, with title and description for those who cannot see it."""
    root = ElementTree.fromstring(raw)
    used = set(re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for k, v in e.attrib.items() if k != "style")))
    _without(root, ("metadata", "style"))
    for element in root.iter():
        _simplify(element, used)
    name = re.sub(r"[^\w-]", "-", key)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": f"{name}-t {name}-d"}
    for position, (tag, words) in enumerate((("title", title), ("desc", text))):
        child = ElementTree.Element(tag, {"id": f"{name}-{tag[0]}"})
        child.text = words
        root.insert(position, child)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _without(root: ElementTree.Element, tags: tuple[str, ...]) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.split("}")[-1] in tags:
                parent.remove(child)


def _simplify(element: ElementTree.Element, used: set[str]) -> None:
    """One element with plain names, rounded coordinates, the page's colors and no id that nothing refers to."""
    element.tag = element.tag.split("}")[-1]
    element.tail = None
    if element.tag != "text":
        element.text = None
    kept = {key.split("}")[-1]: value for key, value in element.attrib.items()}
    if kept.get("id") not in used:
        kept.pop("id", None)
    for key in ("d", "x", "y", "width", "height", "transform", "points"):
        if key in kept:
            kept[key] = _rounded(kept[key])
    if "style" in kept:
        kept["style"] = _styled(kept["style"])
    element.attrib = kept


def _rounded(numbers: str) -> str:
    return " ".join(re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), numbers).split())


def _styled(style: str) -> str:
    """The page's font and colors instead of the figure's."""
    style = re.sub(r"font-family: [^;]*(; )?", "", style)
    return re.sub(r"#0\d0\d0\d\b", lambda m: f"var(--{VARIABLES[m[0]]})" if m[0] in VARIABLES else m[0], style)
