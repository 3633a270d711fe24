"""The sections of one run's report: table, pictures, goals, passes, machine, recipe, and how to do it again."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from evaluate.core.text import clean, duration, finite
from evaluate.report.charts.run_charts import classes_picture, latency_picture, widths_picture
from evaluate.report.html.markup import Html, chip, element, flat, folded, joined, pairs, table
from evaluate.report.html.overview import figures, tradeoffs
from evaluate.report.messages.run_messages import RecordLike, goal_sentence, pass_sentence, worst_class
from evaluate.report.text.run_table import rows

MOST_CHANGES = 400


def run_sections(record: RecordLike, *, key: str, level: int, alone: bool = True) -> Html:
    """Everything below the header of one run.

    key   : makes the ids of its pictures its own.
    level : the heading level of its sections (2 on a page of one run).
    alone : whether its trade-off pictures are drawn; on a page of several runs the overview has them.
    """
    sections = [
        ("The table", _table(record)),
        ("Pictures", _pictures(record, key, alone, level + 1)),
        ("Goals", _goals(record)),
        ("Passes, in order", _passes(record, level + 1)),
        ("Warnings", _warnings(record)),
        ("The machine", pairs(flat(record.get("environment") or {}))),
        (
            "The recipe",
            folded("the resolved recipe", element("pre", element("code", Html(_pre(record.get("recipe")))))),
        ),
        ("Do it again", _again(record)),
    ]
    return joined(joined((element(f"h{level}", name), body)) for name, body in sections if body)


def _table(record: RecordLike) -> Html:
    body = [(r.label, r.baseline, r.compressed, r.change, _verdict(r.verdict)) for r in rows(record)]
    head = ("", "baseline", "compressed", "change", "verdict")
    note = (
        "Intervals are 95 %. The drop's is paired: both models saw the same samples. "
        "Change of a size is compressed over baseline."
    )
    shown = table(head, body, label="baseline and compressed", stack=True)
    return joined((shown, element("p", note, class_="quiet"), _classes(record)))


def _verdict(word: str) -> Html:
    return element("span", word) if word.startswith("p ") else chip(word)


def _classes(record: RecordLike) -> Html:
    """The class that suffered most, and all of them in a folded table."""
    worst = worst_class(record)
    told = element("p", element("strong", worst)) if worst else Html("")
    sides = [((record.get(s) or {}).get("accuracy") or {}).get("per_class") or [] for s in ("baseline", "compressed")]
    after = {str(entry.get("class")): entry for entry in sides[1]}
    body = []
    for entry in sides[0]:
        other = after.get(str(entry.get("class")), {})
        cells = [
            f"{e[k]:.3f}" if finite(e.get(k)) else "-" for k in ("precision", "recall", "f1") for e in (entry, other)
        ]
        body.append((clean(entry.get("class"), 60), str(entry.get("n", "-")), *cells))
    if not body:
        return told
    head = ["class", "n"] + [f"{k}, {s}" for k in ("precision", "recall", "F1") for s in ("baseline", "compressed")]
    return joined((told, folded(f"all {len(body)} classes", table(head, body, label="per class"))))


def _pictures(record: RecordLike, key: str, alone: bool, level: int) -> Html:
    base, comp = record.get("baseline") or {}, record.get("compressed") or {}
    before, after = base.get("widths") or [], comp.get("widths") or []
    widths = widths_picture(before, after, key=f"{key}-widths")
    drawn = tradeoffs([record], key) if alone else []
    drawn += [
        (
            latency_picture(_timed(record), key=f"{key}-samples"),
            "Each sitting opens both files anew and times them in turns: a drift that both share cancels out.",
        ),
        (
            classes_picture(record.get("per_class_drop") or [], key=f"{key}-classes"),
            "Change of each class; small classes move in large steps.",
        ),
        (widths, "A layer with an outline and no bar is gone."),
    ]
    same = (
        f"No layer changed its width: all {len(before)} keep their channels."
        if before and after and widths is None
        else ""
    )
    return joined((figures(drawn, level), element("p", same, class_="quiet") if same else ""))


def _timed(record: RecordLike) -> dict[str, Any]:
    """The samples of both files, without those of the baseline's second leg."""
    return {name: values for name, values in (record.get("samples") or {}).items() if name != "again"}


