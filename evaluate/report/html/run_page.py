"""Runs on a page: one by itself, and several beside each other, in pictures that mix only what can be compared."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from evaluate.core.text import clean, duration, finite, interval_text, ratio, size
from evaluate.metrics import base
from evaluate.metrics.base import Metric
from evaluate.report.charts.bars import classes_picture, widths_picture
from evaluate.report.charts.intervals import Point, tradeoff_picture
from evaluate.report.charts.sample_charts import latency_picture
from evaluate.report.charts.svg import Drawn
from evaluate.report.html.markup import Verdict, capital, flat, plural, rendered
from evaluate.report.messages import run_messages as words
from evaluate.report.messages.run_messages import RecordLike
from evaluate.report.text.run_table import rows

MOST_DRAWN = 100  # of the runs of a task, the newest, in one picture
Numbered = tuple[str, RecordLike]


def overview(records: Sequence[RecordLike]) -> Markup:
    """A section for each task: its runs and baselines in one table, then the pictures."""
    numbered = [(str(number), record) for number, record in enumerate(records, start=1)]
    groups = _grouped(numbered, _task_key).values()
    return Markup("\n").join(_task(group, f"task{n}") for n, group in enumerate(groups, start=1))


def _grouped(numbered: Sequence[Numbered], key: Callable[[RecordLike], Any]) -> dict[Any, list[Numbered]]:
    groups: dict[Any, list[Numbered]] = {}
    for number, record in numbered:
        groups.setdefault(key(record), []).append((number, record))
    return groups


def _task_key(record: RecordLike) -> tuple[str, str, Metric]:
    task = record.get("task") or {}
    return str(task.get("name", "task")), str(task.get("fingerprint", "")), words.metric_of(record)


def _machine_key(record: RecordLike) -> tuple[str, ...]:
    """What must be equal for two latencies to stand in one picture."""
    latency = (record.get("compressed") or {}).get("latency") or {}
    machine = (record.get("environment") or {}).get("machine_id", "unknown")
    return str(machine), *(str(latency.get(k, "?")) for k in ("provider", "threads", "batch"))


def _baseline_key(record: RecordLike) -> str:
    return str((record.get("hashes") or {}).get("baseline/model.onnx") or record.get("id"))


def _task(group: Sequence[Numbered], key: str) -> Markup:
    name, fingerprint, metric = _task_key(group[0][1])
    value = clean(metric.heading if metric.unit else metric.label, 40)
    names = _baseline_names(group)
    return rendered(
        "task.html",
        name=name,
        count=plural(len(group), "run"),
        mark=clean(fingerprint)[:8],
        head=["", "run", value, "drop", "bytes", "ratio", "latency", "speed-up"],
        body=[line for base, runs in _grouped(group, _baseline_key).items() for line in _lines(runs, names[base])],
        label=f"runs of {clean(name)}",
        drawn=_pictures(group, key, {number: number for number, _ in group}),
    )


def _baseline_names(group: Sequence[Numbered]) -> dict[str, str]:
    bases = list(_grouped(group, _baseline_key))
    return {base: "baseline" if len(bases) == 1 else f"b{n}" for n, base in enumerate(bases, start=1)}


def _lines(runs: Sequence[Numbered], name: str) -> list[list[object]]:
    """A baseline's line, then those of the runs that started from it."""
    base = runs[0][1].get("baseline") or {}
    size_text = size((base.get("sizes") or {}).get("bytes"))
    cells = ["", size_text, "1", words.latency_text(base.get("latency")), ""]
    first: list[object] = [name if name != "baseline" else "", "baseline", _metric(base), *cells]
    return [first, *(_line(number, record) for number, record in runs)]


def _line(number: str, record: RecordLike) -> list[object]:
    base, comp = record.get("baseline") or {}, record.get("compressed") or {}
    drop, speedup = record.get("drop") or {}, record.get("speedup") or {}
    before, after = ((side.get("sizes") or {}).get("bytes") for side in (base, comp))
    lost, quick = words.drop_verdict(drop, words.metric_of(record)), words.speed_verdict(speedup)
    return [
        number,
        clean(record.get("name", "run"), 40),
        _metric(comp),
        [words.drop_text(drop, words.metric_of(record)) if lost else "-", Verdict(lost)],
        size(after),
        ratio(after / before) if finite(before) and finite(after) and before else "-",
        words.latency_text(comp.get("latency")),
        [words.speed_text(speedup) if quick else "-", Verdict(quick)],
    ]


