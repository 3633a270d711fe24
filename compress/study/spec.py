"""What a study file may say: sizes x levels x data x seeds over one task, and the laws to fit to what comes out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator

from compress.core.config import Config
from compress.recipe.named_blocks import BlockSchema, ModelBlock, PassStep, TaskBlock, read_passes
from compress.recipe.positions import Key
from compress.recipe.schema import Export, Recipe
from compress.training.settings import TrainConfig

DENSE = "dense"
LARGEST = 2**53  # beyond it, JSON's numbers are no whole numbers any more
Scalar = bool | Annotated[int, Field(ge=-LARGEST, le=LARGEST)] | Annotated[float, Field(ge=-1e15, le=1e15)] | str
Choice = Scalar | Annotated[list[Scalar], Field(min_length=1)]
Block = dict[str, Choice | None]
Grid = Block | Annotated[list[Block], Field(min_length=1)]
Varied = (
    Annotated[Block, Field(min_length=1)] | Annotated[list[Annotated[Block, Field(min_length=1)]], Field(min_length=1)]
)
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _passes(data: Any) -> tuple[PassStep, ...]:
    return read_passes(data) if data else ()


TrialPasses = Annotated[
    tuple[PassStep, ...],
    PlainValidator(_passes),
    PlainSerializer(lambda steps: [step.dump() for step in steps]),
    BlockSchema("passes"),
]


class TrialRecipe(Recipe):
    """The recipe of one trial: an ordinary one, which may also have no passes: that is the uncompressed model."""

    model: ModelBlock = Field(description="A registered model and its arguments.")
    task: TaskBlock = Field(description="A registered task and its arguments.")
    passes: TrialPasses = Field(default=(), description="The passes, one after the other.")


class Level(Config):
    """One way to compress: a list of passes, in which "$name" stands for a value that varies."""

    after: str | None = Field(default=None, description="A level whose passes come first, with its values.")
    values: Grid = Field(default={}, description="Values that vary, as in {density: [0.5, 0.25]}; lists are a grid.")
    passes: list[Any] = Field(min_length=1, description="The passes; $density stands for the value of that name.")


class DataAxis(Config):
    """Trials with less data or less training: the second and the third axis of a scaling law."""

    set: Varied = Field(description="Keys of the task or of train, as in {task.train_limit: [100, 300]}; lists vary.")
    sizes: Block = Field(default={}, description="Only sizes with these values, as in {width: [8, 16]}.")
    levels: list[str] = Field(default=[DENSE], min_length=1, description="The levels that are tried; dense is none.")


class LawSpec(Config):
    """A law that is fitted to the finished trials for the report."""

    x: Annotated[list[str], Field(min_length=1)] | str = Field(
        description="Columns of the Records: params, macs, samples, compute, density; N=params."
    )
    y: str = Field(default="error", description="What is predicted: error, loss or accuracy.")
    law: str = Field(default="auto", description="A law's name; auto chooses by extrapolation.")
    where: list[str] = Field(default=[], description='Only trials that fit, as in [role=dense, "density<=0.5"].')
    group: str | None = Field(default=None, description="A column: points of one value belong together, as in run.")
    pool: str | None = Field(default=None, description="A column: curves of its other values may lend their exponent.")
    solve: list[Annotated[float, Field(gt=0, le=1e30)]] = Field(
        default=[], description="Values of y: where does the law reach them?"
    )
    against: str | None = Field(default=None, description="Break-even with the points of these conditions.")


class Study(Config):
    """A whole study. `compress.study.study_checks.load_study` makes one."""

    version: Literal[1] = Field(description="The version of the study format: 1.")
    name: str = Field(
        default="study",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="The name of the study and of its folder; default: the file's name.",
    )
    task: TaskBlock = Field(description="A registered task and its arguments.")
    model: dict[str, Any] = Field(description="A registered model and the arguments that all sizes share.")
    sizes: Varied = Field(description="Arguments of the model that vary: lists in a block are a grid.")
    train: TrainConfig | None = Field(default=None, description="Training of every baseline and native model.")
    levels: dict[str, Level] = Field(default={}, description="Named ways to compress; dense is always in.")
    data: list[DataAxis] = Field(default=[], description="Further trials with less data or less training.")
    seeds: Annotated[int, Field(ge=1, le=1000)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        default=3, description="How many seeds (0, 1, 2 ...), or which."
    )
    native: bool = Field(
        default=True,
        description="Whether each pruned model is met by a dense one of its own size, trained as long altogether.",
    )
    export: Export = Field(default=Export(), description="How networks become ONNX files.")
    laws: list[LawSpec] = Field(default=[], description="Laws to fit at the end.")

    @property
    def seed_list(self) -> list[int]:
        """The seeds, in the order in which they are tried."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(dict.fromkeys(self.seeds))


