"""pack(): runs and ONNX files into one edge bundle, with samples of their task and the outputs expected of them."""

from __future__ import annotations

import functools
import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compress import __version__
from compress.bundle.packable import BenchmarkBlock, PackedModel, is_onnx, models_of, named, open_run, shared_task
from compress.core.files import write_bytes, writing
from compress.core.progress import Status, silent
from compress.core.seeding import seeded
from compress.graph.onnx_graph import load_graph, opset_of
from compress.pipeline.onnx_source import FileTask
from compress.tasks import Task
from evaluate.benchmark.first_call import first_call
from evaluate.benchmark.model_inputs import Feeds, Wanted, calls_for, seeded_inputs, wanted_of, write_values
from evaluate.bundle.needs import oldest_runtime
from evaluate.bundle.zipapp import build_bundle, read_bundle
from evaluate.core.errors import ArtifactError, DataError, LeanfitError, MachineError, ModelError
from evaluate.core.text import size
from evaluate.hardware.environment import environment
from evaluate.metrics.base import metric_of, score
from evaluate.metrics.samples import Samples, outputs_on
from evaluate.runtime.session import Session, open_session

# What a graph that computes with integers holds.
INTEGERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"})


@dataclass(frozen=True)
class PackResult:
    """A bundle that was written.

    bytes, sha256 : of the file.
    models        : their names; the first is what the device compares with.
    samples       : how many there are.
    accuracy      : model name -> the metric on these samples, computed here; {} without samples.
    """

    path: Path
    bytes: int
    sha256: str
    models: tuple[str, ...]
    samples: int
    accuracy: Mapping[str, float]
    metric: str | None = None

    def table(self) -> str:
        """What was packed, as text for a terminal, and what to do with it."""
        width = max(len(name) for name in self.models)
        unit = f" {unit}" if (unit := metric_of(self.metric).unit) else ""
        judged = [
            f"model   {name:<{width}}  {self.metric} {self.accuracy[name]:.4g}{unit} of these samples here"
            if name in self.accuracy
            else f"model   {name}"
            for name in self.models
        ]
        samples = f"{self.samples} test samples" if self.samples else "no samples: random inputs, no accuracy"
        place = shlex.quote(self.path.name)
        return "\n".join((
            f"bundle  {self.path}: {size(self.bytes)}, {samples}",
            *judged,
            f"sha256  {self.sha256}",
            f"next    copy it to the device, which needs Python 3.9, numpy and onnxruntime, and run there:\n"
            f"        python3 {place} --out out.json",
        ))  # fmt: skip


def pack(
    runs: Sequence[str | Path],
    out: str | Path = "bench.pyz",
    *,
    samples: int = 200,
    baseline: bool = True,
    seed: int = 0,
    samples_from: str | Path | None = None,
    task: Task | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: str | Path | None = None,
    status: Status = silent,
) -> PackResult:
    """Write the bundle `out`; `python out` on a device compares the models in it. Equal content gives equal bytes.

    runs         : folders of runs (or artifacts), and .onnx files; all runs are of one task.
    samples      : how many test samples go along, each class by its share; 0 for none.
    baseline     : whether the baselines of the runs go along; equal ones are packed once.
    samples_from : a run whose task gives the samples, where only .onnx files are packed.
    task         : the task, where the runs were given theirs as an object in Python.
    shapes, dims : of inputs in one call, and of free dimensions by name, for the device to measure with.
    inputs       : a file of values of inputs (.npz, .npy, .json), which go along.
    Without a run and a task the device measures on random inputs, and no accuracy. Every model is run once here.

    Raises ArtifactError for what is no artifact, DataError for missing data or runs of different tasks, ModelError and
    EvaluateErrors for a model that does not run on the samples, MachineError where `out` cannot be written.
    """
    place, paths = Path(out), [Path(run) for run in runs]
    _check_arguments(place, paths, samples)
    status("reading the models", 0, 1)
    opened = [open_run(path) for path in paths if not is_onnx(path)]
    giver = [open_run(Path(samples_from))] if samples_from is not None else []
    block = (opened[0].recipe.benchmark if opened else None) or BenchmarkBlock()
    settings = {"threads": block.threads, "batch": block.batch}
    models = {
        name: _Opened(model, open_session(model.data, threads=settings["threads"]))
        for name, model in named(models_of(paths, opened, baseline=baseline)).items()
    }
    wanted = wanted_of(shapes, dims, inputs)
    judge = shared_task([*giver, *opened], task, status) if samples and not wanted.names() else None
    packed, accuracy = (None, {}) if judge is None else _judged(models, judge, samples, seed, status)
    if packed is None:
        wanted = replace(
            wanted, shapes={**(block.shape or {}), **wanted.shapes}, dims={**(block.dim or {}), **wanted.dims}
        )
        _run_once(models, settings["batch"], seed, wanted)
    facts = {**_facts(models, judge, packed, accuracy), "settings": settings}
    values, places = write_values(wanted.calls)
    if wanted.names():
        said = {name: list(shape) for name, shape in wanted.shapes.items()}
        facts["inputs"] = {"shapes": said, "dims": dict(wanted.dims), "places": places}
    stored = b"" if packed is None else packed.save()
    files = {name: opened.model.data for name, opened in models.items()}
    data = build_bundle(files, stored, facts, values if wanted.calls else b"")
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(place, data)
        place.chmod(0o755)
    sha256 = hashlib.sha256(data).hexdigest()
    count, metric = (0, None) if packed is None else (len(packed), packed.metric)
    return PackResult(place, len(data), sha256, tuple(models), count, accuracy, metric)


