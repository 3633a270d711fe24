"""What the JSON of a law tells, in words that the terminal's table and the page share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluate.core.text import clean, finite
from evaluate.report.law_bars import Candidate
from evaluate.report.law_crossing import break_even_of
from evaluate.report.law_native import BreakEven
from evaluate.report.law_view import View
from evaluate.report.law_words import (
    answer_sentence,
    beyond_text,
    interval_figure,
    named,
    number,
    number_interval,
    plain_figure,
    quantity,
    span_text,
)

LOSSES = {"huber": "sum of Huber's loss", "squares": "sum of squares"}
SPACES = {"log": "of log residuals", "raw": "of residuals", "relative": "of relative deviations"}


def headline_of(view: View) -> str:
    """`error against params: power law with a floor (power-floor)`."""
    against = ", ".join(named(name) for name in view.variables)
    known = f" ({view.name})" if view.name != view.title else ""
    return f"{named(view.target)} against {against}: {view.title}{known}"


def parameter_rows(view: View) -> list[list[str]]:
    """[name, value, interval, note] for each parameter; the floor is named as one. Of an average, its shares, which a
    rule gave and which have no interval."""
    if shares := shares_of(view):
        return [[name, f"{100 * share:.3g} %", powers, ""] for name, share, powers in shares]
    floor = view.floor
    rows = []
    for name, value in (view.stored.get("params") or {}).items():
        low, high = view.ends(str(name))
        held = name in ((view.stored.get("settings") or {}).get("fixed") or {})
        note = "floor" if floor is not None and floor.name == name else ""
        note = ", ".join(part for part in (note, "held as given" if held else "") if part)
        interval = "" if held else number_interval(low, high, value)
        rows.append([clean(name, 24), number(value, low, high), interval, note])
    return rows


def fit_sentence(view: View) -> str:
    """How it was fitted: starts that agreed, the objective, the points."""
    stored, parts = view.stored, []
    agreed = stored.get("agreed")
    if isinstance(agreed, (list, tuple)) and len(agreed) == 2 and finite(agreed[1]) and agreed[1]:
        parts.append(f"{agreed[0]} of {agreed[1]} starts agreed")
    elif isinstance(agreed, str) and agreed:
        parts.append(f"{clean(agreed, 40)} agreed")
    if finite(stored.get("objective")):
        settings = stored.get("settings") or {}
        loss = LOSSES.get(str(settings.get("kind") or settings.get("loss")), "sum of the loss")
        delta = f" (delta {settings['delta']:g})" if loss == LOSSES["huber"] and finite(settings.get("delta")) else ""
        space = SPACES.get(str(settings.get("space")), "")
        parts.append(f"objective {stored['objective']:.5g}, the {loss}{delta} {space}".rstrip())
    return "; ".join(parts)


def range_sentence(view: View) -> str:
    """`42 points, params 1.06 k to 82.1 k`."""
    spans = [told for name in view.variables if (told := _values_of(view, name))]
    n = view.stored.get("n")
    return ", ".join([*([f"{n} points"] if finite(n) else []), *spans])


def _values_of(view: View, name: str) -> str:
    """The range of a variable, or its levels: `w_bits 1, 2, 4, 16 (of which 16 is uncompressed)`."""
    if levels := view.levels(name):
        return f"{named(name)} {', '.join(levels)} ({view.reference} is uncompressed)"
    span = view.span(name)
    return span_text(name, span) if span else ""


def shares_of(view: View) -> list[tuple[str, float, str]]:
    """(law, its share, the weights it was fitted with) of each law in an average; [] for other laws."""
    members = (view.stored.get("settings") or {}).get("members") or []
    found: dict[str, list[Mapping[str, Any]]] = {}
    for member in members if isinstance(members, list) else []:
        if isinstance(member, Mapping) and finite(member.get("weight")) and finite(member.get("power")):
            found.setdefault(clean(member.get("law"), 24), []).append(member)
    return [
        (name, sum(m["weight"] for m in group), ", ".join(f"x^{m['power']:g}" for m in group))
        for name, group in found.items()
    ]


def parameter_head(view: View) -> list[str]:
    """The head of the table of `parameter_rows`."""
    if shares_of(view):
        return ["law", "share", "fitted with weights", ""]
    return ["parameter", "value", f"{100 * view.confidence:g} % interval", ""]


def candidates_of(stored: Mapping[str, Any]) -> list[Candidate]:
    """The forms that competed, the best on held-out points first; [] where none did."""
    holdout = stored.get("holdout") or {}
    found = holdout.get("candidates") or []
    entries = (
        [{"name": k, **(v if isinstance(v, Mapping) else {"error": v})} for k, v in found.items()]
        if isinstance(found, Mapping)
        else [e for e in found if isinstance(e, Mapping)]
    )
    chosen = str(holdout.get("chosen") or stored.get("law"))
    known = [_candidate(entry, chosen) for entry in entries]
    return sorted(known, key=lambda c: c.error if finite(c.error) else float("inf"))


def _candidate(entry: Mapping[str, Any], chosen: str) -> Candidate:
    name = str(entry.get("name") or entry.get("law") or "?")
    numbers = {k: float(entry[k]) if finite(entry.get(k)) else float("nan") for k in ("error", "aic", "bic", "weight")}
    reason = clean(entry.get("reason") or entry.get("failed") or "", 200)
    return Candidate(clean(name, 40), chosen=name == chosen, reason=reason, **numbers)


def chosen_sentence(view: View) -> str:
    """How it predicts what was held out, and that this, not AIC or BIC, chose it; empty where nothing was held out."""
    holdout = view.stored.get("holdout") or {}
    if not finite(holdout.get("error")):
        return clean(holdout.get("reason") or "", 300)
    rule = f" ({clean(holdout['rule'], 200)})" if holdout.get("rule") else ""
    n = holdout.get("n")
    which = "held-out points were" if not finite(n) else f"{n} held-out point{'s were' if n != 1 else ' was'}"
    text = f"{which} missed by {100 * holdout['error']:.3g} %{rule}"
    if len(candidates_of(view.stored)) < 2:
        return text
    rule = "" if holdout.get("chosen") == "average" else "the least of the candidates chooses, "
    return f"{text}; {rule}AIC and BIC are shown, not obeyed"


def warnings_of(view: View) -> list[str]:
    """The warnings of the fit and of its points, each once."""
    problems = (view.stored.get("points") or {}).get("problems") or []
    return list(dict.fromkeys(clean(text) for text in [*(view.stored.get("warnings") or []), *problems]))


def optimum_of(stored: Mapping[str, Any], variables: tuple[str, ...]) -> dict[str, tuple[float, float, float]]:
    """variable -> (value, low, high) of the best split of a budget; {} where none was asked or found."""
    found = stored.get("optimum") or {}
    values, low, high = (found.get(side) or {} for side in ("values", "low", "high"))
    return {
        name: (float(values[name]), _float(low.get(name)), _float(high.get(name)))
        for name in variables
        if finite(values.get(name))
    }


def _float(value: Any) -> float:
    return float(value) if finite(value) else float("nan")


def questions(view: View) -> list[tuple[str, str]]:
    """(what was asked, the answer) of solve, the budget and the break-even point."""
    found = [_split(answer_sentence(answer, view.target)) for answer in view.answers]
    optimum = view.stored.get("optimum")
    if isinstance(optimum, Mapping):
        found.append(_optimum(view, optimum))
    crossing = break_even_of(view.stored)
    if crossing is not None:
        found.append(_break_even(view, crossing))
    return found


def _split(sentence: str) -> tuple[str, str]:
    asked, _, answer = sentence.partition(": ")
    return asked, answer


def _optimum(view: View, optimum: Mapping[str, Any]) -> tuple[str, str]:
    asked = f"best split for {clean(optimum.get('compute') or 'cost', 60)} = {_figure(optimum.get('budget'))}"
    best = optimum_of(view.stored, view.variables)
    if not best:
        return asked, clean(optimum.get("reason") or "not found", 200)
    told = [f"{named(name)} {interval_figure(name, *triple)}" for name, triple in best.items()]
    y, ends = optimum.get("y"), (optimum.get("y_low"), optimum.get("y_high"))
    told += [f"{named(view.target)} {interval_figure(view.target, y, *ends)}"] if finite(y) else []
    doubt = clean(optimum.get("reason") or "") or beyond_text(optimum.get("beyond"))
    return asked, ", ".join(told) + (f"; {doubt}" if doubt else "")


def _figure(value: Any) -> str:
    return plain_figure(float(value)) if finite(value) else "-"


def _break_even(view: View, crossing: BreakEven) -> tuple[str, str]:
    found = view.stored["break_even"]
    variable = str(found.get("variable") or view.variables[0])
    asked = f"break-even in {named(variable)}" + (f" against {crossing.name}" if crossing.name else "")
    below = found.get("below")
    if not finite(crossing.value):
        return asked, f"none{': ' + crossing.reason if crossing.reason else ''}"
    at = f", {named(view.target)} {quantity(view.target, crossing.y)}" if finite(crossing.y) else ""
    at += f"; below it {'this law' if below == 'first' else 'the other'} is the better one" if below else ""
    doubt = crossing.reason or beyond_text(found.get("beyond"))
    told = interval_figure(variable, crossing.value, crossing.low, crossing.high)
    return asked, f"{told}{at}" + (f"; {doubt}" if doubt else "")
