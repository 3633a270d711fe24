"""compress_onnx(): one recipe, from an ONNX file to a measured artifact, without torch.

file -> calls -> those to calibrate on, those to judge on -> passes on the graph -> outputs of both files -> latency ->
Record. What needs a network, or training, goes through the door in torch (`compress.pipeline.run`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compress import __version__
from compress.core.errors import PassError
from compress.core.files import clear_parts, hash_of, write_arrays, write_bytes, writing
from compress.core.progress import Status, silent
from compress.core.registries import PASSES
from compress.graph.onnx_graph import file_sizes, load_graph, prepared, serialise
from compress.passes.base import GraphContext, GraphPass, Loss, Trials
from compress.pipeline.artifact import Artifact
from compress.pipeline.choices import chosen_by, fits, loss_of, told_of, with_choices
from compress.pipeline.manifest import read_manifest, write_file_artifact
from compress.pipeline.onnx_job import Job
from compress.pipeline.onnx_source import FileTask, Source, judged_outputs, outputs_of
from compress.pipeline.predicted import Plan, Step
from compress.pipeline.progress_bar import Progress
from compress.pipeline.record import Measured, Samples, make_record
from compress.pipeline.run_folder import hashes_of, is_written, keep_record, require_own, time_files, times_in
from compress.pipeline.stages import Stages, locked
from compress.recipe.named_blocks import PassStep
from compress.recipe.schema import Recipe
from evaluate.benchmark.first_call import bound_in_turn
from evaluate.benchmark.latency import Opener
from evaluate.core.components import source_of_module
from evaluate.core.errors import LeanfitError
from evaluate.core.journal import JOURNAL, Journal
from evaluate.hardware.environment import machine_id, onnxruntime_distributions
from evaluate.metrics.base import get_metric, score
from evaluate.runtime.session import Session, open_session, require_provider


def compress_onnx(
    model: str | Path | None = None,
    recipe: Recipe | str | Path | Mapping[str, Any] = "int8",
    *,
    data: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    labels: str | Path | NDArray[Any] | None = None,
    metric: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    status: Status | None = None,
) -> Artifact:
    """Compress an ONNX file by a recipe, and measure the file as it came and the result. Imports no torch.

    model  : an ONNX file in fp32, whatever made it; it is only read. None where the recipe names one.
    recipe : as of `compress`; its passes have to work on graphs, as `quantize` does.
    data   : values by input, as the model will see them: rows of a batch, a stack of calls, or a list of calls; or a
             file of them (.npz, .npy, .json). Half of them at most are calibrated on, the others are judged on. None
             where the recipe names a file.
    labels : (n,) class ids or (n, ...) floats, one for each sample of `data`, or an .npy file of them. Without, results
             are judged by the outputs of the file as it came: `agreement` of the largest output, or `rel_error`.
    metric : of the labels; accuracy for class ids, mse for floats, unless said.
    shapes, dims : of inputs that `data` does not give, as of `evaluate.compare`.
    out    : the folder of the run; default runs/<name of the file>-<recipe>. A run that was cut off goes on.

    Raises RecipeError for a pass that needs a network, DataError for data that do not fit, ModelError for a file that
    does not run, PassError for one that a pass cannot work on; with nothing half-written.
    """
    if status is None:
        with Progress(quiet=not progress) as shown:
            return compress_onnx(
                model, recipe, data=data, labels=labels, metric=metric, shapes=shapes, dims=dims, out=out, status=shown
            )
    job = Job.of(model, recipe, data, labels, metric, shapes, dims)
    require_provider(job.recipe.benchmark.provider)
    folder = Path(out) if out is not None else Path("runs") / job.recipe.name
    with writing(folder):
        require_own(folder)
    source = job.source(status)
    with writing(folder), locked(folder):
        clear_parts(folder, folder / "baseline")
        return _Run(folder, job.recipe, job.techniques, source, job.metric, status).finish()


def plan_onnx(
    model: str | Path | None = None,
    recipe: Recipe | str | Path | Mapping[str, Any] = "int8",
    *,
    data: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    labels: str | Path | NDArray[Any] | None = None,
    metric: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    status: Status = silent,
) -> Plan:
    """Predict the layers that each pass touches in an ONNX file and its size after it, from one call of it.

    Arguments and errors as of `compress_onnx`.
    """
    job = Job.of(model, recipe, data, labels, metric, shapes, dims)
    source = job.source(status)
    sizes = file_sizes(source.graph, source.data, source.judged.feeds[0], source.judged.each)
    params, macs = int(sizes["params"]), int(sizes["macs"])
    steps, bits = [Step("baseline", (), params, macs, round(params * sizes["bits"] / 8))], float(sizes["bits"])
    for step, technique in zip(job.recipe.passes, job.techniques, strict=True):
        found = technique.preview(prepared(source.graph), step.config)
        bits = min(bits, found.bits)
        steps.append(Step(step.kind, found.layers, params, macs, round(params * bits / 8), found.notes))
    return Plan(job.recipe.name, tuple(steps))


@dataclass(frozen=True)
class _Net:
    """A graph at one point of the way, the bytes of its file, the key of its stage and what that stored."""

    graph: onnx.ModelProto
    file: bytes
    key: str
    stored: dict[str, Any]


class _Run:
    """One run in its folder."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        techniques: Sequence[GraphPass],
        source: Source,
        metric: str | None,
        status: Status,
    ) -> None:
        self.folder, self.recipe, self.techniques, self.source = folder, recipe, techniques, source
        self.metric, self.status, self.kept = metric, status, recipe
        self.stages = Stages(folder / "stages", Journal(folder / JOURNAL))

    def finish(self) -> Artifact:
        steps = [self.baseline()]
        uncompressed = self.outputs("baseline", steps[0], steps[0].key)
        doubts = self.accept(uncompressed)
        for number, (step, technique) in enumerate(zip(self.recipe.passes, self.techniques, strict=True)):
            steps.append(self.apply(number, step, technique, steps[-1]))
        before, after = steps[0], steps[-1]
        self.kept = with_choices(self.recipe, [step.stored for step in steps[1:]])
        self.write(self.folder / "baseline", before)
        self.write(self.folder, after)
        key = hash_of(before.key, after.key)
        compressed = self.outputs("compressed", after, key)
        samples, remarks = self.bench(before, after, key)
        metric, evaluation, judged = judged_outputs(
            self.source.path, self.source.judged, uncompressed, compressed, self.metric
        )
        task = FileTask(self.source.path.stem, metric, self.source, evaluation.targets)
        record = make_record(
            self.kept, task, [Measured(step.stored) for step in steps], evaluation, judged, samples,
            hashes_of(self.folder), self.folder, self.stages.seconds, [*self.source.remarks, *doubts, *remarks],
        )  # fmt: skip
        keep_record(self.folder, record, self.status)
        self.stages.tidy()
        return Artifact(self.folder, read_manifest(self.folder))

    def baseline(self) -> _Net:
        """The file as it came."""
        benchmark, source = self.recipe.benchmark, self.source
        key = hash_of(
            __version__, source_of_module("compress.pipeline.onnx_run"), source.fingerprint, list(source.remarks),
            hashlib.sha256(source.data).hexdigest(), machine_id(), onnxruntime_distributions(), benchmark.provider,
            benchmark.threads, self.metric,
        )  # fmt: skip
        _, stored = self.stages.run(
            "baseline", key, lambda folder, checkpoints: self.measured(source.graph, source.data)
        )
        return _Net(source.graph, source.data, key, stored)

    def accept(self, outputs: Mapping[str, NDArray[Any]]) -> list[str]:
        """Judge the file as it came before any pass is paid for, and say what makes its labels doubtful."""
        metric, found, _ = judged_outputs(self.source.path, self.source.judged, outputs, outputs, self.metric)
        asked = get_metric(metric)
        scored = score(found.baseline, found.targets, asked)
        unit = f" {asked.unit}" if asked.unit else ""
        self.status(f"baseline: {asked.label} {scored['value']:.4g}{unit} on {scored['n']:,} samples", 0, 0)
        if self.source.judged.labels is None or asked.labels is not True or found.targets.ndim != 1:
            return []
        constant = np.zeros_like(found.baseline)
        constant[:, np.bincount(found.targets.astype(np.int64)).argmax()] = 1.0
        same = score(constant, found.targets, asked)["value"]
        if scored["low"] > same if asked.higher_is_better else scored["high"] < same:
            return []
        return [
            f"The file's {asked.label} of {scored['value']:.4g}{unit} is no better than one and the same answer for "
            f"all samples, {same:.4g}{unit}: are labels in the order of the data, and inputs as it was trained on?"
        ]

    def apply(self, number: int, step: PassStep, technique: GraphPass, before: _Net) -> _Net:
        """One pass on the graph. Raises PassError where it changes nothing, or writes what does not run."""
        name = f"passes.{number} ({step.kind})"
        code = PASSES.get(step.kind).source
        key = hash_of(before.key, number, step.dump(), self.recipe.seed, chosen_by(self.recipe), code)

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            self.status(step.kind, 0, 1)
            context = GraphContext(self.source.calibration.first, self.status, self.trials(before))
            found = technique.apply(prepared(before.graph), step.config, context)
            kept = found.choice is not None and found.choice.kept
            if not found.changes and not kept:
                raise PassError(
                    f"{name} changed nothing in {self.source.path}: are its weights in fp32, outside of loops?"
                )
            graph, data = (before.graph, before.file) if kept else (found.graph, serialise(found.graph))
            try:
                told = self.measured(graph, data)
            except LeanfitError as error:
                raise PassError(f"{name} wrote a file that does not run: {error}") from error
            write_bytes(folder / "model.onnx", data)
            return {
                **told, "kind": step.kind, "config": step.dump(), "changes": [vars(c) for c in found.changes],
                "warnings": list(found.warnings), "details": dict(found.details), **told_of(found.choice),
            }  # fmt: skip

        folder, stored = self.stages.run(re.sub(r"[^\w-]", "-", f"{number}-{step.kind}"), key, work)
        data = (folder / "model.onnx").read_bytes()
        return _Net(load_graph(data), data, key, stored)

    def trials(self, before: _Net) -> Trials:
        """How a pass may choose by measurement: what is lost is seen on the calls that are calibrated on."""
        benchmark, source = self.recipe.benchmark, self.source
        calls, found = source.calibration, dict[str, NDArray[Any]]()

        def lost(data: bytes) -> Loss:
            outputs = outputs_of(self.session(data), calls, self.status, "quantize: validation")
            if not found:
                found.update(outputs_of(self.session(before.file), calls, self.status, "quantize: validation"))
            metric, judged, _ = judged_outputs(source.path, calls, found, outputs, self.metric)
            return loss_of(judged.baseline, judged.compressed, judged.targets, metric)

        goals, sizes = self.recipe.goals, before.stored["sizes"]
        return Trials(
            benchmark.provider, benchmark.threads, source.example, lost, goals.drop,
            lambda data: fits(goals, sizes, data), benchmark.seconds, "host" if source.unbound else "device",
            self.recipe.seed,
        )  # fmt: skip

    def measured(self, graph: onnx.ModelProto, data: bytes) -> dict[str, Any]:
        """The sizes of a file that runs; there is no network to compare it with, and no validation split."""
        judged = self.source.judged
        sizes = file_sizes(graph, data, judged.feeds[0], judged.each)
        return {"sizes": sizes, "parity": None, "validation": {"metric": None}}

    def write(self, folder: Path, net: _Net) -> None:
        """Write an artifact, unless this very one is there already, whole."""
        if is_written(folder, net.key, self.kept.hash):
            return
        claims = {
            "leanfit": __version__,
            "name": self.recipe.name,
            "recipe_hash": self.kept.hash,
            "stage": net.key,
            "quantized": any(node.op_type == "DequantizeLinear" for node in net.graph.graph.node),
            "sizes": net.stored["sizes"],
            "source": self.source.path.name,
            "outputs": [output.name for output in net.graph.graph.output],
        }
        write_file_artifact(
            folder, graph=net.file, inputs=self.source.inputs, recipe=self.kept.to_yaml(), claims=claims
        )

    def session(self, data: bytes) -> Session:
        """A file, opened as it is timed."""
        benchmark, io = self.recipe.benchmark, "host" if self.source.unbound else "device"
        return open_session(data, provider=benchmark.provider, threads=benchmark.threads, io=io)

    def outputs(self, side: str, net: _Net, key: str) -> dict[str, NDArray[Any]]:
        """The outputs of a file on the calls that it is judged on, by name."""

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            found = outputs_of(self.session(net.file), self.source.judged, self.status, f"evaluate: {side}")
            write_arrays(folder / "outputs.npz", {f"o{n}": values for n, values in enumerate(found.values())})
            return {"names": list(found)}

        folder, stored = self.stages.run(f"evaluate-{side}", hash_of(key, side), work)
        with np.load(folder / "outputs.npz", allow_pickle=False) as kept:
            return {name: kept[f"o{n}"] for n, name in enumerate(stored["names"])}

    def bench(self, before: _Net, after: _Net, key: str) -> tuple[Samples, list[str]]:
        """Latency of both files interleaved, on the first of the data."""
        config, example = self.recipe.benchmark, self.source.example

        def opener(net: _Net) -> Opener:
            return lambda: bound_in_turn(self.session(net.file), [example])

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            openers = {"baseline": opener(before), "compressed": opener(after)}
            return time_files(folder, openers, config, self.recipe.seed, self.status)

        shapes = {name: list(np.shape(v)) for name, v in example.items() if isinstance(v, np.ndarray)}
        return times_in(*self.stages.run("bench", hash_of(key, config.model_dump(mode="json"), shapes), work))
