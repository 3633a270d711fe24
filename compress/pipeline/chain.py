"""The stages of one recipe: from a network to its exported files, each found again where it was paid for before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress import __version__
from compress.core.errors import PassError
from compress.core.files import file_hash, hash_of, write_bytes
from compress.core.forward import CLASSES_LAST, copy_model
from compress.core.progress import Status
from compress.core.registries import PASSES
from compress.core.seeding import derive_seed, seeded
from compress.core.sources import source_of, sources_named
from compress.core.traits import Traits
from compress.graph.export import Parity, check_parity, export_onnx, require_parity
from compress.graph.model_state import (
    Constraint,
    ModelState,
    network_from,
    read_constraints,
    read_rewrites,
    save_state,
)
from compress.graph.onnx_graph import load_graph, serialise
from compress.graph.sizes import measure_sizes
from compress.passes.base import Context, Loss, PassResult, Trials, get_pass
from compress.pipeline.choices import chosen_by, fits, loss_of, told_of
from compress.pipeline.stages import Stages, Work
from compress.recipe.named_blocks import PassStep
from compress.recipe.schema import Recipe
from compress.tasks import Task
from compress.training.evaluation import evaluate_split
from evaluate.hardware.environment import channel_block, machine_id, onnxruntime_distributions
from evaluate.metrics.base import score
from evaluate.metrics.samples import predict
from evaluate.runtime.session import open_session

EVALUATION_BATCH = 64
PARITY_SAMPLES = 32


@dataclass(frozen=True)
class Net:
    """The model at one point of the way, the bytes of its deployed file, and the stage they are kept in."""

    model: ModelState
    file: bytes
    key: str
    stored: dict[str, Any]


class Chain:
    """One recipe's baseline and passes, on a network and a task that fit one another (`pipeline.prepare`).

    device : where training runs, "cpu" or "cuda".
    stages : the store; several recipes may share one, and then also their first stages.
    alone  : whether the machine is this chain's alone, so that passes may choose by what they time.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        task: Task,
        device: str,
        stages: Stages,
        status: Status,
        *,
        alone: bool = False,
    ) -> None:
        self.recipe, self.network, self.task = recipe, network, task
        self.device, self.stages, self.status, self.alone = device, stages, status, alone

    def steps(self) -> list[Net]:
        """The baseline, then the model after each pass."""
        steps = [self.baseline()]
        self.accept(steps[0])
        for number, step in enumerate(self.recipe.passes):
            steps.append(self.apply(number, step, steps[-1], steps[0]))
        return steps

    def accept(self, baseline: Net) -> None:
        """Called before any pass is paid for; a run that minds raises."""

    def baseline(self) -> Net:
        """Train the baseline where the recipe says so; otherwise it is the network as it came."""
        config = self.recipe.train
        settings = config and config.model_dump(mode="json")
        blocks = [block and block.dump() for block in (self.recipe.model, self.recipe.task)]
        sources = sources_named(blocks, self.task.loss, self.task.metric, settings)
        key = hash_of(
            __version__, torch.__version__, self.task.fingerprint(), self.recipe.seed, self.recipe.export.opset,
            settings, self.device, str(self.network), source_of(self.network), sources,
            hashlib.sha256(save_state(self.network)).hexdigest(),
        )  # fmt: skip

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            module, history = copy_model(self.network), []
            if config is not None:
                context = self._context(checkpoints, self.network, "baseline")
                history = context.train(ModelState(module), config).history
            return self.save(folder, PassResult(ModelState(module.cpu().eval()))) | {"history": history}

        return self.load("baseline", key, work)

    def apply(self, number: int, step: PassStep, before: Net, original: Net) -> Net:
        """One pass. Raises PassError where it changes nothing, or gives less than it was given."""
        registered, config = get_pass(step.kind), step.dump()
        # Training elsewhere may go on from here; channel counts and integer types are chosen for this machine.
        measured = registered.traits.writes_graph or (self.alone and getattr(step.config, "measures", False))
        place = self.measured_on() if measured else channel_block()
        files = [file_hash(path) for path in getattr(step.config, "files", list)()]
        # Recipes load without the code of passes, so that this module's own imports do not lead to it.
        sources = sources_named(config, before.model.claims()) | {"pass": PASSES.get(step.kind).source}
        measures = self.alone and measured
        timed = chosen_by(self.recipe) if measures else []
        key = hash_of(before.key, number, config, self.recipe.seed, place, timed, files, sources)
        name = f"passes.{number} ({step.kind})"

        def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
            self.status(f"{step.kind}", 0, 1)
            check_may_follow(name, registered.traits, before.model)
            context = self._context(checkpoints, original.model.module, "pass", number)
            context = replace(context, trials=self.trials(original) if measures else None)
            result = registered.apply(before.model, step.config, context)
            choice = getattr(result, "choice", None)
            if choice is None or not choice.kept:
                check_nothing_lost(name, before.model, getattr(result, "model", result))
            return self.save(folder, result) | {"kind": step.kind, "config": config, **told_of(choice)}

        return self.load(re.sub(r"[^\w-]", "-", f"{number}-{step.kind}"), key, work)

    def trials(self, original: Net) -> Trials:
        """How a pass may choose by measurement: calls of the validation split, timed as the run's result will be."""
        benchmark, found = self.recipe.benchmark, dict[str, NDArray[Any]]()

        def lost(data: bytes) -> Loss:
            if not found:
                found["baseline"] = self.predict(original.file, "validation")
            outputs, targets = self.predict(data, "validation"), self.task.validation.all_targets().numpy()
            return loss_of(found["baseline"], outputs, targets, self.task.metric)

        feeds, goals = call_of(self.task.validation.first(benchmark.batch), benchmark.batch), self.recipe.goals
        sizes = original.stored["sizes"]
        return Trials(
            benchmark.provider, benchmark.threads, feeds, lost, goals.drop, lambda data: fits(goals, sizes, data),
            benchmark.seconds, seed=derive_seed(self.recipe.seed, "trials"),
        )  # fmt: skip

    def _context(self, folder: Path, original: nn.Module, *place: str | int) -> Context:
        return Context(
            self.task, derive_seed(self.recipe.seed, *place), original, folder, self.device,
            self.recipe.export.opset, self.status,
        )  # fmt: skip

    def save(self, folder: Path, result: PassResult) -> dict[str, Any]:
        """Write the network and its deployed graph into a stage's folder; give what a Record says of them."""
        example, model = self.task.example(PARITY_SAMPLES), result.model
        module = model.module.cpu().eval()
        graph = model.graph if model.graph is not None else export_onnx(module, example, opset=self.recipe.export.opset)
        data = serialise(graph)
        parity = check_parity(module, data, example)  # first: it says in words what cannot run
        write_bytes(folder / "weights.safetensors", save_state(module))
        write_bytes(folder / "model.onnx", data)
        return {
            **model.claims(),
            "quantized": model.graph is not None,
            "sizes": measure_sizes(module, example, graph, data),
            "parity": parity.as_dict(),
            "validation": {"metric": self.validate(model, data)},
            "changes": [vars(change) for change in result.changes],
            "warnings": list(result.warnings),
            "details": dict(result.details),
        }

    def load(self, name: str, key: str, work: Work) -> Net:
        """Run or find a stage, and read its model back: a resumed run and a fresh one go on from the same bytes.

        Raises ModelError where the exported file is not what torch computes. The stage is kept: the tolerance can be
        raised without training again. A graph that a pass wrote differs by design: its accuracy judges it.
        """
        folder, stored = self.stages.run(name, key, work)
        data, written = (folder / "model.onnx").read_bytes(), stored["quantized"]
        if not written:
            require_parity(Parity(**stored["parity"]), self.recipe.export.tolerance)
        rewrites = read_rewrites(stored["rewrites"])
        module = network_from(self.network, rewrites, folder / "weights.safetensors").eval()
        graph = load_graph(data) if written else None
        return Net(ModelState(module, graph, rewrites, read_constraints(stored["constraints"])), data, key, stored)

    def validate(self, model: ModelState, data: bytes) -> float:
        """The metric on the validation split: in torch while torch is the truth, in ONNX Runtime once it is not."""
        split = self.task.validation
        if model.graph is None:
            found = evaluate_split(model.module, split, self.task.loss, self.task.metric, device=self.device)
            return float(f"{found['metric']:.6g}")
        outputs = self.predict(data, "validation")
        return float(f"{score(outputs, split.all_targets().numpy(), self.task.metric)['value']:.6g}")

    def predict(self, graph: bytes, split: str) -> NDArray[Any]:
        """Outputs (n, ...) of the exported file on a split, in the order of its `all_targets()`, as of `run_model`.

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
            found = predict(session, batches(), max(1, len(self.task.heads)))
        return np.moveaxis(found, -1, 1) if getattr(self.network, CLASSES_LAST, False) else found

    def measured_on(self) -> str:
        """A hash of the machine, its runtime and how sessions are opened: what a file's outputs depend on."""
        benchmark = self.recipe.benchmark
        return hash_of(machine_id(), onnxruntime_distributions(), benchmark.provider, benchmark.threads)