def _metric(side: Any) -> str:
    accuracy = side.get("accuracy") or {}
    if not base.metric_of(accuracy).share:
        return f"{accuracy['value']:.4g}" if finite(accuracy.get("value")) else "-"
    return interval_text(accuracy.get("value"), accuracy.get("low"), accuracy.get("high"), 2)


def tradeoffs(records: Sequence[RecordLike], key: str) -> list[Drawn]:
    """The trade-off pictures of one run, its own models named in full."""
    numbered = [(str(n), r) for n, r in enumerate(records, start=1)]
    return _pictures(numbered, key, {number: "compressed" for number, _ in numbered})


def _pictures(every: Sequence[Numbered], key: str, names: dict[str, str]) -> list[Drawn]:
    group = every[-MOST_DRAWN:]
    metric = words.metric_of(group[0][1])
    bases = _baseline_names(group)
    points = _points(group, names, bases, "bytes")
    caption = "Bars are each model's own 95 % interval; the paired interval of the drop is narrower."
    drawn = [(tradeoff_picture(points, quantity="bytes", metric=metric, key=f"{key}-bytes"), caption)]
    machines = _grouped([(n, r) for n, r in group if _spread(r, "compressed", "latency")], _machine_key)
    for count, runs in enumerate(machines.values(), start=1):
        points = _points(runs, names, bases, "latency")
        picture = tradeoff_picture(points, quantity="latency", metric=metric, key=f"{key}-latency{count}")
        drawn.append((picture, _machine_caption(runs[0][1], len(machines), count)))
    return drawn


def _machine_caption(record: RecordLike, many: int, count: int) -> str:
    name, provider, threads, batch = (clean(part, 24) for part in _machine_key(record))
    cpu = ((record.get("environment") or {}).get("cpu") or {}).get("name")
    machine = f"{clean(cpu, 48)} ({name})" if cpu else f"Machine {name}"
    where = f"{machine}, {provider}, threads {threads}, batch {batch}."
    if many == 1:
        return where
    return f"{where} Picture {count} of {many}: latencies of different machines or settings are not drawn together."


def _points(group: Sequence[Numbered], names: dict[str, str], bases: dict[str, str], quantity: str) -> list[Point]:
    """Each baseline once by size, once a run by latency (only its first is named); then the compressed models."""
    found, seen = [], set()
    for number, record in group:
        base = _baseline_key(record)
        if quantity == "latency" or base not in seen:
            found.append(_point("" if base in seen else bases[base], record, "baseline", quantity))
            seen.add(base)
        found.append(_point(names[number], record, "compressed", quantity))
    return [point for point in found if point is not None]


def _point(label: str, record: RecordLike, side: str, quantity: str) -> Point | None:
    x, y = _spread(record, side, quantity), _spread(record, side, "accuracy")
    return None if x is None or y is None else Point(label, x, y, baseline=side == "baseline")


def _spread(record: RecordLike, side: str, quantity: str) -> tuple[float, float, float] | None:
    """(value, low, high) of one side; the ends are the value itself where there is no interval."""
    known = record.get(side) or {}
    entry = {"value": (known.get("sizes") or {}).get("bytes")} if quantity == "bytes" else known.get(quantity) or {}
    value = entry.get("median_ms" if quantity == "latency" else "value")
    if not finite(value):
        return None
    low, high = entry.get("low"), entry.get("high")
    return float(value), float(low) if finite(low) else value, float(high) if finite(high) else value


# One run.


MOST_CHANGES = 400
SIDES = ("baseline", "compressed")


