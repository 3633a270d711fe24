"""The trials of a study as one section: a table by size and level, spread over seeds, what failed, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluate.core.text import clean, duration, finite
from evaluate.core.units import show_amount
from evaluate.metrics.base import metric_of
from evaluate.report.law_native import native_picture, study_curves
from evaluate.report.markup import Html, element, folded, grouped_table, joined
from evaluate.report.overview import figures
from evaluate.report.wording import RecordLike

MOST_GROUPS = 120
MOST_FAILED = 60
ROLES = ("dense", "native", "compressed")


def is_trial(record: RecordLike) -> bool:
    """Whether a Record is that of one trial of a study."""
    return record.get("kind") == "trial"


def studies_of(records: Sequence[RecordLike]) -> dict[str, list[RecordLike]]:
    """Study -> its trials, each once: a trial that failed and was run again counts as it ended last."""
    found: dict[str, dict[str, RecordLike]] = {}
    for number, record in enumerate(records):
        if is_trial(record):
            name = clean(record.get("study") or "study", 80)
            found.setdefault(name, {})[str(record.get("id") or number)] = record
    return {name: list(trials.values()) for name, trials in found.items()}


def study_line(name: str, trials: Sequence[RecordLike]) -> str:
    """`digits-resnet: 36 trials of 12 designs, 35 finished and 1 failed; task digits`."""
    failed = sum(not _finished(t) for t in trials)
    designs = len({_design(t) for t in trials})
    ended = f"{len(trials) - failed} finished and {failed} failed" if failed else "all finished"
    tasks = dict.fromkeys(clean(_block(t, "task").get("name") or "", 60) for t in trials)
    task = ", ".join(name for name in tasks if name)
    what = f"{_many(len(trials), 'trial')} of {_many(designs, 'design')}, {ended}"
    return f"{name}: {what}{f'; task {task}' if task else ''}"


def study_section(name: str, trials: Sequence[RecordLike], *, key: str, level: int = 2) -> Html:
    """One study: sentence, table by size and level, pictures, and the trials that failed, by name with the reason."""
    body = [
        element(f"h{level}", f"Study {name}"),
        element("p", f"{study_line(name, trials).partition(': ')[2]}. {_spent(trials)}".strip(), class_="quiet"),
        _table(trials),
        figures([(p, p.caption) for p in _pictures(trials, key)], level + 1),
        _failed(trials, level + 1),
    ]
    return joined(part for part in body if part)


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _spent(trials: Sequence[RecordLike]) -> str:
    seconds = [float(t["seconds"]) for t in trials if finite(t.get("seconds"))]
    return f"Together they took {_hours(sum(seconds))}." if seconds else ""


def _hours(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.0f} min"
        if seconds >= 600
        else duration(1000 * seconds)
    )


def _block(record: RecordLike, name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def _finished(record: RecordLike) -> bool:
    return bool(record.get("status", "finished") == "finished")


def _size(record: RecordLike) -> str:
    """`width 16, depth 8`."""
    return ", ".join(f"{clean(k, 24)} {_told(v)}" for k, v in _block(record, "size").items()) or "one size"


def _level(record: RecordLike) -> str:
    """`prune density 0.5`, with the data where they vary."""
    level, data = _block(record, "level"), _block(record, "data")
    values = [f"{clean(k, 24)} {_told(v)}" for k, v in level.items() if k not in ("name", "bits")]
    name = " ".join([clean(level.get("name") or record.get("role") or "-", 40), *values])
    return ", ".join([name, *(f"{clean(k, 24)} {_told(v)}" for k, v in data.items() if v is not None)])


def _told(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else clean(value, 40)


def _design(record: RecordLike) -> tuple[str, str, str]:
    """What trials share that differ in their seed alone."""
    return _size(record), clean(record.get("role") or "", 20), _level(record)


def _order(trials: Sequence[RecordLike]) -> tuple[float, ...]:
    """Large sizes first, and in each the dense model before what was made of it, mildest first."""
    params = [float(p) for t in trials if finite(p := _block(t, "sizes").get("params"))]
    return (-max(params, default=0.0),)


@dataclass(frozen=True)
class _Measured:
    """A quantity over the seeds of a design: name, unit of its text, values (n,)."""

    name: str
    values: Sequence[float]
    percent: bool

    def cells(self) -> tuple[str, str]:
        """(mean, spread) as text: the spread as standard deviation and range, where there are two seeds at least."""
        if not len(self.values):
            return "-", ""
        scale = 100.0 if self.percent else 1.0
        values = scale * np.asarray(self.values, dtype=np.float64)
        unit = " %" if self.percent else ""
        mean = float(np.mean(values))
        digits = 2 if self.percent else 4
        text = f"{mean:.{digits}f}{unit}" if self.percent else f"{mean:.{digits}g}"
        if len(values) < 2:
            return text, "one seed"
        return text, f"± {np.std(values, ddof=1):.2g} ({values.min():.4g} to {values.max():.4g})"


def _measured(trials: Sequence[RecordLike]) -> _Measured:
    """The error, as a fraction; for another metric its own value, and where there is none the loss."""
    errors = [float(t["error"]) for t in trials if finite(t.get("error")) and metric_of(_block(t, "accuracy")).share]
    if errors:
        return _Measured("error", errors, percent=True)
    metric = next((metric_of(m).label for t in trials if (m := _block(t, "accuracy")).get("metric")), "loss")
    values = [_block(t, "accuracy").get("value") for t in trials]
    known = [float(v) for v in values if finite(v)] or [float(t["loss"]) for t in trials if finite(t.get("loss"))]
    return _Measured(clean(metric, 20), known, percent=False)


def _table(trials: Sequence[RecordLike]) -> Html:
    """A group of rows for each size; a row for each level, over its seeds."""
    sizes: dict[str, dict[tuple[str, str, str], list[RecordLike]]] = {}
    for trial in trials:
        sizes.setdefault(_size(trial), {}).setdefault(_design(trial), []).append(trial)
    name = _measured([t for t in trials if _finished(t)]).name
    ranked = sorted(sizes.items(), key=lambda item: _order([t for group in item[1].values() for t in group]))
    groups = [(size, [_row(group) for group in _sorted(designs)]) for size, designs in ranked[:MOST_GROUPS]]
    head = ("level", "role", "seeds", "params", "bytes", "bits", f"{name}, mean", "over seeds")
    shown = grouped_table(head, groups, label="trials of the study")
    note = "Over seeds: the standard deviation, and the lowest and the highest; every seed trains its own baseline."
    cut = f" The {MOST_GROUPS} largest of {len(ranked)} sizes." if len(ranked) > MOST_GROUPS else ""
    return joined((element("p", note + cut, class_="quiet"), shown))


def _sorted(designs: Mapping[tuple[str, str, str], list[RecordLike]]) -> list[list[RecordLike]]:
    def place(group: list[RecordLike]) -> tuple[int, float, str]:
        role = str(group[0].get("role"))
        kept = [float(r) for t in group if finite(r := _block(t, "sizes").get("packed_bytes"))]
        return (ROLES.index(role) if role in ROLES else len(ROLES), -max(kept, default=0.0), _level(group[0]))

    return sorted(designs.values(), key=place)


def _row(trials: list[RecordLike]) -> list[object]:
    done = [t for t in trials if _finished(t)]
    failed = len(trials) - len(done)
    seeds = f"{len(done)}" + (f", {failed} failed" if failed else "")
    sizes = [_mean(key, done) for key in ("params", "bytes", "bits")]
    mean, spread = _measured(done).cells()
    return [_level(trials[0]), clean(trials[0].get("role") or "-", 20), seeds, *sizes, mean, spread]


def _mean(key: str, trials: Sequence[RecordLike]) -> str:
    values = [float(v) for t in trials if finite(v := _block(t, "sizes").get(key))]
    return show_amount(key, float(np.mean(values))) if values else "-"


def _pictures(trials: Sequence[RecordLike], key: str) -> list[Any]:
    """Compressed against native, in params and in bytes of the file."""
    done = [t for t in trials if _finished(t) and finite(t.get("error")) and t["error"] > 0]
    if len(done) < 2:
        return []
    columns = _columns(done)
    curves = {x: study_curves(columns, x=x) for x in ("params", "bytes")}
    drawn = [native_picture(found, x=x, key=f"{key}-{x}") for x, found in curves.items() if len(found) > 1]
    return [picture for picture in drawn if picture is not None]


def _columns(trials: Sequence[RecordLike]) -> dict[str, Any]:
    """What `study_curves` takes, of trials that have an error."""
    sizes = list(dict.fromkeys(name for t in trials for name in _block(t, "size")))
    columns: dict[str, Any] = {name: [_block(t, "size").get(name, "") for t in trials] for name in sizes}
    for name in ("params", "bytes", "bits"):
        values = [_block(t, "sizes").get(name) for t in trials]
        columns[name] = np.array([float(v) if finite(v) else np.nan for v in values])
    columns["error"] = np.array([float(t["error"]) for t in trials])
    columns["level"] = [clean(_block(t, "level").get("name") or "compressed", 40) for t in trials]
    columns["role"] = np.array([str(t.get("role")) for t in trials])
    columns["data"] = np.array(["less" if _block(t, "data") else "full" for t in trials])
    columns["design"] = [" ".join(_design(t)) for t in trials]
    return columns


def _failed(trials: Sequence[RecordLike], level: int) -> Html:
    """Each failed trial by name, with the reason; many are folded in."""
    failed = [t for t in trials if not _finished(t)]
    if not failed:
        return Html("")
    items = [element("li", element("strong", _label(t)), f": {_reason(t)}") for t in failed[:MOST_FAILED]]
    listed = element("ul", *items, class_="plain")
    more = f" (the first {MOST_FAILED})" if len(failed) > MOST_FAILED else ""
    shown = listed if len(failed) <= 10 else folded(f"{_many(len(failed), 'failed trial')}{more}", listed)
    return joined((element(f"h{level}", f"{_many(len(failed), 'trial')} failed"), shown))


def _label(trial: RecordLike) -> str:
    return f"{_size(trial)}, {_level(trial)}, seed {_told(trial.get('seed', '-'))}"


def _reason(trial: RecordLike) -> str:
    reason = trial.get("reason")
    if isinstance(reason, Mapping):
        return clean(": ".join(str(reason[k]) for k in ("kind", "message") if reason.get(k)) or "no reason given", 400)
    return clean(reason or "no reason given", 400)
