"""Learning from a trained model as well: its softened outputs, and what its modules give on the way.

A teacher's outputs are computed once where the same inputs come back every epoch, else batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.core.errors import RecipeError
from compress.core.files import hash_of
from compress.core.forward import copy_model, features_of, run_model
from compress.core.progress import Status, silent
from compress.core.sources import source_of
from compress.tasks.heads import HeadsLoss
from compress.tasks.losses import Kind, Loss, loss_of
from compress.tasks.splits import Split, TensorSplit
from compress.tasks.task import Task
from compress.training.augment import flip
from compress.training.callbacks import LossTerm, Step, TrainingState
from compress.training.checkpoint import load_tensors, save_tensors, state_hash
from compress.training.placement import place
from compress.training.settings import DistillConfig, TrainConfig
from evaluate.core.errors import ModelError
from evaluate.metrics.class_ids import IGNORED

TeacherMode = Literal["none", "computed once", "run each batch"]
FILE = "teacher.safetensors"
_BATCH = 256


class Distillation(LossTerm):
    """weight * T^2 KL(teacher || student) + (1 - weight) * the loss so far (Hinton, Vinyals & Dean 2015).

    What the outputs describe is the kind that the task's loss declares. Raises RecipeError where it declares none and
    they cannot be told for classes.
    """

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
        check_distillation(task)
        self.teacher = Teacher(teacher, task, train, device)
        self.kind = None if task.heads else declared_kind(task.loss) or self._inferred(task)

    def _inferred(self, task: Task) -> Kind:
        """Classes, where the task has some and the teacher gives (n, 2 or more). Raises RecipeError otherwise."""
        inputs = {name: x.to(self.teacher.device) for name, x in task.example().items()}
        shape = self.teacher.outputs(inputs, None, None).shape
        if len(shape) != 2 or shape[1] < 2:
            raise RecipeError(_undeclared(task.loss))
        return "classes"

    def on_start(self, state: TrainingState) -> None:
        """Compute the teacher's outputs, or find them again, where they repeat."""
        self.teacher.prepare(state.task.train, state.folder, self.status)

    def __call__(self, step: Step) -> Tensor:
        """How far the student is from the teacher on this batch."""
        wanted = self.teacher.outputs(step.inputs, step.indices, step.flipped)
        outputs = step.outputs
        if not step.targets.is_floating_point() and step.targets.ndim > 1:  # of tokens, pixels: those with a label
            known = step.targets != IGNORED
            outputs, wanted = (x.movedim(1, -1)[known] for x in (outputs, wanted))
        if not len(outputs):
            return 0.0 * step.outputs.sum()
        return distillation_loss(self.loss, outputs, wanted, self.config.temperature, self.kind)

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


def distillation_loss(
    loss: Loss, outputs: Tensor, teacher: Tensor, temperature: float, kind: Kind | None = None
) -> Tensor:
    """How far a student is from its teacher, both of shape (n, ...), averaged over the batch.

    By what the outputs describe, which is `kind` where it is given, else what the loss declares:
    classes : T^2 KL(softmax(teacher / T) || softmax(outputs / T)) over axis 1, averaged over the axes after it, so that
              its gradient does not shrink with T (Hinton, Vinyals & Dean 2015, section 2.1).
    labels  : the same of two-way choices, each a logit, summed over the outputs of a sample.
    values  : the mean squared difference.
    Raises ModelError for other shapes, RecipeError where neither says what the outputs describe.
    """
    if outputs.shape != teacher.shape:
        raise ModelError(
            f"the teacher's outputs {tuple(teacher.shape)} are unlike the student's {tuple(outputs.shape)}."
        )
    if isinstance(loss, HeadsLoss):  # each head by its own loss's kind
        parts = [(h, h.outputs(outputs), h.outputs(teacher)) for h in loss.heads]
        return torch.stack([h.weight * distillation_loss(h.loss, a, b, temperature) for h, a, b in parts]).sum()
    found = kind or declared_kind(loss)
    if found is None:
        raise RecipeError(_undeclared(loss))
    return _DISTANCES[found](outputs.float(), teacher.float(), temperature)


def declared_kind(loss: Loss) -> Kind | None:
    """What the outputs describe, as the loss declares it; None where it says nothing."""
    return cast(Kind | None, loss_of(loss).facts["kind"])


def check_distillation(task: Task) -> None:
    """Raise RecipeError where nothing can say what the outputs of this task's models describe."""
    for loss, classes in [(h.loss, h.classes) for h in task.heads] or [(task.loss, task.classes)]:
        dense = bool(classes) and task.validation.all_targets().ndim > 1 and not task.heads
        if declared_kind(loss) is None and (not classes or dense or task.heads):
            raise RecipeError(_undeclared(loss))


def _undeclared(loss: Loss) -> str:
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return (
        f"distillation follows what a model's outputs describe, and the loss {name!r} does not say it: declare it by "
        f'@register_loss("name", kind="labels") of compress.tasks.losses; "classes" for the logits of one class of '
        f'several along axis 1, "labels" for a logit each of yes and no, "values" for numbers.'
    )


def _between_classes(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise ModelError(
            f"outputs of shape {tuple(outputs.shape)} hold no two classes along axis 1 to distil: a loss of one logit "
            f'has kind "labels", as binary_cross_entropy has.'
        )
    student, target = (F.log_softmax(x / temperature, dim=1) for x in (outputs, teacher))
    answers = outputs.numel() // outputs.shape[1]
    return temperature**2 * (F.kl_div(student, target, reduction="sum", log_target=True) / answers)


def _between_labels(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    student, target = (F.logsigmoid(torch.stack([x, -x]) / temperature) for x in (outputs, teacher))
    return temperature**2 * (F.kl_div(student, target, reduction="sum", log_target=True) / len(outputs))


def _between_values(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return F.mse_loss(outputs, teacher)


_DISTANCES: dict[Kind, Callable[[Tensor, Tensor, float], Tensor]] = {
    "classes": _between_classes,
    "labels": _between_labels,
    "values": _between_values,
}


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
