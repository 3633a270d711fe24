"""The outputs a student learns from: computed once where the same inputs come back every epoch, else batch by batch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from compress.core.files import hash_of
from compress.core.progress import Status
from compress.tasks.splits import Split, TensorSplit
from compress.training.augment import flip
from compress.training.checkpoint import load_tensors, save_tensors, state_hash
from compress.training.devices import place
from compress.training.losses import run_model
from compress.training.settings import TrainConfig

TeacherMode = Literal["none", "computed once", "run each batch"]
FILE = "teacher.safetensors"
_BATCH = 256


class Teacher:
    """A frozen copy of a model. `mode` is "computed once" or "run each batch"; `key` names its weights.

    Outputs are computed once where inputs are in memory and at most mirrored, and where that is less work than the
    epochs would take: both orientations of each sample are kept then.
    """

    def __init__(self, model: nn.Module, split: Split, config: TrainConfig, device: str) -> None:
        self.key = state_hash(model)
        self.device = device
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        place(self.model, device)
        self.views = _views(config)
        repeats = isinstance(split, TensorSplit) and 0 < self.views < config.epochs
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

    def _run(self, inputs: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return run_model(self.model, inputs).float()

    def outputs(self, inputs: dict[str, Tensor], indices: Tensor | None, flipped: Tensor | None) -> Tensor:
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
