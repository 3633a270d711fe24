"""Pictures that also go into files: the same paint gives the SVG of a page, an SVG of its own and a PNG."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from evaluate.core.errors import UsageError
from evaluate.core.whole_files import write_whole
from evaluate.report.charts.svg import STYLE, VARIABLES, WIDTH, Picture, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DOTS_PER_INCH = 200
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
COLORED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


@dataclass(frozen=True)
class LawPicture(Picture):
    """A picture with the words below it and what is needed to draw it again; `height` in units, 400 of them wide."""

    caption: str
    height: int
    paint: Callable[[Figure], None] = field(repr=False, compare=False)


def drawn(paint: Callable[[Figure], None], *, height: int, title: str, text: str, caption: str, key: str) -> LawPicture:
    """`svg.draw` that keeps the painter, so that the picture can be saved; `caption` stands below it on a page."""
    picture = draw(paint, height=height, title=title, text=text, key=key)
    return LawPicture(picture.title, picture.text, picture.svg, caption, height, paint)


def save_picture(picture: LawPicture, path: str | Path, *, dark: bool = False) -> Path:
    """Write a picture as PNG (1111 pixels wide) or SVG, by the suffix of `path`; parents are made.

    dark : the colors of a dark page. The same picture gives the same bytes.
    Raises UsageError for another suffix, MachineError where the file cannot be written.
    """
    out = Path(path)
    colors = page_colors(dark)
    if out.suffix.lower() == ".svg":
        data = _svg_file(picture, colors).encode()
    elif out.suffix.lower() == ".png":
        data = _png_file(picture, colors)
    else:
        raise UsageError(f"{out.name!r} is no .png or .svg: a picture is written as one of these, by its suffix")
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


def _png_file(picture: LawPicture, colors: dict[str, str]) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH / 72, picture.height / 72), layout="constrained")
        picture.paint(figure)
        figure.draw_without_rendering()  # makes the ticks that are to be colored
        for artist in figure.findobj():
            _recolor(artist, colors)
        figure.patch.set_facecolor(colors["paper"])
        for axes in figure.axes:
            axes.patch.set_visible(False)
        raw = io.BytesIO()
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
