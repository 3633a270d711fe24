"""Batch-norm statistics estimated anew: alone they bring back much of what a cut costs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.core.forward import run_model
from compress.tasks.task import Task

BATCH = 128


def reestimate_batch_norm(model: nn.Module, task: Task, batches: int, *, seed: int, device: str = "cpu") -> bool:
    """Estimate the statistics of every batch norm anew, in place, from `batches` batches of training samples.

    Plain averages over the batches (momentum None), without augmentation; all else stays in eval mode. Returns whether
    there was anything to do. Pruning alone can cost tens of points that this brings back without any training.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms or batches < 1:
        return False
    data = task.calibration(BATCH * batches, seed)
    # A small last batch would count as much as a whole one, and a single sample has no variance.
    whole = [start for start in range(0, len(data), BATCH) if len(data) - start >= min(BATCH, len(data))]
    momenta = [norm.momentum for norm in norms]
    model.eval().to(device)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        with torch.no_grad():
            for (inputs, _), _ in zip(data.batches(BATCH, device=device), whole, strict=False):
                run_model(model, inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval().cpu()
    return True
