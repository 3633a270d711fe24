"""The sections of one benchmark on a page: tables by condition, pictures, what failed, the machine and the settings."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.core.text import clean, duration, finite
from evaluate.report.charts.ratio_charts import ratios_picture
from evaluate.report.charts.sample_charts import distributions_picture, lanes_of, samples_picture
from evaluate.report.charts.sweep_charts import batch_pictures, threads_pictures
from evaluate.report.html.bench_asides import profile_section, scenario_section
from evaluate.report.html.markup import Html, chip, element, flat, folded, grouped_table, joined, pairs, table
from evaluate.report.html.overview import Drawn, figures
from evaluate.report.messages.bench_blocks import (
    Block,
    blocks,
    condition_text,
    entries,
    name_of,
    part,
    percent,
    verdict_of,
)
from evaluate.report.messages.bench_messages import LEGENDS, failures, floor_text, notes, warnings_of
from evaluate.report.messages.run_messages import RecordLike, speed_text
from evaluate.report.text.bench_columns import (
    LATENCY,
    MODELS,
    QUALITY,
    SPEED,
    STARTS,
    TAILS,
    VERDICT,
    Column,
    block_rows,
    compared,
    condition_rows,
    filled,
    headings,
    model_rows,
    title_of,
)

# Of more conditions than these the raw samples are not drawn; the sweeps hold all of them.
MOST_CONDITIONS = 6
# Calls drawn in all lanes of a page together, and in one of them.
DOTS, MOST_DOTS, FEWEST_DOTS = 16_000, 300, 60


def bench_tiles(record: RecordLike) -> Html:
    """The answers at a glance: the best speed-up, what the run can claim, how much was measured, what failed."""
    found = blocks(record)
    tiles = [*_best_tile(found), *_floor_tile(found), *_extent_tile(record, found), *_failed_tile(record)]
    return element("dl", *tiles, class_="tiles") if tiles else Html("")


def _tile(name: str, value: object, note: object) -> Html:
    return element(
        "div", element("dt", name), element("dd", value, class_="value"), element("dd", note, class_="quiet")
    )


def _best_tile(found: Sequence[Block]) -> list[Html]:
    """The largest speed-up that the verdict calls one; none where there is none."""
    gains = [
        (part(entry, "speedup"), label, block)
        for block in found
        for label, entry in zip(block.labels, block.entries, strict=True)
        if verdict_of(entry) == "faster"
    ]
    if not gains:
        return []
    speedup, label, block = max(gains, key=lambda gain: float(gain[0]["value"]))
    value, _, ends = speed_text(speedup).partition(" (")
    interval = f"95 %: {ends.rstrip(')')}; " if ends else ""
    shown = joined((value, Html(" "), chip("faster")), "")
    return [_tile(f"largest speed-up: {clean(label, 30)}", shown, f"{interval}{condition_text(block.condition)}")]


def _floor_tile(found: Sequence[Block]) -> list[Html]:
    known = [block.floor.get("noise_floor") for block in found]
    shares = sorted(share for share in known if finite(share))
    if not shares:
        return []
    low, high = percent(shares[0]), percent(shares[-1])
    note = floor_text(found[0]).partition(" (")[2].rstrip(")") if len(found) == 1 else f"by condition, of {len(found)}"
    return [_tile("smallest difference it can claim", low if low == high else f"{low} to {high}", note)]


def _extent_tile(record: RecordLike, found: Sequence[Block]) -> list[Html]:
    models = len({name_of(entry) for entry in entries(record)})
    if not models:
        return []
    calls = [part(entry, "latency").get("n") for entry in entries(record)]
    texts = [f"{len(found)} conditions" if len(found) > 1 else condition_text(found[0].condition)]
    texts += [f"{sum(n for n in calls if finite(n)):,} samples"] if any(finite(n) for n in calls) else []
    texts += [duration(1e3 * record["seconds"])] if finite(record.get("seconds")) else []
    return [_tile("measured", f"{models} model{'' if models == 1 else 's'}", ", ".join(texts))]


def _failed_tile(record: RecordLike) -> list[Html]:
    lost = failures(record)
    return (
        [_tile("not measured", str(len(lost)), ", ".join(f"{name} ({kind})" for name, kind, _ in lost))] if lost else []
    )


def bench_sections(record: RecordLike, *, key: str, level: int, share: int = 1) -> Html:
    """Everything below the header of one benchmark.

    key   : makes the ids of its pictures its own.
    level : the heading level of its sections.
    share : how many benchmarks the page holds: each draws so much fewer of its raw samples.
    """
    found = blocks(record)
    sections = [
        ("The table", _tables(record, found, level + 1)),
        ("Not measured", _failed(record)),
        ("Scenarios", scenario_section(record, key=key, level=level + 1)),
        ("Pictures", _pictures(found, key, level + 1, share)),
        ("Where the time goes", profile_section(record, key=key, level=level + 1)),
        ("Warnings", joined(element("p", text, class_="warn") for text in warnings_of(record))),
        ("The machine", pairs(flat(part(record, "environment")))),
        ("What the machine did meanwhile", _pairs_of(record, "machine")),
        ("Settings", _settings(record)),
    ]
    return joined(joined((element(f"h{level}", name), body)) for name, body in sections if body)


def _tables(record: RecordLike, found: Sequence[Block], level: int) -> Html:
    main = (LATENCY, *filled(TAILS, found), *(SPEED if compared(found) else ()))
    groups = [(_group_heading(block), _chipped(block_rows(block, main), main)) for block in found]
    shown: list[object] = (
        [grouped_table(["model", *headings(main)[1:]], groups, label="by condition")] if groups else []
    )
    starts = filled(STARTS, found)
    if starts:
        head, body = condition_rows(found, starts)
        title = title_of(starts) + (", by condition" if len(found) > 1 else "")
        shown.append(folded(title, _html_table(head, body, (), title)))
    for columns in (filled(MODELS, found), filled(QUALITY, found)):
        if columns:
            title = title_of(columns)
            shown += [element(f"h{level}", title[:1].upper() + title[1:])]
            shown += [_html_table(headings(columns), model_rows(found, columns), columns, title)]
    said = [*notes(record), LEGENDS[compared(found)]] if found else []
    return joined([*shown, *(element("p", text[:1].upper() + text[1:] + ".", class_="quiet") for text in said)])


def _group_heading(block: Block) -> Html:
    """A condition, and what can be claimed under it."""
    name, floor = condition_text(block.condition), floor_text(block)
    return joined((name, element("span", floor, class_="quiet")), " ") if floor else element("span", name)


def _chipped(body: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[list[object]]:
    """Rows whose verdicts are chips."""
    verdicts = {place for place, column in enumerate(columns, start=1) if column.head == VERDICT}
    return [[chip(cell) if place in verdicts else cell for place, cell in enumerate(row)] for row in body]


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]], columns: Sequence[Column], label: str) -> Html:
    return table(["model", *head[1:]], _chipped(body, columns), label=label, stack=True)


def _failed(record: RecordLike) -> Html:
    items = [element("li", element("strong", name), f" {kind}: {reason}") for name, kind, reason in failures(record)]
    return element("ul", *items) if items else Html("")


def _pictures(found: Sequence[Block], key: str, level: int, share: int) -> Html:
    most = max(1, MOST_CONDITIONS // share)
    drawn: list[Drawn | None] = [ratios_picture(found, key=f"{key}-ratios")]
    drawn += batch_pictures(found, key=key) + threads_pictures(found, key=key)
    lanes = sum(len(lanes_of(block)) for block in found[:most])
    dots = min(MOST_DOTS, max(FEWEST_DOTS, DOTS // (share * max(1, lanes))))
    for number, block in enumerate(found[:most], start=1):
        where = condition_text(block.condition) if len(found) > 1 else ""
        drawn.append(distributions_picture(block, key=f"{key}-spread{number}", where=where))
        drawn.append(samples_picture(block, key=f"{key}-samples{number}", where=where, dots=dots))
    cut = f"Of {len(found)} conditions, the raw samples of the first {most} are drawn." if len(found) > most else ""
    shown = figures([one for one in drawn if one is not None], level)
    return joined((shown, element("p", cut, class_="quiet"))) if cut else shown


def _pairs_of(record: RecordLike, name: str) -> Html:
    known = list(flat(part(record, name)))
    return pairs(known) if known else Html("")


def _settings(record: RecordLike) -> Html:
    known = {"record": record.get("id"), "created": record.get("created"), "leanfit": record.get("leanfit")}
    models = {
        f"model {name_of(entry, 60)}": f"{clean(entry.get('path') or '-')}, sha256 {clean(entry['sha256'])}"
        for entry in entries(record)
        if entry.get("sha256")
    }
    given = [(name, clean(value)) for name, value in {**known, **models}.items() if value]
    return pairs([*flat(part(record, "settings")), *given])
