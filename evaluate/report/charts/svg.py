"""What pictures share: one paint for the SVG in a page, an SVG of its own and a PNG; axes whose ticks can be read.

Figures are drawn in marker colors that no one would choose; in a page each becomes a CSS variable, so that one picture
serves a light page, a dark one and paper. Nothing here touches pyplot.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from evaluate.core.errors import UsageError
from evaluate.core.whole_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Tick
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


INK, MUTED, LINE, BASE, ACCENT, LOST, GAINED = (f"#0{i}0{i}0{i}" for i in range(1, 8))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", BASE: "base", ACCENT: "accent", LOST: "lost", GAINED: "gained"}
# Narrow enough that the text keeps its size on a phone; the page shows two of them side by side where there is room.
WIDTH = 400
DOTS_PER_INCH = 200
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
COLORED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
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


Drawn = tuple["Picture | None", str]  # a picture, where there is something to draw, and the words below it


@dataclass(frozen=True)
class Picture:
    """An inline SVG with the words that stand for it, and what is needed to draw it again.

    title : heads it; text says what it shows in figures; caption, where it has one of its own, stands below it.
    height : in units, of which it is 400 wide.
    """

    title: str
    text: str
    svg: str
    caption: str
    height: int
    paint: Callable[[Figure], None] = field(repr=False, compare=False)


def draw(
    paint: Callable[[Figure], None], *, height: int, title: str, text: str, key: str, caption: str = ""
) -> Picture:
    """The figure that `paint` fills, 400 units wide, as inline SVG.

    key : makes the ids inside the SVG its own; the same key and data give the same bytes.
    """
    raw = io.StringIO()
    with _figure(paint, height, {"svg.hashsalt": key}) as figure:
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    return Picture(title, text, _inline(raw.getvalue(), title, text, key), caption, height, paint)


@contextmanager
def _figure(paint: Callable[[Figure], None], height: int, style: Any) -> Iterator[Figure]:
    """A painted figure, to be saved under the style of the pages."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, **style}), warnings.catch_warnings():
        # The reader's browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        paint(figure)
        yield figure


def _inline(raw: str, title: str, text: str, key: str) -> str:
    """The SVG without prolog, metadata and namespaces, with title and description for those who cannot see it."""
    root = ElementTree.fromstring(raw)
    used = set(re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for k, v in e.attrib.items() if k != "style")))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.split("}")[-1] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        _simplify(element, used)
    name = re.sub(r"[^\w-]", "-", key)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": f"{name}-t {name}-d"}
    for position, (tag, words) in enumerate((("title", title), ("desc", text))):
        child = ElementTree.Element(tag, {"id": f"{name}-{tag[0]}"})
        child.text = words
        root.insert(position, child)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


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
    if "style" in kept:  # the page's font and colors instead of the figure's
        style = re.sub(r"font-family: [^;]*(; )?", "", kept["style"])
        kept["style"] = re.sub(r"#0\d0\d0\d\b", lambda m: f"var(--{VARIABLES[m[0]]})", style)
    element.attrib = kept


def _rounded(numbers: str) -> str:
    return " ".join(re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), numbers).split())


# Pictures in files of their own.


def save_picture(picture: Picture, path: str | Path, *, dark: bool = False) -> Path:
    """Write a picture as PNG (1111 pixels wide) or SVG, by the suffix of `path`; parents are made.

    dark : the colors of a dark page. The same picture gives the same bytes.
    Raises UsageError for another suffix, MachineError where the file cannot be written.
    """
    out = Path(path)
    if out.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"{out.name!r} is no .png or .svg: a picture is written as one of these, by its suffix")
    colors = page_colors(dark)
    data = _svg_file(picture, colors).encode() if out.suffix.lower() == ".svg" else _png_file(picture, colors)
    write_whole(out, data, "the picture")
    return out


def page_colors(dark: bool) -> dict[str, str]:
    """Name -> #rrggbb of the page's colors, light or dark."""
    style = resources.files("evaluate.report.html").joinpath("page.css").read_text(encoding="utf-8")
    light, other = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*--[^}]*)\}", style)
    )
    return {**light, **other} if dark else light


def _svg_file(picture: Picture, colors: dict[str, str]) -> str:
    """The page's SVG with a namespace, a size, a ground and colors of its own: many viewers know no variables."""
    body = re.sub(r"var\(--(\w+)\)", lambda m: colors[m[1]], picture.svg)
    wide, high = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)[0]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" font-family="{FONT}"'
    body = body.replace("<svg", f'{head} width="{wide}" height="{high}"', 1).replace(" href=", " xlink:href=")
    at = body.index("</desc>") + len("</desc>")
    return f'{body[:at]}<rect width="100%" height="100%" fill="{colors["paper"]}" />{body[at:]}\n'


