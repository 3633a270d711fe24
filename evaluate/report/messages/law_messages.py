"""The words of a law: quantities with their units, sentences of answers, and its table in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluate.core.text import clean, count, finite, ratio, size
from evaluate.report.messages.law_view import PER_CENT, Answer, BreakEven, Candidate, Optimum, View, view_of
from evaluate.report.text.text_columns import BOLD, aligned, columns_of, painted, speakable, wrapped

REASON = 800  # characters of a reason: sentences of our own, unless a file was changed by hand
LOSSES = {"huber": "sum of Huber's loss", "squares": "sum of squares"}
SPACES = {"log": "of log residuals", "raw": "of residuals", "relative": "of relative deviations"}

# name -> words for an axis; others stand as they are named.
LABELS = {
    "params": "params",
    "nonzero": "nonzero params",
    "N": "N (params)",
    "D": "D (data: samples or tokens)",
    "N_nonzero": "nonzero params",
    "macs": "MACs",
    "bytes": "size of the file, bytes",
    "packed_bytes": "packed size, bytes",
    "bits": "bits per weight",
    "P": "P (bits)",
    "density": "density (retained params), %",
    "retained_bytes": "bytes kept of the dense file, %",
    "retained_macs": "MACs kept of the dense model, %",
    "samples": "training samples",
    "n": "training samples",
    "compute": "training compute, MACs",
    "train_macs": "training compute, MACs",
    "C": "C (compute)",
    "error": "error, %",
    "accuracy": "accuracy, %",
    "loss": "loss",
}
BYTES = ("bytes", "packed_bytes")
SHARES = (
    "error", "accuracy", "density", "retained_bytes", "retained_macs", "sparsity", "test_err", "train_err",
    "test_error",
)  # fmt: skip


def axis_label(name: str) -> str:
    """The label of an axis: the quantity and its unit."""
    return LABELS.get(name) or clean(name, 40) + (PER_CENT if name in SHARES else "")


def named(name: str) -> str:
    """A quantity inside a sentence, without its unit."""
    return LABELS.get(name, clean(name, 40)).partition(",")[0].partition(" (")[0]


def quantity(name: str, value: Any) -> str:
    """A value of a variable or of the target in its unit: `23.4 k`, `1.09 MB`, `8.2 %`; a level's name as it is."""
    if isinstance(value, str):
        return clean(value, 24)
    if not finite(value):
        return "no limit" if isinstance(value, float) and value > 0 else "-"
    if name in SHARES:
        return f"{100 * value:.3g} %"
    if name.endswith(PER_CENT):
        return f"{value:.4g} %"
    if name in BYTES:
        return size(value)
    return plain_figure(value)


def plain_figure(value: float) -> str:
    """Three digits or so, with k, M, G and T, and powers of ten beyond: `2.31`, `23.4 k`, `5.76e+23`."""
    if 999.5e9 <= abs(value) < 999.5e12:
        return count(value / 1000).replace(" G", " T")
    if 1000 <= abs(value) < 999.5e9:
        return count(value)
    return f"{value:.4g}" if 1 <= abs(value) < 1000 else f"{value:.3g}"


def interval_figure(name: str, value: Any, low: Any, high: Any) -> str:
    """`23.4 k (20.1 k to 29.0 k)`; an end that is not known is said, never left out."""
    low, high = (quantity(name, end) if finite(end) else "no end" for end in (low, high))
    return f"{quantity(name, value)} ({low} to {high})" if finite(value) else "-"


def number(value: Any, low: Any = None, high: Any = None) -> str:
    """A parameter with as many digits as its interval resolves, one more at most; four without one."""
    if not finite(value):
        return "-"
    return _short(value, _digits(value, low, high) if finite(low) and finite(high) and high > low and value else 4)


def _digits(value: float, low: float, high: float) -> int:
    share = (high - low) / max(abs(value), high - low, 1e-300)
    return min(6, max(3, 2 + math.ceil(-math.log10(max(share, 1e-6)))))


