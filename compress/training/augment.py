"""Random changes to a batch of images, vectorised, on its device: flip, crop, cutout, mixup, in this order.

Random numbers are drawn on the CPU from one generator, so that every device sees the same changes. Zero, the filling of
crop and cutout, is zero as the model sees it: the mean colour where inputs are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compress.core.errors import RecipeError
from compress.tasks.losses import loss_of
from compress.tasks.task import Task
from compress.training.settings import AugmentConfig


@dataclass(frozen=True)
class Augmented:
    """A changed batch. `flipped` (n,) bool says which images were mirrored; targets are (n, classes) after mixup."""

    inputs: dict[str, Tensor]
    targets: Tensor
    flipped: Tensor | None = None


def check_augment(config: AugmentConfig, task: Task) -> None:
    """Raise RecipeError where the task's inputs are not what these changes are made for."""
    if not config.active:
        return
    targets = task.train.all_targets()
    moved = config.flip or config.crop or config.cutout
    if (targets.ndim > 1 and not targets.is_floating_point()) or (targets.ndim > 2 and moved):
        raise RecipeError(
            f"augment changes inputs and not the {tuple(targets.shape[1:])} targets of a sample, which would no longer "
            f"fit them; task {task.name!r} has such. Leave augment out, or augment in a DataLoader."
        )
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in task.example().items()}
    if len(shapes) != 1:
        raise RecipeError(f"augment works on one input; task {task.name!r} has {list(shapes)}. Leave augment out.")
    shape = next(iter(shapes.values()))
    if moved and len(shape) != 3:
        raise RecipeError(
            f"augment: flip, crop and cutout need images (c, h, w); task {task.name!r} has inputs {shape}."
        )
    if len(shape) == 3 and max(config.crop, config.cutout) > min(shape[1:]):
        raise RecipeError(f"augment: crop {config.crop} and cutout {config.cutout} must fit the images, {shape}.")
    if config.mixup and not loss_of(task.loss).facts["blends"]:
        raise RecipeError(
            "augment.mixup blends targets: it needs loss cross_entropy or mse, or one registered with blends=True."
        )


def augment(
    inputs: dict[str, Tensor], targets: Tensor, config: AugmentConfig, draw: torch.Generator, classes: int
) -> Augmented:
    """Change a batch of one input (n, c, h, w) as configured; mixup turns class ids (n,) into shares (n, classes)."""
    (name, images), n = next(iter(inputs.items())), len(targets)
    flipped = None
    if config.flip:
        flipped = torch.rand(n, generator=draw) < 0.5
        images = flip(images, flipped)
    if config.crop:
        shifts = torch.randint(0, 2 * config.crop + 1, (2, n), generator=draw)
        images = crop(images, config.crop, shifts[0], shifts[1])
    if config.cutout:
        centres = torch.rand(2, n, generator=draw)
        images = cutout(images, config.cutout, centres[0], centres[1])
    if config.mixup:
        share, partner = _blend(n, config.mixup, draw)
        images, targets = mixup(images, soft_targets(targets, classes), share, partner)
    return Augmented({**inputs, name: images}, targets, flipped)


def _blend(n: int, alpha: float, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shares (n,) from Beta(alpha, alpha) and a partner (n,) for each image."""
    source = np.random.default_rng(int(torch.randint(2**62, (), generator=draw)))
    share = torch.from_numpy(source.beta(alpha, alpha, n).astype(np.float32))
    return share, torch.randperm(n, generator=draw)


def flip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirror left to right the images (n, c, h, w) where `mask` (n,) is true."""
    return torch.where(mask.to(images.device)[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, pad: int, top: Tensor, left: Tensor) -> Tensor:
    """Pad by `pad` zeros on each side and cut (h, w) out again, from row `top` and column `left` (n,), 0 .. 2 pad."""
    n, _, height, width = images.shape
    device = images.device
    padded = F.pad(images, (pad, pad, pad, pad))
    rows = top.to(device)[:, None] + torch.arange(height, device=device)
    columns = left.to(device)[:, None] + torch.arange(width, device=device)
    which = torch.arange(n, device=device)[:, None, None]
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, side: int, y: Tensor, x: Tensor) -> Tensor:
    """Set a square to zero; its centre lies at the fractions `y`, `x` (n,) in [0, 1); it may reach over the border."""
    rows = _inside(images.shape[2], side, y, images.device)
    columns = _inside(images.shape[3], side, x, images.device)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _inside(size: int, side: int, centre: Tensor, device: torch.device) -> Tensor:
    first = (centre.to(device) * size).long() - side // 2
    place = torch.arange(size, device=device)
    return (place >= first[:, None]) & (place < first[:, None] + side)


def mixup(images: Tensor, targets: Tensor, share: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """share * own + (1 - share) * partner's, for inputs (n, ...) and float targets (n, ...) alike."""
    share, partner = share.to(images.device), partner.to(images.device)
    return _mix(images, share, partner), _mix(targets, share, partner)


def _mix(values: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    weight = share.view(-1, *[1] * (values.ndim - 1))
    return weight * values + (1 - weight) * values[partner]


def soft_targets(targets: Tensor, classes: int) -> Tensor:
    """Class ids (n,) as float32 one-hot rows (n, classes); float targets as they are."""
    return targets if targets.is_floating_point() else F.one_hot(targets, classes).float()
