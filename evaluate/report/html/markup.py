"""Pages from templates: what a template prints is escaped, safe to show, and keeps each number beside its unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from evaluate.core.text import clean, glued
from evaluate.core.whole_files import write_whole

CHIPS = {
    **dict.fromkeys(("faster", "gained", "met"), "good"),
    **dict.fromkeys(("slower", "lost", "missed"), "bad"),
    "not resolved": "open",
}


class Verdict(str):
    """A verdict word, on a page in its color: the word carries the meaning, the color repeats it."""


def shown(value: Any) -> Any:
    """What a template prints of a value: a verdict as a chip, a tuple side by side, the lines of a list."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, (tuple, list)):
        between = Markup("<br>") if isinstance(value, list) else Markup(" ")
        return between.join(shown(part) for part in value if part != "")
    if isinstance(value, Verdict) and value:
        return element("span", str(value), f"chip {CHIPS.get(value, '')}".rstrip())
    return glued(clean(value), "\N{NO-BREAK SPACE}")


def element(name: str, text: str, kind: str) -> Markup:
    """Text in an element of a class, for the few that no template makes."""
    return Markup('<{0} class="{1}">{2}</{0}>').format(name, kind, shown(text))


def verbatim(text: str) -> Markup:
    """Text whose line breaks are kept, and whose spaces stay what they are."""
    return escape("\n".join(clean(line) for line in text.split("\n")))


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("evaluate.report.html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=shown,
    )
    found.filters.update(verbatim=verbatim, capital=capital)
    return found


def rendered(template: str, **values: Any) -> Markup:
    """A template of `templates/`, filled."""
    return Markup(_templates().get_template(template).render(values).strip())


def write_document(out: Path, title: str, body: Markup) -> Path:
    """Write a page that needs nothing else: it appears whole, by one rename; parents are made. Raises MachineError."""
    style = Markup(resources.files("evaluate.report.html").joinpath("page.css").read_text(encoding="utf-8"))
    write_whole(out, rendered("document.html", title=title, style=style, body=body) + "\n", "the page")
    return out


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested entries under one name each, for a list of pairs; what is not known is left out."""
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, Mapping):
            yield from flat(item, f"{name}: ")
        elif isinstance(item, (list, tuple)):
            yield name, ", ".join(_said(part) for part in item) or "none"
        elif item is not None and item != "":
            yield name, _said(item)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(_said(part) for part in value.values() if part is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def capital(text: str) -> str:
    """A sentence with a capital letter."""
    return text[:1].upper() + text[1:]


def plural(count: int, word: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{count} {word}{'' if count == 1 else 's'}"