def _short(value: float, digits: int) -> str:
    """`digits` significant digits: `2140`, `0.0213`; powers of ten only for what is very large or small."""
    if not value:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    if 1e-4 <= abs(rounded) < 1e6:
        return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"
    return re.sub(r"e([+-])0*(?=\d)", r"e\1", f"{rounded:.{digits - 1}e}")


def number_interval(low: Any, high: Any, value: Any = None) -> str:
    """`0.317 to 0.373`: the interval of a parameter; `not known` where there is none."""
    if not (finite(low) and finite(high)):
        return "not known"
    digits = _digits(value if finite(value) else (low + high) / 2, low, high)
    return f"{_short(low, digits)} to {_short(high, digits)}"


def span_text(name: str, ends: Sequence[Any]) -> str:
    """`params 1.06 k to 82.1 k`: the range of the points in one variable."""
    return f"{named(name)} {quantity(name, ends[0])} to {quantity(name, ends[1])}"


def beyond_text(beyond: Any) -> str:
    """How far an answer lies outside of the points; empty inside of them."""
    if not finite(beyond) or beyond <= 1:
        return ""
    told = ratio(beyond).rstrip("x") if beyond < 999.5 else plain_figure(beyond)
    return f"{told} times beyond the points"


def answer_of(answer: Answer, target: str, doubts: bool = True) -> tuple[str, str]:
    """(`params for error 8 %`, `23.4 k (20.1 k to 29.0 k)`): one answer of `solve`, or why there is none.

    doubts : whether what is doubtful about it is said too.
    """
    asked = named(answer.variable)
    if finite(answer.target):
        asked += f" for {named(target)} {quantity(target, answer.target)}"
    given = ", ".join(f"{named(name)} {quantity(name, value)}" for name, value in answer.given.items())
    asked += f" at {given}" if given else ""
    asked += f" ({clean(answer.asked, 80)})" if answer.asked else ""
    if not answer.found:
        return asked, "out of reach" + (f", {clean(answer.reason, REASON)}" if answer.reason else "")
    text = interval_figure(answer.variable, answer.value, answer.low, answer.high)
    return asked, text + (_doubt(answer) if doubts else "")


def answer_sentence(answer: Answer, target: str, doubts: bool = True) -> str:
    """`params for error 8 %: 23.4 k (20.1 k to 29.0 k)`."""
    return ": ".join(answer_of(answer, target, doubts))


def _doubt(answer: Answer | Optimum) -> str:
    doubt = clean(answer.reason, REASON) or beyond_text(answer.beyond)
    return f"; {doubt}" if doubt else ""


def questions(view: View) -> list[tuple[str, str]]:
    """(what was asked, the answer) of solve, the budget and the break-even point."""
    found = [answer_of(answer, view.y) for answer in view.answers]
    found += [_optimum(view, view.optimum)] if view.optimum is not None else []
    return found + ([_break_even(view, view.break_even)] if view.break_even is not None else [])


def _optimum(view: View, optimum: Optimum) -> tuple[str, str]:
    budget = plain_figure(optimum.budget) if finite(optimum.budget) else "-"
    asked = f"best split for {clean(optimum.compute or 'cost', 60)} = {budget}"
    if not optimum.best:
        return asked, clean(optimum.reason, REASON) or "not found"
    shown = [f"{named(name)} {interval_figure(name, *triple)}" for name, triple in optimum.best.items()]
    if finite(optimum.y):
        shown += [f"{named(view.y)} {interval_figure(view.y, optimum.y, optimum.y_low, optimum.y_high)}"]
    return asked, ", ".join(shown) + _doubt(optimum)


