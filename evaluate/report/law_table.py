"""A law in a terminal: formula, parameters with intervals, candidates, answers, warnings; from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.text import clean, finite
from evaluate.report.law_bars import Candidate
from evaluate.report.law_told import (
    candidates_of,
    chosen_sentence,
    fit_sentence,
    headline_of,
    parameter_head,
    parameter_rows,
    questions,
    range_sentence,
    warnings_of,
)
from evaluate.report.law_view import View
from evaluate.report.table_columns import BOLD, aligned, columns_of, painted, speakable, wrapped


def law_table(law: Mapping[str, Any], points: Any = None, width: int | None = None, color: bool = False) -> str:
    """The table of a law, in at most `width` columns (None: the terminal's, at most 100).

    law    : its JSON, with the answers to what was asked. points : not needed; taken so that all that shows a law is
             called alike. color : paint headings by ANSI codes.
    """
    view = View(law, None, clean(law.get("target") or "y", 40))
    wide = columns_of(width)
    lines = [painted(line, BOLD, color) for line in wrapped(headline_of(view), wide, "", "  ")]
    lines += [line for text in (view.formula, range_sentence(view)) if text for line in wrapped(text, wide, "  ", "  ")]
    lines += ["", *aligned(parameter_head(view), parameter_rows(view), wide, color)]
    lines += wrapped(fit_sentence(view), wide, "  ", "  ")
    lines += _candidates(view, wide, color)
    for asked, answer in questions(view):
        lines += ["", *wrapped(f"{asked}:", wide, "", "  "), *wrapped(answer, wide, "  ", "  ")]
    said = [line for text in warnings_of(view) for line in wrapped(text, wide, "  ! ")]
    lines += ["", painted("warnings", BOLD, color), *said] if said else []
    return speakable("\n".join(lines))


def _candidates(view: View, wide: int, color: bool) -> list[str]:
    found = candidates_of(view.stored)
    sentence = chosen_sentence(view)
    said = wrapped(sentence, wide, "  ", "  ") if sentence else []
    if len(found) < 2:
        return said
    rows = [[*row[:4], _standing(one)] for row, one in zip(candidate_rows(found), found)]
    why = [line for one in found if one.reason for line in wrapped(f"{one.name}: {one.reason}", wide, "  ", "    ")]
    return ["", *aligned(["candidate", "held-out", "AIC", "BIC", ""], rows, wide, color), *why, *said]


def candidate_rows(candidates: Sequence[Candidate]) -> list[list[str]]:
    """[name, hold-out error, AIC, BIC, note] for each candidate."""
    return [[c.name, _error(c.error), _criterion(c.aic), _criterion(c.bic), _note(c)] for c in candidates]


def _error(value: float) -> str:
    return f"{100 * value:.3g} %" if finite(value) else "-"


def _criterion(value: float) -> str:
    return f"{value:.1f}" if finite(value) else "-"


def _standing(candidate: Candidate) -> str:
    """Whether it was chosen, or its share of the average."""
    if candidate.chosen:
        return "chosen"
    return f"{100 * candidate.weight:.3g} % of it" if finite(candidate.weight) and candidate.weight > 0 else ""


def _note(candidate: Candidate) -> str:
    return ", ".join(part for part in (_standing(candidate), candidate.reason) if part)
