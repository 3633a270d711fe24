"""Which passes may follow which: one function a rule, each saying why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compress.recipe.check import Finding

SEALS = "quantize"
"""The pass that writes the deployed graph: torch is not the truth any more after it."""
TRAINS = ("finetune", "distill")

Rule = Callable[[Sequence[str]], Iterator[Finding]]


def one_quantize(kinds: Sequence[str]) -> Iterator[Finding]:
    """A second quantization would start from rounded weights: it loses accuracy and saves nothing."""
    for n in _places(kinds, SEALS)[1:]:
        yield _refused(n, "a recipe quantizes once: the second pass would round weights that are rounded already")


def no_training_after_quantize(kinds: Sequence[str]) -> Iterator[Finding]:
    """Static int8 writes the deployed graph; training afterwards would change only the torch module beside it."""
    for n, kind in _after_quantize(kinds):
        if kind in TRAINS:
            reason = "would train the fp32 network, and the int8 graph that is deployed would not change"
            yield _refused(n, f"{kind} may not follow quantize: it {reason}; put quantize last")


def no_pruning_after_quantize(kinds: Sequence[str]) -> Iterator[Finding]:
    """Pruning changes shapes, and the ranges and scales found by quantization are those of the old ones."""
    for n, kind in _after_quantize(kinds):
        if kind == "prune":
            reason = "the int8 graph that is deployed has its shapes and ranges fixed"
            yield _refused(n, f"prune may not follow quantize: {reason}; put quantize last")


def quantize_comes_last(kinds: Sequence[str]) -> Iterator[Finding]:
    """Any other pass hands on a torch module, and with it the int8 graph would be dropped."""
    for n, kind in _after_quantize(kinds):
        if kind and kind not in (*TRAINS, "prune", SEALS):
            reason = "it works on the torch module, and the int8 graph would be lost"
            yield _refused(n, f"{kind} may not follow quantize: {reason}; put quantize last")


RULES: tuple[Rule, ...] = (one_quantize, no_training_after_quantize, no_pruning_after_quantize, quantize_comes_last)


def order_findings(kinds: Sequence[str]) -> list[Finding]:
    """What is wrong with the order of these passes (an empty kind stands for one that cannot be read)."""
    found = [finding for rule in RULES for finding in rule(kinds)]
    return sorted(found, key=lambda finding: finding.path)


def order_warnings(kinds: Sequence[str]) -> list[str]:
    """Orders that work and are seldom what one wants, as plain sentences."""
    warnings = []
    prunes = _places(kinds, "prune")
    if len(prunes) > 1:
        places = " and ".join(f"passes.{n}" for n in prunes)
        warnings.append(
            f"{places} both prune: the amounts to keep are those of the uncompressed model in each of them."
        )
    if kinds and kinds[0] == "distill":
        warnings.append(
            "passes.0 distils from the uncompressed model into itself: there is nothing lost to win back yet."
        )
    return warnings


def _places(kinds: Sequence[str], kind: str) -> list[int]:
    return [n for n, k in enumerate(kinds) if k == kind]


def _after_quantize(kinds: Sequence[str]) -> Iterator[tuple[int, str]]:
    places = _places(kinds, SEALS)
    return ((n, kind) for n, kind in enumerate(kinds) if places and n > places[0])


def _refused(n: int, reason: str) -> Finding:
    return Finding((n, "kind"), reason)
