"""The parts of a recipe that name something registered and give its settings: model, task, passes, and goals' units."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    create_model,
)
from pydantic_core import CoreSchema

from compress.core.amounts import Amount, AmountOf
from compress.core.arguments import arguments_of
from compress.core.config import Config
from compress.core.errors import RecipeError
from compress.core.registries import MODELS, PASSES, TASKS
from compress.core.traits import Traits
from compress.recipe.order import order_issues
from compress.recipe.plain import plain
from compress.recipe.validate import Issue, as_error, check, got, issues_of, slip
from evaluate.core.components import Component, Registry
from evaluate.core.errors import LeanfitError
from evaluate.core.units import UNITS, Unit, known_units, unit_named

BLOCK = "x-leanfit"
WEIGHTS = "Trained weights: a .safetensors file or a torch state dict; looked up here, then in $LEANFIT_DATA."

Block = Literal["model", "task"]
REGISTRIES = {"model": MODELS, "task": TASKS}
OWN_KEYS: dict[Block, tuple[str, ...]] = {"model": ("name", "weights"), "task": ("name",)}


class BlockSchema:
    """Marks a place in a JSON schema that the registries fill in (see `recipe_schema`)."""

    def __init__(self, block: str) -> None:
        self.block = block

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {BLOCK: self.block}


def _one(title: str, message: str, *path: str | int, at: str = "value") -> ValidationError:
    return as_error(title, [Issue(path, message, at)])


def _component(registry: Registry[Any], name: Any, tag: str, wanted: str = "{}") -> tuple[Component[Any], list[Issue]]:
    """What a block's `tag` names. Where there is no such name, that issue with the nearest one's component, so that the
    rest of the block is checked too; raises ValidationError where nothing is near.
    """
    if not isinstance(name, str):
        raise _one(registry.kind, wanted.format(got(name)), tag)
    try:
        return registry.get(name), []
    except LeanfitError as error:
        near = difflib.get_close_matches(name, registry.registered(), n=1) if ":" not in name else []
        if not near:
            raise _one(registry.kind, str(error), tag) from None
        return registry.get(near[0]), [Issue((tag,), str(error))]


@dataclass(frozen=True)
class Named:
    """A model or task of a recipe: its registered name, and its checked settings."""

    block: Block
    settings: BaseModel

    @property
    def name(self) -> str:
        """What the registry knows it by; `package.module:name` for one of the user's own."""
        return str(self.settings.name)  # type: ignore[attr-defined]

    @property
    def weights(self) -> str | None:
        """The file of a model's trained weights, where it has one."""
        return getattr(self.settings, "weights", None) if self.block == "model" else None

    @property
    def args(self) -> dict[str, Any]:
        """The complete arguments, defaults filled in, as the builder takes them."""
        own = OWN_KEYS[self.block]
        return {key: getattr(self.settings, key) for key in type(self.settings).model_fields if key not in own}

    def dump(self) -> dict[str, Any]:
        """Plain data that reads back as an equal block."""
        return {"name": self.name} | plain(self.settings)


def read_model(data: Any) -> Named:
    """A `model` block. Raises ValidationError with every issue."""
    return _read_named(data, "model")


def read_task(data: Any) -> Named:
    """A `task` block. Raises ValidationError with every issue."""
    return _read_named(data, "task")


def _read_named(data: Any, block: Block) -> Named:
    if isinstance(data, Named):
        return data
    if not isinstance(data, dict):
        example = f"{{name: {data:.40}}}" if isinstance(data, str) else "{name: ...}"
        raise _one(block, f"expected a block of keys such as {example}; got {got(data)}")
    data = spelled_out(block, data)
    if "name" not in data:
        raise _one(block, f"missing key 'name': expected the name of a {block}{slip('name', data)}", at="block")
    component, found = _component(REGISTRIES[block], data["name"], "name", f"expected the name of a {block}; got {{}}")
    settings = block_class(arguments_of(component), block)
    return Named(block, check(settings, {**data, "name": component.address}, found))


def has_weights(model: Mapping[str, Any]) -> bool:
    """Whether the network of a `model` block comes trained: by a file of weights, or from where it is built."""
    trained = _fact("model", model, "trained")
    return model.get("weights") is not None or (bool(model.get(trained)) if isinstance(trained, str) else bool(trained))


def is_file(block: Block, data: Any) -> bool:
    """Whether a block means an ONNX file, or what one is judged on, which needs no torch."""
    return bool(_fact(block, data.dump() if isinstance(data, Named) else data, "file"))


def _fact(block: Block, data: Any, fact: str) -> Any:
    """What is registered of the component that a block names; None where it names none."""
    name = spelled_out(block, data).get("name") if isinstance(data, dict) else None
    known = REGISTRIES[block].all(installed=False).get(name) if isinstance(name, str) else None
    return known.facts.get(fact) if known is not None else None