def _png_file(picture: Picture, colors: dict[str, str]) -> bytes:
    raw = io.BytesIO()
    with _figure(picture.paint, picture.height, {}) as figure:
        figure.draw_without_rendering()  # makes the ticks that are to be colored
        for artist in figure.findobj():
            _recolor(artist, colors)
        figure.patch.set_facecolor(colors["paper"])
        for axes in figure.axes:
            axes.patch.set_visible(False)
        figure.savefig(raw, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return raw.getvalue()


def _recolor(artist: Any, colors: dict[str, str]) -> None:
    """The page's colors in place of the markers; what is not a marker, and every opacity, stays."""
    from matplotlib.colors import to_rgb, to_rgba_array

    markers = {to_rgb(marker): to_rgb(colors[name]) for marker, name in VARIABLES.items()}
    for name in COLORED:
        get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
        if get is None or put is None:
            continue
        found = to_rgba_array(get())
        named = [(*markers.get(tuple(c[:3]), tuple(c[:3])), c[3]) for c in found.tolist()]
        if len(named) and named != [tuple(c) for c in found.tolist()]:
            put(named if len(named) > 1 or hasattr(artist, "get_offsets") else named[0])


# Axes, rows and strokes.


Units = tuple[tuple[float, str], ...]
BYTES: Units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
COUNTS: Units = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1, "number"))
TIMES: Units = ((1e3, "s"), (1, "ms"), (1e-3, "us"))
LEGEND_LINE = 19  # the height of a line of a legend
# From this ratio of its ends on, an axis is logarithmic.
WIDE = 4.0
STEPS = ((1, 10), (1, 3, 10), (1, 2, 5, 10), (1, 1.5, 2, 3, 5, 7, 10))
FINE = tuple(tuple(np.round(np.arange(1, 10.01, gap), 3).tolist()) for gap in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01))


def one_unit(axes: Axes, side: str, largest: float, units: Units) -> str:
    """Ticks of an axis in the one unit that suits its largest value; the unit's name goes into the label."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    scale, name = next((u for u in units if largest >= u[0]), units[-1])
    axis = axes.xaxis if side == "x" else axes.yaxis
    if axis.get_scale() == "linear":
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:.4g}"))
    return name


def scaled_axis(
    axes: Axes, side: str, low: float, high: float, text: Callable[[float], str] | None = None, wide: float = WIDE
) -> None:
    """The limits of an axis with at most five labelled ticks; logarithmic where its ends are `wide` times apart."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axis = axes.xaxis if side == "x" else axes.yaxis
    logarithmic = 0 < low * wide < high
    axes.set(**{f"{side}scale": "log" if logarithmic else "linear", f"{side}lim": (low, high)})
    even = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    axis.set_major_locator(FixedLocator(_ticks(low, high, 5)) if logarithmic else even)
    axis.set_minor_locator(NullLocator())
    if text is not None:
        axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the ends, as far apart as their labels need, at most `most`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    least = math.log(high / low) / (2.2 * most)
    best: list[float] = []
    for steps in (*STEPS, *FINE):
        found = sorted({float(f"{step * 10.0**d:.6g}") for d in decades for step in steps})
        found = [tick for tick in found if low * 0.9999 <= tick <= high * 1.0001]
        if len(best) < len(found) <= most and all(math.log(b / a) > least for a, b in zip(found, found[1:])):
            best = found
    if len(best) < 3 and most < 7:  # closer together, before there are two ticks alone
        best = max(best, _ticks(low, high, 7), key=len)
    tens = [10.0**d for d in decades if low <= 10.0**d <= high]
    return best if len(best) >= 2 or not tens else tens[:: math.ceil(len(tens) / most)]


def rows_axis(axes: Axes, names: Sequence[str], room: float = 0.6, grid: bool = False) -> list[Tick]:
    """A row for each name, from above, without lines between them: what belongs to a row is drawn at its number."""
    ticks = axes.set_yticks(range(len(names)), names, fontsize=11)
    axes.set_ylim(len(names) - 1 + room, -room)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if not grid:
        axes.grid(visible=False, axis="y")
    return ticks


def strokes(
    x0: NDArray[np.float64], y0: NDArray[np.float64], x1: NDArray[np.float64], y1: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Separate strokes from (x0, y0) to (x1, y1) as one path with gaps."""
    gap = np.full(len(x0), np.nan)
    return np.stack([x0, x1, gap], axis=1).ravel(), np.stack([y0, y1, gap], axis=1).ravel()


def series_style(position: int) -> dict[str, object]:
    """Color, marker and line of the n-th series; told apart without color as well."""
    colors: Sequence[str] = (BASE, ACCENT, GAINED, LOST, INK)
    lines: Sequence[str] = ("-", "--", ":", "-.")
    markers: Sequence[str] = ("s", "o", "^", "D", "v", "P", "X", "<", ">")
    return {
        "color": colors[position % len(colors)],
        "marker": markers[position % len(markers)],
        "linestyle": lines[(position // len(colors)) % len(lines)],
    }
