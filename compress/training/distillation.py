"""Learning from a trained model as well: its softened outputs, and what its modules give on the way.

A teacher's outputs are computed once where the same inputs come back every epoch, else batch by batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.core.files import hash_of
from compress.core.forward import copy_model, features_of, run_model
from compress.core.progress import Status, silent
from compress.core.sources import source_of
from compress.tasks.losses import Loss, loss_of
from compress.tasks.splits import Split, TensorSplit
from compress.tasks.task import Task
from compress.training.augment import flip
from compress.training.callbacks import LossTerm, Step, TrainingState
from compress.training.checkpoint import load_tensors, save_tensors, state_hash
from compress.training.placement import place
from compress.training.settings import DistillConfig, TrainConfig
from evaluate.core.errors import ModelError

TeacherMode = Literal["none", "computed once", "run each batch"]
FILE = "teacher.safetensors"
_BATCH = 256


class Distillation(LossTerm):
    """weight * T^2 KL(teacher || student) + (1 - weight) * the loss so far (Hinton, Vinyals & Dean 2015)."""

    def __init__(
        self,
        teacher: nn.Module,
        config: DistillConfig,
        task: Task,
        train: TrainConfig,
        device: str,
        status: Status = silent,
    ) -> None:
        super().__init__(config.weight)
        self.config, self.loss, self.status = config, task.loss, status
        self.teacher = Teacher(teacher, task, train, device)

    def on_start(self, state: TrainingState) -> None:
        """Compute the teacher's outputs, or find them again, where they repeat."""
        self.teacher.prepare(state.task.train, state.folder, self.status)

    def __call__(self, step: Step) -> Tensor:
        """How far the student is from the teacher on this batch."""
        wanted = self.teacher.outputs(step.inputs, step.indices, step.flipped)
        return distillation_loss(self.loss, step.outputs, wanted, self.config.temperature)

    def join(self, loss: Tensor, step: Step) -> Tensor:
        """The teacher takes its share from the labels."""
        return self.weight * self(step) + (1 - self.weight) * loss

    def key(self) -> str:
        """By the teacher's weights and code, and the settings."""
        return hash_of(self.teacher.key, self.config.model_dump(mode="json"))


class FeatureMatching(LossTerm):
    """The mean squared difference between what modules of the student and of the teacher give, averaged over modules.

    modules : names in the student -> names in the teacher, or one list of names that both have.
    """

    def __init__(
        self, teacher: nn.Module, modules: Mapping[str, str] | Sequence[str], weight: float = 1.0, device: str = "cpu"
    ) -> None:
        self.pairs = dict(modules) if isinstance(modules, Mapping) else {name: name for name in modules}
        super().__init__(weight, tuple(self.pairs))
        self.teacher = _frozen(teacher, device)

    def __call__(self, step: Step) -> Tensor:
        """Raises ModelError where two outputs differ in shape."""
        with torch.no_grad(), features_of(self.teacher, tuple(self.pairs.values())) as wanted:
            run_model(self.teacher, step.inputs)
        parts = [_difference(name, step.features[name], wanted[other]) for name, other in self.pairs.items()]
        return torch.stack(parts).mean()

    def key(self) -> str:
        """By the teacher's weights and code, the modules and the weight."""
        return hash_of(state_hash(self.teacher), source_of(self.teacher), self.pairs, self.weight)


def _difference(name: str, ours: Tensor, theirs: Tensor) -> Tensor:
    if ours.shape != theirs.shape:
        raise ModelError(
            f"features {name}: the student's {tuple(ours.shape)} are unlike the teacher's {tuple(theirs.shape)}."
        )
    return F.mse_loss(ours.float(), theirs.float())


def distillation_loss(loss: Loss, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far a student is from its teacher, both of shape (n, ...), averaged over the batch.

    T^2 KL(softmax(teacher / T) || softmax(outputs / T)), so that its gradient does not shrink with T (Hinton, Vinyals &
    Dean 2015, section 2.1); the mean squared difference for a task whose loss is one of float targets.
    """
    if outputs.shape != teacher.shape:
        raise ModelError(
            f"the teacher's outputs {tuple(teacher.shape)} are unlike the student's {tuple(outputs.shape)}."
        )
    if loss_of(loss).facts["labels"] is False:
        return F.mse_loss(outputs.float(), teacher.float())
    student = F.log_softmax(outputs.float() / temperature, dim=-1)
    target = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(student, target, reduction="batchmean", log_target=True)


class Teacher:
    """A frozen copy of a model. `mode` is "computed once" or "run each batch"; `key` names its weights.

    Outputs are computed once where inputs are in memory and at most mirrored, and where that is less work than the
    epochs would take: both orientations of each sample are kept then.
    """

    def __init__(self, model: nn.Module, task: Task, config: TrainConfig, device: str) -> None:
        self.key = hash_of(state_hash(model), source_of(model))
        self.device = device
        self.model = _frozen(model, device)
        self.views = _views(config)
        repeats = isinstance(task.train, TensorSplit) and 0 < self.views < config.epochs
        self.mode: TeacherMode = "computed once" if repeats else "run each batch"
        self._known: Tensor | None = None

    def prepare(self, split: Split, folder: Path | None, status: Status) -> None:
        """Compute the outputs of all samples, or read them from `folder`, where that is the mode."""
        if self.mode != "computed once" or not isinstance(split, TensorSplit):
            return
        path = folder / FILE if folder is not None else None
        key = hash_of(self.key, split.fingerprint(), self.views)
        stored = load_tensors(path, key) if path is not None else None
        self._known = stored[0]["outputs"] if stored is not None else self._compute(split, status)
        if path is not None and stored is None:
            save_tensors(path, {"outputs": self._known}, {"key": key})

    def _compute(self, split: TensorSplit, status: Status) -> Tensor:
        """(n, views, ...) float32 on the CPU: as stored, then mirrored."""
        parts = []
        for done, (inputs, _) in enumerate(split.batches(_BATCH, device=self.device)):
            views = [inputs, {name: _mirrored(x) for name, x in inputs.items()}][: self.views]
            parts.append(torch.stack([self._run(view).cpu() for view in views], dim=1))
            status("teacher outputs", min(len(split), (done + 1) * _BATCH), len(split))
        return torch.cat(parts)

    def _run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return run_model(self.model, inputs).float()

    def outputs(self, inputs: Mapping[str, Tensor], indices: Tensor | None, flipped: Tensor | None) -> Tensor:
        """The teacher's outputs (n, ...) for `inputs` as the student sees them, which are the samples `indices`."""
        if self._known is None or indices is None:
            return self._run(inputs)
        view = torch.zeros_like(indices) if flipped is None else flipped.long()
        return self._known[indices, view].to(self.device)


def _views(config: TrainConfig) -> int:
    """In how many ways augmentation can show one sample; 0 where they are too many to keep."""
    augment = config.augment
    if augment.crop or augment.cutout or augment.mixup:
        return 0
    return 2 if augment.flip else 1


def _mirrored(images: Tensor) -> Tensor:
    return flip(images, torch.ones(len(images), dtype=torch.bool)) if images.ndim == 4 else images


def _frozen(model: nn.Module, device: str) -> nn.Module:
    frozen = copy_model(model).eval().requires_grad_(False)
    place(frozen, device)
    return frozen