def spelled_out(block: Block, data: dict[str, Any]) -> dict[str, Any]:
    """A block with `name` and the argument that `{timm: resnet18}` and `{name: "timm:resnet18"}` give in short."""
    known = REGISTRIES[block].all(installed=False)
    short = [name for name, found in known.items() if found.facts.get("takes") and name in data]
    if "name" not in data and len(short) == 1:
        rest = {key: value for key, value in data.items() if key != short[0]}
        return {"name": short[0], known[short[0]].facts["takes"]: data[short[0]], **rest}
    head, _, text = data["name"].partition(":") if isinstance(data.get("name"), str) else ("", "", "")
    takes = known[head].facts.get("takes") if text and head in known else None
    return {**data, "name": head, takes: text} if takes else data


@lru_cache(maxsize=256)
def block_class(args: type[BaseModel], block: Block) -> type[BaseModel]:
    """The arguments of a builder together with the keys that every block of its sort has."""
    if block == "task":
        return create_model(args.__name__, __base__=args, name=(str, Field()))
    weights = Field(default=None, min_length=1, description=WEIGHTS)
    return create_model(args.__name__, __base__=args, name=(str, Field()), weights=(str | None, weights))


ModelBlock = Annotated[Named, PlainValidator(read_model), PlainSerializer(Named.dump), BlockSchema("model")]
TaskBlock = Annotated[Named, PlainValidator(read_task), PlainSerializer(Named.dump), BlockSchema("task")]


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
        raise _one("passes", f"expected a list of at least one pass, each with a 'kind'; got {got(data)}")
    found: list[Issue] = []
    steps: list[PassStep] = []
    for n, entry in enumerate(data):
        try:
            steps.append(_read_pass(entry))
        except ValidationError as error:
            found += [issue._replace(path=(n, *issue.path)) for issue in issues_of(error)]
    found += order_issues([_as_step(entry) for entry in data])
    if found:
        raise as_error("passes", found)
    return tuple(steps)


def _as_step(entry: Any) -> tuple[str, Traits]:
    """What the order rules see of an entry; nothing where it is not a known one, which is an issue of its own."""
    kind = entry.kind if isinstance(entry, PassStep) else entry.get("kind") if isinstance(entry, dict) else None
    try:
        return str(kind), PASSES.get(kind).facts["traits"] if isinstance(kind, str) else Traits()
    except RecipeError:
        return "", Traits()


def _read_pass(entry: Any) -> PassStep:
    if isinstance(entry, PassStep):
        return entry
    if not isinstance(entry, dict):
        raise _one("pass", f"expected a block with the key 'kind'; got {got(entry)}")
    known = ", ".join(PASSES.all())
    if "kind" not in entry:
        raise _one("pass", f"missing key 'kind': expected one of {known}{slip('kind', entry)}", at="block")
    component, found = _component(PASSES, entry["kind"], "kind", f"unknown pass {{}}; known passes: {known}")
    settings = {key: value for key, value in entry.items() if key != "kind"}
    return PassStep(component.address, check(component.facts["config"], settings, found))


PassList = Annotated[
    tuple[PassStep, ...],
    PlainValidator(read_passes),
    PlainSerializer(lambda steps: [step.dump() for step in steps]),
    BlockSchema("passes"),
]


class Goals(Config):
    """What the result must keep within. Every goal is "at most"; amounts are a ratio of the baseline, or absolute."""

    drop: float | None = Field(
        default=None, ge=0, le=1e9, description="Points of the metric that may be lost on the test split."
    )

    def amounts(self) -> Iterator[tuple[Unit, Amount]]:
        """The goals in units of size and cost, in the order of the table of units."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields if name != "drop")
        yield from ((unit_named(name), amount) for name, amount in given if amount is not None)


def goals_class() -> type[Goals]:
    """`Goals` with a field for every unit that is registered now."""
    return _goals_of(tuple((name, unit.goal) for name, unit in known_units().items() if unit.goal))


@lru_cache(maxsize=64)
def _goals_of(units: tuple[tuple[str, str], ...]) -> type[Goals]:
    fields: dict[str, Any] = {
        name: (Annotated[Amount, AmountOf(name)] | None, Field(default=None, description=text)) for name, text in units
    }
    return create_model("Goals", __base__=Goals, __doc__=Goals.__doc__, **fields)


def read_goals(data: Any) -> Goals:
    """A `goals` block; a unit of the user's own may be named as `module:name`. Raises ValidationError."""
    if isinstance(data, Goals):
        return data
    own: dict[str, str] = {}
    for name in data if isinstance(data, dict) else ():
        if ":" in str(name) or name in UNITS.registered():
            own[name] = _component(UNITS, name, str(name))[0].address
    return check(goals_class(), {own.get(k, k): v for k, v in data.items()} if own else data)


GoalsBlock = Annotated[Goals, PlainValidator(read_goals), PlainSerializer(plain), BlockSchema("Goals")]
