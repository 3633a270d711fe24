"""What is to be done to an ONNX file, put together from a recipe and from what was given beside it. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compress.core.errors import RecipeError
from compress.core.files import data_folder
from compress.core.progress import Status
from compress.passes.base import GraphPass, get_pass
from compress.pipeline.onnx_source import Source
from compress.recipe.load import load_recipe
from compress.recipe.named_blocks import Block, Named, is_file, read_model, read_task
from compress.recipe.schema import Recipe
from evaluate.benchmark.model_inputs import Wanted, wanted_of
from evaluate.core.errors import DataError


@dataclass(frozen=True)
class Job:
    """What is to be done to which file, on what: as it was given, else as the recipe says."""

    path: Path
    recipe: Recipe
    techniques: list[GraphPass]
    wanted: Wanted
    labels: str | Path | NDArray[Any] | None
    metric: str | None

    @classmethod
    def of(
        cls,
        model: str | Path | None,
        recipe: Recipe | str | Path | Mapping[str, Any],
        data: Any = None,
        labels: Any = None,
        metric: str | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        dims: Mapping[str, int] | None = None,
    ) -> Job:
        """Raises RecipeError and DataError for what is missing, or given twice and not alike."""
        loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        named, judged = _arguments("model", loaded.model), _arguments("task", loaded.task)
        if model is None and not named:
            raise RecipeError(f"{loaded.name}: names no ONNX file and none was given: model: {{onnx: FILE}}")
        path = Path(model) if model is not None else find_data(named["file"])
        if data is not None:
            judged = {}
        elif judged:
            data = find_data(judged["file"])
        else:
            raise DataError(
                f"{path}: say what the model will see, values by input in an .npz, .npy or .json: --data FILE"
            )
        labels = find_data(judged["labels"]) if labels is None and judged.get("labels") else labels
        metric = metric or judged.get("metric")
        techniques = _techniques(loaded)
        benchmark = loaded.benchmark
        shape, dim = {**(benchmark.shape or {}), **(shapes or {})}, {**(benchmark.dim or {}), **(dims or {})}
        said = {"shape": {name: tuple(sizes) for name, sizes in shape.items()} or None, "dim": dim or None}
        changed: dict[str, Any] = {"benchmark": benchmark.model_copy(update=said)}
        if model is not None:  # several files by one recipe have names of their own
            changed["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{path.stem}-{loaded.name}").lstrip("._-")[:100]
            changed["model"] = read_model({"onnx": str(path)})
            changed["task"] = None
        files = [value for value in (data, labels) if value is not None]
        if all(isinstance(value, str | Path) for value in files):  # so the recipe that is kept can be run again
            task = {"data": str(data), "labels": None if labels is None else str(labels), "metric": metric}
            changed["task"] = read_task(task)
        wanted = wanted_of(shape, dim, data)
        return cls(path, loaded.model_copy(update=changed), techniques, wanted, labels, metric)

    def source(self, status: Status) -> Source:
        """The file and its data. Raises as `Source.read`."""
        status("reading the model", 0, 0)
        benchmark, asked = self.recipe.benchmark, zip(self.techniques, self.recipe.passes, strict=True)
        own = find_data(benchmark.inputs) if benchmark.inputs is not None else None
        return Source.read(
            self.path, self.wanted, self.labels, calibrate=max(t.samples(step.config) for t, step in asked),
            timed=None if own is None else wanted_of(self.wanted.shapes, self.wanted.dims, own),
            batch=benchmark.batch, seed=self.recipe.seed, status=status,
        )  # fmt: skip


def _arguments(block: Block, given: Named | None) -> dict[str, Any]:
    """The arguments of a recipe's block, where it is about an ONNX file."""
    return given.args if given is not None and is_file(block, given) else {}


def find_data(name: str) -> Path:
    """A file as it is named, or below $LEANFIT_DATA where it is only there."""
    given = Path(name).expanduser()
    beside = data_folder() / given
    return beside if not given.exists() and beside.exists() else given


def _techniques(recipe: Recipe) -> list[GraphPass]:
    """The passes of a recipe as they work on graphs. Raises RecipeError for what needs a network."""
    if recipe.train is not None:
        raise RecipeError("train: an ONNX file cannot be trained; bring the network in torch: leanfit.compress(...).")
    found = []
    for number, step in enumerate(recipe.passes):
        technique = get_pass(step.kind)
        if technique.on_graph is None:
            raise RecipeError(
                f"passes.{number}: {step.kind} needs the network in torch, and an ONNX file was given. Leave it out, "
                "or compress the network: leanfit.compress(model, recipe, task=task)."
            )
        found.append(technique.on_graph)
    if len(found) > 1 and all(get_pass(step.kind).traits.writes_graph for step in recipe.passes[:2]):
        raise RecipeError("passes.1: what comes before it wrote integers into the graph: it has to be the only pass.")
    return found
