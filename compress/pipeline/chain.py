"""The stages of one recipe: from a network to its exported files, each found again where it was paid for before."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from compress import __version__
from compress.core.errors import PassError
from compress.core.files import file_hash, hash_of, write_bytes
from compress.core.progress import Status
from compress.core.seeding import derive_seed, seeded
from compress.core.sources import source_of
from compress.graph.export import Parity, check_parity, export_onnx, require_parity, serialise
from compress.graph.sizes import measure_sizes
from compress.passes.base import Context, PassResult, get_pass
from compress.pipeline.artifact import network_from, save_state
from compress.pipeline.stages import Stages, Work
from compress.recipe.pass_list import PassStep
from compress.recipe.schema import Recipe
from compress.tasks import Task
from compress.training.evaluation import evaluate_split
from compress.training.train import train
from evaluate.hardware.environment import channel_block, machine_id, onnxruntime_distributions
from evaluate.metrics.base import score
from evaluate.metrics.outputs import predict
from evaluate.runtime.session import open_session

EVALUATION_BATCH = 64
PARITY_SAMPLES = 32


@dataclass(frozen=True)
class Net:
    """The model at one point of the way: network, deployed graph, and the stage they are kept in."""

    module: nn.Module
    rewrites: list[dict[str, Any]]
    graph: bytes
    quantized: bool
    key: str
    stored: dict[str, Any]


class Chain:
    """One recipe's baseline and passes, on a network and a task that fit one another (`pipeline.prepare`).

    device : where training runs, "cpu" or "cuda".
    stages : the store; several recipes may share one, and then also their first stages.
    """

    def __init__(
        self, recipe: Recipe, network: nn.Module, task: Task, device: str, stages: Stages, status: Status
    ) -> None:
        self.recipe, self.network, self.task = recipe, network, task
        self.device, self.stages, self.status = device, stages, status

    def steps(self) -> list[Net]:
        """The baseline, then the network after each pass."""
        steps = [self.baseline()]
        for number, step in enumerate(self.recipe.passes):
            steps.append(self.apply(number, step, steps[-1], steps[0].module))
        return steps

    def baseline(self) -> Net:
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

    def apply(self, number: int, step: PassStep, before: Net, original: nn.Module) -> Net:
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

    def load(self, name: str, key: str, work: Work) -> Net:
        """Run or find a stage, and read its network back: a resumed run and a fresh one go on from the same bytes.

        Raises ModelError where the exported file is not what torch computes. The stage is kept: the tolerance can be
        raised without training again. A quantized graph differs by design: its accuracy judges it.
        """
        folder, stored = self.stages.run(name, key, work)
        if not stored["quantized"]:
            require_parity(Parity(**stored["parity"]), self.recipe.export.tolerance)
        module = network_from(self.network, stored["rewrites"], folder / "weights.safetensors").eval()
        graph = (folder / "model.onnx").read_bytes()
        return Net(module, stored["rewrites"], graph, stored["quantized"], key, stored)

    def validate(self, module: nn.Module, data: bytes, quantized: bool) -> float:
        """The metric on the validation split: in torch while torch is the truth, in ONNX Runtime once it is not."""
        split = self.task.validation
        if not quantized:
            found = evaluate_split(module, split, self.task.loss, self.task.metric, device=self.device)
            return float(f"{found['metric']:.6g}")
        outputs = self.predict(data, "validation")
        return float(f"{score(outputs, split.all_targets().numpy(), self.task.metric)['value']:.6g}")

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