@dataclass(frozen=True)
class Point:
    """One combination: values by key, and the place of each in the study."""

    values: dict[str, Any]
    places: dict[str, Key]


def blocks(data: Any, place: Key) -> list[tuple[Mapping[str, Any], Key]]:
    """One block or a list of blocks, each with its place; what is neither is left out, and is a finding elsewhere."""
    if isinstance(data, Mapping):
        return [(data, place)]
    listed = enumerate(data) if isinstance(data, list | tuple) else ()
    return [(block, (*place, n)) for n, block in listed if isinstance(block, Mapping)]


def expand(data: Any, place: Key = ()) -> Iterator[Point]:
    """Every combination of the values of each block; of several blocks, one block after the other."""
    for block, where in blocks(data, place):
        names = list(block)
        for chosen in itertools.product(*(_choices(block[name], (*where, name)) for name in names)):
            values, places = ([pair[side] for pair in chosen] for side in (0, 1))
            yield Point(dict(zip(names, values, strict=True)), dict(zip(names, places, strict=True)))


def _choices(value: Any, place: Key) -> Sequence[tuple[Any, Key]]:
    if isinstance(value, list | tuple):
        return [(item, (*place, n)) for n, item in enumerate(value)]
    return [(value, place)]


def fits(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether each wanted key has the value that is wanted, or one of them."""
    return all(
        key in values and values[key] in (choice if isinstance(choice, list | tuple) else [choice])
        for key, choice in wanted.items()
    )


def fill(data: Any, values: Mapping[str, Any]) -> Any:
    """Plain data in which every text "$name" is replaced by the value of that name; an unknown name stays as it is."""
    if isinstance(data, Mapping):
        return {key: fill(item, values) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [fill(item, values) for item in data]
    return values.get(data[1:], data) if isinstance(data, str) and data.startswith("$") else data


def placeholders(data: Any, place: Key = ()) -> Iterator[tuple[str, Key]]:
    """The name and the place of every text "$name" in plain data."""
    if isinstance(data, str) and data.startswith("$"):
        yield data[1:], place
    parts = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list | tuple) else ()
    for key, item in parts:
        yield from placeholders(item, (*place, key))


Levels = Mapping[str, Any]


def chain_of(levels: Levels, name: str) -> list[str]:
    """The level and those it comes after, the first to be applied first. Ends where a name is unknown or comes back."""
    chain: list[str] = []
    here: Any = name
    while isinstance(here, str) and isinstance(levels.get(here), Mapping) and here not in chain:
        chain.insert(0, here)
        here = levels[here].get("after")
    return chain


def variants(levels: Levels, name: str) -> Iterator[Point]:
    """Every combination of the values of a level and of those it comes after; one without values has one."""
    found = [Point({}, {})]
    for part in chain_of(levels, name):
        own = list(expand(levels[part].get("values") or {}, ("levels", part, "values")))
        found = [Point(a.values | b.values, a.places | b.places) for a in found for b in own]
    yield from found


def passes_of(levels: Levels, name: str, values: Mapping[str, Any]) -> list[tuple[Any, Key]]:
    """The passes of a level with these values put in, each with its place in the study."""
    return [
        (fill(step, values), ("levels", part, "passes", n))
        for part in chain_of(levels, name)
        for n, step in enumerate(levels[part].get("passes") or ())
    ]
