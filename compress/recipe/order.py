"""Which passes may follow which: one function a rule, each saying why. Rules read what a pass does, never its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compress.core.traits import Traits
from compress.recipe.validate import Issue

Step = tuple[str, Traits]
"""A pass as the rules see it: what the recipe calls it, and its traits; no traits for one that cannot be read."""
Rule = Callable[[Sequence[Step]], Iterator[Issue]]


def one_graph(steps: Sequence[Step]) -> Iterator[Issue]:
    """A second pass that writes the graph would start from weights that the first one rounded."""
    for n, kind, first in _after_graph(steps):
        if steps[n][1].writes_graph:
            reason = "the second pass would round weights that are rounded already"
            yield _refused(n, f"{kind} may not follow {first}: a recipe writes its deployed graph once; {reason}")


def no_training_after_graph(steps: Sequence[Step]) -> Iterator[Issue]:
    """Training would change only the torch module beside the graph that is deployed."""
    for n, kind, first in _after_graph(steps):
        traits = steps[n][1]
        if traits.trains and not traits.writes_graph and not traits.reshapes:
            reason = "would train the fp32 network, and the graph that is deployed would not change"
            yield _refused(n, f"{kind} may not follow {first}: it {reason}; put {first} last")


def no_reshaping_after_graph(steps: Sequence[Step]) -> Iterator[Issue]:
    """Shapes, and with them ranges and scales, are those of the network the graph was written from."""
    for n, kind, first in _after_graph(steps):
        if steps[n][1].reshapes and not steps[n][1].writes_graph:
            reason = "the graph that is deployed has its shapes and ranges fixed"
            yield _refused(n, f"{kind} may not follow {first}: {reason}; put {first} last")


def graph_comes_last(steps: Sequence[Step]) -> Iterator[Issue]:
    """Any other pass hands on a torch module, and with it the written graph would be dropped."""
    for n, kind, first in _after_graph(steps):
        if kind and not (steps[n][1].trains or steps[n][1].reshapes or steps[n][1].writes_graph):
            reason = "it works on the torch module, and the deployed graph would be lost"
            yield _refused(n, f"{kind} may not follow {first}: {reason}; put {first} last")


RULES: tuple[Rule, ...] = (one_graph, no_training_after_graph, no_reshaping_after_graph, graph_comes_last)


def order_issues(steps: Sequence[Step]) -> list[Issue]:
    """What is wrong with the order of these passes."""
    found = [issue for rule in RULES for issue in rule(steps)]
    return sorted(found, key=lambda issue: issue.path)


def order_warnings(steps: Sequence[Step]) -> list[str]:
    """Orders that work and are seldom what one wants, as plain sentences."""
    warnings = []
    cutting = [n for n, (_, traits) in enumerate(steps) if traits.reshapes]
    if len(cutting) > 1:
        places = " and ".join(f"passes.{n}" for n in cutting)
        kinds = {steps[n][0] for n in cutting}
        verb = kinds.pop() if len(kinds) == 1 else "make the network smaller"
        warnings.append(
            f"{places} both {verb}: the amounts to keep are those of the uncompressed model in each of them."
        )
    if steps and steps[0][1].learns_from_original:
        warnings.append(
            "passes.0 distils from the uncompressed model into itself: there is nothing lost to win back yet."
        )
    return warnings


def _after_graph(steps: Sequence[Step]) -> Iterator[tuple[int, str, str]]:
    """(place, kind, kind of the pass that wrote the graph) of every pass after that one."""
    first = next((n for n, (_, traits) in enumerate(steps) if traits.writes_graph), None)
    if first is not None:
        yield from ((n, steps[n][0], steps[first][0]) for n in range(first + 1, len(steps)))


def _refused(n: int, reason: str) -> Issue:
    return Issue((n, "kind"), reason)
