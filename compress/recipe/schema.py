"""What a recipe may say: its schema as classes, for checking, and as JSON, for editors. `load_recipe` makes one."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr

from compress.core.arguments import arguments_of
from compress.core.config import Config
from compress.core.files import hash_of
from compress.core.registries import PASSES
from compress.recipe.named_blocks import (
    BLOCK,
    REGISTRIES,
    Block,
    GoalsBlock,
    ModelBlock,
    PassList,
    TaskBlock,
    block_class,
    goals_class,
)
from compress.recipe.order import order_warnings
from compress.recipe.plain import plain
from compress.recipe.positions import Key, Problem, RecipeProblems, SourceMap
from compress.recipe.validate import schema_of
from compress.recipe.yaml_text import add_core_schema
from compress.training.settings import TrainConfig
from evaluate.core.errors import UsageError, did_you_mean
from evaluate.core.execution_providers import provider_named
from evaluate.core.text import a_few

if TYPE_CHECKING:
    from torch import nn

DIALECT = "https://json-schema.org/draft/2020-12/schema"
OF_FILES = ("shape", "dim", "inputs")  # keys of `benchmark` that say what an ONNX file is called with
_OWN_NAME = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.]*:.+$", "description": "package.module:name"}


def _known_provider(name: str) -> str:
    try:
        return provider_named(name).name
    except UsageError as error:
        raise ValueError(str(error)) from None


class Benchmark(Config):
    """How latency is measured: baseline, baseline again and result, interleaved."""

    provider: Annotated[str, AfterValidator(_known_provider)] = Field(
        default="cpu", description="Where ONNX Runtime runs the model: cpu, cuda, tensorrt, or package.module:name."
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Threads of one call.")
    batch: int = Field(default=1, ge=1, le=65536, description="Samples of one call.")
    seconds: float = Field(default=20.0, gt=0, le=86_400, description="How long the whole measurement takes.")
    shape: dict[str, tuple[Annotated[int, Field(ge=0, le=2**31)], ...]] | None = Field(
        default=None, description="Of an ONNX file: the shape of an input in one call, as {x: [1, 3, 640, 640]}."
    )
    dim: dict[str, Annotated[int, Field(ge=0, le=2**31)]] | None = Field(
        default=None, description="Of an ONNX file: the size of a free dimension by its name, as {sequence: 128}."
    )
    inputs: str | None = Field(
        default=None,
        min_length=1,
        description="Of an ONNX file: a file of values to time on (.npz, .npy, .json), in place of the task's data.",
    )


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
    expect: dict[str, Annotated[float, Field(ge=-1e12, le=1e12)]] | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="The baseline's metric, as in {accuracy: 91.7}: the run stops where it is more than a point worse.",
    )
    passes: PassList = Field(description="The passes, one after the other.")
    goals: GoalsBlock = Field(default_factory=lambda: goals_class()(), description="What the result must keep within.")
    benchmark: Benchmark = Field(default=Benchmark(), description="How latency is measured.")
    export: Export = Field(default=Export(), description="How the network becomes an ONNX file.")

    _source: SourceMap | None = PrivateAttr(default=None)

    @property
    def source(self) -> SourceMap | None:
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
        source = self._source or SourceMap(self.name, None)
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


def _unmatched(source: SourceMap, path: Key, pattern: str, layers: Sequence[str]) -> Iterator[Problem]:
    if any(fnmatch.fnmatchcase(layer, pattern) for layer in layers):
        return
    inside = any(layer.startswith(f"{pattern}.") for layer in layers)
    near = f"; did you mean '{pattern}.*'?" if inside else did_you_mean(pattern, layers)
    yield source.problem(
        path, f"pattern {pattern!r} matches no layer{near or '.'} Layers of this model: {a_few(layers, 6)}."
    )


def recipe_schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of a whole recipe, with the passes, models and tasks that are registered now."""
    definitions: dict[str, Any] = {}
    schema = _adopt(schema_of(Recipe), "", definitions)
    definitions["passes"] = {
        "type": "array",
        "minItems": 1,
        "items": {
            "oneOf": [
                _choice("pass", "kind", component.address, component.facts["config"], component.summary, definitions)
                for component in PASSES.all().values()
            ]
        },
    }
    blocks: tuple[Block, ...] = ("model", "task")
    for block in blocks:
        known = [
            _choice(block, "name", c.address, block_class(arguments_of(c), block), c.summary, definitions)
            for c in REGISTRIES[block].all().values()
        ]
        known += [
            _in_short(f"{block}.{c.address}", c.address, takes, definitions)
            for c in REGISTRIES[block].all().values()
            if (takes := c.facts.get("takes"))
        ]
        definitions[block] = {"oneOf": [*known, {"properties": {"name": _OWN_NAME}, "required": ["name"]}]}
    definitions["Goals"] = _adopt(schema_of(goals_class()), "Goals.", definitions)
    return {"$schema": DIALECT, "title": "leanfit recipe", **schema, "$defs": dict(sorted(definitions.items()))}


def _choice(
    block: str, tag: str, name: str, model: type[BaseModel], summary: str, definitions: dict[str, Any]
) -> dict[str, Any]:
    """The settings of one kind or name, with the key that chooses it. Returns a reference to them."""
    own = _adopt(schema_of(model), f"{block}.{name}.", definitions)
    own["properties"] = {tag: None} | own.get("properties", {}) | {tag: {"const": name, "description": summary}}
    own["required"] = list(dict.fromkeys([tag, *own.get("required", [])]))
    own["description"] = summary
    definitions[f"{block}.{name}"] = own
    return {"$ref": f"#/$defs/{block}.{name}"}


def _in_short(of: str, name: str, takes: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The settings of one that takes an argument in short, `{timm: resnet18}`. Returns a reference to them."""
    known = definitions[of]
    settings = {key: value for key, value in known["properties"].items() if key not in ("name", takes)}
    required = [name, *(key for key in known["required"] if key not in ("name", takes))]
    short = {**known, "properties": {name: known["properties"][takes], **settings}, "required": required}
    definitions[f"{of}.short"] = short
    return {"$ref": f"#/$defs/{of}.short"}


def _adopt(schema: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A copy of a schema, its own definitions moved into the shared ones under a prefix."""
    own = _renamed(copy.deepcopy(schema), prefix)
    for name, definition in own.pop("$defs", {}).items():
        definitions[prefix + name] = definition
    own.pop("title", None)
    return dict(own)


def _renamed(node: Any, prefix: str) -> Any:
    """References with the prefix put in, and marked blocks as references to their definition."""
    if isinstance(node, list):
        return [_renamed(item, prefix) for item in node]
    if not isinstance(node, dict):
        return node
    if BLOCK in node:
        rest = {key: value for key, value in node.items() if key not in (BLOCK, "title")}
        return {"$ref": f"#/$defs/{node[BLOCK]}", **rest}
    result = {key: _renamed(value, prefix) for key, value in node.items() if key != "title" or isinstance(value, dict)}
    if isinstance(node.get("$ref"), str):
        result["$ref"] = node["$ref"].replace("#/$defs/", f"#/$defs/{prefix}")
    return result
