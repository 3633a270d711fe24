"""One trial, from its recipe to its Record: what a worker does. Stages are shared by all trials of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.core.files import canonical_json, hash_of, write_arrays
from compress.core.progress import Status, silent
from compress.pipeline.chain import Chain, Net
from compress.pipeline.run import device_for, prepare
from compress.pipeline.stages import Stages
from compress.study.spec import TrialRecipe
from compress.study.trial import FINISHED, Trial, head
from compress.tasks import Task, get_task
from compress.tasks.losses import loss_of
from evaluate.core.journal import Journal
from evaluate.core.records import TrialRecord
from evaluate.hardware.environment import cpu_model, machine_id
from evaluate.metrics.base import drop, get_metric, score

STAGES = "stages"
STAGE_LINES = "stages.jsonl"


def run_trial(trial: Trial, out: Path, *, device: str = "cpu", status: Status = silent) -> dict[str, Any]:
    """Train, compress and judge one model; gives its Record, which the caller writes.

    out : the study's folder. Stages of other trials found in it are not made again.
    Raises a subclass of LeanfitError or LeanfitError.
    """
    recipe = TrialRecipe.model_validate(trial.recipe)
    task = _task(canonical_json(trial.recipe["task"]))
    network, _ = prepare(recipe, None, task, status)
    stages = Stages(out / STAGES, Journal(out / STAGE_LINES), shared=True)
    chain = Chain(recipe, network, task, device_for(device), stages, status)
    steps = chain.steps()
    compressed = chain.predict(steps[-1].file, "test") if len(steps) > 1 else None
    before = _baseline_outputs(chain, steps[0])
    return _record(trial, chain, steps, before, compressed)


@lru_cache(maxsize=2)
def _task(block: str) -> Task:
    """The task of a recipe; kept, since the trials of a study share it."""
    args: dict[str, Any] = json.loads(block)
    return get_task(args.pop("name"), **args)


def _baseline_outputs(chain: Chain, net: Net) -> NDArray[Any]:
    """Outputs of the uncompressed file on the test split; kept, since every level of this size and seed needs them."""

    def work(folder: Path, checkpoints: Path) -> dict[str, Any]:
        write_arrays(folder / "outputs.npz", {"outputs": chain.predict(net.file, "test")})
        return {}

    folder, _ = chain.stages.run("outputs", hash_of("outputs", net.key, chain.measured_on()), work)
    with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
        return np.asarray(stored["outputs"])


def _record(
    trial: Trial, chain: Chain, steps: Sequence[Net], before: NDArray[Any], compressed: NDArray[Any] | None
) -> dict[str, Any]:
    task = chain.task
    targets = task.test.all_targets().numpy()
    outputs = before if compressed is None else compressed
    accuracy = _short(score(outputs, targets, task.metric, task.classes))
    first, last = steps[0].stored["sizes"], steps[-1].stored["sizes"]
    baseline = None if compressed is None else {**first, "accuracy": score(before, targets, task.metric)["value"]}
    record = {
        **head(trial),
        "status": FINISHED,
        "reason": None,
        "task": {"name": task.name, "fingerprint": task.fingerprint()},
        "sizes": last,
        "baseline": baseline,
        "retained": {unit: round(last[unit] / first[unit], 6) for unit in ("params", "macs", "bytes")},
        "accuracy": accuracy,
        "error": round(1 - accuracy["value"] / 100, 9) if get_metric(task.metric).share else accuracy["value"],
        "loss": _loss(task, outputs, targets),
        "drop": None if compressed is None else drop(before, compressed, targets, task.metric),
        "train_samples": len(task.train),
        "train_macs": _train_macs(steps, len(task.train)),
        "seconds": round(chain.stages.seconds, 3),
        "stages": sorted(chain.stages.used),
        "environment": _environment(chain.device),
    }
    return dict(TrialRecord.of(record).raw)


def _short(accuracy: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in accuracy.items() if key not in ("per_class", "macro")}


def _loss(task: Task, outputs: NDArray[Any], targets: NDArray[Any]) -> float | None:
    """Mean loss of a test sample, from the exported file's outputs; None for a loss that no name stands for."""
    if not isinstance(task.loss, str):
        return None
    found = torch.from_numpy(np.asarray(outputs, dtype=np.float64)), torch.from_numpy(targets)
    return float(f"{float(loss_of(task.loss).target(*found)):.9g}")


def _train_macs(steps: Sequence[Net], samples: int) -> int:
    """Multiply-adds of all training: 3 forward passes (one forward, a backward of two) a sample and epoch.

    A pass that trains counts at the size it leaves behind; the teacher's forward passes are left out.
    """
    return sum(3 * net.stored["sizes"]["macs"] * samples * _epochs(net.stored) for net in steps)


def _epochs(stored: Mapping[str, Any]) -> int:
    """Epochs that a stage has trained, wherever it keeps its history."""
    history = stored.get("history") or stored.get("details", {}).get("history") or []
    return sum(len(entry["epochs"]) if "epochs" in entry else "learning_rate" in entry for entry in history)


def _environment(device: str) -> dict[str, Any]:
    import onnxruntime

    return {
        "machine": machine_id()[:16],
        "cpu": cpu_model(),
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