def _break_even(view: View, crossing: BreakEven) -> tuple[str, str]:
    against = f" against {clean(crossing.against, 200)}" if crossing.against else ""
    asked = f"break-even in {named(crossing.variable)}{against}"
    if not crossing.found:
        return asked, f"none{': ' + clean(crossing.reason, REASON) if crossing.reason else ''}"
    better = "this law" if crossing.below == "first" else "the other"
    below = f"; below it {better} is the better one" if crossing.below else ""
    return asked, f"{crossing_figure(view, crossing)}{below}{_doubt(crossing)}"


def crossing_figure(view: View, crossing: BreakEven) -> str:
    """`23.4 k (20.1 k to 29.0 k), error 8 %`: where two curves cross."""
    text = interval_figure(crossing.variable, crossing.value, crossing.low, crossing.high)
    at = f", {named(view.y)} {quantity(view.y, crossing.y)}" if finite(crossing.y) else ""
    return text + at


def headline_of(view: View) -> str:
    """`error against params: power law with a floor (power-floor)`."""
    against = ", ".join(named(name) for name in view.variables)
    known = f" ({view.name})" if view.name != view.title else ""
    return f"{named(view.y)} against {against}: {view.title}{known}"


def in_words(view: View) -> list[str]:
    """What the law says of growing and shrinking: the first and the last doubling within the points, and its limit.

    Of several variables, or of one that is not a positive number, the limit alone.
    """
    said = []
    span = view.span(view.variables[0])
    if len(view.variables) == 1 and span is not None and 0 < 2 * span[0] <= span[1]:
        low, high = span
        y = [
            quantity(view.y, float(value)) for value in view.forecast(np.array([[low], [2 * low], [high / 2], [high]]))
        ]
        name, x = named(view.variables[0]), [quantity(view.variables[0], end) for end in span]
        said.append(
            f"Doubling the {name} takes {named(view.y)} from {y[0]} to {y[1]} at the smallest ({x[0]}), "
            f"from {y[2]} to {y[3]} at the largest ({x[1]})."
        )
    if view.floor is not None and view.law.floor is not None and view.law.floor[0] > 0:
        _, *ends = view.floor
        where = "However large" if len(view.variables) == 1 else "However large everything is"
        bound = "at most" if view.scale.higher else "at least"
        said.append(f"{where}, {named(view.y)} stays {bound} {interval_figure(view.y, *ends)}.")
    return said


def parameter_table(view: View) -> tuple[list[str], list[list[str]]]:
    """(head, rows): each parameter with its interval, the floor named as one; of an average its shares, which a rule
    gave and which have no interval."""
    if view.law.form.members:
        return ["law", "share", "fitted with weights", ""], _shares(view)
    rows = []
    for name, value in view.law.params.items():
        low, high = view.law.intervals[name]
        held = name in view.law.settings.fixed
        notes = ["floor"] * (name == view.law.form.floor) + ["held as given"] * held
        interval = "" if held else number_interval(low, high, value)
        rows.append([clean(name, 24), number(value, low, high), interval, ", ".join(notes)])
    return ["parameter", "value", f"{100 * view.law.settings.confidence:g} % interval", ""], rows


def _shares(view: View) -> list[list[str]]:
    """[law, its share, the weights it was fitted with] of each law in an average."""
    names = dict.fromkeys(member.form.name for member in view.law.form.members)
    groups = {name: [m for m in view.law.form.members if m.form.name == name] for name in names}
    return [
        [name, f"{100 * sum(m.weight for m in group):.3g} %", ", ".join(f"x^{m.power:g}" for m in group), ""]
        for name, group in groups.items()
    ]


def fit_sentence(view: View) -> str:
    """How it was fitted: starts that agreed, the objective, the points."""
    law, loss = view.law, view.law.settings.loss
    parts = [f"{law.agreed[0]} of {law.agreed[1]} starts agreed"] if law.agreed[1] else []
    if finite(law.objective):
        delta = f" (delta {loss.delta:g})" if loss.kind == "huber" else ""
        parts.append(f"objective {law.objective:.5g}, the {LOSSES[loss.kind]}{delta} {SPACES[loss.space]}")
    return "; ".join(parts)


