"""compress(): one recipe, the whole way from a model to a measured artifact. docs/architecture.md lists the stages."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress import __version__
from compress.artifact import Artifact, network_from, read_manifest, save_state, write_artifact
from compress.errors import ArtifactError, EnvironmentProblem, ModelError, PassError
from compress.export import Parity, check_parity, export_onnx, require_parity, serialise
from compress.files import clear_parts, file_hash, hash_of, write_arrays, write_bytes, writing
from compress.models import build_model, load_weights
from compress.passes.base import Context, PassResult, get_pass
from compress.reading.steps import PassStep
from compress.recipe import Recipe, load_recipe
from compress.record import Evaluation, Measured, Samples, make_record
from compress.seeding import derive_seed, seeded
from compress.sizes import measure_sizes
from compress.sources import source_of
from compress.stages import Stages, Work, locked
from compress.status import Status, silent
from compress.tasks import Task, get_task
from compress.train import evaluate_split, train
from compress.training.devices import check_device
from evaluate.accuracy import predict, score
from evaluate.environment import channel_block, machine_id, onnxruntime_distributions
from evaluate.latency import Opener, measure_latency
from evaluate.results import JOURNAL, Journal
from evaluate.session import open_session, require_provider
from evaluate.showing.page import write_page

__all__ = ["check_model", "compress", "prepare"]

EVALUATION_BATCH = 64
PARITY_SAMPLES = 32


def compress(
    model: nn.Module | None = None,
    recipe: Recipe | str | Path | Mapping[str, Any] = "half-int8",
    *,
    task: Task | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    status: Status = silent,
) -> Artifact:
    """Compress a model by a recipe, and measure baseline and result on their exported files.

    model  : any torch.nn.Module that returns one tensor; never changed. None where the recipe names one.
    recipe : a Recipe, a path, the name of a shipped recipe, or a mapping.
    task   : data, loss and metric; None where the recipe names one.
    out    : the folder of the run; default runs/<recipe name>. A run that was cut off goes on where it stopped.
    device : where training runs: cpu, cuda, or auto (cuda where there is one). Figures are always of the exported file.
    status : called with (message, done, total) during long work.

    Raises a subclass of LeanfitError or EvaluateError, with nothing half-written.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    with writing(folder):
        _check_folder(folder)
    device = _device(device)
    require_provider(recipe.benchmark.provider)  # before a training is paid for, not after
    network, task = prepare(recipe, model, task, status)
    with writing(folder), locked(folder):
        clear_parts(folder, folder / "baseline")
        return _Run(folder, recipe, network, task, device, status).finish()


def prepare(
    recipe: Recipe, model: nn.Module | None, task: Task | None, status: Status = silent
) -> tuple[nn.Module, Task]:
    """The network (a copy, eval mode, on the CPU) and the task of a run, checked against one another.

    Raises RecipeError, ModelError or DataError.
    """
    if task is None:
        if recipe.task is None:
            raise _not_given("task", "task=Task.from_tensors(...)")
        task = get_task(recipe.task.name, status=status, **recipe.task.args)
    if model is None:
        if recipe.model is None:
            raise _not_given("model", "compress(model, recipe, task=task)")
        with seeded(derive_seed(recipe.seed, "model")):
            model = build_model(recipe.model.name, **recipe.model.args)
        if recipe.model.weights is not None:
            load_weights(model, recipe.model.weights)
    network = copy.deepcopy(model).cpu().eval()
    check_model(network, task)
    recipe.check_layers(network)
    return network, task


