"""How much memory a task of loaders takes: 200,000 samples (614 MB) that are made as they are asked for, never held.

Run: python benchmarks/streaming.py   (a minute). The peak memory of the process after its imports, growth in MB: when
the task is made, and after a baseline is trained for an epoch, quantized and measured. Exits 1 above 200 MB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import leanfit

SAMPLES, BATCH, MOST = 200_000, 256, 200
RECIPE = {
    "version": 1,
    "train": {"epochs": 1, "optimizer": "adamw"},
    "passes": [{"kind": "quantize", "calibrate": {"samples": 256}}],
    "benchmark": {"seconds": 1},
}


class Streamed:
    """Batches of images whose class is the sign of their mean."""

    def __init__(self, samples: int, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in range(self.samples // BATCH):
            x = torch.randn(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(3 * batch + self.seed))
            yield x, (x.mean((1, 2, 3)) > 0).long()


def peak() -> float:
    """MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(samples: int) -> None:
    """A task of so many training samples, and one run on it."""
    task = leanfit.Task.from_loaders(Streamed(samples, 0), Streamed(2048, 1), Streamed(2048, 2))
    print(f"{samples} samples: task made, peak {peak():.0f} MB")
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 32), nn.ReLU(), nn.Linear(32, 2))
    with tempfile.TemporaryDirectory() as folder:
        leanfit.compress(model, RECIPE, task=task, out=f"{folder}/run", force=True, progress=False)
    print(f"{samples} samples: run finished, peak {peak():.0f} MB")


def main() -> int:
    """Once with few samples, which loads what a run needs, then with all; the difference is what they take."""
    run(2048)
    before = peak()
    run(SAMPLES)
    grown = peak() - before
    print(f"{SAMPLES} samples of {3 * 16 * 16 * 4} bytes: {grown:.0f} MB more than for 2,048 (at most {MOST})")
    return int(grown > MOST)


if __name__ == "__main__":
    sys.exit(main())