def call_of(inputs: Mapping[str, Tensor], batch: int) -> dict[str, NDArray[Any]]:
    """The inputs of one call; samples begin anew where there are fewer."""
    return {name: np.resize(t.numpy(), (batch, *t.shape[1:])) for name, t in inputs.items()}


def check_may_follow(name: str, traits: Traits, model: ModelState) -> None:
    """Raise PassError where a pass, by what it says of itself, would undo what was done before it."""
    if model.graph is not None and not traits.writes_graph:
        raise PassError(
            f"{name} works on the torch network, and the graph that an earlier pass wrote would be lost: put the pass "
            "that writes the graph last"
        )
    if model.constraints and traits.trains and not traits.keeps_constraints:
        raise PassError(
            f"{name} trains and does not say that it keeps constraints: what an earlier pass promised "
            f"({_listed(model.constraints)}) would not stay true. Let it train by "
            "context.train, and register it with Traits(keeps_constraints=True)"
        )


def check_nothing_lost(name: str, before: ModelState, after: object) -> None:
    """Raise PassError where a pass changed nothing, or handed on less than it was given."""
    if not isinstance(after, ModelState):
        raise PassError(
            f"{name} gives {type(after).__name__}, not a ModelState: dataclasses.replace(model, module=...)"
        )
    lost = [c for c in before.constraints if c not in after.constraints]
    advice = "give dataclasses.replace(model, module=...) of the model that it was handed"
    if before.graph is not None and after.graph is None:
        raise PassError(f"{name} hands back no graph, and the one that an earlier pass wrote would be lost: {advice}")
    if after.rewrites[: len(before.rewrites)] != before.rewrites:
        raise PassError(f"{name} forgets rewrites, and the network could not be built again: {advice}")
    if lost:
        raise PassError(f"{name} forgets constraints ({_listed(lost)}): {advice}")
    if replace(after, module=before.module) == before and save_state(after.module) == save_state(before.module):
        raise PassError(f"{name} changed nothing; remove it, or ask more of it")
    broken = [reason for c in before.constraints if (reason := c.broken(before.module, after.module))]
    if broken:
        raise PassError(f"{name} breaks a constraint: {'; '.join(broken)}")


def _listed(constraints: Iterable[Constraint]) -> str:
    return ", ".join(dict.fromkeys(type(constraint).__name__ for constraint in constraints))