def range_sentence(view: View) -> str:
    """`42 points, params 1.06 k to 82.1 k, w_bits 1, 2, 4, 16 (16 is uncompressed)`."""
    parts = [f"{view.law.n} points"]
    for name in view.variables:
        levels, span = view.levels(name), view.span(name)
        names = f"{named(name)} {', '.join(levels)} ({view.reference} is uncompressed)"
        parts.append(span_text(name, span) if span else names if levels else "")
    as_fitted = re.sub(r"\by\b", named(view.target), view.scale.text)
    parts += [f"fitted as {as_fitted}"] if view.scale.text != "y" else []
    return ", ".join(filter(None, parts))


def chosen_sentence(view: View) -> str:
    """How it predicts what was held out, and that this, not AIC or BIC, chose it; empty where nothing was held out."""
    holdout = view.holdout
    if not finite(holdout.get("error")):
        return clean(holdout.get("reason") or "", 300)
    rule = f" ({clean(holdout['rule'], 200)})" if holdout.get("rule") else ""
    n = holdout.get("n")
    which = "held-out points were" if not finite(n) else f"{n} held-out point{'s were' if n != 1 else ' was'}"
    text = f"{which} missed by {100 * holdout['error']:.3g} %{rule}"
    if len(view.candidates) < 2:
        return text
    rule = "" if view.law.form.members else "the least of the candidates chooses, "
    return f"{text}; {rule}AIC and BIC are shown, not obeyed"


def candidate_table(candidates: Sequence[Candidate]) -> tuple[list[str], list[list[str]]]:
    """(head, rows): held-out error and criteria of each candidate, and whether it was chosen."""
    rows = []
    for c in candidates:
        error = f"{100 * c.error:.3g} %" if finite(c.error) else "-"
        criteria = [f"{value:.1f}" if finite(value) else "-" for value in (c.aic, c.bic)]
        share = f"{100 * c.weight:.3g} % of it" if finite(c.weight) and c.weight > 0 else ""
        rows.append([clean(c.law, 40), error, *criteria, "chosen" if c.chosen else share])
    return ["candidate", "held-out", "AIC", "BIC", ""], rows


def law_table(law: Any, width: int | None = None, color: bool = False) -> str:
    """A law (a view of it, or its JSON) in a terminal, in at most `width` columns (None: the terminal's): what it
    answers first, then how it was found.

    color : paint headings by ANSI codes.
    """
    view, wide = view_of(law), columns_of(width)
    lines = [painted(line, BOLD, color) for line in wrapped(headline_of(view), wide, "", "  ")]
    for asked, answer in questions(view):
        lines += ["", *wrapped(f"{asked}:", wide, "", "  "), *wrapped(answer, wide, "  ", "  ")]
    words = [line for text in in_words(view) for line in wrapped(text, wide, "", "  ")]
    lines += ["", *words, ""] if words or questions(view) else []
    for text in filter(None, (view.formula, range_sentence(view))):
        lines += wrapped(text, wide, "  ", "  ")
    head, rows = parameter_table(view)
    lines += ["", *aligned(head, rows, wide, color), *wrapped(fit_sentence(view), wide, "  ", "  ")]
    if len(view.candidates) > 1:
        lines += ["", *aligned(*candidate_table(view.candidates), wide, color)]
        for one in view.candidates:
            reason = f"{clean(one.law, 40)}: {clean(one.reason, 400)}"
            lines += wrapped(reason, wide, "  ", "    ") if one.reason else []
    lines += wrapped(chosen_sentence(view), wide, "  ", "  ")
    warnings = [line for text in view.warnings for line in wrapped(text, wide, "  ! ")]
    lines += ["", painted("warnings", BOLD, color), *warnings] if warnings else []
    return speakable("\n".join(lines))