def samples_of(task: Task | FileTask, count: int, seed: int = 0) -> Samples:
    """`count` seeded samples of the task's test split, each class by its share; all where there are fewer."""
    if isinstance(task, FileTask):
        return task.samples(count, seed)
    with seeded(0):  # a loader that shuffles gives the order of its targets under this seed
        taken = task.test.take(count, seed).materialize()
    inputs = {name: tensor.numpy() for name, tensor in taken.inputs.items()}
    if task.heads:  # the device sees the first output, and its head's targets
        head = task.heads[0]
        return Samples(inputs, head.targets.of(taken.targets.numpy()), head.metric.name, head.classes)
    if not isinstance(task.metric, str):
        raise DataError(
            f"the metric {task.metric.label} of task {task.name!r} is an object of this program, which no bundle "
            "carries: name a registered one, or pack with --samples 0."
        )
    return Samples(inputs, taken.targets.numpy(), task.metric, tuple(task.classes))


@dataclass(frozen=True)
class _Opened:
    """A model to pack, and the session it is run in here."""

    model: PackedModel
    session: Session


def _check_arguments(out: Path, paths: Sequence[Path], samples: int) -> None:
    if not paths:
        raise ArtifactError("there is nothing to pack: name at least one folder of a run, or an .onnx file")
    if samples < 0:
        raise DataError(f"samples must be 0 or more, got {samples}")
    if out.is_dir():
        raise MachineError(f"{out} is a folder; a bundle is one file, as {out / 'bench.pyz'}")
    if out.exists() and not _is_bundle(out):
        raise MachineError(f"{out} is there and is no bundle; it was left alone: choose another name")


def _is_bundle(path: Path) -> bool:
    try:
        read_bundle(path)
    except ArtifactError:
        return False
    return True


def _judged(
    models: Mapping[str, _Opened], task: Task | FileTask, count: int, seed: int, status: Status
) -> tuple[Samples, dict[str, float]]:
    """Seeded samples of the test split, with what each model makes of them here, and the metric of that."""
    bare = samples_of(task, count, seed)
    expected, accuracy = {}, {}
    for done, (name, opened) in enumerate(models.items()):
        status(f"running {name} on {len(bare)} samples", done, len(models))
        try:
            expected[name] = outputs_on(opened.session, bare)
            if bare.targets is not None:
                accuracy[name] = score(expected[name], bare.targets, bare.metric, bare.classes)["value"]
        except LeanfitError as error:
            raise ModelError(
                f"{opened.model.path} does not run on the samples of task {task.name!r}: {error} Pack it alone, or "
                "with --samples 0: it is then measured on random inputs, without accuracy."
            ) from error
    return replace(bare, expected=expected), accuracy


def _run_once(models: Mapping[str, _Opened], batch: int, seed: int, wanted: Wanted) -> None:
    """Raise what a model fails with, here and not first on the device."""
    for opened in models.values():
        session = opened.session
        session.label = str(opened.model.path)
        feeds_of = functools.partial(_feeds, session, batch, seed, wanted)
        first_call(session, feeds_of, seeded_inputs(session, wanted))


def _feeds(session: Session, batch: int, seed: int, wanted: Wanted, zeros: bool) -> list[Feeds]:
    return calls_for(session, batch, seed, wanted, zeros=zeros)


def _facts(
    models: Mapping[str, _Opened], task: Task | FileTask | None, samples: Samples | None, accuracy: Mapping[str, float]
) -> dict[str, Any]:
    """What the manifest says beyond the files: nothing that changes from one packing to the next."""
    told = {name: _described(opened) for name, opened in models.items()}
    for name, value in accuracy.items():
        told[name]["accuracy"] = value
    return {
        "leanfit": __version__,
        "task": None if task is None else {"name": task.name, "fingerprint": task.fingerprint()},
        "metric": None if samples is None else samples.metric,
        "classes": [] if samples is None else list(samples.classes),
        "samples": 0 if samples is None else len(samples),
        "baseline": next(iter(models)),
        "needs": {"onnxruntime": _newest(oldest_runtime(m["ir_version"], m["opset"]) for m in told.values())},
        "source": _source(),
        "models": told,
    }


def _described(opened: _Opened) -> dict[str, Any]:
    graph = load_graph(opened.model.data)
    inputs = [{"name": p.name, "shape": list(p.shape), "dtype": p.dtype} for p in opened.session.inputs]
    quantized = any(node.op_type in INTEGERS for node in graph.graph.node)
    return {"ir_version": graph.ir_version, "opset": opset_of(graph), "inputs": inputs, "quantized": quantized}


def _newest(versions: Iterable[str]) -> str:
    return max(versions, key=lambda version: [int(part) for part in version.split(".")])


def _source() -> dict[str, Any]:
    """The machine that packed, as far as it decides what outputs are expected."""
    here = environment()
    cpu = here.get("cpu") or {}
    return {
        "machine_id": here.get("machine_id"),
        "cpu": cpu.get("name"),
        "isa": cpu.get("isa"),
        "int8_path": here.get("int8_path"),
        "os": here.get("os"),
        "versions": here.get("versions"),
    }
