"""The smallest model that keeps a target, in words: a sentence, a table of models by size, the next one to measure."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.core.text import clean
from evaluate.report.messages.law_messages import named, quantity
from evaluate.report.messages.law_view import in_unit
from evaluate.report.text.text_columns import BOLD, aligned, columns_of, painted, speakable, wrapped
from evaluate.scaling.points.scale import Scale
from evaluate.scaling.query.sizing import Option, Sizing

LIKELY = 0.5  # chances from which on models that are not on the envelope are shown too
MOST_ROWS = 16


def sizing_sentence(found: Sizing, y: str, scale: Scale, asked: str = "") -> str:
    """`int8 at packed size 11.5 kB keeps error 5 % with 90 % chance; nothing smaller does with more than 85 %`."""
    y = in_unit(y, scale)
    goal = f"{named(y)} {quantity(y, found.target)}" + (f" ({clean(asked, 80)})" if asked else "")
    best = found.best
    if best is None:
        most = max(found.options, key=lambda one: one.chance)
        nearest = f"{_model(most.family, found.cost, most.cost)} comes nearest, with {_share(most.chance)}"
        return f"no model keeps {goal} with {_share(found.confidence)} chance; {nearest}"
    smaller = any(one.cost < best.cost for one in found.options)
    rest = "none smaller was measured"
    if smaller:
        chance = f" with more than {_share(found.elsewhere)}" if found.elsewhere >= 0.005 else ""
        rest = f"nothing smaller does{chance}"
    model = _model(best.family, found.cost, best.cost) + ("" if best.measured else ", between measured sizes,")
    return f"{model} keeps {goal} with {_share(best.chance)} chance; {rest}"


def next_sentence(found: Sizing) -> str:
    """`pruned-int8 at packed size 7.14 kB: has a chance of 73 % and would save 38 %`; empty where none is worth it."""
    following = found.following
    if following is None:
        return ""
    text = f"{_model(following.family, found.cost, following.cost)}: {_share(following.chance)} chance of keeping it"
    if following.saves == following.saves:
        text += f", and it would save {_share(following.saves)}"
    if following.law:
        return f"{text} (by the law {clean(following.law, 40)})"
    return text + (f"; trained so far: {following.measured}" if following.measured else "")


def sizing_rows(found: Sizing, y: str, scale: Scale) -> tuple[list[str], list[list[str]]]:
    """(head, body) of the table: the models by size that no smaller one betters, the best of each family, the rest that
    have an even chance or more, as far as there is room."""
    y = in_unit(y, scale)
    head = [named(found.cost), "family", named(y), "of 90 %", "chance", "models"]
    return head, [
        [
            quantity(found.cost, one.cost), clean(one.family, 40), quantity(y, one.y),
            f"{quantity(y, one.low)} to {quantity(y, one.high)}", _share(one.chance),
            f"{one.measured}" if one.measured else "between",
        ]
        for one in _shown(found)
    ]  # fmt: skip


def sizing_table(
    found: Sizing, y: str, scale: Scale, asked: str = "", width: int | None = None, color: bool = False
) -> str:
    """The answer in a terminal."""
    columns = columns_of(width)
    lines = [painted(line, BOLD, color) for line in wrapped(sizing_sentence(found, y, scale, asked), columns)]
    lines += ["", *aligned(*sizing_rows(found, y, scale), columns, color)]
    if following := next_sentence(found):
        lines += ["", *wrapped(following, columns, "measure next: ")]
    if found.problems:
        lines += [
            "",
            "warnings",
            *(line for told in found.problems for line in wrapped(clean(told, 300), columns, "  ! ")),
        ]
    return speakable("\n".join(lines))


def _shown(found: Sizing) -> Sequence[Option]:
    firsts: dict[str, Option] = {}
    for one in found.options:
        if one.chance >= found.confidence:
            firsts.setdefault(one.family, one)
    kept = [one for one in found.options if one.enveloped or one in firsts.values()]
    rest = [one for one in found.options if one not in kept and one.chance >= LIKELY]
    if len(kept) > MOST_ROWS:  # those about the answer
        at = next((place for place, one in enumerate(kept) if one is found.best), len(kept) - 1)
        first = max(0, min(at - MOST_ROWS // 2, len(kept) - MOST_ROWS))
        kept = kept[first : first + MOST_ROWS]
    chosen = [*kept, *rest[: max(MOST_ROWS - len(kept), 0)]]
    return [one for one in found.options if one in chosen]


def _model(family: str, cost: str, value: float) -> str:
    return f"{clean(family, 60)} at {named(cost)} {quantity(cost, value)}"


def _share(chance: float) -> str:
    """A chance in whole per cent, never 0 or 100 of what is not sure."""
    if 0 < chance < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 < chance < 1 else f"{100 * chance:.0f} %"
