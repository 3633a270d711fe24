"""Reads a page's markup for tests: that its tags nest, what it refers to, and what it says."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

VOID = {"meta", "br", "path", "use", "rect"}


class Reader(HTMLParser):
    """Collects what a page holds, and fails on tags that do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(markup):
    """The page's tags and text."""
    reader = Reader()
    reader.feed(markup)
    reader.close()
    assert not reader.open
    return reader


def words_of(markup):
    """All text of a page on one line, with plain spaces."""
    return " ".join(" ".join(read(markup).text).replace("\N{NO-BREAK SPACE}", " ").split())


def check_alone(markup):
    """The page needs nothing else, runs nothing, and every reference in it has its target."""
    reader = read(markup)
    assert "http" not in markup
    assert "@import" not in markup
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed"})
    links = [v for _, a in reader.tags for k, v in a.items() if k in ("src", "href")]
    assert all(link.startswith("#") for link in links)
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = [i for _, a in reader.tags for i in a.get("aria-labelledby", "").split()] + [link[1:] for link in links]
    wanted += re.findall(r"url\(#([^)]+)\)", markup)
    assert set(wanted) <= set(ids)


def check_pictures(markup, least):
    """Every picture is named and described, and takes its colors from the page."""
    reader = read(markup)
    pictures = [a for tag, a in reader.tags if tag == "svg"]
    assert len(pictures) >= least
    assert all(a["role"] == "img" and a["aria-labelledby"] and a["viewbox"] for a in pictures)
    assert sum(tag == "desc" for tag, _ in reader.tags) == len(pictures)
    styles = [a["style"] for _, a in reader.tags if "style" in a]
    colors = {c for s in styles for c in re.findall(r"(?:fill|stroke): ([^;]+)", s)}
    assert colors
    assert all(c == "none" or re.fullmatch(r"var\(--\w+\)", c) for c in colors)
    assert all("fill" in a["style"] for tag, a in reader.tags if tag == "text")


def check_headings(markup):
    """One heading of the first level, and none that skips a level."""
    levels = [int(tag[1]) for tag, _ in read(markup).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
