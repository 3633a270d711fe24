"""One HTML document: its head with the style, its foot, and how it gets into a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from evaluate.core.whole_files import write_whole
from evaluate.report.html.markup import Html, element, joined


def written(out: Path, page: str) -> Path:
    """Write a page: it appears whole, by one rename; parents are made. Raises MachineError."""
    write_whole(out, page, "the page")
    return out


def shell(title: str, body: Html) -> str:
    """The document around the body of a page: it needs nothing else."""
    style = Html(resources.files("evaluate.report.html").joinpath("page.css").read_text(encoding="utf-8"))
    head = joined(
        (
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", title),
            element("style", style),
        )
    )
    foot = element(
        "footer",
        element("p", "Made by leanfit from the records of these runs; no figure was typed in.", class_="quiet"),
    )
    return f"<!DOCTYPE html>\n{element('html', element('head', head), element('body', body, foot), lang='en')}\n"
