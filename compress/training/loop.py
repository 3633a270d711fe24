"""The inside of `train`: one training under way, step by step, with its checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.core.files import hash_of
from compress.core.progress import Status
from compress.core.seeding import derive_seed, generator
from compress.tasks.splits import Batch, TensorSplit
from compress.tasks.task import Task
from compress.training.augment import augment
from compress.training.checkpoint import load_tensors, merge, save_tensors, split_off, state_hash
from compress.training.devices import place
from compress.training.evaluation import better, evaluate_split
from compress.training.losses import distillation_loss, run_model, training_loss
from compress.training.optimizers import load_optimizer, make_optimizer, optimizer_tensors
from compress.training.schedules import rate_factor
from compress.training.settings import DistillConfig, TrainConfig
from compress.training.teacher import Teacher
from evaluate.core.errors import LeanfitError, ModelError

FILE = "training.safetensors"


class Training:
    """A model on its way: `history` so far, the best weights so far, and everything the next epoch needs."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        config: TrainConfig,
        *,
        seed: int,
        device: str,
        autocast: torch.dtype | None,
        folder: Path | None,
    ) -> None:
        self.model, self.task, self.config, self.seed = model, task, config, seed
        self.device, self.autocast = device, autocast
        self.path = folder / FILE if folder is not None else None
        self.key = hash_of(config.model_dump(mode="json"), seed, task.fingerprint(), state_hash(model))
        place(model, device)
        self.loss = training_loss(task, config, device)
        self.optimizer = make_optimizer(model, config)
        self.epoch_steps = task.train.steps(config.batch_size)
        self.steps = self.epoch_steps * config.epochs
        self.teacher: Teacher | None = None
        self.distill = DistillConfig()
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.stopped = 0, False

    def learn_from(self, teacher: Teacher | None, distill: DistillConfig | None, status: Status) -> None:
        """Take a teacher, whose outputs are computed here where they repeat."""
        if teacher is None or distill is None:
            return
        teacher.prepare(self.task.train, self.path.parent if self.path else None, status)
        self.teacher, self.distill = teacher, distill
        self.key = hash_of(self.key, teacher.key, distill.model_dump(mode="json"))

    def run(self, status: Status) -> None:
        """The epochs that remain, each followed by validation and a checkpoint."""
        while len(self.history) < self.config.epochs and not self.stopped:
            began, epoch = time.perf_counter(), len(self.history)
            loss, rate = self._epoch(epoch, status)
            self._record(epoch, loss, rate, time.perf_counter() - began)
            self._save()

    def _epoch(self, epoch: int, status: Status) -> tuple[float, float]:
        """Mean loss and last learning rate of one pass over the training split."""
        torch.manual_seed(derive_seed(self.seed, "epoch", epoch))
        draw = generator(self.seed, "augment", epoch)
        self.model.train()
        total, samples, rate, largest = 0.0, 0, 0.0, 0
        for number, (batch, indices) in enumerate(self._batches(epoch)):
            size, step = len(batch[1]), epoch * self.epoch_steps + number
            if size == 1 < largest:
                continue
            rate = self._set_rate(step)
            loss = self._step(batch, indices, draw, f"epoch {epoch + 1}, step {number + 1} of {self.epoch_steps}")
            total, samples, largest = total + loss * size, samples + size, max(size, largest)
            status(f"epoch {epoch + 1} of {self.config.epochs}, loss {total / samples:.4f}", step + 1, self.steps)
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

    def _step(self, batch: Batch, indices: Tensor | None, draw: torch.Generator, where: str) -> float:
        loss = self._forward(batch, indices, draw)
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

    def _forward(self, batch: Batch, indices: Tensor | None, draw: torch.Generator) -> Tensor:
        inputs, targets, flipped = batch[0], batch[1], None
        if self.config.augment.active:
            changed = augment(inputs, targets, self.config.augment, draw, len(self.task.classes))
            inputs, targets, flipped = changed.inputs, changed.targets, changed.flipped
        with torch.autocast(torch.device(self.device).type, self.autocast, enabled=self.autocast is not None):
            outputs = run_model(self.model, {name: _channels_last(x) for name, x in inputs.items()})
        loss = self.loss(outputs, targets)
        if self.teacher is None:
            return loss
        wanted = self.teacher.outputs(inputs, indices, flipped)
        guided = distillation_loss(self.task.loss, outputs, wanted, self.distill.temperature)
        return self.distill.weight * guided + (1 - self.distill.weight) * loss

    def _record(self, epoch: int, loss: float, rate: float, seconds: float) -> None:
        began = time.perf_counter()
        task = self.task
        found = evaluate_split(self.model, task.validation, task.loss, task.metric, device=self.device)
        if not math.isfinite(found["loss"]):
            raise _diverged(found["loss"], f"validation after epoch {epoch + 1}", rate)
        entry = {"epoch": epoch + 1, "learning_rate": rate, "loss": loss}
        entry |= {f"validation_{name}": value for name, value in found.items()}
        self.history.append({**entry, "seconds": round(seconds + time.perf_counter() - began, 3)})
        if self.best_epoch == 0 or better(task.metric, found, self._found(self.best_epoch)):
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
        info = {"key": self.key, "history": self.history, "best_epoch": self.best_epoch, "stopped": self.stopped}
        save_tensors(self.path, merge(**parts), info)

    def resume(self) -> int:
        """Go back to the last finished epoch on disk, where there is one of this very training; how many those are."""
        stored = load_tensors(self.path, self.key) if self.path is not None else None
        if stored is None:
            return 0
        tensors, info = stored
        self.model.load_state_dict(split_off(tensors, "model"))
        load_optimizer(self.optimizer, split_off(tensors, "optimizer"))
        self.best = {name: tensor.to(self.device) for name, tensor in split_off(tensors, "best").items()}
        self.history, self.best_epoch, self.stopped = info["history"], info["best_epoch"], info["stopped"]
        return len(self.history)

    def finish(self) -> None:
        """Leave the model in eval mode, with the weights that `keep` asks for."""
        if self.config.keep == "best":
            self.model.load_state_dict(self.best)
        self.model.zero_grad(set_to_none=True)
        self.model.eval()


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
