"""HTML that cannot forget to escape: what is not already `Html` is text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evaluate.core.text import clean, glued


class Html(str):
    """Text that is markup already; anything else is escaped where it is put in."""


def _markup(child: object) -> str:
    return child if isinstance(child, Html) else glued(html.escape(clean(child)), "\N{NO-BREAK SPACE}")


def joined(children: Iterable[object], between: str = "\n") -> Html:
    """Children one after the other."""
    return Html(between.join(_markup(child) for child in children))


def element(name: str, *children: object, **attributes: str) -> Html:
    """`<name ...>children</name>`; a trailing underscore of an attribute is dropped, other ones become hyphens."""
    pairs = (f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(value))}"' for key, value in attributes.items())
    return Html(f"<{name}{''.join(pairs)}>{joined(children, '')}</{name}>")


def table(head: Sequence[str], body: Sequence[Sequence[object]], *, label: str, stack: bool = False) -> Html:
    """A table whose first column names its rows. It scrolls where it is too wide, or stacks its cells on a phone."""
    heads = element("tr", *(element("th", h, scope="col") for h in head))
    lines = [
        element("tr", element("th", first, scope="row"), *_cells(head[1:], cells, stack)) for first, *cells in body
    ]
    whole = element("table", element("thead", heads), element("tbody", *lines), class_="stack" if stack else "wide")
    return element("div", whole, class_="scroll", role="region", aria_label=label, tabindex="0")


def grouped_table(
    head: Sequence[str], groups: Sequence[tuple[object, Sequence[Sequence[object]]]], *, label: str
) -> Html:
    """A table in groups of rows, each under a heading of its own; it stacks its cells on a phone."""
    heads = element("tr", *(element("th", h, scope="col") for h in head))
    bodies = []
    for heading, body in groups:
        named = element("tr", element("th", heading, scope="rowgroup", colspan=str(len(head))), class_="group")
        lines = [
            element("tr", element("th", first, scope="row"), *_cells(head[1:], cells, True)) for first, *cells in body
        ]
        bodies.append(element("tbody", named, *lines))
    whole = element("table", element("thead", heads), *bodies, class_="stack")
    return element("div", whole, class_="scroll", role="region", aria_label=label, tabindex="0")


def _cells(head: Sequence[str], cells: Sequence[object], stack: bool) -> list[Html]:
    if not stack:
        return [element("td", cell) for cell in cells]
    return [element("td", cell, data_label=name) for name, cell in zip(head, cells, strict=True)]


def pairs(entries: Iterable[tuple[str, object]]) -> Html:
    """A list of names and values."""
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in entries]
    return element("dl", *rows, class_="pairs")


def folded(summary: str, body: Html) -> Html:
    """What is shown when its summary is opened."""
    return element("details", element("summary", summary), body)


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested entries under one name each, for `pairs`; what is not known is left out."""
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


def chip(word: str) -> Html:
    """A verdict word in its color; the word carries the meaning, the color repeats it."""
    good, bad = ("faster", "gained", "met"), ("slower", "lost", "missed")
    kind = " good" if word in good else " bad" if word in bad else " open" if word == "not resolved" else ""
    return element("span", word, class_=f"chip{kind}") if word else Html("")
