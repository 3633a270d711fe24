"""How long a study will take before anything of it has run: a few steps of training its smallest and largest model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from compress.core.forward import run_model
from compress.core.progress import Status, silent
from compress.graph.sizes import count_macs
from compress.pipeline.run import device_for, prepare
from compress.study.forecast import Estimate
from compress.study.spec import TrialRecipe
from compress.study.trial import FINISHED, Trial
from compress.tasks import Task
from compress.tasks.losses import task_loss

SECONDS = 1.0  # of steps, for each of the two models
USUAL_BATCH = 128


def seconds_of_training(
    trials: Sequence[Trial], left: Sequence[Trial], device: str = "auto", status: Status = silent
) -> float | None:
    """About how many seconds one worker would train for the trials that are left; export and tests come on top.

    Steps of the smallest and of the largest model that is trained as the recipe says, forward and back without
    augmentation, tell seconds a multiply-add and a sample. None where no trial trains.
    Raises a subclass of LeanfitError where the data, or a model, cannot be had.
    """
    every = [trial for trial in trials if sum(trial.epochs)]
    whole = [trial for trial in every if trial.samples is None] or every  # of all the data
    if not every:
        return None
    trained = sorted(whole, key=lambda trial: trial.params)
    task, records = None, {}
    for trial in (trained[0], trained[-1]):
        status(f"timing a few steps of training: {trial.label}", 0, 0)
        recipe = TrialRecipe.model_validate(trial.recipe)
        network, task = prepare(recipe, None, task, status)
        size = recipe.train.batch_size if recipe.train is not None else USUAL_BATCH
        records[trial.id] = _record(trial, network, task, size, device_for(device))
    estimate = Estimate(trials, records)
    estimate.made = set()  # a few steps make no stage
    return estimate.remaining(left)


def _record(trial: Trial, network: nn.Module, task: Task, size: int, device: str) -> dict[str, object]:
    """What the Record of this trial would say of its time, by a second of its steps of `size` samples."""
    macs = count_macs(network, task.example())
    model, seen, began = network.train().to(device), 0, 0.0
    while seen == 0 or time.perf_counter() - began < SECONDS:
        for inputs, targets in task.train.batches(size, device=device):
            task_loss(task.loss, run_model(model, inputs), targets).backward()  # type: ignore[no-untyped-call]
            if next(model.parameters()).is_cuda:
                torch.cuda.synchronize()
            if not began:  # the first step also makes ready
                began = time.perf_counter()
                continue
            seen += len(targets)
            if time.perf_counter() - began >= SECONDS:
                break
    pace = (time.perf_counter() - began) / seen
    samples = min(trial.samples or len(task.train), len(task.train))
    sizes = {"params": trial.params, "macs": macs}
    seconds = pace * samples * sum(trial.epochs)
    return {
        "status": FINISHED, "baseline": None, "sizes": sizes, "train_samples": len(task.train), "seconds": seconds,
    }  # fmt: skip
