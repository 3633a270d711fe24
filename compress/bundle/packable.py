"""What can be packed for a device: models of runs and artifacts, plain ONNX files, and the task that judges them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from compress.core.files import file_hash
from compress.core.progress import Status, silent
from compress.graph.onnx_graph import read_whole
from compress.pipeline.manifest import Manifest, read_manifest
from compress.pipeline.onnx_job import Job
from compress.pipeline.onnx_source import FileTask
from compress.recipe.load import load_recipe, read_text
from compress.recipe.named_blocks import is_file
from compress.recipe.yaml_text import read_yaml
from compress.tasks import Task, get_task
from evaluate.core.errors import ArtifactError, DataError
from evaluate.core.journal import find_records
from evaluate.runtime.session import open_session

ONNX, RECIPE = "model.onnx", "recipe.yaml"


class TaskBlock(BaseModel, extra="allow"):
    """The task that a run's recipe names, with its settings."""

    name: str


class BenchmarkBlock(BaseModel):
    """How the models are run in here, and on the device where nothing else is said."""

    threads: int = Field(default=1, ge=1, le=1024)
    batch: int = Field(default=1, ge=1, le=2**20)
    shape: dict[str, tuple[int, ...]] | None = None
    dim: dict[str, int] | None = None


class RunRecipe(BaseModel):
    """What is needed of a run's recipe; one of an older leanfit may hold keys that are no longer known."""

    task: TaskBlock | None = None
    benchmark: BenchmarkBlock | None = None


@dataclass(frozen=True)
class Run:
    """The folder of a run or an artifact."""

    path: Path
    manifest: Manifest
    recipe: RunRecipe


@dataclass(frozen=True)
class PackedModel:
    """A model to pack: the file it comes from, the name it would like, and its bytes."""

    path: Path
    name: str
    data: bytes


def is_onnx(path: Path) -> bool:
    """Whether a path means an ONNX file; anything else has to be the folder of a run."""
    return path.suffix == ".onnx" and not path.is_dir()


def open_run(path: Path) -> Run:
    """Raises ArtifactError for what is no artifact, or was changed since it was written."""
    manifest = read_manifest(path)
    for name in (ONNX, RECIPE):
        if not (path / name).is_file():
            raise ArtifactError(f"{path}: not a complete artifact: {name} is missing; compress again, or copy it anew")
        if file_hash(path / name) != manifest.hashes[name]:
            raise ArtifactError(f"{path / name}: changed or damaged since it was written; see `leanfit verify {path}`")
    shown = str(path / RECIPE)
    try:
        return Run(path, manifest, RunRecipe.model_validate(read_yaml(read_text(path / RECIPE, shown), shown).data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise ArtifactError(f"{shown} is damaged: {where:.200}: {first['msg']:.200}; copy the run anew") from error


def models_of(paths: Iterable[Path], runs: Iterable[Run], *, baseline: bool) -> list[PackedModel]:
    """The baselines of the runs (where asked for, equal ones once), then each path's model in the order given."""
    return [*(_baselines(runs) if baseline else ()), *map(_model, paths)]


def _baselines(runs: Iterable[Run]) -> Iterator[PackedModel]:
    seen: set[str] = set()
    for run in runs:
        file = run.path / "baseline" / ONNX
        if file.is_file() and (found := file_hash(file)) not in seen:
            yield PackedModel(file, f"{_name(run.path)}-baseline" if seen else "baseline", file.read_bytes())
            seen.add(found)


def _model(path: Path) -> PackedModel:
    if is_onnx(path):
        return PackedModel(path, path.stem, _whole_file(path))
    return PackedModel(path / ONNX, _name(path), (path / ONNX).read_bytes())


def _name(run: Path) -> str:
    place = run.resolve()
    return f"{place.parent.name}-baseline" if place.name == "baseline" else place.name


def _whole_file(path: Path) -> bytes:
    """An ONNX file, with the weights that lie in files beside it taken in. Raises ArtifactError for anything else."""
    open_session(path)
    return read_whole(path)[1]


def named(models: Iterable[PackedModel]) -> dict[str, PackedModel]:
    """The models by names of letters, digits, `.`, `_` and `-`, no two alike on any file system."""
    found: dict[str, PackedModel] = {}
    for model in models:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name).strip(".-") or "model"
        taken = {name.lower() for name in found}
        numbered = (plain if n == 1 else f"{plain}-{n}" for n in itertools.count(1))
        found[next(name for name in numbered if name.lower() not in taken)] = model
    return found


def shared_task(runs: Sequence[Run], given: Task | None = None, status: Status = silent) -> Task | FileTask | None:
    """The one task of these runs; `given`, or None, where there are none.

    given : the task, where it was brought to the runs as an object in Python.
    Raises DataError where the runs were judged on different tasks, where the data changed since, or is not there.
    """
    if not runs:
        return given
    task: Task | FileTask = given if given is not None else _load(runs[0], status)
    for run in runs:
        claimed = _claimed(run)
        if claimed is None and given is None and run.recipe.task != runs[0].recipe.task:
            claimed = _load(run, status).fingerprint()
        if claimed is not None and claimed != task.fingerprint():
            raise DataError(_difference(run, claimed, runs[0], task))
    return task


def _load(run: Run, status: Status) -> Task | FileTask:
    if run.recipe.task is None:
        raise DataError(
            f"{run.path}: its task was brought as an object in Python, so its samples are not known here. Call "
            f"pack([...], task=task), or pack {run.path / ONNX}: without samples, on random inputs."
        )
    if is_file("task", run.recipe.task.model_dump()):
        job = Job.of(None, load_recipe(run.path / RECIPE))
        return FileTask.judging(job.source(status), job.metric, status)
    settings = {key: value for key, value in (run.recipe.task.model_extra or {}).items() if key != "status"}
    return get_task(run.recipe.task.name, status=status, **settings)


def _claimed(run: Run) -> str | None:
    """The fingerprint of the task a run was judged on, by its Record; None where the folder holds none."""
    try:
        records = find_records(run.path)
    except ArtifactError:
        return None
    mine = run.manifest.hashes[ONNX]
    prints = [
        (record.get("task") or {}).get("fingerprint")
        for record in records
        if mine in ((record.get("hashes") or {}).get(key) for key in (ONNX, f"baseline/{ONNX}"))
    ]
    return str(prints[-1]) if prints and prints[-1] else None


def _difference(run: Run, claimed: str, first: Run, task: Task | FileTask) -> str:
    ours = f"{task.name} ({task.fingerprint()[:12]})"
    if run is first:
        return (
            f"{run.path}: it was judged on other data than task {ours} gives now (then {claimed[:12]}): its files "
            "changed, or LEANFIT_DATA names another folder. Put the data back, or compress again."
        )
    theirs = run.recipe.task.name if run.recipe.task else "one brought in Python"
    return (
        f"{first.path} and {run.path} were judged on different tasks, {ours} and {theirs} ({claimed[:12]}): a bundle "
        "carries the samples of one task. Pack them apart."
    )
