"""One run on a page: its answers at a glance and its sections, all from its Record."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from evaluate.core.text import clean, duration, finite, size
from evaluate.report.charts.bars import classes_picture, widths_picture
from evaluate.report.charts.samples import latency_picture
from evaluate.report.html.markup import Verdict, capital, flat, plural, rendered
from evaluate.report.html.overview import tradeoffs
from evaluate.report.messages.run_messages import (
    RecordLike,
    drop_text,
    drop_verdict,
    goal_sentence,
    latency_text,
    metric_of,
    pass_sentence,
    size_change,
    speed_text,
    speed_verdict,
    worst_class,
)
from evaluate.report.text.run_table import rows

MOST_CHANGES = 400
SIDES = ("baseline", "compressed")


def run_tiles(record: RecordLike) -> list[tuple[Any, ...]]:
    """The answers at a glance: how much smaller, at what speed, what it did to the metric; and the goals."""
    sides = [record.get(side) or {} for side in SIDES]
    before, after = ((side.get("sizes") or {}).get("bytes") for side in sides)
    tiles: list[tuple[Any, ...]] = [("deployed file", size_change(before, after), f"{size(before)} → {size(after)}")]
    speedup, drop, metric = record.get("speedup") or {}, record.get("drop") or {}, metric_of(record)
    if verdict := speed_verdict(speedup):
        value, _, ends = speed_text(speedup).partition(" (")
        times = " → ".join(latency_text(side.get("latency")).partition(" (")[0] for side in sides)
        note = f"95 %: {ends.rstrip(')')}; {times}" if ends else times
        tiles.append(("speed-up", (value, Verdict(verdict)), note))
    if verdict := drop_verdict(drop, metric):
        value, _, ends = drop_text(drop, metric).partition(" (")
        pair = f"; {drop['gained']} gained, {drop['lost']} lost" if finite(drop.get("gained")) else ""
        name = f"drop in {clean(metric.label, 20)}{' (points)' if metric.share else ''}"
        tiles.append((name, (value, Verdict(verdict)), f"95 %: {ends.rstrip(')')}{pair}"))
    if goals := record.get("goals"):
        met = sum(goal.get("status") == "met" for goal in goals)
        failed = [_goal(goal, record) for goal in goals if goal.get("status") != "met"]
        tiles.append(("goals", f"{met} of {len(goals)} met", failed))
    return tiles


def _goal(goal: Mapping[str, Any], record: RecordLike) -> tuple[str, str]:
    return Verdict(clean(goal.get("status", "?"))), goal_sentence(goal, record)


def run_sections(record: RecordLike, *, key: str, level: int, alone: bool = True) -> Markup:
    """Everything below the header of one run.

    key   : makes the ids of its pictures its own.
    level : the heading level of its sections (2 on a page of one run).
    alone : whether its trade-off pictures are drawn; on a page of several runs the overview has them.
    """
    sides = [record.get(side) or {} for side in SIDES]
    before, after = (side.get("widths") or [] for side in sides)
    widths = widths_picture(before, after, key=f"{key}-widths")
    passes = [_pass(entry) for entry in record.get("passes") or ()]
    said = {text for one in passes for text in one["warnings"]}
    return rendered(
        "run.html",
        level=level,
        rows=[(r.label, r.baseline, r.compressed, r.change, _verdict(r.verdict)) for r in rows(record)],
        worst=worst_class(record),
        class_head=["class", "n", *(f"{k}, {side}" for k in ("precision", "recall", "F1") for side in SIDES)],
        classes=_classes(*((side.get("accuracy") or {}).get("per_class") or [] for side in sides)),
        drawn=[
            *(tradeoffs([record], key) if alone else []),
            (
                latency_picture(_timed(record), key=f"{key}-samples"),
                "Each sitting opens both files anew and times them in turns: a drift that both share cancels out.",
            ),
            (
                classes_picture(record.get("per_class_drop") or [], key=f"{key}-classes"),
                "Change of each class; small classes move in large steps.",
            ),
            (widths, "A layer with an outline and no bar is gone."),
        ],
        same_widths=len(before) if before and after and widths is None else 0,
        goals=[_goal(goal, record) for goal in record.get("goals") or ()],
        passes=passes,
        warnings=[text for text in record.get("warnings") or () if text not in said],
        machine=list(flat(record.get("environment") or {})),
        recipe=yaml_text(record["recipe"]) if record.get("recipe") else "",
        **_again(record),
    )


def _verdict(word: str) -> str:
    """A verdict, but for a p-value, which is none."""
    return word if word.startswith("p ") else Verdict(word)


def _classes(before: list[Mapping[str, Any]], after: list[Mapping[str, Any]]) -> list[list[str]]:
    """A row a class: precision, recall and F1 of both models."""
    others = {str(entry.get("class")): entry for entry in after}
    body = []
    for entry in before:
        both = (entry, others.get(str(entry.get("class")), {}))
        figures = [e.get(k) for k in ("precision", "recall", "f1") for e in both]
        cells = [f"{value:.3f}" if finite(value) else "-" for value in figures]
        body.append([clean(entry.get("class"), 60), str(entry.get("n", "-")), *cells])
    return body


def _timed(record: RecordLike) -> dict[str, Any]:
    """The samples of both files, without those of the baseline's second leg."""
    return {name: values for name, values in (record.get("samples") or {}).items() if name != "again"}


def _pass(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a page says of one pass."""
    seconds = f" Took {duration(1000 * entry['seconds'])}." if finite(entry.get("seconds")) else ""
    changes = list(entry.get("changes") or ())
    cut = f" (the first {MOST_CHANGES})" if len(changes) > MOST_CHANGES else ""
    settings = {k: entry[k] for k in ("config", "details", "validation") if entry.get(k)}
    return {
        "kind": clean(entry.get("kind", "pass")),
        "text": capital(pass_sentence(entry).replace("->", "→") + "." + seconds),
        "warnings": entry.get("warnings") or (),
        "changed": f"{plural(len(changes), 'change')}, layer by layer{cut}",
        "changes": [[str(c.get(k, "-")) for k in ("layer", "what", "before", "after")] for c in changes[:MOST_CHANGES]],
        "settings": yaml_text(settings) if settings else "",
    }


def _again(record: RecordLike) -> dict[str, Any]:
    """The commands that make and check a run again, and what it was made of."""
    folder = clean(record.get("artifact") or "RUN")
    known = {
        "record": record.get("id"),
        "created": record.get("created"),
        "leanfit": record.get("leanfit"),
        "recipe hash": record.get("recipe_hash"),
        "data fingerprint": (record.get("task") or {}).get("fingerprint"),
        **{f"sha256 of {name}": digest for name, digest in (record.get("hashes") or {}).items()},
    }
    again = f"leanfit compress {shlex.quote(f'{folder}/recipe.yaml')} --out {shlex.quote(f'{folder}-again')}"
    return {
        "commands": f"{again}\nleanfit verify {shlex.quote(folder)}",
        "known": [(name, str(value)) for name, value in known.items() if value],
    }


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
