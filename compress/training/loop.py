"""The inside of `train`: one training under way, step by step, with its checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.core.files import hash_of
from compress.core.forward import features_of, fill, run_model
from compress.core.seeding import derive_seed, generator
from compress.core.sources import sources_named
from compress.tasks.splits import Batch, TensorSplit
from compress.training.augment import Augmented, augment
from compress.training.callbacks import Callback, LossTerm, Step, TrainingState
from compress.training.checkpoint import (
    load_optimizer,
    load_tensors,
    merge,
    optimizer_tensors,
    save_tensors,
    split_off,
    state_hash,
)
from compress.training.evaluation import better, evaluate_split
from compress.training.schedules import rate_factor
from evaluate.core.errors import LeanfitError, ModelError
from evaluate.metrics.base import get_metric

FILE = "training.safetensors"
BatchLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(kw_only=True)
class Training(TrainingState):
    """A model on its way: what callbacks see of it, the best weights so far, and everything the next epoch needs."""

    loss: BatchLoss
    autocast: torch.dtype | None
    terms: Sequence[LossTerm]
    callbacks: Sequence[Callback]
    steps: int = 0
    epoch_steps: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.epoch_steps = self.task.train.steps(self.config.batch_size)
        self.steps = self.epoch_steps * self.config.epochs
        self.parts: tuple[Callback, ...] = (*self.terms, *self.callbacks)
        self.key = self._key()

    def _key(self) -> str | None:
        """What a checkpoint is known by; None, and no checkpoint, where a part cannot tell what it does."""
        keys = [part.key() for part in self.parts]
        if None in keys:
            return None
        settings = self.config.model_dump(mode="json")
        return hash_of(
            settings, sources_named(settings), self.seed, self.task.fingerprint(), state_hash(self.model), keys
        )

    @property
    def path(self) -> Path | None:
        """The checkpoint, where there is one."""
        return self.folder / FILE if self.folder is not None and self.key is not None else None

    def run(self) -> int:
        """The epochs that remain, each followed by validation and a checkpoint; how many were found on disk."""
        found = self._resume()
        with features_of(self.model, [name for term in self.terms for name in term.needs]) as self.features:
            for part in self.parts:
                part.on_start(self)
            while len(self.history) < self.config.epochs and not self.stopped:
                began, epoch = time.perf_counter(), len(self.history)
                loss, rate = self._epoch(epoch)
                self._record(epoch, loss, rate, time.perf_counter() - began)
                for part in self.parts:
                    part.on_epoch(self)
                self._save()
        self._finish()
        return found

    def _epoch(self, epoch: int) -> tuple[float, float]:
        """Mean loss and last learning rate of one pass over the training split."""
        torch.manual_seed(derive_seed(self.seed, "epoch", epoch))
        draw = generator(self.seed, "augment", epoch)
        _train_mode(self.model)
        total, samples, rate, largest = 0.0, 0, 0.0, 0
        for number, (batch, indices) in enumerate(self._batches(epoch)):
            size, place = len(batch[1]), epoch * self.epoch_steps + number
            if size == 1 < largest:
                continue
            rate = self._set_rate(place)
            step = self._forward(batch, indices, draw, epoch, place)
            loss = self._step(step, f"epoch {epoch + 1}, step {number + 1} of {self.epoch_steps}")
            total, samples, largest = total + loss * size, samples + size, max(size, largest)
            for part in self.parts:
                part.on_step(self, replace(step, mean_loss=total / samples))
        return total / samples, rate

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, Tensor | None]]:
        """Shuffled batches and the indices of their samples; a loader shuffles by itself and knows no indices."""
        split, size = self.task.train, self.config.batch_size
        if not isinstance(split, TensorSplit):
            for batch in split.batches(size, device=self.device):
                yield batch, None
            return
        order = torch.randperm(len(split), generator=generator(self.seed, "order", epoch))
        yield from zip(split.batches(size, order, self.device), torch.split(order, size), strict=True)

    def _set_rate(self, step: int) -> float:
        rate = self.config.learning_rate * rate_factor(self.config.schedule, step, self.steps, self.epoch_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _forward(self, batch: Batch, indices: Tensor | None, draw: torch.Generator, epoch: int, number: int) -> Step:
        changed = Augmented(*batch)
        if self.config.augment.active:
            changed = augment(*batch, self.config.augment, draw, len(self.task.classes))
        with torch.autocast(torch.device(self.device).type, self.autocast, enabled=self.autocast is not None):
            outputs = run_model(self.model, {name: _channels_last(x) for name, x in changed.inputs.items()})
        return Step(epoch, number, changed.inputs, changed.targets, indices, changed.flipped, outputs, self.features)

    def _step(self, step: Step, where: str) -> float:
        """The loss, of this step and its terms, after one step of the optimizer against it."""
        loss = self.loss(step.outputs, step.targets)
        for term in self.terms:
            loss = term.join(loss, step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _diverged(value, where, self.optimizer.param_groups[0]["lr"])
        self.optimizer.zero_grad(set_to_none=True)
        with _explained():
            loss.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return value

    def _record(self, epoch: int, loss: float, rate: float, seconds: float) -> None:
        began = time.perf_counter()
        task = self.task
        found = evaluate_split(self.model, task.validation, task.loss, task.metric, device=self.device)
        if not math.isfinite(found["loss"]):
            raise _diverged(found["loss"], f"validation after epoch {epoch + 1}", rate)
        entry = {"epoch": epoch + 1, "learning_rate": rate, "loss": loss}
        entry |= {f"validation_{name}": value for name, value in found.items()}
        self.history.append({**entry, "seconds": round(seconds + time.perf_counter() - began, 3)})
        if self.best_epoch == 0 or better(get_metric(task.metric), found, self._found(self.best_epoch)):
            self.best_epoch, self.best = epoch + 1, self._weights()
        patience = self.config.patience
        self.stopped = patience is not None and epoch + 1 - self.best_epoch >= patience

    def _found(self, epoch: int) -> dict[str, float]:
        entry = self.history[epoch - 1]
        return {name: entry[f"validation_{name}"] for name in ("loss", "metric")}

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the weights, where they may have to be brought back."""
        if self.config.keep == "last":
            return {}
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _save(self) -> None:
        if self.path is None:
            return
        parts = {"model": self.model.state_dict(), "best": self.best, "optimizer": optimizer_tensors(self.optimizer)}
        parts |= {f"part{n}": part.tensors() for n, part in enumerate(self.parts)}
        info = {"key": self.key, "history": self.history, "best_epoch": self.best_epoch, "stopped": self.stopped}
        save_tensors(self.path, merge(**parts), info)

    def _resume(self) -> int:
        """Go back to the last finished epoch on disk, where there is one of this very training; how many those are."""
        stored = load_tensors(self.path, self.key) if self.path is not None and self.key is not None else None
        if stored is None:
            return 0
        tensors, info = stored
        fill(self.model, split_off(tensors, "model"))
        load_optimizer(self.optimizer, split_off(tensors, "optimizer"))
        self.best = {name: tensor.to(self.device) for name, tensor in split_off(tensors, "best").items()}
        for n, part in enumerate(self.parts):
            part.load(split_off(tensors, f"part{n}"))
        self.history, self.best_epoch, self.stopped = info["history"], info["best_epoch"], info["stopped"]
        return len(self.history)

    def _finish(self) -> None:
        """Leave the model in eval mode, with the weights that `keep` asks for."""
        if self.config.keep == "best":
            fill(self.model, self.best)
        self.model.zero_grad(set_to_none=True)
        self.model.eval()
        for part in self.parts:
            part.on_end(self)


def _train_mode(model: nn.Module) -> None:
    """Training mode; batch norm in a module that is frozen as a whole keeps its statistics."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            for norm in module.modules():
                norm.train(not isinstance(norm, nn.modules.batchnorm._NormBase))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _diverged(value: float, where: str, rate: float) -> LeanfitError:
    return ModelError(
        f"training diverged: the loss is {value} ({where}, learning rate {rate:.3g}). Lower learning_rate (try "
        f"{rate / 10:.1g}), add a warm-up (schedule.warmup_epochs: 1), or set clip_norm: 1."
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say what can be done about an error of torch's in the backward pass."""
    try:
        yield
    except RuntimeError as error:
        advice = " Set deterministic: false to allow it." if "deterministic" in str(error) else ""
        raise ModelError(f"the backward pass failed: {error}.{advice}") from error