def _goals(record: RecordLike) -> Html:
    goals = record.get("goals") or []
    items = [element("li", chip(clean(goal.get("status", "?"))), " ", goal_sentence(goal, record)) for goal in goals]
    return element("ul", *items, class_="plain") if items else Html("")


def _passes(record: RecordLike, level: int) -> Html:
    return joined(_pass(number, entry, level) for number, entry in enumerate(record.get("passes") or (), start=1))


def _pass(number: int, entry: Mapping[str, Any], level: int) -> Html:
    seconds = f" Took {duration(1000 * entry['seconds'])}." if finite(entry.get("seconds")) else ""
    text = pass_sentence(entry).replace("->", "→") + "." + seconds
    parts = [
        element(f"h{level}", f"{number}. {clean(entry.get('kind', 'pass'))}"),
        element("p", text[:1].upper() + text[1:]),
    ]
    parts += [element("p", warning, class_="warn") for warning in entry.get("warnings") or ()]
    changes = list(entry.get("changes") or ())
    if changes:
        body = [[str(c.get(k, "-")) for k in ("layer", "what", "before", "after")] for c in changes[:MOST_CHANGES]]
        cut = f" (the first {MOST_CHANGES})" if len(changes) > MOST_CHANGES else ""
        shown = table(("layer", "what", "before", "after"), body, label="changes")
        parts.append(folded(f"{len(changes)} change{'' if len(changes) == 1 else 's'}, layer by layer{cut}", shown))
    settings = {k: entry[k] for k in ("config", "details", "validation") if entry.get(k)}
    if settings:
        parts.append(folded("settings and details", element("pre", element("code", Html(_pre(settings))))))
    return joined(parts)


def _warnings(record: RecordLike) -> Html:
    said = {text for entry in record.get("passes") or () for text in entry.get("warnings") or ()}
    unsaid = [text for text in record.get("warnings") or () if text not in said]
    return joined(element("p", text, class_="warn") for text in unsaid)


def _again(record: RecordLike) -> Html:
    folder = clean(record.get("artifact") or "RUN")
    quoted = shlex.quote(folder)
    lines = [
        f"leanfit compress {shlex.quote(f'{folder}/recipe.yaml')} --out {shlex.quote(f'{folder}-again')}",
        f"leanfit verify {quoted}",
    ]
    commands = element("pre", element("code", Html(html.escape("\n".join(lines)))))
    task = record.get("task") or {}
    known = {
        "record": record.get("id"),
        "created": record.get("created"),
        "leanfit": record.get("leanfit"),
        "recipe hash": record.get("recipe_hash"),
        "data fingerprint": task.get("fingerprint"),
        **{f"sha256 of {name}": digest for name, digest in (record.get("hashes") or {}).items()},
    }
    return joined((commands, pairs((name, str(value)) for name, value in known.items() if value)))


def _pre(value: Any) -> str:
    """`value` as escaped text whose line breaks are kept."""
    return html.escape("\n".join(clean(line) for line in yaml_text(value).split("\n"))) if value else ""


def yaml_text(value: Any, indent: int = 0) -> str:
    """A nested value in YAML's block style; words that YAML would read as something else are quoted."""
    pad = "  " * indent
    if isinstance(value, Mapping) and value:
        return "\n".join(f"{pad}{_scalar(str(k))}:{_nested(v, indent)}" for k, v in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "\n".join(f"{pad}- {yaml_text(item, indent + 1).lstrip()}" for item in value)
    return pad + _scalar(value)


def _nested(value: Any, indent: int) -> str:
    if isinstance(value, (Mapping, list, tuple)) and value:
        if not any(isinstance(item, (Mapping, list, tuple)) for item in value) and not isinstance(value, Mapping):
            return f" [{', '.join(_scalar(item) for item in value)}]"
        return "\n" + yaml_text(value, indent + 1)
    return " " + _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_][\w./ -]*(?<! )", value) and value.lower() not in RESERVED
        return value if plain else json.dumps(value, ensure_ascii=False)
    text = json.dumps(value, default=str)
    # PyYAML reads 1e-05 as a word and 1.0e-05 as a number.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


RESERVED = ("true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan")
