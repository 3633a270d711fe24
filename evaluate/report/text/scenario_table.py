"""Scenarios as text: one paragraph each, with its batches or probes in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.text import duration, finite, ratio
from evaluate.load_test.rate_result import proof_text, rate_text
from evaluate.report.text.text_columns import aligned, columns_of, speakable, wrapped

Result = Mapping[str, Any]


def scenario_table(results: Sequence[Result], width: int | None = None, color: bool = False) -> str:
    """The results of `single_stream`, `offline`, `server` and `highest_rate`, one below the other.

    results : those dicts; where one has a `name` (of its model), its heading begins with it.
    width   : columns to use; None takes the terminal's, at most 100. color : paint headings by ANSI codes.
    """
    return speakable(scenario_text(results, width, color))


def scenario_text(results: Sequence[Result], width: int | None = None, color: bool = False) -> str:
    """The same with all letters of all names, whatever the terminal can show: for a page."""
    columns = columns_of(width)
    blocks = [_block(result, columns, color) for result in results]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _block(result: Result, width: int, color: bool) -> list[str]:
    name = f"{result['name']}: " if result.get("name") else ""
    lines = wrapped(name + _headline(result), width, "", "  ")
    rows = _batches(result) if result.get("batches") else _probes(result)
    lines += [f"  {line}" for line in aligned(rows[0], rows[1:], width - 2, color)] if len(rows) > 1 else []
    return lines + [line for text in result.get("warnings") or () for line in wrapped(text, width, "! ", "  ")]


def _headline(result: Result) -> str:
    if result["scenario"] == "single-stream":
        return _single_stream(result)
    if result["scenario"] == "offline":
        ends = _ends(result)
        return f"offline: {rate_text(result['samples_per_s'])} samples/s{ends} at batch {result['batch']}"
    return _highest(result) if "bound_ms" in result else _server(result)


def _single_stream(result: Result) -> str:
    low, high = duration(result["low"]), duration(result["high"])
    needs = result.get("needs") or {}
    tails = [
        f"P{q} {duration(result[f'p{q}_ms'])}" if finite(result[f"p{q}_ms"]) else f"P{q} needs {needs[f'p{q}']} more"
        for q in (90, 99)
    ]
    return (
        f"single-stream: median {duration(result['median_ms'])} ({low} to {high}), {', '.join(tails)}, "
        f"{rate_text(result['qps'])} queries/s over {result['queries']:,} queries"
    )


def _server(result: Result) -> str:
    tails = [f"P{q} {duration(result[f'p{q}_ms'])}" for q in (50, 90, 99) if finite(result[f"p{q}_ms"])]
    return (
        f"server: {', '.join(tails)} at {rate_text(result['rate'])} queries/s, {result['queries']:,} queries, "
        f"{result['lost']} lost, server busy {100 * result['utilisation']:.0f} %"
    )


def _highest(result: Result) -> str:
    asked = f"server, P{result['percentile']:g} within {duration(result['bound_ms'])}"
    if result["rate"] is None:
        return f"{asked}: {result['why']}"
    return (
        f"{asked}: {rate_text(result['rate'])} queries/s{_ends(result)}, {proof_text(result)}; server busy "
        f"{100 * result['utilisation']:.0f} %; {result['completed']:,} queries, {result['lost']} lost"
    )


def _ends(result: Result) -> str:
    return f" ({rate_text(result['low'])} to {rate_text(result['high'])})"


def _batches(result: Result) -> list[list[str]]:
    rows = [
        [
            f"{entry['batch']}" + (" <" if entry["batch"] == result["batch"] else ""),
            f"{rate_text(entry['samples_per_s'])}{_ends(entry)}",
            duration(entry["call_ms"]),
        ]
        for entry in result["batches"]
    ]
    return [["batch", "samples/s", "one call"], *rows]


def _probes(result: Result) -> list[list[str]]:
    tail = f"P{result.get('percentile', 99):g}"
    rows = [
        [
            rate_text(probe["rate"]),
            ratio(probe["rate"] / result["rate"]) if result["rate"] else "-",
            f"{probe['queries']:,}",
            duration(probe["p50_ms"]),
            duration(probe["tail_ms"]),
            "met" if probe["met"] else "hopeless" if probe["cut"] else "missed",
        ]
        for probe in result.get("probes") or ()
    ]
    return [["queries/s", "of the rate", "queries", "P50", tail, "bound"], *rows]
