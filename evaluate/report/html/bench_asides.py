"""The sections of a benchmark's scenarios and profiles on a page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from evaluate.core.text import duration, finite
from evaluate.load_test.rate_result import proof_text, rate_text
from evaluate.report.charts.profile_charts import layers_picture, operators_picture
from evaluate.report.charts.scenario_charts import rates_picture, throughput_picture
from evaluate.report.html.markup import Html, element, folded, joined, table
from evaluate.report.html.overview import Drawn, figures
from evaluate.report.messages.bench_blocks import Entry, name_of
from evaluate.report.messages.profile_messages import explain, remarks
from evaluate.report.messages.run_messages import RecordLike
from evaluate.report.text.bench_extras import UNREADABLE, profiles_of, safely, scenarios_of
from evaluate.report.text.profile_table import profile_text
from evaluate.report.text.scenario_table import scenario_text

Groups = Mapping[tuple[Any, ...], Sequence[Entry]]
APART = "Each model was served by itself, one after the other: these figures carry no speed-up."
NOTHING: tuple[Html, list[Drawn]] = (Html(""), [])


def scenario_section(record: RecordLike, *, key: str, level: int) -> Html:
    """Tables and pictures of the scenarios, one for each thing that was asked; empty without any."""
    found: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in scenarios_of(record):
        asked = (str(entry.get("scenario")), entry.get("bound_ms"), entry.get("percentile"))
        found.setdefault(tuple(map(str, asked)), []).append(entry)
    parts: list[object] = []
    for number, group in enumerate(found.values(), start=1):
        shown, drawn = safely(partial(_scenario, group, f"{key}-scenario{number}"), NOTHING)
        parts += [shown or element("p", UNREADABLE, class_="quiet"), figures(drawn, level)]
        parts += [element("p", text, class_="warn") for text in dict.fromkeys(_warnings(group))]
        parts.append(folded("in full", _text("\n\n".join(safely(partial(scenario_text, [e], 100), "") for e in group))))
    return joined([*parts, element("p", APART, class_="quiet")]) if parts else Html("")


def _warnings(group: Sequence[Entry]) -> list[str]:
    return [
        f"{name_of(entry, 40)}: {text}"
        for entry in group
        for text in (entry["warnings"] if isinstance(entry.get("warnings"), list) else ())
        if isinstance(text, str)
    ]


def _scenario(group: Sequence[Entry], key: str) -> tuple[Html, list[Drawn]]:
    kind = str(group[0]["scenario"])
    if kind == "offline":
        return _offline(group), _drawn(throughput_picture(group, key=key))
    if kind == "single-stream":
        return _single_stream(group), []
    if "bound_ms" in group[0]:
        return _highest(group), _drawn(rates_picture(group, key=key))
    return _server(group), []


def _drawn(picture: Drawn | None) -> list[Drawn]:
    return [picture] if picture else []


def _offline(group: Sequence[Entry]) -> Html:
    body = [
        [name_of(e, 60), f"{rate_text(e['samples_per_s'])}{_ends(e)}", str(e["batch"]), f"{len(e['batches'])}"]
        for e in group
    ]
    return table(["offline", "samples/s", "best batch", "batches tried"], body, label="offline", stack=True)


def _single_stream(group: Sequence[Entry]) -> Html:
    head = ["single-stream", "median", "P90", "P99", "queries/s", "queries"]
    body = [
        [
            name_of(e, 60),
            f"{duration(e['median_ms'])} ({duration(e['low'])} to {duration(e['high'])})",
            *(_tail(e, key) for key in ("p90", "p99")),
            rate_text(e["qps"]),
            f"{e['queries']:,}",
        ]
        for e in group
    ]
    return table(head, body, label="single-stream", stack=True)


def _tail(entry: Entry, key: str) -> str:
    """A percentile, or how many queries it needs."""
    value = entry.get(f"{key}_ms")
    return duration(value) if finite(value) else f"needs {entry['needs'][key]} more"


def _server(group: Sequence[Entry]) -> Html:
    head = ["server", "rate", "P50", "P90", "P99", "queries", "lost", "busy"]
    body = [
        [name_of(e, 60), f"{rate_text(e['rate'])}/s", *(duration(e.get(f"p{q}_ms")) for q in (50, 90, 99)), *_served(e)]
        for e in group
    ]
    return table(head, body, label="server", stack=True)


def _served(entry: Entry) -> list[str]:
    busy = f"{100 * entry['utilisation']:.0f} %" if finite(entry.get("utilisation")) else "-"
    return [f"{entry['completed']:,}", f"{entry['lost']:,}", busy]


def _highest(group: Sequence[Entry]) -> Html:
    asked = f"server, P{group[0]['percentile']:g} within {duration(group[0]['bound_ms'])}"
    body = [[name_of(e, 60), *_rate_cells(e), *_served(e)] for e in group]
    head = [asked, "highest rate, queries/s", "proof", "queries", "lost", "busy"]
    return table(head, body, label=asked, stack=True)


def _rate_cells(entry: Entry) -> list[object]:
    if not finite(entry.get("rate")):
        return [element("span", entry.get("why") or "none found"), ""]
    return [f"{rate_text(entry['rate'])}{_ends(entry)}", proof_text(entry)]


def _ends(entry: Entry) -> str:
    low, high = entry.get("low"), entry.get("high")
    return f" ({rate_text(low)} to {rate_text(high)})" if finite(low) and finite(high) else ""


def profile_section(record: RecordLike, *, key: str, level: int) -> Html:
    """Where the time goes: sentences, time by operator and by layer, and all figures in a folded table."""
    profiles = profiles_of(record)
    if not profiles:
        return Html("")
    drawn: list[Drawn] = [
        (
            safely(partial(operators_picture, profiles, key=f"{key}-operators"), None),
            "Time of one call, the profiler's own taken off.",
        ),
        (safely(partial(layers_picture, profiles, key=f"{key}-layers"), None), "In running order."),
    ]
    said = element("ul", *(element("li", text) for text in _sentences(profiles)))
    full = safely(partial(profile_text, profiles, 100), "")
    return joined((said, figures(drawn, level), folded("operators and layers in figures", _text(full))))


def _sentences(profiles: Sequence[Entry]) -> list[str]:
    if len(profiles) == 1:
        return safely(partial(remarks, profiles[0]), [UNREADABLE])
    return [text for other in profiles[1:] for text in safely(partial(explain, profiles[0], other), [UNREADABLE])]


def _text(lines: str) -> Html:
    """Text as it stands, its line breaks kept."""
    return element("pre", element("code", Html(html.escape(lines))))
