"""The recipe: its schema, and `load_recipe`, which reads one and says everything that is wrong with it at once."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, PrivateAttr, ValidationError

from compress.core.amounts import BytesAmount, LatencyAmount, MacsAmount, ParamsAmount
from compress.core.config import Config
from compress.core.files import hash_of
from compress.core.registries import PASSES
from compress.recipe.check import Finding, check, findings
from compress.recipe.find import find_recipe, read_text
from compress.recipe.named import ModelBlock, TaskBlock
from compress.recipe.order import order_warnings
from compress.recipe.overrides import apply_overrides
from compress.recipe.pass_list import PassList
from compress.recipe.plain import plain, plain_data
from compress.recipe.positions import Key, Problem, RecipeProblems, Source
from compress.recipe.yaml_text import add_core_schema, read_yaml
from compress.training.settings import TrainConfig
from evaluate.core.errors import did_you_mean

if TYPE_CHECKING:
    from torch import nn


class Goals(Config):
    """What the result must keep within. Every goal is "at most"; amounts are a ratio of the baseline, or absolute."""

    drop: float | None = Field(
        default=None, ge=0, le=1e9, description="Points of the metric that may be lost on the test split."
    )
    params: ParamsAmount | None = Field(default=None, description='Parameters: 0.5, or "300k".')
    macs: MacsAmount | None = Field(default=None, description='Multiply-adds of one sample: 0.5, or "1.5M".')
    bytes: BytesAmount | None = Field(default=None, description='Size of model.onnx: 0.35, or "2MB", "64KiB".')
    latency: LatencyAmount | None = Field(default=None, description='Latency of one call: 0.65, or "5ms", "200us".')


class Benchmark(Config):
    """How latency is measured: baseline, baseline again and result, interleaved."""

    provider: Literal["cpu", "cuda"] = Field(default="cpu", description="Where ONNX Runtime runs the model.")
    threads: int = Field(default=1, ge=1, le=1024, description="Threads of one call.")
    batch: int = Field(default=1, ge=1, le=65536, description="Samples of one call.")
    seconds: float = Field(default=20.0, gt=0, le=86_400, description="How long the whole measurement takes.")


class Export(Config):
    """How the network becomes an ONNX file."""

    opset: int = Field(default=20, ge=18, le=23, description="ONNX operator set of the file.")
    tolerance: float = Field(
        default=1e-4,
        gt=0,
        le=1,
        description="Largest difference between torch and the exported fp32 file, over the range of torch's outputs.",
    )


class Recipe(Config):
    """Everything that decides a run. `load_recipe` makes one; `dump()` and `to_yaml()` give it back with every default.

    model and task are None where they are brought in Python. In Python a recipe is made by `load_recipe(mapping)`.
    """

    version: Literal[1] = Field(description="The version of the recipe format: 1.")
    name: str = Field(
        default="recipe",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="The name of the run and of its folder; default: the file's name.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Decides initial weights, batch order and every sampling.")
    model: ModelBlock | None = Field(default=None, description="A registered model and its arguments.")
    task: TaskBlock | None = Field(default=None, description="A registered task and its arguments.")
    train: TrainConfig | None = Field(
        default=None, description="Training of the baseline; left out where it has weights."
    )
    passes: PassList = Field(description="The passes, one after the other.")
    goals: Goals = Field(default=Goals(), description="What the result must keep within.")
    benchmark: Benchmark = Field(default=Benchmark(), description="How latency is measured.")
    export: Export = Field(default=Export(), description="How the network becomes an ONNX file.")

    _source: Source | None = PrivateAttr(default=None)

    @property
    def source(self) -> Source | None:
        """Where each part was written; None for a recipe that was not read by `load_recipe`."""
        return self._source

    @property
    def hash(self) -> str:
        """SHA-256, in hex, of the resolved recipe."""
        return hash_of(self.dump())

    @property
    def warnings(self) -> list[str]:
        """What works and is seldom wanted, as plain sentences."""
        return order_warnings([(step.kind, PASSES.get(step.kind).facts["traits"]) for step in self.passes])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(self.hash)

    def dump(self) -> dict[str, Any]:
        """Plain data with every default spelled out; nulls that are the default are left out."""
        return plain(self)

    def to_yaml(self) -> str:
        """The resolved recipe as YAML; `load_recipe` of it gives an equal recipe."""
        text = yaml.dump(self.dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
        return (
            f"# Resolved by leanfit: every default is spelled out. Run it again: leanfit compress recipe.yaml\n{text}"
        )

    def check_layers(self, model: nn.Module) -> None:
        """Refuse layer patterns that match no layer with weights. Raises RecipeError, naming all of them by line."""
        layers = [
            name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None
        ]
        source = self._source or Source(self.name, None)
        unmatched = [p for path, pattern in self._patterns() for p in _unmatched(source, path, pattern, layers)]
        if unmatched:
            raise RecipeProblems(unmatched)

    def _patterns(self) -> Iterator[tuple[Key, str]]:
        for n, step in enumerate(self.passes):
            for path, pattern in getattr(step.config, "patterns", list)():
                yield ("passes", n, *path), pattern


class _Dumper(yaml.SafeDumper):
    """Writes YAML 1.2 plain scalars, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