def check_model(model: nn.Module, task: Task) -> None:
    """Raise ModelError unless the weights are finite and the outputs fit the task's targets."""
    state = model.state_dict()
    bad = [n for n, t in state.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        shown = ", ".join(bad[:5])
        raise ModelError(f"{type(model).__name__}: weights that are NaN or infinite: {shown}. Train it again.")
    example = task.example(2)
    shapes = {name: tuple(t.shape) for name, t in example.items()}
    try:
        with torch.no_grad():
            output = model(*example.values())
    except Exception as error:  # any code of the user's may run here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{type(model).__name__} cannot run on the task's inputs {shapes}: {reason}") from error
    if not isinstance(output, torch.Tensor) or output.ndim == 0 or len(output) != len(next(iter(example.values()))):
        got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ModelError(f"{type(model).__name__} must return one tensor (batch, ...); got {got}")
    if task.classes and (output.ndim != 2 or output.shape[1] != len(task.classes)):
        raise ModelError(
            f"{type(model).__name__} gives outputs {tuple(output.shape)}, but task {task.name!r} has "
            f"{len(task.classes)} classes: expected (batch, {len(task.classes)}). Set the model's `classes`."
        )


@dataclass(frozen=True)
class _Net:
    """The model at one point of the way: network, deployed graph, and the stage they are kept in."""

    module: nn.Module
    rewrites: list[dict[str, Any]]
    graph: bytes
    quantized: bool
    key: str
    stored: dict[str, Any]


class _Run:
    """One run in its folder. Every method is a stage, or a part of one, in the order of `finish`."""

    def __init__(
        self, folder: Path, recipe: Recipe, network: nn.Module, task: Task, device: str, status: Status
    ) -> None:
        self.folder, self.recipe, self.network, self.task = folder, recipe, network, task
        self.device, self.status = device, status
        self.journal = Journal(folder / JOURNAL)
        self.stages = Stages(folder / "stages", self.journal)

    def finish(self) -> Artifact:
        baseline = self.baseline()
        steps = [baseline]
        for number, step in enumerate(self.recipe.passes):
            steps.append(self.apply(number, step, steps[-1], baseline.module))
        self.write(self.folder / "baseline", baseline)
        self.write(self.folder, steps[-1])
        evaluations = self.evaluate(baseline, steps[-1])
        samples = self.bench(baseline, steps[-1])
        self.report(steps, evaluations, samples)
        self.stages.tidy()
        return Artifact(self.folder, Artifact.load(self.folder).manifest, self.network)

    def baseline(self) -> _Net:
        """Train the baseline where the recipe says so; otherwise it is the network as it came."""
        config = self.recipe.train
        key = hash_of(
            __version__, torch.__version__, self.task.fingerprint(), self.recipe.seed, self.recipe.export.opset,
            config and config.model_dump(mode="json"), self.device, str(self.network), source_of(self.network),
            hashlib.sha256(save_state(self.network)).hexdigest(),
        )  # fmt: skip

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            module, history = copy.deepcopy(self.network), []
            if config is not None:
                seed = derive_seed(self.recipe.seed, "baseline")
                result = train(
                    module, self.task, config, seed=seed, device=self.device, folder=checkpoints, status=self.status
                )
                module, history = result.module, result.history
            return self.save(folder, PassResult(module.cpu().eval()), []) | {"history": history}

        return self.load("baseline", key, work)

    def apply(self, number: int, step: PassStep, before: _Net, original: nn.Module) -> _Net:
        """One pass. Raises PassError where it changes nothing, or would undo a finished graph."""
        config = step.dump()
        # Training elsewhere may go on from here; channel counts and integer types are chosen for this machine.
        place = self.measured_on() if step.kind == "quantize" else channel_block()
        files = [file_hash(path) for path in getattr(step.config, "files", list)()]
        key = hash_of(before.key, number, config, self.recipe.seed, place, files)

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            self.status(f"{step.kind}", 0, 1)
            context = Context(
                task=self.task,
                seed=derive_seed(self.recipe.seed, "pass", number),
                original=original,
                folder=checkpoints,
                device=self.device,
                opset=self.recipe.export.opset,
                status=self.status,
            )
            result = get_pass(step.kind).apply(before.module, step.config, context)
            if result.graph is None and save_state(result.module) == save_state(before.module):
                raise PassError(f"passes.{number} ({step.kind}) changed nothing; remove it, or ask more of it")
            rewrites = before.rewrites + list(result.details.get("rewrites", []))
            return self.save(folder, result, rewrites) | {"kind": step.kind, "config": config}

        return self.load(f"{number}-{step.kind}", key, work)

    def save(self, folder: Path, result: PassResult, rewrites: list[dict[str, Any]]) -> dict[str, Any]:
        """Write the network and its deployed graph into a stage's folder; give what a Record says of them."""
        example = self.task.example(PARITY_SAMPLES)
        module = result.module.cpu().eval()
        quantized = result.graph is not None
        graph = (
            result.graph if result.graph is not None else export_onnx(module, example, opset=self.recipe.export.opset)
        )
        data = serialise(graph)
        parity = check_parity(module, data, example)
        write_bytes(folder / "weights.safetensors", save_state(module))
        write_bytes(folder / "model.onnx", data)
        return {
            "rewrites": rewrites,
            "quantized": quantized,
            "sizes": measure_sizes(module, example, graph, data),
            "parity": parity.as_dict(),
            "validation": {"metric": self.validate(module, data, quantized)},
            "changes": [vars(change) for change in result.changes],
            "warnings": list(result.warnings),
            "details": {k: v for k, v in result.details.items() if k != "rewrites"},
        }

    def load(self, name: str, key: str, work: Work) -> _Net:
        """Run or find a stage, and read its network back: a resumed run and a fresh one go on from the same bytes.

        Raises ModelError where the exported file is not what torch computes. The stage is kept: the tolerance can be
        raised without training again. A quantized graph differs by design: its accuracy judges it.
        """
        folder, stored = self.stages.run(name, key, work)
        if not stored["quantized"]:
            require_parity(Parity(**stored["parity"]), self.recipe.export.tolerance)
        module = network_from(self.network, stored["rewrites"], folder / "weights.safetensors").eval()
        graph = (folder / "model.onnx").read_bytes()
        return _Net(module, stored["rewrites"], graph, stored["quantized"], key, stored)

    def validate(self, module: nn.Module, data: bytes, quantized: bool) -> float:
        """The metric on the validation split: in torch while torch is the truth, in ONNX Runtime once it is not."""
        split = self.task.validation
        if not quantized:
            found = evaluate_split(module, split, self.task.loss, self.task.metric, device=self.device)
            return float(f"{found['metric']:.6g}")
        outputs = self.predict(data, "validation")
        return float(f"{score(outputs, split.all_targets().numpy(), self.task.metric)['value']:.6g}")

    def write(self, folder: Path, net: _Net) -> None:
        """Write an artifact, unless this very one is there already, whole."""
        if _is_written(folder, net.key, self.recipe.hash):
            return
        claims = {
            "leanfit": __version__,
            "name": self.recipe.name,
            "recipe_hash": self.recipe.hash,
            "stage": net.key,
            "quantized": net.quantized,
            "rewrites": net.rewrites,
            "parity": net.stored["parity"],
            "sizes": net.stored["sizes"],
        }
        write_artifact(
            folder, model=net.module, graph=net.graph, example=self.task.example(PARITY_SAMPLES),
            recipe=self.recipe.to_yaml(), claims=claims,
        )  # fmt: skip

    def predict(self, graph: bytes, split: str) -> NDArray[Any]:
        """Outputs (n, ...) of the exported file on a split, in the order of its `all_targets()`.

        Computed with the session options that are timed.
        """
        benchmark = self.recipe.benchmark
        session = open_session(graph, provider=benchmark.provider, threads=benchmark.threads)
        data = self.task.splits()[split]
        done = 0

        def batches() -> Any:
            nonlocal done
            for inputs, _ in data.batches(EVALUATION_BATCH):
                self.status(f"evaluate: {split}", done, len(data))
                yield {name: tensor.numpy() for name, tensor in inputs.items()}
                done += len(next(iter(inputs.values())))

        with seeded(0):  # a loader that shuffles gives the order of its targets under this seed
            return predict(session, batches())

    def measured_on(self) -> str:
        """A hash of the machine, its runtime and how sessions are opened: what a file's outputs depend on."""
        benchmark = self.recipe.benchmark
        return hash_of(machine_id(), onnxruntime_distributions(), benchmark.provider, benchmark.threads)

    def evaluate(self, baseline: _Net, final: _Net) -> Evaluation:
        """The outputs of both files on the test split, which is read here and nowhere else."""
        key = hash_of(baseline.key, final.key, self.measured_on())

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            outputs = {
                "baseline": self.predict(baseline.graph, "test"),
                "compressed": self.predict(final.graph, "test"),
            }
            write_arrays(folder / "outputs.npz", outputs)
            return {}

        folder, _ = self.stages.run("evaluate", key, work)
        with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
            return Evaluation(stored["baseline"], stored["compressed"], self.task.test.all_targets().numpy())

    def bench(self, baseline: _Net, final: _Net) -> Samples:
        """Latency of both files interleaved, on real inputs."""
        config = self.recipe.benchmark
        key = hash_of("sittings, loops", baseline.key, final.key, config.model_dump(mode="json"), self.measured_on())

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            inputs = self.task.test.first(config.batch)
            feeds = {name: np.resize(t.numpy(), (config.batch, *t.shape[1:])) for name, t in inputs.items()}

            def opener(net: _Net) -> Opener:
                return lambda: open_session(net.graph, provider=config.provider, threads=config.threads).bind(
                    {name: array.copy() for name, array in feeds.items()}
                )

            legs = {"baseline": opener(baseline), "again": opener(baseline), "compressed": opener(final)}
            timing = measure_latency(legs, seconds=config.seconds, seed=self.recipe.seed, status=self.status)
            write_arrays(folder / "samples.npz", timing.samples)
            return {"loops": timing.legs["baseline"].loops}

        folder, told = self.stages.run("bench", key, work)
        with np.load(folder / "samples.npz", allow_pickle=False) as stored:
            return Samples(stored["baseline"], stored["again"], stored["compressed"], told["loops"])

    def report(self, steps: list[_Net], evaluation: Evaluation, samples: Samples) -> None:
        """Append the Record, once, and write the page from it."""
        hashes = {
            name: file_hash(self.folder / name) for name in ("model.onnx", "weights.safetensors", "baseline/model.onnx")
        }
        measured = [Measured(step.module, step.stored) for step in steps]
        record = make_record(
            self.recipe, self.task, measured, evaluation, samples, hashes, self.folder, self.stages.seconds
        )
        known = [r for r in self.journal.read() if r.get("kind") == "compress" and r["id"] == record["id"]]
        if not known:
            self.journal.append(record)
        write_page([*known, record][:1], self.folder / "report.html")


def _is_written(folder: Path, stage: str, recipe_hash: str) -> bool:
    try:
        manifest = read_manifest(folder)
    except ArtifactError:
        return False
    hashes = manifest["hashes"]
    return (
        (manifest["stage"], manifest["recipe_hash"]) == (stage, recipe_hash)
        and all((folder / name).is_file() for name in hashes)
        and all(file_hash(folder / name) == claimed for name, claimed in hashes.items())
    )


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return device


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise EnvironmentProblem(f"{folder} is a file; --out must name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder):
        raise EnvironmentProblem(
            f"{folder} holds other files and no leanfit run; give an empty or new folder with --out, "
            "so that nothing is lost"
        )


def _is_ours(folder: Path) -> bool:
    """Whether a run or an artifact is here: names such as stages/ and manifest.json are used by others too."""
    if (folder / ".lock").exists():
        return True
    try:
        return bool(read_manifest(folder))
    except ArtifactError:
        return False


def _not_given(what: str, example: str) -> ModelError:
    return ModelError(f"the recipe names no {what} and none was given: add a `{what}:` block, or call {example}")
