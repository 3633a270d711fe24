"""Seeded subsets that keep the share of every class."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.core.seeding import generator


def subset_indices(targets: Tensor, n: int, seed: int) -> Tensor:
    """Sorted indices (int64) of `n` samples, drawn without replacement; all of them where n >= len(targets).

    Where targets are class ids, each class gets its share of n, rounded by the largest remainder.
    """
    total = len(targets)
    if n >= total:
        return torch.arange(total)
    draw = generator(seed, "subset")
    if targets.is_floating_point() or targets.ndim != 1:
        return torch.randperm(total, generator=draw)[:n].sort().values
    order = torch.randperm(total, generator=draw)
    counts = torch.bincount(targets - targets.min())
    by_class = order[targets[order].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    chosen = [by_class[a : a + share] for a, share in zip(starts.tolist(), _shares(counts, n), strict=True)]
    return torch.cat(chosen).sort().values


def split_indices(targets: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(the other samples, `n` held-out samples), both sorted, the held-out ones drawn by `subset_indices`."""
    held = subset_indices(targets, n, seed)
    rest = torch.ones(len(targets), dtype=torch.bool)
    rest[held] = False
    return rest.nonzero().flatten(), held


def _shares(counts: Tensor, n: int) -> list[int]:
    exact = counts.double() * n / counts.sum()
    shares = exact.floor().long()
    spare = (exact - shares).argsort(descending=True, stable=True)[: n - int(shares.sum())]
    shares[spare] += 1
    return [int(share) for share in shares]
