"""compress(): one recipe, the whole way from a model to a measured artifact. docs/architecture.md lists the stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compress import __version__
from compress.core.errors import RecipeError
from compress.core.files import clear_parts, hash_of, write_arrays, writing
from compress.core.forward import call, copy_model, not_finite, run_model
from compress.core.progress import Status, silent
from compress.core.seeding import derive_seed
from compress.graph.onnx_graph import load_graph
from compress.graph.surgery import layer_widths
from compress.pipeline.artifact import Artifact
from compress.pipeline.chain import PARITY_SAMPLES, Chain, Net, call_of
from compress.pipeline.choices import with_choices
from compress.pipeline.given import given_model, given_task
from compress.pipeline.manifest import read_manifest, write_artifact
from compress.pipeline.onnx_run import compress_onnx
from compress.pipeline.progress_bar import Progress
from compress.pipeline.record import Deployed, Evaluation, JudgedOutput, Measured, Samples, make_record, own_sizes
from compress.pipeline.run_folder import hashes_of, is_written, keep_record, require_own, time_files, times_in
from compress.pipeline.sanity import Sanity, examine, require_sane
from compress.pipeline.stages import Stages, locked
from compress.recipe.load import load_recipe
from compress.recipe.named_blocks import is_file
from compress.recipe.schema import Recipe
from compress.tasks import Task
from compress.tasks.heads import HeadMetric
from compress.training.placement import check_device
from compress.training.settings import TrainConfig
from compress.training.train import check_training
from evaluate.benchmark.latency import Opener
from evaluate.core.errors import ModelError
from evaluate.core.journal import JOURNAL, Journal
from evaluate.core.text import a_few
from evaluate.metrics.base import get_metric
from evaluate.runtime.session import open_session, require_provider


def compress(
    model: nn.Module | str | None = None,
    recipe: Recipe | str | Path | Mapping[str, Any] = "half-int8",
    *,
    task: Task | str | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    progress: bool = True,
    status: Status | None = None,
) -> Artifact:
    """Compress a model by a recipe, and measure baseline and result on their exported files.

    model  : any torch.nn.Module; never changed. Or a name: a registered one, timm:NAME, torchvision:NAME, hf:FOLDER,
             module:name. None where the recipe names one.
    recipe : a Recipe, a path, the name of a shipped recipe, or a mapping.
    task   : data, loss and metric, or a name as for models; None where the recipe names one.
    weights: a file of trained weights for the model (safetensors, a state dict, an exported program).
    out    : the folder of the run; default runs/<recipe name>. A run that was cut off goes on where it stopped.
    device : where training runs: cpu, cuda, or auto (cuda where there is one). Figures are always of the exported file.
    force  : go on where the baseline is no better than a constant answer, or than the recipe's `expect` allows.
    progress : whether a bar (a terminal, a notebook) or a line now and then says on stderr how far the work is.
    status : what to call instead with (message, done, total) during long work.

    Raises a subclass of LeanfitError or LeanfitError, with nothing half-written.
    """
    if status is None:
        with Progress(quiet=not progress) as shown:
            return compress(
                model, recipe, task=task, weights=weights, out=out, device=device, force=force, status=shown
            )
    status("reading the recipe", 0, 0)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if model is None and is_file("model", recipe.model):
        return compress_onnx(None, recipe, out=out, status=status)
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    with writing(folder):
        require_own(folder)
    device = device_for(device)
    require_provider(recipe.benchmark.provider)  # before a training is paid for, not after
    network, task = prepare(recipe, model, task, status, weights)
    with writing(folder), locked(folder):
        clear_parts(folder, folder / "baseline")
        return _Run(folder, recipe, network, task, device, status, force).finish()


def prepare(
    recipe: Recipe,
    model: Any,
    task: Any,
    status: Status = silent,
    weights: str | Path | None = None,
    *,
    outlined: bool = False,
) -> tuple[nn.Module, Task]:
    """The network (a copy, eval mode, on the CPU) and the task of a run, checked against one another.

    outlined : made-up samples do, where a task says what its own are like.
    Raises RecipeError, ModelError or DataError.
    """
    task = task if task is not None else recipe.task
    if task is None:
        raise _not_given("task", "task=Task.from_tensors(...)")
    if model is None:
        if (model := recipe.model) is None:
            raise _not_given("model", "compress(model, recipe, task=task)")
        weights = weights if weights is not None else model.weights
    # The model first: its weights are read before any data.
    network = copy_model(given_model(model, weights, derive_seed(recipe.seed, "model"))).cpu().eval()
    task = given_task(task, status, outlined=outlined)
    task.adopt(network)
    check_model(network, task)
    recipe.check_layers(network)
    measured = get_metric(task.metric).label
    for name in recipe.expect or {}:
        if name != measured:
            raise RecipeError(f"expect: {name[:60]!r} is not measured; task {task.name!r} has {measured}.")
    for config in _trainings(recipe):
        check_training(config, task)
    return network, task


def _trainings(recipe: Recipe) -> list[TrainConfig]:
    """Every training that the recipe asks for: the baseline's, the passes', and those inside passes."""
    blocks = [recipe.train, *(part for step in recipe.passes for part in (step.config, *dict(step.config).values()))]
    return [block for block in blocks if isinstance(block, TrainConfig)]


def check_model(model: nn.Module, task: Task) -> None:
    """Raise ModelError unless the weights are finite and the outputs fit the task's targets.

    Weights are parameters: a buffer may hold infinity on purpose, as the mask of causal attention does.
    """
    bad = not_finite(model.named_parameters())
    if bad:
        raise ModelError(f"{type(model).__name__}: weights that are NaN or infinite: {a_few(bad)}. Train it again.")
    example = task.example(2)
    with torch.no_grad():
        for head in task.heads:
            got = call(model, example)[head.name]
            if got.reshape(len(got), -1).shape[1] != head.width:
                raise ModelError(
                    f"{type(model).__name__} gives {head.name} of shape {tuple(got.shape)}, and head {head.name!r} of "
                    f"task {task.name!r} has {head.width} {'classes' if head.classes else 'values a sample'}."
                )
        output = run_model(model, example)
    if output.isnan().any():
        raise ModelError(f"{type(model).__name__} gives NaN on the task's first samples: look at its buffers.")
    if (
        task.classes
        and not task.heads
        and output.shape[1:] != (wanted := (len(task.classes), *task.validation.all_targets().shape[1:]))
    ):
        raise ModelError(
            f"{type(model).__name__} gives outputs {tuple(output.shape)}, but task {task.name!r} has "
            f"{len(task.classes)} classes: expected (batch, {', '.join(map(str, wanted))})"
            + (", or the classes last" if len(wanted) > 1 else "")
            + ". Set the model's `classes`."
        )


class _Run(Chain):
    """One run in its folder: the chain of its recipe, what is written from it, and its measurements."""

    def __init__(
        self, folder: Path, recipe: Recipe, network: nn.Module, task: Task, device: str, status: Status, force: bool
    ) -> None:
        self.folder, self.journal, self.force = folder, Journal(folder / JOURNAL), force
        self.remarks: list[str] = []
        self.kept = recipe
        super().__init__(recipe, network, task, device, Stages(folder / "stages", self.journal), status, alone=True)

    def finish(self) -> Artifact:
        steps = self.steps()
        baseline, self.kept = steps[0], with_choices(self.recipe, [step.stored for step in steps[1:]])
        self.write(self.folder / "baseline", baseline)
        self.write(self.folder, steps[-1])
        evaluations = self.evaluate(baseline, steps[-1])
        samples = self.bench(baseline, steps[-1])
        self.report(steps, evaluations, samples)
        self.stages.tidy()
        return Artifact(self.folder, read_manifest(self.folder), self.network)

    def accept(self, baseline: Net) -> None:
        """Measure the baseline, say what it has, and go no further with one that is no good."""

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            return examine(baseline.model.module, self.task, self.recipe.seed).as_dict()

        _, stored = self.stages.run("sanity", hash_of("sanity", baseline.key), work)
        found = Sanity(**{key: stored[key] for key in Sanity.__dataclass_fields__})
        self.status(f"baseline: {found.told()}", 0, 0)
        self.remarks = require_sane(found, self.recipe.expect, self.recipe.train is not None, self.force)

    def write(self, folder: Path, net: Net) -> None:
        """Write an artifact, unless this very one is there already, whole."""
        if is_written(folder, net.key, self.kept.hash):
            return
        claims = {
            "leanfit": __version__,
            "name": self.recipe.name,
            "recipe_hash": self.kept.hash,
            "stage": net.key,
            "quantized": net.model.graph is not None,
            **net.model.claims(),
            "parity": net.stored["parity"],
            "sizes": net.stored["sizes"],
        }
        write_artifact(
            folder, model=net.model.module, graph=net.file, example=self.task.example(PARITY_SAMPLES),
            recipe=self.kept.to_yaml(), claims=claims,
        )  # fmt: skip

    def evaluate(self, baseline: Net, final: Net) -> Evaluation:
        """The outputs of both files on the test split, which is read here and nowhere else."""
        key = hash_of(baseline.key, final.key, self.measured_on())

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            outputs = {
                "baseline": self.predict(baseline.file, "test"),
                "compressed": self.predict(final.file, "test"),
            }
            write_arrays(folder / "outputs.npz", outputs)
            return {}

        folder, _ = self.stages.run("evaluate", key, work)
        with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
            return Evaluation(stored["baseline"], stored["compressed"], self.task.test.all_targets().numpy())

    def bench(self, baseline: Net, final: Net) -> Samples:
        """Latency of both files interleaved, on real inputs; what else the machine did meanwhile is remarked on."""
        config = self.recipe.benchmark
        settings = config.model_dump(mode="json")
        key = hash_of("sittings, loops, machine, opened once", baseline.key, final.key, settings, self.measured_on())

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            feeds = call_of(self.task.test.first(config.batch), config.batch)

            def opener(net: Net) -> Opener:
                return lambda: open_session(net.file, provider=config.provider, threads=config.threads).bind(
                    {name: array.copy() for name, array in feeds.items()}
                )

            openers = {"baseline": opener(baseline), "compressed": opener(final)}
            return time_files(folder, openers, config, self.recipe.seed, self.status)

        samples, said = times_in(*self.stages.run("bench", key, work))
        self.remarks += said
        return samples

    def report(self, steps: list[Net], evaluation: Evaluation, samples: Samples) -> None:
        """Append the Record, once, and write the page from it."""
        measured = [Measured(self._stored(step), layer_widths(step.model.module)) for step in steps]
        sides = evaluation.baseline, evaluation.compressed, evaluation.targets
        heads = [JudgedOutput(head.name, HeadMetric.of(head), head.classes, *sides) for head in self.task.heads]
        record = make_record(
            self.kept,
            self.task,
            measured,
            evaluation,
            heads,
            samples,
            hashes_of(self.folder),
            self.folder,
            self.stages.seconds,
            self.remarks,
        )
        keep_record(self.folder, record, self.status)

    def _stored(self, step: Net) -> dict[str, Any]:
        """What a stage stored, with its sizes in the user's own units: these are measured anew, by the code of now."""
        deployed = Deployed(step.model.module, self.task.example(1), load_graph(step.file), step.file)
        sizes = {**step.stored["sizes"], **own_sizes(self.recipe.goals, deployed)}
        return {**step.stored, "sizes": sizes}


def device_for(device: str) -> str:
    """ "cpu" or "cuda" for what was asked; "auto" takes CUDA where it is. Raises MachineError."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return device


def _not_given(what: str, example: str) -> ModelError:
    return ModelError(f"the recipe names no {what} and none was given: add a `{what}:` block, or call {example}")
