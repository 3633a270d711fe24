"""A pass done in parts: after each, statistics are estimated anew and a share of the recovery is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from compress.core.seeding import derive_seed
from compress.graph.model_state import ModelState
from compress.passes.base import Context
from compress.passes.batch_statistics import reestimate_batch_norm
from compress.training.evaluation import evaluate_split
from compress.training.settings import RecoverConfig


def restore(
    model: ModelState, recover: RecoverConfig | None, context: Context, *, part: int, parts: int, recalibrate: int
) -> dict[str, Any]:
    """Batch-norm statistics and training of `model.module`, in place, after one part; the validation metric after each.

    part : counted from 0. The epochs of `recover` are spread over the parts, what cannot be divided over the last ones.
    """
    network = model.module
    metric = {"pruned": _validate(network, context)}
    if reestimate_batch_norm(network, context.task, recalibrate, seed=context.seed, device=context.device):
        metric["recalibrated"] = _validate(network, context)
    entry: dict[str, Any] = {"part": part + 1, "metric": metric}
    each, rest = divmod(recover.epochs if recover is not None else 0, parts)
    epochs = each + int(part >= parts - rest)
    if recover is not None and epochs:
        result = context.train(
            model,
            recover.model_copy(update={"epochs": epochs}),
            seed=derive_seed(context.seed, "recover", part),
            folder=_folder(context.folder, part, parts),
            teacher=context.original if recover.distill is not None else None,
            distill=recover.distill,
        )
        metric["recovered"] = _validate(network, context)
        entry |= {"best_epoch": result.best_epoch, "epochs": result.history, "teacher": result.teacher}
    network.eval().zero_grad(set_to_none=True)
    return entry


def _folder(folder: Path | None, part: int, parts: int) -> Path | None:
    if folder is None or parts == 1:
        return folder
    own = folder / f"part{part + 1}"
    own.mkdir(parents=True, exist_ok=True)
    return own


def _validate(model: nn.Module, context: Context) -> float:
    task = context.task
    return evaluate_split(model, task.validation, task.loss, task.metric, device=context.device)["metric"]
