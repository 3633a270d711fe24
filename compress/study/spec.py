"""What a study file may say: sizes x levels x data x seeds over one task, and the laws to fit to what comes out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator

from compress.core.config import Config
from compress.recipe.named import BlockSchema, ModelBlock, TaskBlock
from compress.recipe.pass_list import PassStep, read_passes
from compress.recipe.schema import Export, Recipe
from compress.training.settings import TrainConfig

DENSE = "dense"
Scalar = bool | int | float | str
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


class LawWish(Config):
    """A law that is fitted to the finished trials for the report."""

    x: Annotated[list[str], Field(min_length=1)] | str = Field(
        description="Columns of the Records: params, macs, samples, compute, density; N=params."
    )
    y: str = Field(default="error", description="What is predicted: error, loss or accuracy.")
    law: str = Field(default="auto", description="A law's name; auto chooses by extrapolation.")
    where: list[str] = Field(default=[], description='Only trials that fit, as in [role=dense, "density<=0.5"].')
    group: str | None = Field(default=None, description="A column: points of one value belong together, as in run.")
    solve: list[float] = Field(default=[], description="Values of y: where does the law reach them?")
    against: str | None = Field(default=None, description="Break-even with the points of these conditions.")


class Study(Config):
    """A whole study. `compress.study.load.load_study` makes one."""

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
    laws: list[LawWish] = Field(default=[], description="Laws to fit at the end.")

    @property
    def seed_list(self) -> list[int]:
        """The seeds, in the order in which they are tried."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(dict.fromkeys(self.seeds))