add_core_schema(_Dumper)


def _unmatched(source: Source, path: Key, pattern: str, layers: Sequence[str]) -> Iterator[Problem]:
    if any(fnmatch.fnmatchcase(layer, pattern) for layer in layers):
        return
    inside = any(layer.startswith(f"{pattern}.") for layer in layers)
    near = f"; did you mean '{pattern}.*'?" if inside else did_you_mean(pattern, layers)
    shown = ", ".join(layers[:6]) + (f" and {len(layers) - 6} more" if len(layers) > 6 else "")
    yield source.problem(path, f"pattern {pattern!r} matches no layer{near or '.'} Layers of this model: {shown}.")


def load_recipe(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """A checked recipe with all defaults filled in.

    source    : a path, the name of a shipped recipe, a mapping, or a recipe.
    overrides : texts such as `passes.0.calibrate.samples=512`, applied before anything is checked.

    Raises RecipeError: one that names every problem, each with file, line and column, or the `--set` it came from.
    """
    if isinstance(source, Recipe) and not overrides:
        return source
    read = apply_overrides(_read(source), overrides)
    if not isinstance(read.data, dict):
        raise RecipeProblems(read.problems or [_not_a_recipe(read)])
    problems = list(read.problems)
    try:
        recipe = check(Recipe, read.data, _cross_findings(read.data))
    except ValidationError as error:
        raise RecipeProblems([*problems, *(_located(f, read) for f in findings(error))]) from None
    if problems:
        raise RecipeProblems(problems)
    recipe._source = read
    return recipe


def _read(source: str | Path | Mapping[str, Any] | Recipe) -> Source:
    """The plain data of a recipe, named after its file where it names itself not."""
    if isinstance(source, Recipe):
        return Source(source.name, source.dump())
    if isinstance(source, Mapping):
        return Source("recipe", plain_data(source))
    path = find_recipe(source)
    shown = str(source) if Path(source) == path else str(path)
    read = read_yaml(read_text(path, shown), shown)
    if isinstance(read.data, dict) and "name" not in read.data:
        read.data["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:100] or "recipe"
    return read


def _not_a_recipe(source: Source) -> Problem:
    wanted = "expected a mapping with at least 'version: 1' and 'passes: [...]'"
    if source.data is None:
        return source.problem((), f"the recipe is empty; {wanted}")
    kind = "a list" if isinstance(source.data, list) else f"a single value, {json.dumps(source.data, default=str)[:60]}"
    return source.problem((), f"the recipe is {kind}; {wanted}")


def _cross_findings(data: dict[str, Any]) -> Iterator[Finding]:
    """Problems of blocks that do not go together."""
    model = data.get("model")
    if isinstance(model, dict) and model.get("weights") is None and data.get("train") is None:
        message = "the model has no 'weights' and the recipe no 'train' block: there would be nothing to keep accurate"
        yield Finding(("model",), f"{message}; give one of them", "key")


def _located(finding: Finding, source: Source) -> Problem:
    return source.problem(finding.path, finding.message, at_key=finding.at != "value")
