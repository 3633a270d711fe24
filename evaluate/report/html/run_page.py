"""Runs on a page: one by itself, and several beside each other, in pictures that mix only what can be compared."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from markupsafe import Markup

from evaluate.core.record_parts import ClassScore, Goal, PassEntry, Side
from evaluate.core.records import CompressRecord
from evaluate.core.text import clean, duration, interval_text, ratio, size
from evaluate.metrics import base
from evaluate.metrics.base import Metric
from evaluate.report.charts.bars import classes_picture, widths_picture
from evaluate.report.charts.intervals import Point, tradeoff_picture
from evaluate.report.charts.sample_charts import latency_picture
from evaluate.report.charts.svg import Drawn
from evaluate.report.html.markup import Verdict, capital, flat, plural, rendered
from evaluate.report.messages import run_messages as words
from evaluate.report.text.run_table import rows

MOST_DRAWN = 100  # of the runs of a task, the newest, in one picture
MOST_CHANGES = 400
SIDES = ("baseline", "compressed")
Numbered = tuple[str, CompressRecord]
Triple = tuple[float, float, float]
K = TypeVar("K")


def overview(records: Sequence[CompressRecord]) -> Markup:
    """A section for each task: its runs and baselines in one table, then the pictures."""
    numbered = [(str(number), record) for number, record in enumerate(records, start=1)]
    groups = _grouped(numbered, _task_key).values()
    return Markup("\n").join(_task(group, f"task{n}") for n, group in enumerate(groups, start=1))


def _grouped(numbered: Sequence[Numbered], key: Callable[[CompressRecord], K]) -> dict[K, list[Numbered]]:
    groups: dict[K, list[Numbered]] = {}
    for number, record in numbered:
        groups.setdefault(key(record), []).append((number, record))
    return groups


def _task_key(record: CompressRecord) -> tuple[str, str, Metric]:
    return record.task.name or "task", record.task.fingerprint or "", words.metric_of(record)


def _machine_key(record: CompressRecord) -> tuple[str, str, str, str]:
    """What must be equal for two latencies to stand in one picture."""
    latency = record.compressed.latency
    provider, threads, batch = (words.value_text(x) for x in (latency.provider, latency.threads, latency.batch))
    return record.environment.machine_id or "unknown", provider, threads, batch


def _baseline_key(record: CompressRecord) -> str:
    return record.hashes.get("baseline/model.onnx") or str(record.id)


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
    base = runs[0][1].baseline
    cells = ["", size(base.sizes.bytes), "1", words.latency_text(base.latency), ""]
    first: list[object] = [name if name != "baseline" else "", "baseline", _metric(base), *cells]
    return [first, *(_line(number, record) for number, record in runs)]


def _line(number: str, record: CompressRecord) -> list[object]:
    metric, before, after = words.metric_of(record), record.baseline.sizes.bytes, record.compressed.sizes.bytes
    lost, quick = words.drop_verdict(record.drop, metric), words.speed_verdict(record.speedup)
    return [
        number,
        clean(record.name or "run", 40),
        _metric(record.compressed),
        [words.drop_text(record.drop, metric) if lost else "-", Verdict(lost)],
        size(after),
        ratio(after / before) if before and after is not None else "-",
        words.latency_text(record.compressed.latency),
        [words.speed_text(record.speedup) if quick else "-", Verdict(quick)],
    ]


def _metric(side: Side) -> str:
    known = side.accuracy
    if base.metric_of(known).share:
        return interval_text(known.value, known.low, known.high, 2)
    return "-" if known.value is None else f"{known.value:.4g}"


def tradeoffs(records: Sequence[CompressRecord], key: str) -> list[Drawn]:
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
    machines = _grouped([(n, r) for n, r in group if _spread(r.compressed, "latency")], _machine_key)
    for count, runs in enumerate(machines.values(), start=1):
        points = _points(runs, names, bases, "latency")
        picture = tradeoff_picture(points, quantity="latency", metric=metric, key=f"{key}-latency{count}")
        drawn.append((picture, _machine_caption(runs[0][1], len(machines), count)))
    return drawn


def _machine_caption(record: CompressRecord, many: int, count: int) -> str:
    name, provider, threads, batch = (clean(part, 24) for part in _machine_key(record))
    cpu = record.environment.cpu.name
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
            found.append(_point("" if base in seen else bases[base], record.baseline, quantity, baseline=True))
            seen.add(base)
        found.append(_point(names[number], record.compressed, quantity))
    return [point for point in found if point is not None]


def _point(label: str, side: Side, quantity: str, baseline: bool = False) -> Point | None:
    x, y = _spread(side, quantity), _spread(side, "accuracy")
    return None if x is None or y is None else Point(label, x, y, baseline=baseline)


def _spread(side: Side, quantity: str) -> Triple | None:
    """(value, low, high) of "bytes", "latency" or "accuracy"; the ends are the value where there is no interval."""
    entry = side.latency if quantity == "latency" else side.accuracy
    value = {"bytes": side.sizes.bytes, "latency": side.latency.median_ms, "accuracy": side.accuracy.value}[quantity]
    if value is None or quantity == "bytes":
        return None if value is None else (value, value, value)
    return value, value if entry.low is None else entry.low, value if entry.high is None else entry.high


# One run.


def run_tiles(record: CompressRecord) -> list[tuple[Any, ...]]:
    """The answers at a glance: how much smaller, at what speed, what it did to the metric; and the goals."""
    before, after = record.baseline.sizes.bytes, record.compressed.sizes.bytes
    tiles: list[tuple[Any, ...]] = [
        ("deployed file", words.size_change(before, after), f"{size(before)} → {size(after)}")
    ]
    drop, metric = record.drop, words.metric_of(record)
    if verdict := words.speed_verdict(record.speedup):
        value, _, ends = words.speed_text(record.speedup).partition(" (")
        sides = (record.baseline.latency, record.compressed.latency)
        times = " → ".join(words.latency_text(side).partition(" (")[0] for side in sides)
        note = f"95 %: {ends.rstrip(')')}; {times}" if ends else times
        tiles.append(("speed-up", (value, Verdict(verdict)), note))
    if verdict := words.drop_verdict(drop, metric):
        value, _, ends = words.drop_text(drop, metric).partition(" (")
        pair = f"; {drop.gained} gained, {drop.lost} lost" if drop.gained is not None else ""
        name = f"drop in {clean(metric.label, 20)}{' (points)' if metric.share else ''}"
        tiles.append((name, (value, Verdict(verdict)), f"95 %: {ends.rstrip(')')}{pair}"))
    if record.goals:
        failed = [_goal(goal, metric) for goal in record.goals if goal.status != "met"]
        met = len(record.goals) - len(failed)
        tiles.append(("goals", f"{met} of {len(record.goals)} met", failed))
    return tiles


def _goal(goal: Goal, metric: Metric) -> tuple[str, str]:
    return Verdict(clean(goal.status or "?")), words.goal_sentence(goal, metric)


def run_sections(record: CompressRecord, *, key: str, level: int, alone: bool = True) -> Markup:
    """Everything below the header of one run.

    key   : makes the ids of its pictures its own.
    level : the heading level of its sections (2 on a page of one run).
    alone : whether its trade-off pictures are drawn; on a page of several runs the overview has them.
    """
    before, after = record.baseline, record.compressed
    samples = record.samples if isinstance(record.samples, Mapping) else {}  # kept as they came
    timed = {name: values for name, values in samples.items() if name != "again"}
    widths = widths_picture(before.widths, after.widths, key=f"{key}-widths")
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
        classes=_classes(before.accuracy.per_class, after.accuracy.per_class),
        drawn=[
            *(tradeoffs([record], key) if alone else []),
            (
                latency_picture(timed, key=f"{key}-samples"),
                "Each sitting opens both files anew and times them in turns: a drift that both share cancels out.",
            ),
            (
                classes_picture(record.per_class_drop, key=f"{key}-classes"),
                "Change of each class; small classes move in large steps.",
            ),
            (widths, "A layer with an outline and no bar is gone."),
        ],
        same_widths=len(before.widths) if before.widths and after.widths and widths is None else 0,
        goals=[_goal(goal, words.metric_of(record)) for goal in record.goals],
        passes=[_pass(entry) for entry in record.passes],
        warnings=record.own_warnings(),
        machine=list(flat(record.environment.to_json())),
        recipe=yaml_text(record.recipe) if record.recipe else "",
        **_again(record),
    )


def _classes(before: Sequence[ClassScore], after: Sequence[ClassScore]) -> list[list[str]]:
    """A row a class: precision, recall and F1 of both models."""
    others = {entry.label: entry for entry in after}
    body = []
    for entry in before:
        other = others.get(entry.label, ClassScore())
        both = (entry.precision, other.precision, entry.recall, other.recall, entry.f1, other.f1)
        cells = ["-" if value is None else f"{value:.3f}" for value in both]
        body.append([clean(entry.label, 60), "-" if entry.n is None else str(entry.n), *cells])
    return body


def _pass(entry: PassEntry) -> dict[str, Any]:
    """What a page says of one pass."""
    seconds = f" Took {duration(1000 * entry.seconds)}." if entry.seconds is not None else ""
    cut = f" (the first {MOST_CHANGES})" if len(entry.changes) > MOST_CHANGES else ""
    known = {"config": entry.config, "details": entry.details, "validation": entry.validation}
    settings = {name: value for name, value in known.items() if value}
    return {
        "kind": clean(entry.kind or "pass"),
        "text": capital(words.pass_sentence(entry).replace("->", "→") + "." + seconds),
        "warnings": entry.warnings,
        "candidates": words.candidate_table(entry),
        "changed": f"{plural(len(entry.changes), 'change')}, layer by layer{cut}",
        "changes": [
            [str("-" if value is None else value) for value in (one.layer, one.what, one.before, one.after)]
            for one in entry.changes[:MOST_CHANGES]
        ],
        "settings": yaml_text(settings) if settings else "",
    }


def _again(record: CompressRecord) -> dict[str, Any]:
    """The commands that make and check a run again, and what it was made of."""
    folder = clean(record.artifact or "RUN")
    known = {
        "record": record.id,
        "created": record.created,
        "leanfit": record.leanfit,
        "recipe hash": record.recipe_hash,
        "data fingerprint": record.task.fingerprint,
        **{f"sha256 of {name}": digest for name, digest in record.hashes.items()},
    }
    again = f"leanfit compress {shlex.quote(f'{folder}/recipe.yaml')} --out {shlex.quote(f'{folder}-again')}"
    return {
        "commands": f"{again}\nleanfit verify {shlex.quote(folder)}",
        "known": [(name, value) for name, value in known.items() if value],
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
