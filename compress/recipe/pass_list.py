"""The `passes` of a recipe: a list in which each entry is checked by the configuration of its kind, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, ValidationError

from compress.core.config import Config
from compress.core.errors import RecipeError
from compress.core.registries import PASSES
from compress.core.traits import Traits
from compress.recipe.check import Finding, as_error, check, findings
from compress.recipe.expectations import got, slip
from compress.recipe.named import BlockSchema
from compress.recipe.order import order_findings
from compress.recipe.plain import plain


@dataclass(frozen=True)
class PassStep:
    """One entry of `passes`: the kind of a registered pass, and its configuration."""

    kind: str
    config: Config

    def dump(self) -> dict[str, Any]:
        """Plain data that reads back as an equal step."""
        return {"kind": self.kind, **plain(self.config)}


def read_passes(data: Any) -> tuple[PassStep, ...]:
    """The list of passes, each by its own configuration, in an order that keeps what each has done."""
    if not isinstance(data, list | tuple) or not data:
        raise as_error(
            "passes", [Finding((), f"expected a list of at least one pass, each with a 'kind'; got {got(data)}")]
        )
    found: list[Finding] = []
    steps: list[PassStep] = []
    for n, entry in enumerate(data):
        try:
            steps.append(_read_pass(entry))
        except ValidationError as error:
            found += [Finding((n, *f.path), f.message, f.at) for f in findings(error)]
    found += order_findings([_as_step(entry) for entry in data])
    if found:
        raise as_error("passes", found)
    return tuple(steps)


def _as_step(entry: Any) -> tuple[str, Traits]:
    """What the order rules see of an entry; nothing where it is not a known one, which is a finding of its own."""
    kind = entry.kind if isinstance(entry, PassStep) else entry.get("kind") if isinstance(entry, dict) else None
    try:
        return str(kind), PASSES.get(kind).facts["traits"] if isinstance(kind, str) else Traits()
    except RecipeError:
        return "", Traits()


def _read_pass(entry: Any) -> PassStep:
    if isinstance(entry, PassStep):
        return entry
    if not isinstance(entry, dict):
        raise as_error("pass", [Finding((), f"expected a block with the key 'kind'; got {got(entry)}")])
    if "kind" not in entry:
        known = ", ".join(PASSES.all())
        message = f"missing key 'kind': expected one of {known}{slip('kind', entry)}"
        raise as_error("pass", [Finding((), message, "block")])
    kind = entry["kind"]
    if not isinstance(kind, str):
        message = f"unknown pass {got(kind)}; known passes: {', '.join(PASSES.all())}"
        raise as_error("pass", [Finding(("kind",), message)])
    try:
        component = PASSES.get(kind)
    except RecipeError as error:
        raise as_error("pass", [Finding(("kind",), str(error))]) from None
    return PassStep(
        component.address, check(component.facts["config"], {k: v for k, v in entry.items() if k != "kind"})
    )


PassList = Annotated[
    tuple[PassStep, ...],
    PlainValidator(read_passes),
    PlainSerializer(lambda steps: [step.dump() for step in steps]),
    BlockSchema("passes"),
]