def run_tiles(record: RecordLike) -> list[tuple[Any, ...]]:
    """The answers at a glance: how much smaller, at what speed, what it did to the metric; and the goals."""
    sides = [record.get(side) or {} for side in SIDES]
    before, after = ((side.get("sizes") or {}).get("bytes") for side in sides)
    tiles: list[tuple[Any, ...]] = [
        ("deployed file", words.size_change(before, after), f"{size(before)} → {size(after)}")
    ]
    speedup, drop, metric = record.get("speedup") or {}, record.get("drop") or {}, words.metric_of(record)
    if verdict := words.speed_verdict(speedup):
        value, _, ends = words.speed_text(speedup).partition(" (")
        times = " → ".join(words.latency_text(side.get("latency")).partition(" (")[0] for side in sides)
        note = f"95 %: {ends.rstrip(')')}; {times}" if ends else times
        tiles.append(("speed-up", (value, Verdict(verdict)), note))
    if verdict := words.drop_verdict(drop, metric):
        value, _, ends = words.drop_text(drop, metric).partition(" (")
        pair = f"; {drop['gained']} gained, {drop['lost']} lost" if finite(drop.get("gained")) else ""
        name = f"drop in {clean(metric.label, 20)}{' (points)' if metric.share else ''}"
        tiles.append((name, (value, Verdict(verdict)), f"95 %: {ends.rstrip(')')}{pair}"))
    if goals := record.get("goals"):
        met = sum(goal.get("status") == "met" for goal in goals)
        failed = [_goal(goal, record) for goal in goals if goal.get("status") != "met"]
        tiles.append(("goals", f"{met} of {len(goals)} met", failed))
    return tiles


def _goal(goal: Mapping[str, Any], record: RecordLike) -> tuple[str, str]:
    return Verdict(clean(goal.get("status", "?"))), words.goal_sentence(goal, record)


def run_sections(record: RecordLike, *, key: str, level: int, alone: bool = True) -> Markup:
    """Everything below the header of one run.

    key   : makes the ids of its pictures its own.
    level : the heading level of its sections (2 on a page of one run).
    alone : whether its trade-off pictures are drawn; on a page of several runs the overview has them.
    """
    sides = [record.get(side) or {} for side in SIDES]
    before, after = (side.get("widths") or [] for side in sides)
    timed = {name: values for name, values in (record.get("samples") or {}).items() if name != "again"}
    widths = widths_picture(before, after, key=f"{key}-widths")
    passes = [_pass(entry) for entry in record.get("passes") or ()]
    said = {text for one in passes for text in one["warnings"]}
    return rendered(
        "run.html",
        level=level,
        # A p-value stands where verdicts do, and is none.
        rows=[
            (r.label, r.baseline, r.compressed, r.change, r.verdict if r.verdict[:2] == "p " else Verdict(r.verdict))
            for r in rows(record)
        ],
        worst=words.worst_class(record),
        class_head=["class", "n", *(f"{k}, {side}" for k in ("precision", "recall", "F1") for side in SIDES)],
        classes=_classes(*((side.get("accuracy") or {}).get("per_class") or [] for side in sides)),
        drawn=[
            *(tradeoffs([record], key) if alone else []),
            (
                latency_picture(timed, key=f"{key}-samples"),
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


def _pass(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a page says of one pass."""
    seconds = f" Took {duration(1000 * entry['seconds'])}." if finite(entry.get("seconds")) else ""
    changes = list(entry.get("changes") or ())
    cut = f" (the first {MOST_CHANGES})" if len(changes) > MOST_CHANGES else ""
    settings = {k: entry[k] for k in ("config", "details", "validation") if entry.get(k)}
    return {
        "kind": clean(entry.get("kind", "pass")),
        "text": capital(words.pass_sentence(entry).replace("->", "→") + "." + seconds),
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


class _Blocks(yaml.SafeDumper):
    """YAML in block style, lists inside of what they belong to; a list of plain values on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _sequence(dumper: yaml.SafeDumper, items: Sequence[Any]) -> yaml.Node:
    plain = not any(isinstance(item, (Mapping, list, tuple)) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


_Blocks.add_representer(list, _sequence)
_Blocks.add_representer(tuple, _sequence)


def yaml_text(value: Any) -> str:
    """A nested value in YAML's block style."""
    return yaml.dump(value, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=10**6).removesuffix("...\n")
